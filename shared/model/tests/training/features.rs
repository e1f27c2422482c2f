//! Features of frozen layers: made once, sealed, used again.

use std::ops::ControlFlow;

use fedner_model::{KeptFiles, Progress, Sentence, Stage, TrainHooks, TrainOptions, Trainer};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Lora, Method, Trainable};
use fedner_shared::seal::StorageKey;

use crate::common::{notes, run, tags, tokenizer, untrained};
use crate::{options, with_weights};

/// Steps in which frozen layers ran, in a training on `corpus` that is what it is without `keep`.
fn steps_of_features(
    base: &Checkpoint,
    corpus: &[Sentence],
    options: &TrainOptions,
    keep: &KeptFiles,
) -> usize {
    let mut made = 0;
    let mut observer = |progress: Progress| {
        made += usize::from(progress.stage == Stage::Features);
        ControlFlow::Continue(())
    };
    let trained = Trainer {
        base,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(
        corpus,
        options,
        TrainHooks {
            kept_files: keep,
            ..TrainHooks::default()
        },
        &mut observer,
    );
    assert_eq!(
        trained.expect("trained"),
        run(base, corpus, options).expect("without a directory")
    );
    made
}

#[test]
fn features_are_made_once_for_text_and_encoder() {
    let directory = tempfile::tempdir().expect("directory");
    let keep = KeptFiles {
        features: Some(directory.path().to_owned()),
        ..KeptFiles::default()
    };
    let options = options(Method::Head, 1);
    let made = |base: &Checkpoint, count| steps_of_features(base, &notes(count), &options, &keep);
    let base = untrained(8);
    assert_eq!((made(&base, 60), made(&base, 60)), (2, 0));
    // Another head does not matter; other text and another encoder do.
    let other_head = base.clone().with_new_head(tags().len(), 99);
    assert_eq!((made(&other_head, 60), made(&base, 59)), (0, 2));
    assert_eq!(made(&untrained(9), 59), 2);
    let left = std::fs::read_dir(directory.path()).expect("directory");
    assert_eq!(left.count(), 1);
}

/// What the features of a corpus are worth to somebody else.
#[test]
fn features_are_sealed_where_there_is_a_key_and_of_no_use_with_another() {
    let base = untrained(8);
    let options = options(Method::Head, 1);
    let folder = || tempfile::tempdir().expect("directory");
    let keep = |directory: &tempfile::TempDir, key: Option<u8>| KeptFiles {
        features: Some(directory.path().to_owned()),
        key: key.map(|key| StorageKey::from_bytes([key; 32])),
        ..KeptFiles::default()
    };
    let file = |directory: &tempfile::TempDir| {
        let mut entries = std::fs::read_dir(directory.path()).expect("directory");
        let path = entries.next().expect("a file").expect("entry").path();
        (std::fs::read(&path).expect("read"), path)
    };
    let (plain, sealed) = (folder(), folder());
    let made = |keep: &KeptFiles| steps_of_features(&base, &notes(60), &options, keep);
    assert_eq!(made(&keep(&plain, None)), 2);
    assert_eq!(made(&keep(&sealed, Some(1))), 2);
    assert_eq!(made(&keep(&sealed, Some(1))), 0, "made once");
    let ((open, _), (closed, path)) = (file(&plain), file(&sealed));
    let number = &open[400..416];
    let shows = |bytes: &[u8]| bytes.windows(16).any(|window| window == number);
    assert!(shows(&open) && !shows(&closed), "the control shows them");
    assert_eq!(made(&keep(&sealed, Some(2))), 2, "another key is made anew");
    // A record that was changed is noticed, and made anew the next time.
    let (mut damaged, _) = file(&sealed);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    std::fs::write(&path, damaged).expect("damaged");
    let trained = Trainer {
        base: &base,
        tokenizer: &tokenizer(),
        tags: &tags(),
    }
    .run(
        &notes(60),
        &options,
        TrainHooks {
            kept_files: &keep(&sealed, Some(2)),
            ..TrainHooks::default()
        },
        &mut |_: Progress| ControlFlow::Continue(()),
    );
    assert!(trained.is_err());
    assert_eq!(made(&keep(&sealed, Some(2))), 2);
}

/// A later round has other weights in the upper layers, and the same below.
#[test]
fn frozen_layers_run_once_for_all_rounds_unless_activations_are_dropped() {
    for method in [Method::Full, Method::Lora] {
        let directory = tempfile::tempdir().expect("directory");
        let keep = KeptFiles {
            features: Some(directory.path().to_owned()),
            ..KeptFiles::default()
        };
        let mut options = options(method, 1);
        options.training.freeze_layers = 1;
        options.training.dropout = Some(0.0);
        let trainable = Trainable::new(method, Some(&Lora::default()), &options.training);
        let base = untrained(8).prepared_for(&trainable, 1);
        let corpus = notes(60);
        let made = |base: &Checkpoint, options: &TrainOptions| {
            steps_of_features(base, &corpus, options, &keep)
        };
        assert_eq!(made(&base, &options), 2, "{method}");
        let manifest = base.config.manifest(&trainable, tags().len());
        let first = run(&base, &corpus, &options).expect("first round");
        let second = with_weights(&base, &manifest, &first.weights);
        assert_eq!(made(&second, &options), 0, "{method}");
        let other = untrained(9).prepared_for(&trainable, 1);
        assert_eq!(made(&other, &options), 2, "{method}");
        options.training.dropout = None;
        assert_eq!(made(&base, &options), 0, "{method}");
    }
}
