//! How many entities an institution's counts may come to.

use super::{Plan, Weighting};

/// Standard deviations that are allowed for the noise of each count.
///
/// A discrete Gaussian passes t of them with a probability of at most e^(-t²/2) (Canonne, Kamath and
/// Steinke 2020, section 2.3). An honest institution has at most 768 counts. One of them passes 8
/// in less than one case of 10^10.
const NOISE_ALLOWED: f64 = 8.0;

impl Plan {
    /// The largest number of entities, found and missed or imagined, that an institution's counts
    /// may come to. A sentence of at most `max_tokens` sub-tokens has no more entities than those.
    ///
    /// Without `held_out`, the declared number of held-out sentences, as many examples are allowed
    /// for as were declared for training; where these weigh equally and are not sampled, the
    /// largest number that may be declared. Where units have noise, one unit of several sentences
    /// counts up to K·√(2T) of T types (Cauchy and Schwarz), and `NOISE_ALLOWED` is added for each count.
    pub fn most_entities(&self, examples: u32, held_out: Option<u32>) -> u64 {
        let (tokens, types) = (self.training.max_tokens as u64, self.labels.len() as u64);
        let noise = self.privacy.count_noise();
        let margin = noise.map_or(0.0, |noise| (NOISE_ALLOWED * noise.sigma).ceil());
        let margin = (2 * types).saturating_mul(margin as u64);
        if let Some(sentences) = held_out {
            return u64::from(sentences)
                .saturating_mul(tokens)
                .saturating_add(margin);
        }
        let sampled = self.privacy.unit.is_sampled();
        let examples = match self.cohort.weighting {
            Weighting::Equal | Weighting::Plan if !sampled => self.cohort.max_examples,
            Weighting::Equal | Weighting::Plan | Weighting::Examples => examples,
        };
        let clipped = noise.map_or(0.0, |noise| {
            f64::from(noise.clip) * (2.0 * types as f64).sqrt()
        });
        let each = tokens.max(clipped.ceil() as u64);
        u64::from(examples.max(1))
            .saturating_mul(each)
            .saturating_add(margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Unit;
    use crate::plan::tests::EXAMPLE;

    fn plan() -> Plan {
        let text = EXAMPLE.replace("unit = \"institution\"", "unit = \"none\"");
        Plan::parse(&text).expect("plan")
    }

    #[test]
    fn the_bound_of_counts_follows_from_what_was_declared() {
        let mut plan = plan();
        plan.training.max_tokens = 10;
        plan.cohort.weighting = Weighting::Examples;
        assert_eq!(plan.most_entities(7, None), 70);
        assert_eq!(plan.most_entities(7, Some(3)), 30);
        assert_eq!(
            plan.most_entities(u32::MAX, Some(u32::MAX)),
            10 * u64::from(u32::MAX)
        );
        // What is weighed equally is declared as 1 whatever its size.
        plan.cohort.weighting = Weighting::Equal;
        assert_eq!(plan.most_entities(1, None), 10_000_000);
        assert_eq!(plan.most_entities(1, Some(3)), 30);
        plan.privacy.unit = Unit::Person;
        plan.privacy.evaluation_noise = 2.0;
        plan.privacy.evaluation_clip = 5;
        // Margin: two counts of σ = 10, eight deviations each.
        assert_eq!(plan.most_entities(7, Some(3)), 30 + 160);
        assert_eq!(plan.most_entities(7, None), 70 + 160);
    }
}
