//! Which entity types files annotate: a declaration, never a guess from the text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Fault, Item, Problem};

/// The entity types that files are declared to annotate. What is declared of a file holds for all of it, and does
/// not depend on what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Annotated {
    /// Of files that `of_file` does not name; without it they annotate all types that a model knows.
    pub types: Option<Arc<[String]>>,
    pub of_file: BTreeMap<PathBuf, Arc<[String]>>,
}

impl Annotated {
    /// The types that a file annotates; `None` for all.
    pub fn of(&self, file: &Path) -> Option<&Arc<[String]>> {
        self.of_file.get(file).or(self.types.as_ref())
    }

    /// The types among `labels` that a file annotates.
    pub fn among<'a>(&self, labels: &'a [String], file: &Path) -> Vec<&'a String> {
        let annotated = self.of(file);
        let is = |label: &&String| annotated.is_none_or(|types| types.contains(*label));
        labels.iter().filter(is).collect()
    }
}

/// Gives a sentence what its file annotates. One with an entity of another type contradicts that, and is a problem.
pub(super) fn declare(item: Item, name: &str, annotated: &Arc<[String]>) -> Item {
    let Item::Sentence(mut sentence) = item else {
        return item;
    };
    sentence.annotated = Some(Arc::clone(annotated));
    let own = sentence.tags.iter().filter_map(|tag| tag.split_once('-'));
    let mut all = own
        .map(|(_, label)| label)
        .chain(sentence.lost.iter().map(String::as_str));
    match all.find(|label| !annotated.iter().any(|known| known == label)) {
        None => Item::Sentence(sentence),
        Some(label) => {
            let (label, annotated) = (label.to_owned(), annotated.to_vec());
            let fault = Fault::NotAnnotated { label, annotated };
            Item::Problem(Problem::new(name, sentence.line, &fault))
        }
    }
}
