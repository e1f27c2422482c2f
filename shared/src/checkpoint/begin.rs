//! What a run or a training begins with.

use super::Checkpoint;
use super::head_rows::KeptRows;
use crate::plan::Plan;

/// What became of the head of a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadStart {
    /// It is the plan's already.
    Kept,
    /// Its rows went where the plan has their tags.
    Rows(KeptRows),
    /// It begins with the plan.
    New,
}

impl Checkpoint {
    /// The model as what trains by `plan` begins with it: adapters of an earlier run merged, new ones
    /// where the method trains such, and a head for the plan's tags. `own` are the tags of its own head.
    #[must_use]
    pub fn begun_for(self, plan: &Plan, own: &[String]) -> (Self, HeadStart) {
        let (trainable, tags) = (plan.trainable(), plan.tags());
        let wanted = self.config.prepared_for(&trainable).head;
        let same = own == tags && self.tags() == Some(tags.len());
        if same && self.config.head.weighs_as(&wanted) {
            return (self.prepared_for(&trainable, plan.seed), HeadStart::Kept);
        }
        if let Some((model, rows)) = self.with_head_of(own, &tags, &wanted, plan.seed) {
            // One copy of the weights at a time.
            drop(self);
            let model = model.prepared_for(&trainable, plan.seed);
            return (model, HeadStart::Rows(rows));
        }
        let model = self.prepared_for(&trainable, plan.seed);
        (model.with_head_for(plan), HeadStart::New)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::*;
    use crate::bert::tags;

    fn plan(labels: &[&str]) -> Plan {
        let text = format!(
            "name = \"notes\"\nbase = \"minilm@1\"\nlabels = {labels:?}\nmethod = \"lora\"\nrounds = 1\nseed = 7\n\
             [cohort]\ninstitutions = [\"st-anna\"]\nquorum = 1\n[privacy]\nunit = \"none\"\n"
        );
        Plan::parse(&text).expect("plan")
    }

    fn own(labels: &[&str]) -> Vec<String> {
        tags(
            &labels
                .iter()
                .map(|label| (*label).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_head_is_kept_put_in_order_or_begun() {
        let base = tiny().with_new_head(5, 3);
        let row = |model: &Checkpoint, at: usize| {
            model.tensor("classifier.bias").expect("head")[at].to_bits()
        };
        let (kept, start) = base
            .clone()
            .begun_for(&plan(&["A", "B"]), &own(&["A", "B"]));
        assert_eq!(start, HeadStart::Kept);
        assert!((0..5).all(|at| row(&kept, at) == row(&base, at)));
        assert!(kept.config.adapters.is_some());

        let (ordered, start) = base
            .clone()
            .begun_for(&plan(&["B", "A"]), &own(&["A", "B"]));
        assert!(
            matches!(start, HeadStart::Rows(rows) if rows.new.is_empty() && rows.lost.is_empty())
        );
        assert_eq!(row(&ordered, 1), row(&base, 3));
        // The order of the two steps decides nothing.
        let wanted = plan(&["B", "A"]);
        let prepared = base.clone().prepared_for(&wanted.trainable(), wanted.seed);
        let shape = prepared.config.head.clone();
        let other = prepared.with_head_of(&own(&["A", "B"]), &wanted.tags(), &shape, wanted.seed);
        assert_eq!(other.expect("rows").0, ordered);

        let (begun, start) = tiny().begun_for(&plan(&["A"]), &own(&[]));
        assert_eq!((start, begun.tags()), (HeadStart::New, Some(3)));
    }
}
