//! What becomes of the entity types of a base that has a head already.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::error::value;
use super::{Error, Method, Plan};

/// How the types are trained that the base knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownTypes {
    /// As new ones are.
    #[default]
    Train,
    /// Not at all: their rows of the head, and that of `O`, stay as they are. On a frozen encoder the scores of
    /// these types then stay the same to the last bit.
    Freeze,
    /// As new ones are, and where text leaves a word's tag open, towards what the base says of it.
    Distil,
}

impl Plan {
    /// The types of a base by the names that the plan gives them; `None` for those that it drops.
    pub fn renamed(&self, types_of_base: &[String]) -> Vec<Option<String>> {
        let name = |label: &String| match self.rename.get(label) {
            Some(new) => Some(new.clone()),
            None => (!self.drop.contains(label)).then(|| label.clone()),
        };
        types_of_base.iter().map(name).collect()
    }

    /// The types of a base, by the plan's names, of which something is to be kept: of a base without any, nothing
    /// can be.
    pub fn known_of(&self, types_of_base: &[String]) -> Result<Vec<String>, Error> {
        let asked = match self.known_types {
            KnownTypes::Train => return Ok(Vec::new()),
            KnownTypes::Freeze => "freeze",
            KnownTypes::Distil => "distil",
        };
        let known: Vec<_> = self.renamed(types_of_base).into_iter().flatten().collect();
        if known.is_empty() {
            let expected = "no such key: the base knows none of the plan's types";
            return Err(value("known_types", asked, expected));
        }
        Ok(known)
    }

    /// Checks `rename` and `drop` against the types of a base, and that no type is lost unsaid.
    pub fn check_types_of_base(&self, types_of_base: &[String]) -> Result<(), Error> {
        let said = self.rename.keys().map(|label| ("rename", label));
        let said = said.chain(self.drop.iter().map(|label| ("drop", label)));
        for (key, label) in said {
            if !types_of_base.contains(label) {
                let expected = format!("types of the base {types_of_base:?}");
                return Err(value(key, label, expected));
            }
        }
        let renamed = self.renamed(types_of_base);
        let mut seen = BTreeSet::new();
        for (label, name) in types_of_base.iter().zip(&renamed) {
            let Some(name) = name else { continue };
            if !self.labels.contains(name) {
                let expected =
                    format!("{label} among them, or in `drop`, or renamed: the base has it");
                return Err(value("labels", format!("{:?}", self.labels), expected));
            }
            if !seen.insert(name) {
                let expected = "a name that no other type of the base has";
                return Err(value("rename", name, expected));
            }
        }
        Ok(())
    }

    /// The tags of a base by the names that the plan gives their types. Those of dropped types stay, and no
    /// tag of the plan is called so.
    pub fn renamed_tags(&self, tags_of_base: &[String]) -> Vec<String> {
        let name = |tag: &String| match tag.split_once('-') {
            Some((position, label)) => match self.rename.get(label) {
                Some(new) => format!("{position}-{new}"),
                None => tag.clone(),
            },
            None => self.rename.get(tag).unwrap_or(tag).clone(),
        };
        tags_of_base.iter().map(name).collect()
    }

    /// The tags of `types`, as indices into the plan's, and with them `O`.
    pub fn rows_of(&self, types: &[String]) -> Vec<usize> {
        if types.is_empty() {
            return Vec::new();
        }
        let is = |tag: &String| {
            tag.split_once('-')
                .is_none_or(|(_, label)| types.iter().any(|l| l == label))
        };
        let tags = self.tags();
        let rows = tags.iter().enumerate().filter(|(_, tag)| is(tag));
        rows.map(|(row, _)| row).collect()
    }

    /// Where the weights lie that the plan freezes, among the `dimension` of its manifest: values of
    /// `classifier.bias`, `[tags]`, and behind these rows of `classifier.weight`, `[tags, width]`.
    pub fn frozen_weights(&self, dimension: usize) -> Vec<Range<usize>> {
        let tags = self.tags().len();
        let width = (dimension / tags).saturating_sub(1);
        let rows = self.rows_of(self.frozen_types());
        let biases = rows.iter().map(|row| *row..row + 1);
        let weights = rows.iter().map(|row| tags + row * width);
        biases
            .chain(weights.map(|start| start..start + width))
            .collect()
    }

    pub(super) fn check_types(&self) -> Result<(), Error> {
        let mut names = BTreeSet::new();
        for (old, new) in &self.rename {
            if old == new {
                return Err(value("rename", old, "another name than it has"));
            }
            if self.labels.contains(old) {
                let expected = "a type that is not among `labels`";
                return Err(value("rename", old, expected));
            }
            if !self.labels.contains(new) {
                return Err(value("rename", new, "one of `labels`"));
            }
            if !names.insert(new) {
                return Err(value("rename", new, "a name that one type gets, not two"));
            }
        }
        for (place, label) in self.drop.iter().enumerate() {
            let twice = self.drop[..place].contains(label);
            if twice || self.labels.contains(label) || self.rename.contains_key(label) {
                let expected = "types that are named once, and neither in `labels` nor in `rename`";
                return Err(value("drop", label, expected));
            }
        }
        let head_alone = self.method == Method::Head && !self.training.head_crf;
        if self.known_types == KnownTypes::Freeze && !head_alone {
            let expected = "train, or the method head without `head_crf`";
            return Err(value("known_types", "freeze", expected));
        }
        let words_alone = !self.training.head_crf && self.training.focal_gamma <= 0.0;
        if self.known_types == KnownTypes::Distil && !words_alone {
            let expected = "train, or a plan without `head_crf` and `focal_gamma`";
            return Err(value("known_types", "distil", expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Inputs, Pinned};
    use super::*;
    use crate::digest::Digest;

    const TINY: &str = r#"{"vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 16, "type_vocab_size": 2}"#;

    fn plan(top: &str) -> Result<Plan, Error> {
        plan_of("head", top)
    }

    fn plan_of(method: &str, top: &str) -> Result<Plan, Error> {
        Plan::parse(&format!(
            "name = \"p\"\nbase = \"b@1\"\nlabels = [\"Drug\", \"Gene\"]\nmethod = \"{method}\"\nrounds = 1\n{top}\n\
             [cohort]\ninstitutions = [\"a\"]\nquorum = 1\n[privacy]\nunit = \"none\"\n"
        ))
    }

    fn types(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|label| (*label).to_owned()).collect()
    }

    #[test]
    fn a_base_grows_and_loses_no_type_unsaid() {
        let plain = plan("").expect("plan");
        assert!(plain.check_types_of_base(&types(&["Drug"])).is_ok());
        assert!(plain.check_types_of_base(&types(&["Gene", "Drug"])).is_ok());
        let lost = plain
            .check_types_of_base(&types(&["Drug", "Virus"]))
            .expect_err("lost");
        assert!(lost.to_string().contains("Virus") && lost.to_string().contains("`drop`"));
        let said = plan("rename = { Chem = \"Drug\" }\ndrop = [\"Virus\"]").expect("plan");
        let base = types(&["Chem", "Virus", "Gene"]);
        assert!(said.check_types_of_base(&base).is_ok());
        let renamed = said.renamed(&base);
        assert_eq!(renamed, [Some("Drug".into()), None, Some("Gene".into())]);
        // What is said must be of the base, and two of its types may not become one.
        assert!(said.check_types_of_base(&types(&["Chem", "Gene"])).is_err());
        let both = plan("rename = { Chem = \"Drug\" }").expect("plan");
        assert!(both.check_types_of_base(&types(&["Chem", "Drug"])).is_err());
    }

    #[test]
    fn frozen_weights_are_rows_of_the_heads_manifest() {
        let mut plan = plan("known_types = \"freeze\"").expect("plan");
        assert!(plan.frozen_weights(25).is_empty());
        let config = crate::bert::BertConfig::parse(TINY).expect("config");
        let manifest = config.manifest(&plan.trainable(), 5);
        let names: Vec<&str> = manifest.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["classifier.bias", "classifier.weight"]);
        let (width, dimension) = (config.head_width(), manifest.dimension());
        let pinned = |bytes| Pinned {
            digest: Digest::of(b"file"),
            bytes,
        };
        plan.inputs = Some(Inputs {
            config: pinned(1),
            tokenizer: pinned(1),
            weights: pinned(1),
            frozen: None,
            known: types(&["Drug"]),
            manifest: manifest.digest(),
        });
        plan.check().expect("a plan");
        let row = |row: usize| 5 + row * width..5 + (row + 1) * width;
        let expected = [0..1, 1..2, 2..3, row(0), row(1), row(2)];
        assert_eq!(plan.frozen_weights(dimension), expected);
        plan.known_types = KnownTypes::Train;
        assert!(
            plan.check().is_err(),
            "types are frozen that the plan trains"
        );
        plan.known_types = KnownTypes::Distil;
        plan.check().expect("a plan");
        assert_eq!(
            (plan.known_types_of_base(), plan.frozen_types()),
            (types(&["Drug"]).as_slice(), [].as_slice())
        );
        assert_eq!(plan.frozen_weights(dimension), []);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for top in [
            "rename = { Drug = \"Drug\" }",
            "rename = { Drug = \"Gene\" }",
            "rename = { Drug = \"Gene\", Gene = \"Drug\" }",
            "rename = { Chem = \"Drug\", Medicine = \"Drug\" }",
            "rename = { Chem = \"Virus\" }",
            "rename = { Chem = \"Drug\", Chem = \"Gene\" }",
            "drop = [\"Gene\"]",
            "drop = [\"Virus\", \"Virus\"]",
            "drop = [\"Chem\"]\nrename = { Chem = \"Drug\" }",
            "drop = [\"Virus\"]\n[training]\nclass_weights = { Virus = 2.0 }",
            "known_types = \"forget\"",
            "known_types = \"freeze\"\n[training]\nhead_crf = true",
            "known_types = \"distil\"\n[training]\nhead_crf = true",
            "known_types = \"distil\"\n[training]\nfocal_gamma = 1.0",
        ] {
            assert!(plan(top).is_err(), "{top}");
        }
        assert!(plan("known_types = \"freeze\"").is_ok());
        assert!(plan_of("full", "known_types = \"freeze\"").is_err());
        assert!(plan_of("full", "known_types = \"distil\"").is_ok());
    }

    #[test]
    fn plans_that_say_nothing_of_it_are_as_before() {
        let json = crate::digest::canonical_text(&plan("").expect("plan"));
        for key in ["rename", "drop", "known_types"] {
            assert!(!json.contains(key), "{json}");
        }
    }
}
