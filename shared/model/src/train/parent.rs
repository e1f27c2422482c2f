//! What a parent says of the words whose tags the text leaves open.
//!
//! Text of a later year often annotates its new types alone. What a word outside of them is, the model that a run
//! began with, its parent, says by probabilities (ExtendNER: Monaikul et al. 2021, section 3.2). Training towards
//! these keeps what the parent knows, where a marginal likelihood alone would leave it open.
//!
//! **Sensitivity.** The parent is public: its bytes are named in the signed plan. Its probabilities for a word are a
//! function of the parent and of the sentence around the word, and in a private training each sentence goes through
//! it alone. So the loss of a unit is still a function of that unit alone, and its gradient is clipped as any other.

use fedner_shared::checkpoint::Checkpoint;

use super::cache::{Cache, Frozen, Run, by_sentence};
use super::examples::Example;
use super::kept_files::{self, KeptFiles};
use super::observer::Observer;
use super::tag_sets::TagSets;
use crate::{Error, Model};

/// What came of asking a parent.
#[derive(Debug)]
pub(super) struct TaughtBy {
    /// Of each example.
    pub(super) targets: Vec<Vec<usize>>,
    pub(super) sets: TagSets,
}

/// The model that a run began with.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// With a head of the same tags as the one that is trained.
    pub base: &'a Checkpoint,
    /// The rows of its head that it learnt, that of `O` among them, as indices into the tags.
    pub known: &'a [usize],
}

impl Parent<'_> {
    /// Puts what the parent says in the place of sets of tags: new targets for `examples`, and the sets that have
    /// them.
    pub(super) fn teach(
        self,
        frozen: Frozen<'_>,
        sets: &TagSets,
        keep: &KeptFiles,
        observer: &mut dyn Observer,
    ) -> Result<TaughtBy, Error> {
        let of_examples = frozen.examples.iter();
        let mut targets: Vec<Vec<usize>> = of_examples.map(|e| e.targets.clone()).collect();
        let mut sets = sets.clone();
        if targets.iter().flatten().all(|t| sets.is_single(*t)) {
            return Ok(TaughtBy { targets, sets });
        }
        let scores = self.scores(frozen, sets.tags().len(), keep, observer)?;
        let mut own = Vec::new();
        for (index, targets) in targets.iter_mut().enumerate() {
            own.clear();
            scores.read(index, &mut own)?;
            let rows = own.chunks_exact(sets.tags().len()).zip(targets);
            for (scores, target) in rows {
                *target = sets.taught(*target, scores, self.known);
            }
        }
        Ok(TaughtBy { targets, sets })
    }

    /// The scores of each word's tags.
    fn scores(
        self,
        frozen: Frozen<'_>,
        tags: usize,
        keep: &KeptFiles,
        observer: &mut dyn Observer,
    ) -> Result<Cache, Error> {
        // As it tags, adapters merged.
        let merged = match self.base.config.adapters {
            Some(_) => self.base.clone().merged(),
            None => self.base.clone(),
        };
        let model = Model::load(&merged, frozen.device)?;
        let found = model.tags();
        if found != tags {
            return Err(Error::Tags {
                expected: tags,
                found,
            });
        }
        let frozen = Frozen {
            base: &merged,
            ..frozen
        };
        let keep = KeptFiles {
            features: keep.features.as_ref().map(|folder| folder.join("parent")),
            encoder: None,
            ..keep.clone()
        };
        let kind = format!(
            "scores, no padding, of {}",
            kept_files::digest_of_model(&merged, tags)?
        );
        let layers = merged.config.num_hidden_layers;
        let lengths = frozen.examples.iter();
        let lengths = lengths.map(|example: &Example| example.targets.len() * tags);
        let load = || -> Result<Run<'_>, Error> {
            Ok(Box::new(|sentences| {
                Ok(by_sentence(sentences, &model.logits(sentences)?, tags))
            }))
        };
        let frozen = frozen.read_without_a_tape();
        frozen.cached((&kind, layers), lengths, &keep, observer, load)
    }
}
