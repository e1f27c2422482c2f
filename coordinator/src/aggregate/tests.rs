use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Method, Strategy};
use fedner_shared::update::encode;

use super::*;

mod figures;
mod hostile;
mod optimizers;
mod rules;

const CONFIG: &str = r#"{"model_type":"bert","vocab_size":300,"hidden_size":16,
    "num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":32,
    "max_position_embeddings":16}"#;
const GRID: Grid = Grid {
    clip: 1.0,
    exponent: 18,
};

const BOUND: i64 = 1 << 20;

struct Setting {
    checkpoint: Checkpoint,
    bytes: Vec<u8>,
    layout: Layout,
    manifest: Manifest,
}

fn setting(method: Method) -> Setting {
    let config = BertConfig::parse(CONFIG).expect("config");
    let checkpoint = Checkpoint::random(config, 3).with_new_head(3, 4);
    let bytes = checkpoint.to_safetensors().expect("file");
    let layout = Layout::read(&bytes[..]).expect("layout");
    let manifest = checkpoint.config.manifest(&method.into(), 3);
    Setting {
        checkpoint,
        bytes,
        layout,
        manifest,
    }
}

/// Small pseudo-random integers, different for each institution.
fn update(k: u64, dimension: usize) -> Vec<i32> {
    let own = (k * 2 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mix = |j: u64| (j + 1).wrapping_mul(own) >> 47;
    (0..dimension as u64)
        .map(|j| mix(j) as i32 - (1 << 16))
        .collect()
}

fn encoded(values: &[i32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(values, &mut bytes).expect("encode");
    bytes
}

fn run_by(rule: Rule, setting: &Setting, order: &[(u32, Vec<i32>)]) -> (Vec<u8>, Digest) {
    let encoded: Vec<_> = order.iter().map(|(_, values)| encoded(values)).collect();
    let updates = order.iter().zip(&encoded);
    let updates = updates.map(|((weight, _), bytes)| Weighted {
        weight: *weight,
        update: &bytes[..],
    });
    let mut out = Vec::new();
    let inputs = inputs(rule, setting, updates.collect());
    let digest = aggregate(inputs, &mut out).expect("aggregate");
    (out, digest)
}

fn run(setting: &Setting, order: &[(u32, Vec<i32>)]) -> (Vec<u8>, Digest) {
    run_by(Rule::FedAvg, setting, order)
}

fn inputs<S: Source>(
    rule: Rule,
    setting: &Setting,
    updates: Vec<Weighted<S>>,
) -> Inputs<'_, &[u8], S> {
    Inputs {
        layout: &setting.layout,
        base: &setting.bytes[..],
        updates,
        manifest: &setting.manifest,
        grid: GRID,
        bound: BOUND,
        rule,
        left_out: Vec::new(),
    }
}

/// The change of each trained weight, in grid steps.
fn change(setting: &Setting, after: &[u8]) -> Vec<f64> {
    let read = Checkpoint::read(CONFIG, after).expect("a checkpoint");
    let before = setting.checkpoint.flatten(&setting.manifest).expect("flat");
    let after = read.flatten(&setting.manifest).expect("flat");
    let steps = after.iter().zip(&before);
    let steps = steps.map(|(after, before)| f64::from(*after) - f64::from(*before));
    steps.map(|change| change / GRID.gamma()).collect()
}

/// A rule of each strategy.
fn rules() -> impl Iterator<Item = Rule> {
    Strategy::ALL.into_iter().map(|strategy| match strategy {
        Strategy::FedAvg => Rule::FedAvg,
        Strategy::TrimmedMean => Rule::TrimmedMean { trim: 0.2 },
        Strategy::Median => Rule::Median,
        Strategy::NormClippedMean => Rule::NormClippedMean { factor: 1.0 },
        Strategy::MultiKrum => Rule::MultiKrum { trim: 0.2 },
    })
}

#[test]
fn any_order_gives_the_same_bytes_and_the_weighted_mean() {
    for method in [Method::Full, Method::Head] {
        let setting = setting(method);
        let d = setting.manifest.dimension();
        let mut updates: Vec<(u32, Vec<i32>)> =
            (0..4).map(|k| (100 + 7 * k, update(k.into(), d))).collect();
        let (forward, digest) = run(&setting, &updates);
        assert_eq!(Digest::of(&forward), digest);
        updates.rotate_left(1);
        updates.swap(0, 2);
        assert_eq!(run(&setting, &updates).0, forward);

        let read = Checkpoint::read(CONFIG, &forward).expect("a checkpoint");
        let before = setting.checkpoint.flatten(&setting.manifest).expect("flat");
        let after = read.flatten(&setting.manifest).expect("flat");
        let total: u32 = updates.iter().map(|(weight, _)| weight).sum();
        for j in (0..d).step_by(13) {
            let sum: i64 = updates
                .iter()
                .map(|(w, x)| i64::from(*w) * i64::from(x[j]))
                .sum();
            let expected = f64::from(before[j]) + sum as f64 * GRID.gamma() / f64::from(total);
            assert!(
                (f64::from(after[j]) - expected).abs() < 1e-7,
                "{method} {j}"
            );
        }
    }
}

#[test]
fn what_is_not_trained_stays_as_it_is() {
    let setting = setting(Method::Head);
    let d = setting.manifest.dimension();
    let (after, _) = run(&setting, &[(1, update(1, d))]);
    let read = Checkpoint::read(CONFIG, &after).expect("a checkpoint");
    let name = "bert.embeddings.word_embeddings.weight";
    assert_eq!(
        read.tensor(name).expect("tensor"),
        setting.checkpoint.tensor(name).expect("tensor")
    );
    assert_ne!(
        read.tensor("classifier.weight").expect("tensor"),
        setting
            .checkpoint
            .tensor("classifier.weight")
            .expect("tensor")
    );
}

#[test]
fn a_short_update_and_no_update_are_errors() {
    let setting = setting(Method::Head);
    for rule in rules() {
        let none: Vec<Weighted<&[u8]>> = Vec::new();
        let result = aggregate(inputs(rule, &setting, none), io::sink());
        assert!(matches!(result, Err(Error::Empty)), "{rule}");
        let bytes = encoded(&[1, 2, 3]);
        let short = vec![Weighted {
            weight: 1,
            update: &bytes[..],
        }];
        let result = aggregate(inputs(rule, &setting, short), io::sink());
        assert!(
            matches!(
                result,
                Err(Error::Update {
                    index: 0,
                    source: update::Error::Dimension { .. }
                })
            ),
            "{rule}"
        );
    }
}
