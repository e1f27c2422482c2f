//! Evaluation and prediction with the committed tiny model.

mod common;

use std::ops::ControlFlow;

use common::{notes, tags, tiny_bert, tokenizer};
use fedner_model::device::Device;
use fedner_model::{Error, Evaluation, Model, evaluate, predict_text};
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
    assert_eq!(evaluation.tokens.micro().support, words as u64);
}

#[test]
fn words_past_the_limit_are_tagged_o() {
    let evaluation = evaluated(4, 4);
    for predicted in &evaluation.predictions {
        assert!(predicted[2..].iter().all(|tag| tag == "O"), "{predicted:?}");
    }
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
