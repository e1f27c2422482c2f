//! Where predictions go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fedner_host::output::{Output, raw, table};
use fedner_model::{Entity, Prediction, brat, conll, json_line};
use fedner_shared::refusal::{Code, Refusal};

use super::Written;
use super::source::{Source, Text};

pub(super) enum Sink {
    /// Entities of one text, kept for a table or a list.
    Kept(Vec<Entity>),
    Stdout(Written),
    Files(Written, PathBuf),
}

impl Written {
    /// The ending of the file that is written; BRAT has the text's besides.
    const fn ending(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Conll => "conll",
            Self::Brat => "ann",
        }
    }

    fn text_of(self, text: &Text, prediction: &Prediction) -> String {
        let name = text.name.as_deref();
        match self {
            Self::Jsonl => json_line(name, &text.contents, prediction),
            Self::Conll => conll(name, prediction),
            Self::Brat => brat(prediction),
        }
    }
}

impl Sink {
    /// Refuses to write over a file: it may be an annotation made by hand.
    pub(super) fn open(
        format: Option<Written>,
        to: Option<&Path>,
        source: &Source,
    ) -> anyhow::Result<Self> {
        let Some(format) = format else {
            return Ok(Self::Kept(Vec::new()));
        };
        let Some(directory) = to else {
            return Ok(Self::Stdout(format));
        };
        let mut files = BTreeSet::new();
        for name in source.names() {
            for file in paths(directory, &name, format) {
                if file.exists() || !files.insert(file.clone()) {
                    let message = format!("{} would be written over", file.display());
                    return Err(Refusal::new(Code::AlreadyExists, message).into());
                }
            }
        }
        Ok(Self::Files(format, directory.to_owned()))
    }

    pub(super) fn write(&mut self, text: &Text, prediction: Prediction) -> anyhow::Result<()> {
        match self {
            Self::Kept(entities) => entities.extend(prediction.entities),
            Self::Stdout(format) => raw(format.text_of(text, &prediction).as_bytes())?,
            Self::Files(format, directory) => {
                let name = text.name.as_deref().unwrap_or("text");
                let contents = [format.text_of(text, &prediction), text.contents.clone()];
                let files = paths(directory, name, *format);
                for (file, contents) in files.iter().zip(contents) {
                    let parent = file.parent().unwrap_or(directory);
                    fs::create_dir_all(parent)
                        .and_then(|()| fedner_host::files::write_secret(file, contents.as_bytes()))
                        .with_context(|| format!("write {}", file.display()))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, output: &Output) -> anyhow::Result<()> {
        if let Self::Kept(entities) = self {
            output.data(&entities, |entities| {
                let rows = entities.iter().map(row);
                table(["TYPE", "START", "END", "SCORE", "TEXT"], &[1, 2, 3], rows)
            })?;
        }
        Ok(())
    }
}

/// What is written for one text: the entities, and for BRAT the text.
fn paths(directory: &Path, name: &str, format: Written) -> Vec<PathBuf> {
    let path = |ending: &str| directory.join(format!("{name}.{ending}"));
    match format {
        Written::Brat => vec![path(format.ending()), path("txt")],
        Written::Jsonl | Written::Conll => vec![path(format.ending())],
    }
}

fn row(entity: &Entity) -> [String; 5] {
    [
        entity.label.clone(),
        entity.start.to_string(),
        entity.end.to_string(),
        format!("{:.3}", entity.score),
        entity.text.clone(),
    ]
}
