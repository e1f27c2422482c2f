//! What a plan file leaves out.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{CLIP_FACTOR, MembersSee, Method, Plan, Strategy, TRIM, Unit};

/// How much an error on a word in no entity counts, where there is noise.
const OTHERS: f64 = 0.25;

/// The head's learning rate where it is trained with noise beside other weights.
const OF_HEAD: f64 = 0.3;

impl Plan {
    /// Gives the keys that `written`, the plan's file, leaves out the values that are not the same for
    /// all plans, so that what is signed says them.
    pub(super) fn fill_in(&mut self, written: &Table) {
        self.fill_in_aggregation(written);
        let cohort = written.get("cohort").and_then(Value::as_table);
        let members_see = &mut self.cohort.members_see;
        fill(members_see, MembersSee::Own, (cohort, "members_see"));
        self.fill_in_sampled(written);
        self.fill_in_synchronous(written);
        if let Some(optimizer) = &mut self.server_optimizer {
            optimizer.fill_in(written);
        }
    }

    /// Where all take a step together they share its noise, unless the plan says otherwise.
    fn fill_in_synchronous(&mut self, written: &Table) {
        let Some(secure) = &self.secure_aggregation else {
            return;
        };
        if !self.privacy.is_synchronous() {
            return;
        }
        let honest = self.cohort.quorum.saturating_sub(secure.colluding).max(1);
        let shares = u32::try_from(honest).unwrap_or(u32::MAX);
        let privacy = written.get("privacy").and_then(Value::as_table);
        fill(
            &mut self.privacy.noise_shares,
            shares,
            (privacy, "noise_shares"),
        );
    }

    fn fill_in_aggregation(&mut self, written: &Table) {
        let table = written.get("aggregation").and_then(Value::as_table);
        let usual = self.usual_strategy();
        let own = &mut self.aggregation;
        fill(&mut own.strategy, usual, (table, "strategy"));
        match own.strategy {
            Strategy::TrimmedMean | Strategy::MultiKrum => {
                fill(&mut own.trim, Some(TRIM), (table, "trim"));
            }
            Strategy::NormClippedMean => fill(
                &mut own.clip_factor,
                Some(CLIP_FACTOR),
                (table, "clip_factor"),
            ),
            Strategy::FedAvg | Strategy::Median => {}
        }
    }

    /// Where the plan's unit is sampled, gives the keys that `written` leaves out what trains
    /// best there, as the table of F1 against ε in `tests/BENCHMARKS.md` measured it: large batches, of which
    /// the same noise is a smaller part, in few and large steps. The defaults of these keys are for
    /// training without noise.
    fn fill_in_sampled(&mut self, written: &Table) {
        let clip = match self.privacy.unit {
            Unit::Person => 0.01,
            Unit::Document | Unit::Sentence => 0.03,
            Unit::Institution | Unit::None => return,
        };
        let (batch_size, learning_rate) = self.method.sampled_defaults();
        let table = |name| written.get(name).and_then(Value::as_table);
        let (privacy, training) = (table("privacy"), table("training"));
        let own = &mut self.training;
        fill(&mut self.privacy.clip, clip, (privacy, "clip"));
        fill(&mut own.batch_size, batch_size, (training, "batch_size"));
        fill(
            &mut own.learning_rate,
            learning_rate,
            (training, "learning_rate"),
        );
        fill(&mut own.warmup, 0.0, (training, "warmup"));
        fill(&mut own.weight_decay, 0.0, (training, "weight_decay"));
        fill(&mut own.head_iob2, true, (training, "head_iob2"));
        if self.method != Method::Head {
            let rate = &mut own.head_learning_rate;
            fill(rate, Some(OF_HEAD), (training, "head_learning_rate"));
        }
        // Most words are in no entity, and the noise drowns what the others say first.
        if !own.head_crf {
            let weights = BTreeMap::from([("O".to_owned(), OTHERS)]);
            fill(&mut own.class_weights, weights, (training, "class_weights"));
        }
    }
}

/// Sets a key's value, unless its table has the key.
pub(super) fn fill<T>(own: &mut T, value: T, (table, key): (Option<&Table>, &str)) {
    if table.is_none_or(|table| !table.contains_key(key)) {
        *own = value;
    }
}
