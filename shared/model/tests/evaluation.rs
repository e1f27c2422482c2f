//! Evaluation and prediction with the committed tiny model.

mod common;

use std::ops::ControlFlow;

use common::{notes, tags, tiny_bert, tokenizer};
use fedner_model::corpus::Format;
use fedner_model::device::Device;
use fedner_model::{
    Averages, Corpus, Error, Evaluation, Model, Sentence, Tagger, brat, conll, evaluate, json_line,
    predict_text,
};
use fedner_shared::score::Scores;

fn model() -> Model {
    Model::load(&tiny_bert(), Device::Cpu).expect("model")
}

fn evaluated(batch: usize, max_tokens: usize) -> Evaluation {
    let mut observer = |_, _| ControlFlow::Continue(());
    let tags = tags();
    evaluate(
        &model(),
        &tokenizer(),
        &tags,
        &notes(30),
        max_tokens,
        batch,
        &mut observer,
    )
    .expect("evaluation")
}

#[test]
fn scores_follow_from_the_predictions_whatever_the_batch() {
    let evaluation = evaluated(7, 40);
    let mut scores = Scores::default();
    for (sentence, predicted) in notes(30).iter().zip(&evaluation.predictions) {
        assert_eq!(predicted.len(), sentence.words.len());
        scores.count(&sentence.tags, predicted);
    }
    assert_eq!(evaluation.scores, scores);
    assert_eq!(evaluated(1, 40), evaluation);
    let words: usize = notes(30).iter().map(|s| s.words.len()).sum();
    let averages = Averages::from_counts(&evaluation.tokens.by_tag);
    assert_eq!(averages.micro.support, words as u64);
}

/// Sentences one after another, longer than any window.
fn long(count: usize) -> Sentence {
    let mut long = Sentence::default();
    for sentence in notes(count) {
        long.words.extend(sentence.words);
        long.tags.extend(sentence.tags);
    }
    long
}

#[test]
fn long_sentences_are_read_in_windows_and_no_word_is_left_out() {
    let model = Model::load(&tiny_bert().with_new_head(5, 3), Device::Cpu).expect("model");
    let (tokenizer, tags, long) = (tokenizer(), tags(), long(40));
    let mut observer = |_, _| ControlFlow::Continue(());
    let sentences = [long.clone()];
    let evaluation = evaluate(&model, &tokenizer, &tags, &sentences, 30, 7, &mut observer);
    let evaluation = evaluation.expect("evaluation");
    let predicted = &evaluation.predictions[0];
    assert_eq!(predicted.len(), long.words.len());
    let entities = fedner_shared::score::entities(&long.tags).len() as u64;
    assert_eq!(evaluation.scores.total().support(), entities);
    // Each window alone says the same of its words.
    let mut place = 0;
    for window in tokenizer.windows(&long.words, 30).expect("windows") {
        for word in &model.tag(&[&window]).expect("tagged")[0] {
            let word = word.expect("a sub-token");
            assert_eq!(predicted[place], tags[word.tag], "word {place}");
            place += 1;
        }
    }
    assert_eq!(place, predicted.len());
    let tagged = |tag: &&String| tag.as_str() != "O";
    assert!(predicted[place / 2..].iter().any(|tag| tagged(&tag)));
}

#[test]
fn an_observer_hears_of_all_sentences_and_may_stop() {
    let (mut seen, tags) = (Vec::new(), tags());
    let mut observer = |done, all| {
        seen.push((done, all));
        if done >= 20 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let stopped = evaluate(
        &model(),
        &tokenizer(),
        &tags,
        &notes(30),
        40,
        10,
        &mut observer,
    );
    assert!(matches!(
        stopped,
        Err(Error::Stopped {
            step: 20,
            steps: 30
        })
    ));
    assert_eq!(seen, [(10, 30), (20, 30)]);
}

#[test]
fn entities_of_a_text_have_their_characters() {
    let text = "Fièvre: the patient was given aspirin (ibuprofen) for bronchitis.\n\nNo history \
        of leukemia. "
        .repeat(3);
    // This head gives every tag to some word.
    let model = Model::load(&tiny_bert().with_new_head(5, 3), Device::Cpu).expect("model");
    let entities = predict_text(&model, &tokenizer(), &tags(), &text, 12).expect("entities");
    assert!(!entities.is_empty());
    let characters: Vec<char> = text.chars().collect();
    for entity in &entities {
        let found: String = characters[entity.start..entity.end].iter().collect();
        assert_eq!(found, entity.text);
        assert!(entity.score > 0.2 && entity.score <= 1.0, "{entity:?}");
        assert!(tags().contains(&format!("B-{}", entity.label)));
    }
    assert!(entities.is_sorted_by_key(|entity| entity.start));
    for empty in ["", " \n\t "] {
        assert_eq!(
            predict_text(&model, &tokenizer(), &tags(), empty, 12).expect("none"),
            []
        );
    }
}

#[test]
fn texts_are_tagged_together_as_they_are_alone() {
    let model = Model::load(&tiny_bert().with_new_head(5, 3), Device::Cpu).expect("model");
    let (tokenizer, tags) = (tokenizer(), tags());
    let tagger = Tagger {
        model: &model,
        tokenizer: &tokenizer,
        tags: &tags,
        max_tokens: 12,
        batch: 3,
    };
    let texts = [
        "Fièvre: the patient was given aspirin.\r\nNo flu!",
        "",
        "the woman was given ibuprofen (again) for bronchitis and chronic asthma and leukemia",
    ];
    let mut observer = |_, _| ControlFlow::Continue(());
    let together = tagger.predict(&texts, &mut observer).expect("predictions");
    assert_eq!(together.len(), texts.len());
    for (text, prediction) in texts.iter().zip(&together) {
        let alone = predict_text(&model, &tokenizer, &tags, text, 12).expect("entities");
        let places = |entities: &[fedner_model::Entity]| -> Vec<(usize, usize, String)> {
            let place = |e: &fedner_model::Entity| (e.start, e.end, e.label.clone());
            entities.iter().map(place).collect()
        };
        assert_eq!(places(&prediction.entities), places(&alone));
    }

    // What is written is read as the same entities.
    let [first, _, third] = together.as_slice() else {
        panic!("three predictions");
    };
    assert!(!first.entities.is_empty() && !third.entities.is_empty());
    let entities = |corpus: &Corpus| -> Vec<(String, String)> {
        let mut found = Vec::new();
        for sentence in &corpus.sentences {
            for span in fedner_shared::score::entities(&sentence.tags) {
                found.push((span.label, sentence.words[span.start..span.end].join(" ")));
            }
        }
        found
    };
    for (text, prediction) in texts.iter().zip(&together) {
        let json = json_line(Some("d1"), text, prediction);
        let columns = conll(Some("d1"), prediction);
        let read = Corpus::parse("p.jsonl", json.as_bytes()).expect("JSON");
        assert_eq!(read.summary.format, Format::JsonText);
        let again = Corpus::parse("p.conll", columns.as_bytes()).expect("columns");
        assert_eq!(entities(&read), entities(&again));
        assert_eq!(entities(&read).len(), prediction.entities.len());

        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("d1.txt"), text).expect("text");
        std::fs::write(folder.path().join("d1.ann"), brat(prediction)).expect("annotations");
        let annotated = Corpus::read(folder.path()).expect("BRAT");
        assert_eq!(entities(&annotated), entities(&read));
    }
}
