//! Which part of a head an institution has a say in.
//!
//! **Sensitivity.** Which rows are left out follows from the declaration that the consent signs, which is public and
//! the same whoever's text is there. To set weights of an update to zero shortens it, and after the noise it is
//! post-processing. So the lemma of each mechanism holds as it stands.

use std::ops::Range;

use super::{Plan, Rows};
use crate::manifest::Manifest;
use crate::statement::Annotation;

impl Plan {
    /// Where the rows of the head lie, in the flat weights of `manifest`, that the update of an institution leaves as
    /// they are: those of types that none of its text annotates. In order, and none where the plan does not ask for
    /// it or all types are annotated.
    pub fn left_out_of_update(
        &self,
        annotation: Option<&Annotation>,
        manifest: &Manifest,
    ) -> Vec<Range<usize>> {
        let Some(annotation) = annotation.filter(|_| self.aggregation.rows == Rows::Annotated)
        else {
            return Vec::new();
        };
        let tags = self.tags();
        let absent = |tag: &String| match tag.split_once('-') {
            Some((_, label)) => !annotation.annotates(label),
            None => false,
        };
        let rows: Vec<usize> = (0..tags.len()).filter(|row| absent(&tags[*row])).collect();
        let mut places = Vec::new();
        for (offset, tensor) in manifest.segments() {
            if !["classifier.weight", "classifier.bias"].contains(&tensor.name.as_str()) {
                continue;
            }
            let width = tensor.len() / tags.len();
            let of_row = |row: &usize| offset + row * width..offset + (row + 1) * width;
            places.extend(rows.iter().map(of_row));
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::TensorSpec;

    fn plan(aggregation: &str) -> Result<Plan, super::super::Error> {
        Plan::parse(&format!(
            "name = \"p\"\nbase = \"b@1\"\nlabels = [\"Drug\", \"Gene\"]\nmethod = \"full\"\nrounds = 1\n\
             [cohort]\ninstitutions = [\"a\", \"b\", \"c\", \"d\", \"e\"]\nquorum = 2\n\
             [privacy]\nunit = \"none\"\n[aggregation]\n{aggregation}\n"
        ))
    }

    fn annotation(types: &[&str], in_part: &[&str]) -> Annotation {
        let list = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        Annotation {
            types: list(types),
            in_part: list(in_part),
        }
    }

    #[test]
    fn rows_of_types_that_no_text_annotates_are_left_out() {
        let manifest = Manifest::new(vec![
            TensorSpec::new("bert.x", [7]),
            TensorSpec::new("classifier.bias", [5]),
            TensorSpec::new("classifier.weight", [5, 3]),
            TensorSpec::new("crf.start", [5]),
        ]);
        let by_rows = plan("rows = \"annotated\"").expect("plan");
        let of =
            |annotation: Option<&Annotation>| by_rows.left_out_of_update(annotation, &manifest);
        let (drug, none) = (annotation(&["Drug"], &[]), annotation(&[], &[]));
        let both = annotation(&["Gene"], &["Drug"]);
        // The tags are O, B-Drug, I-Drug, B-Gene and I-Gene.
        assert_eq!(of(Some(&drug)), [10..11, 11..12, 21..24, 24..27]);
        assert_eq!(of(Some(&both)), []);
        assert_eq!(of(None), []);
        assert_eq!(of(Some(&none)).len(), 8);
        let by_all = plan("").expect("plan");
        assert_eq!(by_all.left_out_of_update(Some(&drug), &manifest), []);
    }

    #[test]
    fn rules_without_weights_have_no_such_rows_and_old_plans_say_nothing_of_them() {
        use super::super::Strategy;
        let by_rows = plan("rows = \"annotated\"").expect("plan");
        assert_eq!(by_rows.aggregation.strategy, Strategy::FedAvg);
        let by_all = plan("").expect("plan");
        assert_eq!(by_all.aggregation.strategy, Strategy::MultiKrum);
        assert!(!crate::digest::canonical_text(&by_all).contains("rows"));
        for strategy in ["median", "trimmed-mean"] {
            let both = format!("rows = \"annotated\"\nstrategy = \"{strategy}\"");
            let error = plan(&both).expect_err(strategy).to_string();
            assert!(error.contains("aggregation.rows"), "{error}");
        }
        assert!(plan("rows = \"annotated\"\nstrategy = \"multi-krum\"").is_ok());
    }
}
