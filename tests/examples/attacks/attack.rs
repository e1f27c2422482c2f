//! What hostile members send.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The attacks of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attack {
    SignFlip,
    Scaled,
    Replacement,
    Bound,
    LabelFlip,
    Little,
    Backdoor,
    BackdoorScaled,
}

/// What a member trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Text {
    Own,
    Flipped,
    Triggered,
}

/// What a hostile member knows.
#[derive(Debug)]
pub(crate) struct Knowledge<'a> {
    /// The honest members' updates.
    pub(crate) honest: &'a [Vec<f32>],
    /// What its own training gave.
    pub(crate) own: &'a [f32],
    /// The weights that the round began with.
    pub(crate) base: &'a [f32],
    pub(crate) members: usize,
    pub(crate) attackers: usize,
    /// The largest value that the plan lets an update have.
    pub(crate) largest: f32,
}

impl Attack {
    pub(crate) const ALL: [Self; 8] = [
        Self::SignFlip,
        Self::Scaled,
        Self::Replacement,
        Self::Bound,
        Self::LabelFlip,
        Self::Little,
        Self::Backdoor,
        Self::BackdoorScaled,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SignFlip => "sign flip",
            Self::Scaled => "sign flip × 11",
            Self::Replacement => "model replacement",
            Self::Bound => "the bound, random signs",
            Self::LabelFlip => "label flip",
            Self::Little => "a little is enough",
            Self::Backdoor => "backdoor",
            Self::BackdoorScaled => "backdoor, replacing",
        }
    }

    pub(crate) fn text(self) -> Text {
        match self {
            Self::LabelFlip => Text::Flipped,
            Self::Backdoor | Self::BackdoorScaled => Text::Triggered,
            Self::SignFlip | Self::Scaled | Self::Replacement | Self::Bound | Self::Little => {
                Text::Own
            }
        }
    }

    /// The update that every attacker sends.
    pub(crate) fn update(self, known: &Knowledge<'_>) -> Vec<f32> {
        let times = |factor: f32| known.own.iter().map(|x| factor * x).collect();
        // As many times as makes the mean of all what the attackers want.
        let boost = known.members as f32 / known.attackers as f32;
        match self {
            Self::SignFlip => times(-1.0),
            Self::Scaled => times(-11.0),
            Self::LabelFlip | Self::Backdoor => times(1.0),
            // Bagdasaryan et al. 2020, section 3.3: the others' updates are small beside it.
            Self::BackdoorScaled => times(boost),
            Self::Replacement => {
                let mut random = ChaCha8Rng::seed_from_u64(666);
                let chosen = known.base.iter().map(|_| random.random_range(-1.0f32..1.0));
                let wanted = chosen.zip(known.base);
                wanted.map(|(chosen, now)| boost * (chosen - now)).collect()
            }
            Self::Bound => {
                let mut random = ChaCha8Rng::seed_from_u64(667);
                let sign = |_: &f32| if random.random() { 1.0 } else { -1.0 };
                known
                    .own
                    .iter()
                    .map(sign)
                    .map(|x: f32| x * known.largest)
                    .collect()
            }
            Self::Little => little(known),
        }
    }
}

/// The mean of the honest updates, less z standard deviations of each weight: within what honest
/// members send, and all in one direction (Baruch, Baruch and Goldberg 2019, algorithm 1, with z = 1.5
/// of its experiments; its own bound is 0 for so few attackers).
fn little(known: &Knowledge<'_>) -> Vec<f32> {
    let count = known.honest.len() as f32;
    let value = |j: usize| {
        let values = known.honest.iter().map(|update| update[j]);
        let mean = values.clone().sum::<f32>() / count;
        let variance = values.map(|x| (x - mean).powi(2)).sum::<f32>() / count;
        mean - 1.5 * mean.signum() * variance.sqrt()
    };
    (0..known.own.len()).map(value).collect()
}
