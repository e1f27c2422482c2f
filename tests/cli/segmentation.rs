//! What is scored is what is predicted: the spans of a prediction are those that an evaluation
//! counts, for any text.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use fedner_model::corpus::Corpus;
use fedner_model::device::Device;
use fedner_model::{Model, Tagger, Tokenizer, evaluate};
use fedner_shared::checkpoint::{Checkpoint, Directory, tags_of_config};
use fedner_shared::score;
use fedner_tests::dictionary::Dictionary;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const CASES: u32 = 2400;

/// Pieces of text: words of six scripts, marks, emoji, zero-width and direction characters, blanks.
const PIECES: [&str; 64] = [
    "aspirin",
    "Lung",
    "cancer",
    "flu",
    "Dr.",
    "e.g.",
    "J.",
    "A",
    "5mg",
    "type-2",
    "naïve",
    "e\u{301}tat",
    "Zöliakie",
    "ΑΒγ",
    "γρίπη",
    "Грипп",
    "москва",
    "Ю.",
    "王小明",
    "北京",
    "看病",
    "東京",
    "に",
    "いる",
    "ミン",
    "ﾊﾟ",
    "ー",
    "서울",
    "병원에서",
    "สวัสดี",
    "โรค",
    "ำ",
    "ພະຍາດ",
    "ជំងឺ",
    "قلب",
    "حمى",
    "؟",
    "שלום",
    "חוֹלֶה",
    "हृदय",
    "रोग।",
    "😀",
    "👩\u{200d}⚕\u{fe0f}",
    "🇧🇪",
    "\u{200b}",
    "\u{200c}",
    "\u{200d}",
    "\u{200e}",
    "\u{200f}",
    "\u{202e}",
    "\u{ad}",
    "\u{feff}",
    "\u{308}",
    "\u{fe0f}",
    ".",
    "。",
    "!",
    "(",
    "”",
    ",",
    "0",
    "\u{a0}",
    "\r\n",
    "\n\n",
];

fn text() -> impl Strategy<Value = String> {
    let glue = prop::sample::select(vec!["", "", " ", " ", "\n", "\t", "\u{3000}"]);
    let piece = prop_oneof![
        12 => prop::sample::select(PIECES.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{1,3}",
        1 => any::<char>().prop_map(String::from),
    ];
    let parts = prop::collection::vec((piece, glue), 0..24);
    parts.prop_map(|parts| {
        parts
            .into_iter()
            .map(|(piece, glue)| piece + glue)
            .collect()
    })
}

/// Models with heads of every scheme.
fn dictionaries() -> [Dictionary; 4] {
    let pieces = "。 小 明 京 病 に い る ． ， γ г م ש";
    let iob2 = [
        ("aspirin", "B-X"),
        ("lung", "B-Y"),
        ("cancer", "I-Y"),
        ("王", "B-X"),
        ("京", "I-X"),
    ];
    let plain = [
        ("aspirin", "X"),
        ("lung", "Y"),
        ("cancer", "Y"),
        ("王", "X"),
        ("小", "X"),
    ];
    let iobes = [
        ("a", "B-X"),
        ("cancer", "E-X"),
        ("flu", "S-X"),
        ("北", "S-X"),
        ("東", "I-X"),
    ];
    [
        Dictionary::new("O B-X I-X B-Y I-Y", &iob2).with_pieces(pieces),
        Dictionary::new("O B-X I-X", &[("[UNK]", "I-X"), ("flu", "B-X")]).cased(),
        Dictionary::new("O X Y", &plain).with_pieces(pieces),
        Dictionary::new("O B-X I-X E-X S-X", &iobes)
            .with_pieces(pieces)
            .with_other("I-X"),
    ]
}

#[test]
fn the_spans_of_a_prediction_are_those_that_are_counted() -> Result<()> {
    for (index, dictionary) in dictionaries().into_iter().enumerate() {
        let model = Model::load(&dictionary.checkpoint()?, Device::default())?;
        let tokenizer = Tokenizer::parse(dictionary.tokenizer_json().as_bytes())?;
        let tagger = Tagger {
            model: &model,
            tokenizer: &tokenizer,
            tags: dictionary.tags(),
            max_tokens: 24,
            batch: 8,
        };
        hold(&tagger, CASES / 4, &index.to_string())?;
    }
    Ok(())
}

/// Encoders of other names, whose tokenizers cut words in other ways.
#[test]
fn the_same_holds_for_every_encoder() -> Result<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/encoders");
    for name in ["distilbert", "roberta", "roberta-peft", "xlm-roberta"] {
        let read = Directory::read(&fixtures.join(name))?;
        let checkpoint = Checkpoint::read(&read.config_json, &read.weights)?;
        let model = Model::load(&checkpoint, Device::default())?;
        let tokenizer = Tokenizer::parse(&read.tokenizer_json)?;
        let tags = tags_of_config(&read.config_json)?.context("tags")?;
        let tagger = Tagger {
            model: &model,
            tokenizer: &tokenizer,
            tags: &tags,
            max_tokens: 24,
            batch: 8,
        };
        hold(&tagger, 150, name)?;
    }
    Ok(())
}

fn hold(tagger: &Tagger, cases: u32, name: &str) -> Result<()> {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let same = |text: String| {
        same_spans(tagger, &text).map_err(|error| TestCaseError::fail(format!("{name}: {error}")))
    };
    Ok(TestRunner::new(config).run(&text(), same)?)
}

/// Reads the text as a corpus whose entities are those predicted. They are found again where they
/// stood: nothing is widened, divided or missed.
fn same_spans(tagger: &Tagger, text: &str) -> Result<()> {
    let mut go_on = |_, _| ControlFlow::Continue(());
    let predicted = tagger.predict(&[text], &mut go_on)?.remove(0);
    let characters: Vec<char> = text.chars().collect();
    for entity in &predicted.entities {
        let found: String = characters[entity.start..entity.end].iter().collect();
        anyhow::ensure!(found == entity.text, "`{found}` for `{}`", entity.text);
    }
    // Without entities: what the text is read as does not depend on them.
    for entities in [
        serde_json::to_value(&predicted.entities)?,
        serde_json::json!([]),
    ] {
        let gold = !entities.as_array().is_none_or(Vec::is_empty);
        let record = serde_json::json!({ "text": text, "entities": entities });
        let corpus = Corpus::parse("a.jsonl", record.to_string().as_bytes())?;
        anyhow::ensure!(corpus.summary.widened == 0 && corpus.summary.changed.is_empty());
        let pairs = corpus.sentences.iter().zip(&predicted.sentences);
        anyhow::ensure!(corpus.sentences.len() == predicted.sentences.len());
        for (read, predicted) in pairs {
            anyhow::ensure!((&read.words, &read.offsets) == (&predicted.words, &predicted.offsets));
        }
        let counted = evaluate(
            tagger.model,
            tagger.tokenizer,
            tagger.tags,
            &corpus.sentences,
            tagger.max_tokens,
            tagger.batch,
            &mut go_on,
        )?;
        let spans: Vec<(String, usize, usize)> = corpus
            .sentences
            .iter()
            .zip(&counted.predictions)
            .flat_map(|(sentence, tags)| {
                score::entities(tags).into_iter().map(|span| {
                    let end = sentence.offsets[span.end - 1].end;
                    (span.label, sentence.offsets[span.start].start, end)
                })
            })
            .collect();
        let expected: Vec<(String, usize, usize)> = predicted
            .entities
            .iter()
            .map(|entity| (entity.label.clone(), entity.start, entity.end))
            .collect();
        anyhow::ensure!(spans == expected, "{spans:?} for {expected:?}");
        let total = counted.offsets.total();
        if gold {
            let found = total.true_positives as usize;
            let wrong = total.false_positives + total.false_negatives;
            anyhow::ensure!(found == expected.len() && wrong == 0, "{total:?}");
        }
    }
    Ok(())
}
