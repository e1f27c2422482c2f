//! The oracles: what a coordinator can try to learn one person's words by.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fedner_client::agent::{
    Defences, Environment, EvaluateJob, Outcome as Training, TrainJob, TrainedUpdate, Trainer,
};
use fedner_client::training::Stop;
use fedner_model::Sentence;
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::manifest::Manifest;
use fedner_shared::score::Scores;

use crate::base::Base;
use crate::rogue::Manner;
use crate::site::{Outcome, Site, run_all};
use crate::text;

/// Seconds after which results leave.
const STEP: u64 = 5;

pub(crate) fn plan(unit: &str) -> String {
    format!(
        r#"
        name = "notes"
        base = "base@1"
        labels = ["Disease"]
        method = "head"
        rounds = 1
        [training]
        local_epochs = 1
        batch_size = 16
        max_tokens = 64
        [cohort]
        institutions = ["anna"]
        quorum = 1
        release_after_s = {STEP}
        [privacy]
        unit = "{unit}"
        clip = 0.1
        noise_multiplier = 1.0
        max_epsilon = 1000.0
        evaluation_noise = 5.0
        "#
    )
}

fn base(unit: &str) -> Result<Arc<Base>> {
    Ok(Arc::new(Base::new(&plan(unit), |_| Ok(()))?))
}

/// Whether the coordinator can tell the two apart, and how.
fn told_apart(one: &Outcome, other: &Outcome) -> Option<String> {
    one.transcript.difference(&other.transcript)
}

fn assert_alike(what: &str, one: &Outcome, other: &Outcome) {
    if let Some(difference) = told_apart(one, other) {
        panic!("{what} is told: {difference}");
    }
    assert_eq!(one.debits(), other.debits(), "{what} costs otherwise");
}

fn is_marked(sentences: &[Sentence]) -> bool {
    let mut words = sentences.iter().flat_map(|sentence| &sentence.words);
    words.any(|word| word == text::MARKER)
}

fn marked() -> Vec<u8> {
    format!("saw O\n{} O\n", text::MARKER).into_bytes()
}

/// One person's text with each kind of fault, in the only text, in every unit: the coordinator sees
/// what it sees without it.
#[test]
fn faults_of_one_persons_text_are_not_told() -> Result<()> {
    let long: Vec<u8> = b"the O\nflu B-Disease\n\n".repeat(1500);
    let word = [vec![b'x'; 5000], b" O\n".to_vec()].concat();
    let own: Vec<(&str, Vec<u8>)> = vec![
        ("one column", b"alone\n".to_vec()),
        ("no tag", b"odd Disease\n".to_vec()),
        ("an empty tag", b"odd B-\n".to_vec()),
        ("another number of columns", b"odd NN O\n".to_vec()),
        ("an empty column", b"odd\t\n".to_vec()),
        ("an invalid sequence", b"odd O\nafter I-Disease\n".to_vec()),
        ("another type", b"odd B-Secret\n".to_vec()),
        ("bytes that are no text", b"odd\xff\xfe O\n".to_vec()),
        ("a carriage return", b"odd\rline O\n".to_vec()),
        ("a mark without a name", b"# person =\nodd O\n".to_vec()),
        ("control characters", b"odd\x01\x02 O\n".to_vec()),
        ("very much text", long),
        ("a very long word", word),
        ("a rare word", marked()),
    ];
    for unit in ["person", "institution"] {
        let base = base(unit)?;
        let mut sites = vec![Site::new(&base, b"")];
        sites.extend(own.iter().map(|(_, own)| Site::new(&base, own)));
        let outcomes = run_all(sites)?;
        let (clean, others) = outcomes.split_first().context("outcomes")?;
        assert!(clean.transcript.has("Upload"), "{:?}", clean.transcript);
        assert!(clean.transcript.has("SubmitEvaluation"));
        let uploaded = clean.transcript.after("UploadOffset").context("uploaded")?;
        assert!(uploaded >= Duration::from_secs(STEP), "{uploaded:?}");
        for ((what, _), other) in own.iter().zip(others) {
            assert_alike(&format!("{what} ({unit})"), clean, other);
        }
    }
    Ok(())
}

/// The same of records of JSON.
#[test]
fn faults_of_one_persons_record_are_not_told() -> Result<()> {
    let base = base("person")?;
    let own: [&[u8]; 8] = [
        b"{\"tokens\": [\"a\"]",
        b"[1, 2]",
        b"{\"tokens\": [\"a\"]}",
        b"{\"person_id\": \"p30\", \"tokens\": [\"a\", \"b\"], \"ner_tags\": [\"O\"]}",
        b"{\"person_id\": \"p30\", \"tokens\": [\"a\"], \"ner_tags\": [3]}",
        b"{\"person_id\": \"p30\", \"tokens\": [\"\"], \"ner_tags\": [\"O\"]}",
        b"{\"person_id\": \"p30\", \"tokens\": [\"a\"], \"ner_tags\": [\"B-Secret\"]}",
        b"{\"tokens\": [\"a\"], \"ner_tags\": [\"O\"]}",
    ];
    let site = |own: &[u8]| Site {
        data: text::json(own),
        held_out: text::json(own),
        ..Site::new(&base, b"")
    };
    let mut sites = vec![Site {
        data: text::json(b""),
        held_out: text::json(b""),
        ..Site::new(&base, b"")
    }];
    sites.extend(own.iter().map(|own| site(own)));
    let outcomes = run_all(sites)?;
    let (clean, others) = outcomes.split_first().context("outcomes")?;
    assert!(clean.transcript.has("Upload"), "{:?}", clean.transcript);
    for (own, other) in own.iter().zip(others) {
        assert_alike(&String::from_utf8_lossy(own), clean, other);
    }
    Ok(())
}

/// Whether there is any text at all, and how much: neither an empty corpus nor a policy's
/// `minimum_examples` tells.
#[test]
fn how_much_text_there_is_is_not_told() -> Result<()> {
    for unit in ["person", "institution"] {
        let base = base(unit)?;
        let whole = Site::new(&base, b"");
        let empty = |data: &[u8]| Site {
            data: data.to_vec(),
            held_out: data.to_vec(),
            ..whole.clone()
        };
        let least = Site {
            policy: "minimum_examples = 61\n",
            ..whole.clone()
        };
        let more = Site {
            data: text::corpus(&marked()),
            ..least.clone()
        };
        let sites = vec![
            whole.clone(),
            empty(b""),
            empty(b"# person = p\nalone\n"),
            empty(b"\n\n\n"),
            least,
            more,
        ];
        let outcomes = run_all(sites)?;
        for other in &outcomes[1..4] {
            assert_alike("an empty corpus", &outcomes[0], other);
        }
        assert_alike("a sentence more than the least", &outcomes[4], &outcomes[5]);
    }
    Ok(())
}

/// Where nothing is protected, the policy's least is kept at each training.
#[test]
fn too_little_open_text_is_not_trained_on() -> Result<()> {
    let open = Arc::new(Base::new(&plan("none"), |_| Ok(()))?);
    let site = |policy| Site {
        policy,
        manner: Manner::default(),
        ..Site::new(&open, b"")
    };
    let few = site("minimum_examples = 61\n");
    let enough = site("minimum_examples = 60\n");
    let outcomes = run_all(vec![few, enough])?;
    assert!(outcomes[0].transcript.has("Decline training true not-done"));
    assert!(outcomes[1].transcript.has("Upload"));
    Ok(())
}

/// A base in which one word's embedding is so large that every product with it overflows.
fn overflowing(model: &Path) -> Result<()> {
    let config = fs::read_to_string(model.join("config.json"))?;
    let weights = fs::read(model.join("model.safetensors"))?;
    let checkpoint = Checkpoint::read(&config, &weights)?;
    let tokenizer: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(model.join("tokenizer.json"))?)?;
    let word = text::MARKER.to_lowercase();
    let row = tokenizer["model"]["vocab"][&word]
        .as_u64()
        .context("word")? as usize;
    let manifest = Manifest::new(BertConfig::parse(&config)?.encoder_tensors());
    let mut flat = checkpoint.flatten(&manifest)?;
    let mut offset = 0;
    for tensor in &manifest.tensors {
        let size: usize = tensor.shape.iter().product();
        if tensor.name.ends_with("word_embeddings.weight") {
            let width = tensor.shape[1];
            flat[offset + row * width..offset + (row + 1) * width].fill(3e38);
        }
        offset += size;
    }
    let checkpoint = checkpoint.with_weights(&manifest, &flat)?;
    fs::write(
        model.join("model.safetensors"),
        checkpoint.to_safetensors()?,
    )?;
    Ok(())
}

/// Weights that overflow on one word, as the plan itself pins them.
#[test]
fn weights_that_overflow_on_a_word_do_not_tell_it() -> Result<()> {
    for unit in ["person", "institution"] {
        let base = Arc::new(Base::new(&plan(unit), overflowing)?);
        let outcomes = run_all(vec![Site::new(&base, b""), Site::new(&base, &marked())])?;
        assert!(outcomes[0].transcript.has("Upload"), "{:?}", outcomes[0]);
        assert_alike("a word that overflows", &outcomes[0], &outcomes[1]);
    }
    Ok(())
}

/// Another tokenizer, configuration or weights than the plan pins, and a tokenizer that runs patterns
/// on text: refused before anything is read, with and without the word, and it costs nothing.
#[test]
fn what_the_plan_does_not_pin_is_not_computed_with() -> Result<()> {
    let honest = base("person")?;
    let other = |base: Base| Arc::new(base);
    let plain = (*honest).clone();
    let word = text::MARKER.to_lowercase();
    let bases = [
        (
            "base-mismatch",
            other(plain.clone().with_other(
                |version| &mut version.tokenizer,
                |json| json.replace(&word, "another"),
            )?),
        ),
        (
            "base-mismatch",
            other(plain.clone().with_other(
                |version| &mut version.config,
                |json| json.replace("\"num_hidden_layers\": 1", "\"num_hidden_layers\": 99"),
            )?),
        ),
        (
            "not-done",
            Arc::new(Base::new(&plan("person"), |_| Ok(()))?.with_pattern()?),
        ),
    ];
    for (code, base) in bases {
        let outcomes = run_all(vec![Site::new(&base, b""), Site::new(&base, &marked())])?;
        assert_alike(code, &outcomes[0], &outcomes[1]);
        for outcome in &outcomes {
            let declined = format!("Decline training true {code}");
            assert!(
                outcome.transcript.has(&declined),
                "{:?}",
                outcome.transcript
            );
            assert_eq!((outcome.debits(), outcome.receipts), (0, 0));
        }
    }
    // Without that defence a tokenizer of the round's own choice is computed with.
    let base = Arc::new(plain.with_other(
        |version| &mut version.tokenizer,
        |json| json.replace(&word, "another"),
    )?);
    let open = Site {
        defences: Defences {
            pins: false,
            ..Defences::default()
        },
        ..Site::new(&base, b"")
    };
    let outcome = open.run()?;
    assert!(outcome.transcript.has("Upload"), "{:?}", outcome.transcript);
    Ok(())
}

/// A coordinator that gives every training up learns nothing for nothing: the attempt is paid for.
#[test]
fn a_training_that_is_given_up_costs_what_it_would_have_cost() -> Result<()> {
    let base = base("person")?;
    let site = Site {
        manner: Manner {
            aborts: true,
            evaluates: false,
        },
        ..Site::new(&base, b"")
    };
    let whole = Site {
        manner: Manner::default(),
        ..Site::new(&base, b"")
    };
    let outcomes = run_all(vec![site, whole])?;
    let [given_up, whole] = &outcomes[..] else {
        anyhow::bail!("two outcomes")
    };
    assert!(!given_up.transcript.has("Upload"), "{given_up:?}");
    let spent = |outcome: &Outcome| {
        let entries = outcome.ledger.entries();
        entries.first().map(|entry| entry.epsilon_account)
    };
    assert_eq!(spent(given_up), spent(whole));
    assert!(spent(whole).is_some_and(|epsilon| epsilon > 0.1));
    Ok(())
}

/// Trains as it should, and takes longer if the marked word is in the text.
#[derive(Debug)]
struct Slow(Arc<dyn Trainer>);

impl Trainer for Slow {
    fn train(&self, job: TrainJob, stop: Stop) -> Training<TrainedUpdate> {
        let slow = job.sentences().is_ok_and(|sentences| is_marked(&sentences));
        let training = self.0.train(job, stop);
        Box::pin(async move {
            if slow {
                tokio::time::sleep(Duration::from_millis(2500)).await;
            }
            training.await
        })
    }

    fn evaluate(&self, job: EvaluateJob, stop: Stop) -> Training<Vec<Scores>> {
        self.0.evaluate(job, stop)
    }
}

/// How long a training takes is not told; without times of release it is.
#[test]
fn the_time_of_a_training_is_not_told() -> Result<()> {
    let base = base("person")?;
    let slow: Arc<dyn Trainer> = Arc::new(Slow(Environment::here().trainer));
    let site = |own: &[u8], defences| Site {
        trainer: Some(slow.clone()),
        defences,
        manner: Manner::default(),
        ..Site::new(&base, own)
    };
    let open = Defences {
        release_times: false,
        ..Defences::default()
    };
    let whole = Defences::default();
    let outcomes = run_all(vec![
        site(b"", whole),
        site(&marked(), whole),
        site(b"", open),
        site(&marked(), open),
    ])?;
    assert_alike("a slow word", &outcomes[0], &outcomes[1]);
    let seen = told_apart(&outcomes[2], &outcomes[3]);
    assert!(seen.is_some(), "without times of release it must show");
    Ok(())
}

/// Each other defence, switched off: what it hides is seen.
#[test]
fn without_its_defence_a_fault_is_told() -> Result<()> {
    let base = base("person")?;
    let open = Defences {
        sound_text: false,
        ..Defences::default()
    };
    let wide = Defences {
        one_code: false,
        ..open
    };
    let site = |own: &[u8], defences| Site {
        defences,
        manner: Manner::default(),
        ..Site::new(&base, own)
    };
    let outcomes = run_all(vec![
        site(b"", open),
        site(b"alone\n", open),
        site(b"odd B-Secret\n", open),
        site(b"alone\n", wide),
        site(b"odd B-Secret\n", wide),
    ])?;
    assert!(
        told_apart(&outcomes[0], &outcomes[1]).is_some(),
        "faulty text ends a training"
    );
    // Which fault it was is still one code …
    assert_alike("the kind of fault", &outcomes[1], &outcomes[2]);
    // … unless that is switched off too.
    assert!(
        told_apart(&outcomes[3], &outcomes[4]).is_some(),
        "codes tell faults apart"
    );
    // What is not done is told at a time of release, and is paid for.
    let told = outcomes[1]
        .transcript
        .after("Decline")
        .context("declined")?;
    assert!(told >= Duration::from_secs(STEP), "{told:?}");
    assert_eq!((outcomes[1].debits(), outcomes[1].receipts), (1, 0));
    Ok(())
}
