//! `model export --format onnx`, run by ONNX Runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use fedner_model::device::Device;
use fedner_model::{Encoded, Model, Tokenizer};
use fedner_shared::bert::{BertConfig, tags};
use fedner_shared::checkpoint::{Checkpoint, Directory, config_with_labels};
use fedner_tests::skip::skipped;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::desk::Desk;

const SENTENCES: [&str; 6] = [
    "The lung cancer of Anna .",
    "Anna",
    "Seen in Ghent , with a cough ; no fever . Lung cancer is in the family of Anna Roe",
    "Zöliakie 100 mg 😀",
    "of of of of of of of of of of of of",
    "cancer of the lung , cancer of the lung",
];

const LENGTH: usize = 40;

/// What ONNX Runtime makes of one sentence.
#[derive(Debug, Deserialize)]
struct Found {
    logits: Vec<Vec<f32>>,
    tags: Vec<usize>,
}

fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// A Python with ONNX Runtime; `.ci/tools` makes it.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let mut command = Command::new(&python);
    command.args(["-c", "import onnxruntime"]);
    let status = command.stderr(Stdio::null()).status().ok()?;
    status.success().then_some(python)
}

fn run(python: &Path, jobs: &Value) -> Result<Vec<Vec<Found>>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare/onnx_runtime.py");
    let mut child = Command::new(python)
        .arg("-B")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start Python")?;
    let stdin = child.stdin.take().context("stdin")?;
    serde_json::to_writer(stdin, jobs)?;
    let output = child.wait_with_output()?;
    assert!(output.status.success());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A model of random weights, large enough that its tags differ from word to word.
fn random(desk: &Desk, name: &str, head: &Value) -> Result<()> {
    let from = Directory::read(&fixtures("encoders/bert-relu"))?;
    let mut config: Value = serde_json::from_str(&from.config_json)?;
    config["num_hidden_layers"] = json!(2);
    config["hidden_act"] = json!("gelu");
    for (name, size) in [("hidden_size", 64), ("intermediate_size", 128)] {
        config[name] = json!(size);
    }
    config["num_attention_heads"] = json!(4);
    config["initializer_range"] = json!(0.2);
    let fields = config.as_object_mut().context("an object")?;
    fields.extend(head.as_object().context("an object")?.clone());
    let labels = ["A".to_owned(), "B".to_owned()];
    let config = config_with_labels(&config.to_string(), &labels)?;
    let model = Checkpoint::random(BertConfig::parse(&config)?, 7);
    let model = model.with_new_head(tags(&labels).len(), 8);
    let directory = desk.path(name);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("config.json"), config)?;
    fs::write(directory.join("tokenizer.json"), from.tokenizer_json)?;
    fs::write(directory.join("model.safetensors"), model.to_safetensors()?)?;
    Ok(())
}

/// The model and the sentences as it reads them.
fn loaded(directory: &Path) -> Result<(Model, Vec<Encoded>)> {
    let read = Directory::read(directory)?;
    let checkpoint = Checkpoint::read(&read.config_json, &read.weights)?;
    let tokenizer = Tokenizer::parse(&read.tokenizer_json)?;
    let encode = |text: &&str| {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Ok(tokenizer.encode(&words, LENGTH)?)
    };
    let sentences = SENTENCES.iter().map(encode).collect::<Result<Vec<_>>>()?;
    Ok((Model::load(&checkpoint, Device::default())?, sentences))
}

fn job(exported: &Path, sentences: &[Encoded]) -> Value {
    let sentence = |encoded: &Encoded| {
        let first: Vec<usize> = encoded.first.iter().flatten().copied().collect();
        json!({"ids": encoded.ids, "first": first})
    };
    json!({
        "model": exported.join("model.onnx"),
        "sentences": sentences.iter().map(sentence).collect::<Vec<_>>(),
    })
}

#[test]
fn onnx_runtime_gives_the_scores_and_tags_of_every_kind_of_head() -> Result<()> {
    let Some(python) = python() else {
        return skipped(
            "the export as ONNX",
            "ONNX Runtime, which .ci/tools fetches",
        );
    };
    let desk = Desk::new()?;
    let mut models: Vec<(String, PathBuf)> = [
        "bert-gelu_new",
        "bert-relu",
        "distilbert",
        "electra",
        "roberta",
        "xlm-roberta",
    ]
    .iter()
    .map(|name| ((*name).to_owned(), fixtures(&format!("encoders/{name}"))))
    .collect();
    for (name, head) in [
        ("plain", json!({})),
        ("layers", json!({"fedner_head_layers": [0, 1, 2]})),
        ("lower", json!({"fedner_head_layers": [1]})),
        ("context", json!({"fedner_head_context": 2})),
        ("iob2", json!({"fedner_head_iob2": true})),
        ("crf", json!({"fedner_head_crf": true})),
        (
            "all",
            json!({"fedner_head_layers": [1, 2], "fedner_head_context": 1, "fedner_head_crf": true,
                   "fedner_head_iob2": true}),
        ),
    ] {
        random(&desk, name, &head)?;
        models.push((name.to_owned(), desk.path(name)));
    }
    let (mut jobs, mut read) = (Vec::new(), Vec::new());
    for (name, directory) in &models {
        let to = format!("{name}-onnx");
        let from = directory.to_str().context("path")?;
        let arguments = ["model", "export", "--model", from, "--to", &to];
        let report = desk.json(&[&arguments[..], &["--format", "onnx"]].concat())?;
        let file = fs::metadata(desk.path(&to).join("model.onnx"))?;
        assert_eq!(report["bytes"], file.len());
        let card = fs::read_to_string(desk.path(&to).join("README.md"))?;
        let (model, sentences) = loaded(directory)?;
        let chooses = ["context", "iob2", "crf", "all"].contains(&name.as_str());
        assert_eq!(report["chooses_tags"], chooses, "{name}");
        assert_eq!(card.contains("`words`"), chooses, "{name}: {card}");
        jobs.push(job(&desk.path(&to), &sentences));
        read.push((name, model, sentences));
    }
    let results = run(&python, &Value::Array(jobs))?;
    assert_eq!(results.len(), read.len());
    let mut kinds = std::collections::BTreeSet::new();
    for ((name, model, sentences), found) in read.iter().zip(results) {
        for (sentence, found) in sentences.iter().zip(found) {
            let expected = model.logits(&[sentence])?;
            let scores: Vec<f32> = found.logits.into_iter().flatten().collect();
            assert_eq!(scores.len(), expected.len(), "{name}");
            for (found, expected) in scores.iter().zip(&expected) {
                let apart = (found - expected).abs();
                assert!(apart < 1e-4, "{name}: {found} for {expected}");
            }
            let tagged = model.tag(&[sentence])?.into_iter().flatten().flatten();
            let expected: Vec<usize> = tagged.map(|tagged| tagged.tag).collect();
            assert_eq!(found.tags, expected, "{name}");
            kinds.extend(expected);
        }
    }
    // Heads that give every word one tag would agree with any others that do.
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    Ok(())
}

#[test]
fn eight_bits_stay_near_the_scores_and_are_told_of() -> Result<()> {
    let Some(python) = python() else {
        return skipped(
            "the export as ONNX",
            "ONNX Runtime, which .ci/tools fetches",
        );
    };
    let desk = Desk::new()?;
    random(&desk, "plain", &json!({}))?;
    let arguments = ["model", "export", "--model", "plain", "--to"];
    desk.stdout(&[&arguments[..], &["whole"]].concat())?;
    let report = desk.json(&[&arguments[..], &["small", "--int8"]].concat())?;
    assert_eq!(report["int8"], true);
    let size = |name: &str| Ok::<_, anyhow::Error>(fs::metadata(desk.path(name))?.len());
    assert!(size("small/model.onnx")? * 3 < size("whole/model.onnx")? * 2);
    let card = fs::read_to_string(desk.path("small/README.md"))?;
    assert!(card.contains("8-bit integers"), "{card}");
    let (_, sentences) = loaded(&desk.path("plain"))?;
    let jobs = json!([
        job(&desk.path("whole"), &sentences),
        job(&desk.path("small"), &sentences)
    ]);
    let results = run(&python, &jobs)?;
    let scores = |number: usize| {
        let sentences = results[number].iter();
        sentences.flat_map(|found| found.logits.iter().flatten().copied())
    };
    let spread = scores(0).map(f32::abs).fold(0.0, f32::max);
    let apart = scores(0).zip(scores(1)).map(|(a, b)| (a - b).abs());
    let (apart, differ) = (apart.fold(0.0, f32::max), scores(0).ne(scores(1)));
    assert!(differ && apart < 0.1 * spread, "{apart} of {spread}");
    Ok(())
}

#[test]
fn what_cannot_be_exported_is_refused_with_a_reason() -> Result<()> {
    let desk = Desk::new()?;
    random(&desk, "plain", &json!({}))?;
    let export = ["model", "export", "--to", "new", "--model"];
    fs::create_dir(desk.path("taken"))?;
    desk.write("taken/config.json", "{}")?;
    let taken = ["model", "export", "--to", "taken", "--model", "plain"];
    assert!(desk.refused(&taken)?.contains("holds a model already"));
    // A bare encoder tags nothing.
    let encoder = fixtures("encoders/bert-relu");
    fedner_tests::tiny::write(&desk.path("bare"), fedner_tests::tiny::TEST, "a O\n", 1)?;
    let said = desk.refused(&[&export[..], &["bare"]].concat())?;
    assert!(said.contains("no tagging head"), "{said}");
    assert!(!desk.path("new").exists());
    // What was exported is no model of fedner's own: the folder says where it came from.
    let from = encoder.to_str().context("path")?;
    desk.stdout(&[&export[..], &[from]].concat())?;
    let said = desk.refused(&["predict", "--model", "new", "--text", "a"])?;
    assert!(said.contains("model.onnx"), "{said}");
    Ok(())
}
