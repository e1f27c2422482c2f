//! Every error that reader, tokenizer, trainer and evaluator have, injected where one word is in the
//! text: on the wire each is the same.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fedner_client::agent::{
    Environment, EvaluateJob, Outcome as Training, TrainJob, TrainedUpdate, Trainer,
};
use fedner_client::dp_sgd;
use fedner_client::training::{Error, Stop};
use fedner_model::corpus;
use fedner_shared::checkpoint;
use fedner_shared::plan::{Method, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::score::Scores;

use crate::base::Base;
use crate::oracles::plan;
use crate::rogue::Manner;
use crate::site::{Site, run_all};

type Make = fn() -> Error;

/// Ends with an error.
#[derive(Debug)]
struct Failing {
    make: Make,
    /// The evaluation fails instead of the training.
    evaluating: bool,
    real: Arc<dyn Trainer>,
}

/// Errors of the model crate, which reads, tokenises, trains and evaluates.
fn of_model(error: fedner_model::Error) -> Error {
    Error::Model(error)
}

fn errors() -> Vec<(&'static str, Make)> {
    use fedner_model::Error as M;
    vec![
        ("refused: corpus-empty", || {
            Refusal::new(Code::CorpusEmpty, "x").into()
        }),
        ("refused: labels-mismatch", || {
            Refusal::new(Code::LabelsMismatch, "x").into()
        }),
        ("refused: update-shape", || {
            Refusal::new(Code::UpdateShape, "x").into()
        }),
        ("corpus: read", || {
            Error::Corpus(corpus::Error::Read {
                name: "x".to_owned(),
                source: io::ErrorKind::InvalidData.into(),
            })
        }),
        ("corpus: labels", || {
            Error::Corpus(corpus::Error::Labels {
                file: "x".to_owned(),
                line: 7,
                found: vec!["Secret".to_owned()],
                expected: Vec::new(),
            })
        }),
        ("corpus: tokenize", || {
            Error::Corpus(corpus::Error::Tokenize(Box::new(M::EmptyCorpus)))
        }),
        ("checkpoint", || {
            Error::Checkpoint(checkpoint::Error::Missing("x".to_owned()))
        }),
        ("private", || {
            Error::Private(dp_sgd::Error::Random(getrandom::Error::UNSUPPORTED))
        }),
        ("read", || Error::Read {
            file: PathBuf::from("x"),
            source: io::ErrorKind::NotFound.into(),
        }),
        ("blob", || Error::Blob(io::ErrorKind::StorageFull.into())),
        ("model: checkpoint", || {
            of_model(M::Checkpoint(checkpoint::Error::Missing("x".to_owned())))
        }),
        ("model: tokenizer", || {
            of_model(M::Tokenizer("x".to_owned()))
        }),
        ("model: encode", || {
            of_model(M::Encode {
                words: "Quetzalina".to_owned(),
                reason: "x".to_owned(),
            })
        }),
        ("model: vocabulary", || {
            of_model(M::Vocabulary {
                found: 40_000,
                vocabulary: 10,
            })
        }),
        ("model: length", || {
            of_model(M::Length {
                expected: 1,
                found: 2,
            })
        }),
        ("model: window", || {
            of_model(M::Window { found: 1, least: 2 })
        }),
        ("model: tags", || {
            of_model(M::Tags {
                expected: 1,
                found: 2,
            })
        }),
        ("model: no head", || of_model(M::NoHead)),
        ("model: adapters", || {
            of_model(M::Adapters {
                method: Method::Lora,
            })
        }),
        ("model: crf", || of_model(M::PrivateCrf)),
        ("model: empty corpus", || of_model(M::EmptyCorpus)),
        ("model: unknown tag", || {
            of_model(M::UnknownTag {
                tag: "B-Secret".to_owned(),
                line: 7,
                expected: Vec::new(),
            })
        }),
        ("model: no unit", || {
            of_model(M::NoUnit {
                unit: Unit::Person,
                line: 7,
            })
        }),
        ("model: mechanism", || {
            of_model(M::Mechanism("x".to_owned()))
        }),
        ("model: threads", || of_model(M::Threads("x".to_owned()))),
        ("model: not finite", || of_model(M::NotFinite { step: 3 })),
        ("model: tensor", || of_model(M::Tensor("x".to_owned()))),
        ("model: keep", || {
            of_model(M::Keep {
                file: PathBuf::from("x"),
                source: io::ErrorKind::StorageFull.into(),
            })
        }),
        ("model: other training", || {
            of_model(M::OtherTraining {
                file: PathBuf::from("x"),
            })
        }),
        ("panic", || panic!("over Quetzalina")),
    ]
}

impl Failing {
    async fn fail<T: Send + 'static>(make: Make) -> Result<T, Error> {
        // A panic comes as the real trainer's does: from a thread that did not return.
        Err(tokio::task::spawn_blocking(make).await?)
    }
}

impl Trainer for Failing {
    fn train(&self, job: TrainJob, stop: Stop) -> Training<TrainedUpdate> {
        if self.evaluating {
            return self.real.train(job, stop);
        }
        Box::pin(Self::fail(self.make))
    }

    fn evaluate(&self, _: EvaluateJob, _: Stop) -> Training<Vec<Scores>> {
        Box::pin(Self::fail(self.make))
    }
}

/// Whatever ends a training after text was read: one answer, at one time, at the full price.
#[test]
fn every_error_of_a_training_is_told_alike() -> Result<()> {
    let base = Arc::new(Base::new(&plan("person"), |_| Ok(()))?);
    let real = Environment::here().trainer;
    let sites = errors().into_iter().map(|(_, make)| Site {
        trainer: Some(Arc::new(Failing {
            make,
            evaluating: false,
            real: real.clone(),
        })),
        manner: Manner::default(),
        ..Site::new(&base, b"")
    });
    let outcomes = run_all(sites.collect())?;
    let first = outcomes.first().context("outcomes")?;
    assert!(
        first.transcript.has("Decline training true not-done"),
        "{first:?}"
    );
    let told = first.transcript.after("Decline").context("declined")?;
    assert!(told >= Duration::from_secs(5), "{told:?}");
    for ((name, _), outcome) in errors().iter().zip(&outcomes) {
        if let Some(difference) = first.transcript.difference(&outcome.transcript) {
            panic!("{name} is told: {difference}");
        }
        assert_eq!((outcome.debits(), outcome.receipts), (1, 0), "{name}");
    }
    Ok(())
}

/// The same of an evaluation.
#[test]
fn every_error_of_an_evaluation_is_told_alike() -> Result<()> {
    let base = Arc::new(Base::new(&plan("person"), |_| Ok(()))?);
    let real = Environment::here().trainer;
    let sites = errors().into_iter().map(|(_, make)| Site {
        trainer: Some(Arc::new(Failing {
            make,
            evaluating: true,
            real: real.clone(),
        })),
        ..Site::new(&base, b"")
    });
    let outcomes = run_all(sites.collect())?;
    let first = outcomes.first().context("outcomes")?;
    assert!(
        first.transcript.has("Decline training false not-done"),
        "{first:?}"
    );
    for ((name, _), outcome) in errors().iter().zip(&outcomes) {
        if let Some(difference) = first.transcript.difference(&outcome.transcript) {
            panic!("{name} is told: {difference}");
        }
        assert_eq!((outcome.debits(), outcome.receipts), (2, 1), "{name}");
    }
    Ok(())
}
