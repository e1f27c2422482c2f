//! How much memory a training takes at most, about.

use super::BertConfig;
use crate::plan::{Method, Plan};

/// Sub-tokens that pass through a private encoder together, and its widest sentence beside them.
const TOGETHER: u64 = 2048 + 512;
/// Sentences that a frozen encoder reads at a time.
const AT_A_TIME: u64 = 64;
/// The program, its text and its buffers.
const PROGRAM: u64 = 96 << 20;
const FLOAT: u64 = 4;

impl BertConfig {
    /// Bytes that a training of the plan takes at an institution where sentences are as long as the plan
    /// allows: the weights; of `dimension` trained ones also their start, their gradient and two moments; and
    /// what the layers keep for the way back.
    pub fn training_bytes(&self, plan: &Plan, dimension: u64) -> u64 {
        let [hidden, inner, heads, layers] = [
            self.hidden_size,
            self.intermediate_size,
            self.num_attention_heads,
            self.num_hidden_layers,
        ]
        .map(|size| size as u64);
        let rows = (self.vocab_size + self.max_position_embeddings + self.type_vocab_size) as u64;
        let layer = 4 * hidden * hidden + 2 * hidden * inner + 9 * hidden + inner;
        let weights = rows * hidden + layers * layer;
        let longest = plan.training.max_tokens as u64;
        let batch = plan.training.batch_size as u64 * longest;
        let (tokens, kept) = match plan.method {
            // Forwards only, a layer after another.
            Method::Head => (AT_A_TIME * longest, 2),
            Method::Lora | Method::FfaLora | Method::Bitfit | Method::Full
                if plan.privacy.unit.is_sampled() =>
            {
                (batch.min(TOGETHER.max(longest)), layers)
            }
            Method::Lora | Method::FfaLora | Method::Bitfit | Method::Full => (batch, layers),
        };
        let token = 8 * hidden + 3 * inner + 3 * heads * longest;
        let floats = weights + 4 * dimension + tokens * token * kept;
        floats.saturating_mul(FLOAT).saturating_add(PROGRAM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An epoch of MiniLM-L6 took 994 MiB (`tests/BENCHMARKS.md`).
    #[test]
    fn the_forecast_is_of_the_size_of_what_was_measured_and_grows_with_the_batch() {
        let config = BertConfig::parse(
            r#"{"model_type": "bert", "vocab_size": 30522, "hidden_size": 384,
                "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
                "max_position_embeddings": 512}"#,
        )
        .expect("a configuration");
        let plan = |method: &str, batch: usize| {
            let text = format!(
                "name = \"a\"\nbase = \"b@1\"\nlabels = [\"D\"]\nmethod = \"{method}\"\nrounds = 1\n\
                 [training]\nbatch_size = {batch}\nmax_tokens = 128\n\
                 [cohort]\ninstitutions = [\"i\"]\nquorum = 1\n[privacy]\nunit = \"none\"\n"
            );
            Plan::parse(&text).expect("a plan")
        };
        let full = config.training_bytes(&plan("full", 16), 22_700_000);
        let measured = 994 << 20;
        assert!(
            (measured * 3 / 4..measured * 3 / 2).contains(&full),
            "{full}"
        );
        assert!(config.training_bytes(&plan("full", 64), 22_700_000) > 2 * full);
        assert!(config.training_bytes(&plan("head", 64), 2_000) < 2 * full);
    }
}
