//! How an institution trains.

use serde::{Deserialize, Serialize};

/// Settings of local training. The defaults are those of the Hugging Face reference run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    pub local_epochs: u32,
    pub batch_size: usize,
    /// The peak of the schedule, which runs over all rounds together.
    pub learning_rate: f64,
    /// The part of all steps, from 0 to 1, over which the learning rate rises from zero.
    pub warmup: f64,
    pub weight_decay: f64,
    /// Largest L2 norm of a step's gradient.
    pub max_grad_norm: f64,
    /// The probability of dropping an activation; absent: what the model's config.json says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Longer sentences are read in overlapping windows of this many sub-tokens.
    pub max_tokens: usize,
    pub device: String,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            local_epochs: 1,
            batch_size: 16,
            learning_rate: 1e-4,
            warmup: 0.1,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            dropout: None,
            max_tokens: 256,
            device: "auto".into(),
        }
    }
}
