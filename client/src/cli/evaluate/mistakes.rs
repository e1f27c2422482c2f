//! What a model takes for what.

use std::fmt::Write as _;

use fedner_host::output::table;
use fedner_model::{Confused, Confusion, Frequent, Mistake, Named};
use serde::Serialize;

use crate::training::Corpora;

/// A frequent mistake, with the files of its examples.
#[derive(Debug, Serialize)]
pub(super) struct Mistaken {
    mistake: Mistake,
    gold: Option<Named>,
    predicted: Option<Named>,
    count: usize,
    examples: Vec<Example>,
}

#[derive(Debug, Serialize)]
struct Example {
    file: String,
    line: usize,
    /// The entity of the corpus in `[` `]`, that of the model in `{` `}`.
    text: String,
}

pub(super) fn mistakes(found: Vec<Frequent>, corpora: &Corpora) -> Vec<Mistaken> {
    let mistaken = |found: Frequent| Mistaken {
        mistake: found.mistake,
        gold: found.gold,
        predicted: found.predicted,
        count: found.count,
        examples: found
            .examples
            .into_iter()
            .map(|example| Example {
                file: corpora.file_of(example.sentence).to_owned(),
                line: example.line,
                text: example.text,
            })
            .collect(),
    };
    found.into_iter().map(mistaken).collect()
}

impl Mistaken {
    pub(super) fn text(&self) -> String {
        let name = |named: &Option<Named>| match named {
            Some(named) => format!("`{}` {}", named.text, named.label),
            None => "nothing".to_owned(),
        };
        let mut text = format!(
            "{} times {} for {}",
            self.count,
            name(&self.predicted),
            name(&self.gold)
        );
        for example in &self.examples {
            let Example {
                file,
                line,
                text: sentence,
            } = example;
            let _ = write!(text, "\n  {file}, line {line}: {sentence}");
        }
        text
    }
}

/// The types taken for others, most frequent first; `None` where there are none.
pub(super) fn confusion_table(confusion: &Confusion) -> Option<String> {
    let mut cells: Vec<&Confused> = confusion.cells.iter().collect();
    cells.retain(|cell| cell.gold != cell.predicted);
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.count));
    if cells.is_empty() {
        return None;
    }
    let name = |label: &Option<String>| label.clone().unwrap_or_else(|| "(none)".to_owned());
    let rows = cells.into_iter().map(|cell| {
        [
            name(&cell.gold),
            name(&cell.predicted),
            cell.count.to_string(),
            cell.same_words.to_string(),
        ]
    });
    let head = ["CORPUS HAS", "MODEL GIVES", "COUNT", "SAME WORDS"];
    Some(table(head, &[2, 3], rows))
}
