//! Model versions: immutable records, named by their digest.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{InstitutionId, RunId, VersionName};
use crate::plan::{Method, Rule};
use crate::serde_helpers::is_default;
use crate::statement::Annotation;
use crate::time::Time;

/// A model version. Its digest is that of its canonical JSON, without what is sealed in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    pub name: VersionName,
    pub parent: Option<Digest>,
    pub origin: Origin,
    /// Entity types of the head; none for a bare encoder.
    pub labels: Vec<String>,
    /// `model.safetensors`, in canonical form; where there is a frozen part, the tensors beside it.
    pub weights: Digest,
    /// The weights that a run leaves as they are: a whole `model.safetensors` in canonical form,
    /// to which `weights` adds tensors, or in which it replaces some. All versions of a run share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Digest>,
    /// `config.json`.
    pub config: Digest,
    /// `tokenizer.json`.
    pub tokenizer: Digest,
    pub created: Time,
}

/// How a version came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Read from a Hugging Face directory.
    Import,
    /// A base given a new head of the plan's labels, its weights drawn from the plan's seed.
    Head { plan: Digest },
    /// A base made ready for a plan: adapters of an earlier run merged into its weights, new ones
    /// and a new head beside them, whichever the plan needs and the base lacked.
    Prepared { plan: Digest },
    /// A round of federated training.
    Round(Round),
}

/// The round that published a version, with everything needed to compute it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    pub run: RunId,
    pub plan: Digest,
    pub method: Method,
    pub round: u32,
    pub attempt: u32,
    pub manifest: Digest,
    /// How the updates became one; versions that say nothing are of FedAvg.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rule: Rule,
    /// The moments of the plan's server optimizer after this round, as they go on in the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moments: Option<Digest>,
    /// What takes the masks off the sum of the updates, where these are masked: a `Transcript`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmasking: Option<Digest>,
    /// In the order of their names.
    pub participants: Vec<Participant>,
    /// The digest of each participant's canonical JSON, in the same order, where the plan says that members
    /// see nothing else of each other. Then the version's digest is of these, so that a record says the same
    /// version whichever of its participants are shown. A digest gives no number away: it is over the digest of
    /// an update, which nobody can guess who has not the update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<Digest>,
}

/// One institution's part in a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Participant {
    pub institution: InstitutionId,
    pub weight: u32,
    /// The encoded update.
    pub update: Digest,
    /// The signed receipt.
    pub receipt: Digest,
    /// ε of the run at that institution after the round; absent without noise.
    pub epsilon: Option<f64>,
    /// Which types its text annotates, where the plan makes rows of the head means over those who annotate them;
    /// absent where it annotates all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotation: Option<Annotation>,
}

impl Participant {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }
}

impl Round {
    /// Seals the participants: others than themselves are shown their digests only.
    #[must_use]
    pub fn sealed(self) -> Self {
        let sealed = self.participants.iter().map(Participant::digest).collect();
        Self { sealed, ..self }
    }

    /// Whether what is shown of the participants is what was sealed; `true` where nothing is.
    pub fn shows_what_it_seals(&self) -> bool {
        let mut shown = self.participants.iter().map(Participant::digest);
        self.sealed.is_empty() || shown.all(|digest| self.sealed.contains(&digest))
    }
}

impl Version {
    pub fn digest(&self) -> Digest {
        Digest::of_json(&self.public())
    }

    /// The record as everybody may read it: the version's digest is that of its canonical JSON.
    #[must_use]
    pub fn public(&self) -> Self {
        let mut shown = self.clone();
        if let Origin::Round(round) = &mut shown.origin
            && !round.sealed.is_empty()
        {
            round.participants.clear();
        }
        shown
    }

    /// An institution's own part, where the public record has only a digest of it.
    pub fn sealed_part_of(&self, institution: &InstitutionId) -> Option<&Participant> {
        let round = self.round().filter(|round| !round.sealed.is_empty())?;
        let mut parts = round.participants.iter();
        parts.find(|part| part.institution == *institution)
    }

    /// The files that the model consists of.
    pub fn objects(&self) -> impl Iterator<Item = Digest> {
        let always = [self.config, self.tokenizer, self.weights];
        always.into_iter().chain(self.frozen)
    }

    /// Everything that must be kept for the version, but for what was pruned: its files, and where a round
    /// published it the updates and the moments that its weights are computed again from.
    pub fn kept(&self, pruned: Option<Pruned>) -> impl Iterator<Item = Digest> {
        let whole = pruned != Some(Pruned::Files);
        let files = self
            .objects()
            .chain(self.round().and_then(|round| round.moments));
        let updates = self.updates().filter(move |_| pruned.is_none());
        files.filter(move |_| whole).chain(updates)
    }

    /// The updates that it is the sum of, and what unmasks it; none where no round published it.
    pub fn updates(&self) -> impl Iterator<Item = Digest> {
        let participants = self.round().map(|round| round.participants.as_slice());
        let participants = participants.unwrap_or_default().iter();
        let unmasking = self.round().and_then(|round| round.unmasking);
        participants
            .map(|participant| participant.update)
            .chain(unmasking)
    }

    /// The moments with which a round of `run` on this version begins.
    pub fn moments_for(&self, run: &RunId) -> Option<Digest> {
        let round = self.round().filter(|round| round.run == *run)?;
        round.moments
    }

    pub fn round(&self) -> Option<&Round> {
        match &self.origin {
            Origin::Round(round) => Some(round),
            Origin::Import | Origin::Head { .. } | Origin::Prepared { .. } => None,
        }
    }
}

/// How much of a version was let go on purpose. Its record and the receipts stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pruned {
    /// The updates that it is the sum of.
    Updates,
    /// These, and its own files.
    Files,
}

impl Pruned {
    pub const ALL: [Self; 2] = [Self::Updates, Self::Files];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Updates => "updates",
            Self::Files => "files",
        }
    }
}

impl std::fmt::Display for Pruned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::canonical_text;

    fn participant(name: &str, weight: u32) -> Participant {
        Participant {
            institution: name.parse().expect("name"),
            weight,
            update: Digest::of(name.as_bytes()),
            receipt: Digest::of(b"receipt"),
            epsilon: Some(f64::from(weight) / 1000.0),
            annotation: None,
        }
    }

    fn version(sealed: bool) -> Version {
        let round = Round {
            run: "run-1".parse().expect("name"),
            plan: Digest::of(b"plan"),
            method: Method::Head,
            round: 1,
            attempt: 1,
            manifest: Digest::of(b"manifest"),
            rule: Rule::default(),
            moments: None,
            unmasking: None,
            participants: vec![participant("mercy", 4321), participant("st-anna", 1234)],
            sealed: Vec::new(),
        };
        Version {
            name: "p@2".parse().expect("name"),
            parent: None,
            origin: Origin::Round(if sealed { round.sealed() } else { round }),
            labels: vec!["Drug".to_owned()],
            weights: Digest::of(b"weights"),
            frozen: None,
            config: Digest::of(b"config"),
            tokenizer: Digest::of(b"tokenizer"),
            created: Time::from_millis(0),
        }
    }

    #[test]
    fn a_sealed_record_says_the_same_version_and_nothing_of_its_participants() {
        let whole = version(true);
        let text = canonical_text(&whole.public());
        for hidden in ["mercy", "4321", "st-anna", "1234"] {
            assert!(!text.contains(hidden), "{text}");
        }
        // Whoever hashes what was sent comes to the version's digest.
        assert_eq!(Digest::of(text.as_bytes()), whole.digest());
        let read: Version = serde_json::from_str(&text).expect("record");
        assert_eq!(read.digest(), whole.digest());
        let anna = "st-anna".parse().expect("name");
        let own = whole.sealed_part_of(&anna).expect("a part");
        assert!(
            whole
                .round()
                .is_some_and(|round| round.sealed.contains(&own.digest()))
        );
        assert_eq!(whole.sealed_part_of(&"north".parse().expect("name")), None);
    }

    #[test]
    fn a_record_of_another_participant_is_another_version_or_contradicts_its_seal() {
        let whole = version(true);
        let mut other = whole.clone();
        if let Origin::Round(round) = &mut other.origin {
            round.participants[1].weight = 1;
        }
        let shows = |version: &Version| version.round().is_some_and(Round::shows_what_it_seals);
        assert!(shows(&whole) && !shows(&other));
        if let Origin::Round(round) = &mut other.origin {
            *round = round.clone().sealed();
        }
        assert!(shows(&other) && other.digest() != whole.digest());
    }

    #[test]
    fn a_record_that_seals_nothing_shows_everything_as_before() {
        let open = version(false);
        let anna = "st-anna".parse().expect("name");
        assert_eq!(
            (open.public(), open.sealed_part_of(&anna)),
            (open.clone(), None)
        );
        assert!(canonical_text(&open).contains("4321"));
        assert_eq!(open.digest(), Digest::of_json(&open));
        assert!(!canonical_text(&open).contains("sealed"));
    }
}
