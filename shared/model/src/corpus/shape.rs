//! What the lines of a file look like.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Format;
use super::conll::layout::Layout;

/// The form that a whole file was found to have. A later reading that is given it finds nothing out
/// anew, so that no line of the file decides how others are read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub format: Format,
    /// Only of CoNLL columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) layout: Option<Layout>,
}

/// The forms of files, by their paths.
pub type Shapes = BTreeMap<PathBuf, Shape>;
