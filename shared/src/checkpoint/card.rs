//! The model card of an export: `README.md`, with the metadata that the hub of Hugging Face reads.

use std::fmt::Write as _;

use serde_json::json;

use crate::score::Scores;

/// What a card says.
#[derive(Debug, Clone, Default)]
pub struct ModelCard {
    pub name: String,
    /// What it was trained from, as its maker calls it.
    pub base: Option<String>,
    pub labels: Vec<String>,
    /// transformers has a class for the model.
    pub in_transformers: bool,
    /// What is to be known of the file where the model is written as ONNX.
    pub onnx: Option<String>,
    /// Counts on held-out text, and whose.
    pub scores: Option<(String, Scores)>,
    /// How it was trained, line by line.
    pub training: Vec<String>,
    /// What protects the text that it was trained on.
    pub privacy: Vec<String>,
    /// What audits found.
    pub audits: Vec<String>,
}

/// What holds for every model of this kind.
const LIMITS: [&str; 4] = [
    "It gives each word one tag: entities inside others, or of several parts, are not found.",
    "It finds the entity types above, as the institutions that trained it annotate them. Text of other \
     places, times or languages may differ: evaluate it on some before use.",
    "It is no means to de-identify text: what it misses stays.",
    "Without a bound on what its text contributed (see Privacy), its weights may tell of that text.",
];

impl ModelCard {
    pub fn to_markdown(&self) -> String {
        let mut text = self.front_matter();
        let _ = writeln!(text, "# {}\n", self.name);
        let kind = if self.onnx.is_some() {
            "A BERT model that tags words, as ONNX."
        } else if self.in_transformers {
            "A BERT model that tags words, for `AutoModelForTokenClassification` of transformers."
        } else {
            "A BERT model that tags words, with a head that `fedner-client` loads and transformers does not."
        };
        let _ = writeln!(text, "{kind}\n");
        let _ = writeln!(
            text,
            "Entity types: {}. Tags are in IOB2.\n",
            self.labels.join(", ")
        );
        if let Some(base) = &self.base {
            let _ = writeln!(text, "Trained from: {base}.\n");
        }
        text.extend(self.onnx.as_deref());
        section(&mut text, "Training", &self.training);
        section(&mut text, "Privacy", &self.privacy);
        self.write_scores(&mut text);
        section(&mut text, "Audits", &self.audits);
        section(&mut text, "Limits", &LIMITS.map(str::to_owned));
        text
    }

    /// JSON strings are YAML.
    fn front_matter(&self) -> String {
        let mut text = "---\npipeline_tag: token-classification\n".to_owned();
        if self.in_transformers && self.onnx.is_none() {
            text.push_str("library_name: transformers\n");
        }
        text.push_str("tags:\n- token-classification\n- named-entity-recognition\n- fedner\n");
        if let Some(base) = self.base.as_deref().filter(|base| is_hub_name(base)) {
            let _ = writeln!(text, "base_model: {}", json!(base));
        }
        if let Some((dataset, scores)) = &self.scores {
            let total = scores.total();
            let metric =
                |name: &str, value: f64| format!("    - type: {name}\n      value: {value:.6}\n");
            let _ = write!(
                text,
                "model-index:\n- name: {}\n  results:\n  - task:\n      type: token-classification\n    \
                 dataset:\n      name: {}\n      type: held-out\n    metrics:\n{}{}{}",
                json!(self.name),
                json!(dataset),
                metric("precision", total.precision()),
                metric("recall", total.recall()),
                metric("f1", total.f1()),
            );
        }
        text.push_str("---\n\n");
        text
    }

    fn write_scores(&self, text: &mut String) {
        let Some((dataset, scores)) = &self.scores else {
            return;
        };
        let _ = writeln!(
            text,
            "## Scores\n\nEntities on {dataset}, counted as seqeval does.\n"
        );
        text.push_str("| type | precision | recall | F1 | entities |\n|---|---|---|---|---|\n");
        let rows = scores
            .by_type
            .iter()
            .map(|(label, counts)| (label.as_str(), *counts));
        for (label, counts) in rows.chain([("all", scores.total())]) {
            let _ = writeln!(
                text,
                "| {label} | {:.4} | {:.4} | {:.4} | {} |",
                counts.precision(),
                counts.recall(),
                counts.f1(),
                counts.support()
            );
        }
        text.push('\n');
    }
}

fn section(text: &mut String, name: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "## {name}\n");
    for line in lines {
        let _ = writeln!(text, "- {line}");
    }
    text.push('\n');
}

/// `NAME` or `OWNER/NAME`, no path of this machine.
fn is_hub_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let slashes = name.matches('/').count();
    name.chars().all(plain) && slashes <= 1 && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Counts;

    #[test]
    fn a_card_has_metadata_and_limits() {
        let counts = Counts {
            true_positives: 3,
            false_positives: 1,
            false_negatives: 1,
        };
        let card = ModelCard {
            name: "disease-ner@6".to_owned(),
            base: Some("dmis-lab/biobert".to_owned()),
            labels: vec!["Disease".to_owned()],
            in_transformers: true,
            scores: Some((
                "held-out text".to_owned(),
                Scores {
                    by_type: [("Disease".to_owned(), counts)].into(),
                },
            )),
            privacy: vec!["ε = 2".to_owned()],
            ..ModelCard::default()
        };
        let text = card.to_markdown();
        assert!(
            text.starts_with("---\npipeline_tag: token-classification\n"),
            "{text}"
        );
        for part in [
            "base_model: \"dmis-lab/biobert\"",
            "      value: 0.750000\n",
            "| Disease | 0.7500 | 0.7500 | 0.7500 | 4 |",
            "## Privacy\n\n- ε = 2",
            "## Limits",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let of_a_path = ModelCard {
            base: Some("/models/private".to_owned()),
            ..card
        };
        assert!(!of_a_path.to_markdown().contains("base_model"));
    }
}
