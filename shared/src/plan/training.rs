//! How an institution trains.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::Method;
use crate::bert::HeadShape;
use crate::serde_helpers::is_default;

/// Settings of local training. The defaults are those of the Hugging Face reference run; a plan file
/// whose unit is sampled has some of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    pub local_epochs: u32,
    /// Sentences; where the plan's unit is sampled, the units expected in a step.
    pub batch_size: usize,
    /// Batches of which one step is made, as if they were one.
    pub gradient_accumulation: usize,
    /// The peak of the schedule, which runs over all rounds together.
    pub learning_rate: f64,
    /// The same of the tagging head alone. Where the plan's unit is sampled it is in coordinates in which the
    /// features of a word have norm 1. Absent: that of the other weights, in the head's own coordinates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_learning_rate: Option<f64>,
    /// The part of all steps, from 0 to 1, over which the learning rate rises from zero.
    pub warmup: f64,
    /// How it falls to zero afterwards.
    pub decay: Decay,
    pub weight_decay: f64,
    /// Largest L2 norm of a step's gradient; where the plan's unit is sampled, of the released one.
    pub max_grad_norm: f64,
    /// The probability of dropping an activation; absent: what the model's config.json says, or 0
    /// where the plan's unit is sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// μ of FedProx (Li et al. 2020): how strongly weights are held to those that the round began
    /// with; 0 is FedAvg.
    pub proximal_mu: f64,
    /// How much an error on a word of each type counts, `O` among them; those left out count 1.
    /// Constants of the plan: counted from the text, they would tell of it.
    pub class_weights: BTreeMap<String, f64>,
    /// γ of the focal loss (Lin et al. 2017); 0 is cross-entropy.
    pub focal_gamma: f64,
    /// Longer sentences are read in overlapping windows of this many sub-tokens.
    pub max_tokens: usize,
    pub device: String,
    #[serde(skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Whether the embeddings stay as they are.
    pub freeze_embeddings: bool,
    /// So many of the lowest layers stay as they are, and the embeddings with them; where adapters
    /// are trained, these layers get none. Without dropout they run once over the text, not in every
    /// epoch.
    pub freeze_layers: usize,
    /// The layers whose hidden states the head reads side by side, counted from 1, 0 being the
    /// embeddings; none: the last alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub head_layers: Vec<usize>,
    /// Words before and after a word whose hidden states the head reads beside its own.
    #[serde(skip_serializing_if = "is_default")]
    pub head_context: usize,
    /// Whether a linear-chain CRF chooses the tags of a sentence together.
    #[serde(skip_serializing_if = "is_default")]
    pub head_crf: bool,
    /// Whether the model gives a sentence only tags that IOB2 allows one after another.
    #[serde(skip_serializing_if = "is_default")]
    pub head_iob2: bool,
}

impl Training {
    /// The learning rate where a part `progress` of the schedule is over: a linear rise, then a fall to zero, linear
    /// (Devlin et al. 2019, appendix A.2) or along half a cosine (Loshchilov and Hutter 2017, equation 5).
    pub fn learning_rate_at(&self, progress: f64) -> f64 {
        let peak = self.learning_rate;
        if progress < self.warmup {
            return peak * progress / self.warmup;
        }
        if self.warmup >= 1.0 {
            return peak;
        }
        let left = (1.0 - progress).max(0.0) / (1.0 - self.warmup);
        match self.decay {
            Decay::Linear => peak * left,
            Decay::Cosine => peak * 0.5 * (1.0 - libm::cos(PI * left)),
        }
    }

    /// The head that is trained.
    pub fn head(&self) -> HeadShape {
        HeadShape {
            layers: self.head_layers.clone(),
            context: self.head_context,
            crf: self.head_crf,
            iob2: self.head_iob2,
        }
    }

    /// The learning rate of the tagging head, if it has one of its own, as a multiple of that of the other weights.
    pub fn head_rate(&self) -> Option<f64> {
        self.head_learning_rate
            .map(|rate| rate / self.learning_rate)
    }

    /// The same in a private training, where the features of a word have norm 1 ([`Standardiser`]) and not √`width`. Of a
    /// head that is trained alone the learning rate is its own.
    ///
    /// [`Standardiser`]: crate::checkpoint::Standardiser
    pub fn private_head_rate(&self, method: Method, width: usize) -> f64 {
        if method == Method::Head {
            return 1.0;
        }
        self.head_rate().unwrap_or((width as f64).sqrt())
    }
}

impl Default for Training {
    fn default() -> Self {
        Self {
            local_epochs: 1,
            batch_size: 16,
            gradient_accumulation: 1,
            learning_rate: 1e-4,
            head_learning_rate: None,
            warmup: 0.1,
            decay: Decay::Linear,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            dropout: None,
            proximal_mu: 0.0,
            class_weights: BTreeMap::new(),
            focal_gamma: 0.0,
            max_tokens: 256,
            device: "auto".into(),
            precision: Precision::default(),
            freeze_embeddings: false,
            freeze_layers: 0,
            head_layers: Vec::new(),
            head_context: 0,
            head_crf: false,
            head_iob2: false,
        }
    }
}

/// What the encoder is trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// float32 throughout.
    #[default]
    Single,
    /// The products of linear layers in bfloat16; weights, optimiser and all else in float32
    /// (Micikevicius et al. 2018, section 3.1; bfloat16 has float32's range, so that no loss is
    /// scaled).
    Mixed,
}

/// How a learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    #[default]
    Linear,
    Cosine,
}
