//! Was this text trained on? A model is often surer of the tags of text that it has seen (Yeom et al.
//! 2018, "Privacy Risk in Machine Learning", Section 3.2: the attack by loss).

use fedner_host::progress::Progress;
use fedner_model::device::Device;
use fedner_model::{Loss, Model, Sentence, Tagger, losses, number_units};
use fedner_privacy::audit::one_run::Guesses;
use fedner_privacy::audit::roc;
use fedner_shared::audit::Roc;
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};

use super::Error;
use super::claim::Claim;
use super::report::Part;
use crate::training::LoadedModel;

/// Sub-tokens of a window, and windows read together.
const MAX_TOKENS: usize = 512;
const TOGETHER: usize = 32;

/// A finished model to attack.
#[derive(Debug)]
pub struct Suspect {
    model: Model,
    material: LoadedModel,
    tags: Vec<String>,
}

impl Suspect {
    pub fn load(
        (material, tags): (LoadedModel, Vec<String>),
        device: Device,
    ) -> Result<Self, Error> {
        Ok(Self {
            model: Model::load(&material.checkpoint, device)?,
            material,
            tags,
        })
    }

    /// The loss of each sentence's own tags.
    pub(super) fn losses(&self, sentences: &[Sentence]) -> Result<Vec<Loss>, Error> {
        let tagger = Tagger {
            model: &self.model,
            tokenizer: &self.material.tokenizer,
            tags: &self.tags,
            max_tokens: MAX_TOKENS,
            batch: TOGETHER,
        };
        let mut shown = Progress::new("reading losses");
        let mut observer = |done, total| {
            shown.at(done, total, String::new);
            std::ops::ControlFlow::Continue(())
        };
        Ok(losses(&tagger, sentences, &mut observer)?)
    }

    /// Minus the mean loss of each unit: the surer, the likelier a member.
    fn scores(&self, unit: Unit, sentences: &[Sentence]) -> Result<Vec<f64>, Error> {
        // Where no unit of the text is protected, each sentence is looked at by itself.
        let unit = if unit.is_sampled() {
            unit
        } else {
            Unit::Sentence
        };
        let (of_sentence, count) = number_units(unit, sentences)?;
        let mut units = vec![Loss::default(); count];
        for (number, loss) in of_sentence.into_iter().zip(self.losses(sentences)?) {
            units[number].sum += loss.sum;
            units[number].words += loss.words;
        }
        let read = units.into_iter().filter(|loss| loss.words > 0);
        Ok(read.map(|loss| -loss.mean()).collect())
    }
}

/// Scores of units that were trained on, and of others.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    members: Vec<f64>,
    others: Vec<f64>,
}

/// Reads both with the model.
pub fn scored(
    suspect: &Suspect,
    unit: Unit,
    members: &[Sentence],
    others: &[Sentence],
) -> Result<Scored, Error> {
    Ok(Scored {
        members: suspect.scores(unit, members)?,
        others: suspect.scores(unit, others)?,
    })
}

impl Scored {
    pub fn curve(&self, confidence: f64) -> Result<Roc, Error> {
        Ok(roc::curve(&self.members, &self.others, confidence)?)
    }

    /// A bound on ε, where a fair coin of its own decided for each unit whether `plan` trained on it;
    /// `units` were declared.
    pub fn judge(&self, plan: &Plan, units: u32, confidence: f64) -> Result<Part, Error> {
        let Some(sampling) = plan.sampling(units) else {
            let message = format!(
                "the plan {} protects the unit {}: expected person, document or sentence, as single \
                 units cannot refute another claim",
                plan.name, plan.privacy.unit
            );
            return Err(Refusal::new(Code::AuditInvalid, message).into());
        };
        let scores = [self.members.as_slice(), &self.others].concat();
        let inside: Vec<bool> = (0..scores.len()).map(|i| i < self.members.len()).collect();
        let guesses = 2 * (scores.len() / 10).max(1);
        let guesses = Guesses::by_score(&scores, &inside, guesses)?;
        let claim = Claim::steps(plan, sampling, sampling.steps * u64::from(plan.rounds));
        let curve = claim.curve(plan.privacy.delta)?;
        curve.judge("membership", &guesses, confidence, None)
    }
}
