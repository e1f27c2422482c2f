//! The institutions' private text.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fedner_shared::plan::Unit;
use fedner_tests::corpus::{self, Folder};
use fedner_tests::notes::{self, Split, Style};

/// Notes an institution trains on, unless told otherwise. The encoder reads each once, which is most
/// of what the demo takes.
pub(crate) const NOTES: usize = 1200;

/// The same with `--full`, where the encoder reads each once more for the pooled baseline.
pub(crate) const ALL_NOTES: usize = 2400;

/// Notes it holds out.
const HELD_OUT: [(Split, usize); 2] = [(Split::Devel, 20), (Split::Test, 40)];

/// Sentences of a training note that were annotated: what privacy by person needs is many persons,
/// not much text of each.
const ANNOTATED: usize = 1;

#[derive(Debug)]
pub(crate) struct Institution {
    pub(crate) name: String,
    pub(crate) train: PathBuf,
    pub(crate) devel: PathBuf,
    /// Its own test text, where it differs from the common one.
    pub(crate) test: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) institutions: Vec<Institution>,
    pub(crate) labels: Vec<String>,
    /// The test text of all institutions together.
    pub(crate) test: PathBuf,
    /// The training text of all institutions together, for the pooled baseline only.
    pub(crate) pooled: PathBuf,
}

impl Institution {
    /// What it declares with its consent: how many units its text has where units are sampled, else
    /// how many sentences.
    pub(crate) fn declares(&self, unit: Unit) -> Result<u32> {
        let names = |key: &str| -> Result<usize> {
            let text = fs::read_to_string(&self.train)
                .with_context(|| format!("read {}", self.train.display()))?;
            let names = text.lines().filter_map(|line| line.strip_prefix(key));
            Ok(names.collect::<BTreeSet<_>>().len())
        };
        let count = match unit {
            Unit::Person => names("# person = ")?,
            Unit::Document => names("# document = ")?,
            Unit::Sentence | Unit::Institution | Unit::None => {
                corpus::sentences(&self.train)?.len()
            }
        };
        Ok(count as u32)
    }
}

/// Three institutions with templates, vocabularies and tag frequencies of their own, each with as many
/// notes to train on.
pub(crate) fn generated(training: usize, seed: u64, directory: &Path) -> Result<Data> {
    let mut institutions = Vec::new();
    let (mut test, mut pooled) = (String::new(), String::new());
    for style in Style::ALL {
        let folder = directory.join("text").join(style.name());
        fs::create_dir_all(&folder).context("create a text directory")?;
        let mut paths = Vec::new();
        for (split, count) in [(Split::Train, training)].into_iter().chain(HELD_OUT) {
            let mut notes = notes::generate(style, split, count, seed);
            if split == Split::Train {
                notes::annotate(&mut notes, ANNOTATED);
            }
            let text = notes::to_conll(&notes);
            let path = folder.join(format!("{}.conll", split.name()));
            fs::write(&path, &text).context("write notes")?;
            paths.push(path);
            match split {
                Split::Train => pooled.push_str(&text),
                Split::Test => test.push_str(&text),
                Split::Devel => {}
            }
        }
        let [train, devel, test] =
            <[PathBuf; 3]>::try_from(paths).map_err(|_| anyhow::anyhow!("three splits"))?;
        institutions.push(Institution {
            name: style.name().to_owned(),
            train,
            devel,
            test: Some(test),
        });
    }
    let labels = notes::LABELS.iter().map(ToString::to_string).collect();
    let path = |name: &str| directory.join("text").join(name);
    fs::write(path("test.conll"), test).context("write the common test text")?;
    fs::write(path("pooled.conll"), pooled).context("write the pooled text")?;
    Ok(Data {
        institutions,
        labels,
        test: path("test.conll"),
        pooled: path("pooled.conll"),
    })
}

/// A real corpus, dealt to institutions.
pub(crate) fn real(
    folder: &Path,
    count: usize,
    skew: f64,
    seed: u64,
    directory: &Path,
) -> Result<Data> {
    if count == 0 || count > 100 {
        bail!("{count} institutions: expected 1 to 100");
    }
    let files = Folder::find(folder)?;
    let train = corpus::sentences(&files.train)?;
    let devel = corpus::sentences(&files.devel)?;
    let labels = corpus::labels(&train).into_iter().collect();
    let path = |name: &str| directory.join("text").join(name);
    fs::create_dir_all(directory.join("text")).context("create the text directory")?;
    corpus::write(&path("pooled.conll"), &train)?;
    corpus::write(&path("test.conll"), &corpus::sentences(&files.test)?)?;
    let parts = corpus::split(train, count, skew, seed);
    let held_out = corpus::split(devel, count, skew, seed);
    let mut institutions = Vec::new();
    for (index, (train, devel)) in parts.iter().zip(&held_out).enumerate() {
        let name = format!("institution-{}", index + 1);
        if train.is_empty() || devel.is_empty() {
            bail!("{name} would have no text: fewer institutions or less skew would give it some");
        }
        let folder = path(&name);
        fs::create_dir_all(&folder).context("create a text directory")?;
        let (train_path, devel_path) = (folder.join("train.conll"), folder.join("devel.conll"));
        corpus::write(&train_path, train)?;
        corpus::write(&devel_path, devel)?;
        institutions.push(Institution {
            name,
            train: train_path,
            devel: devel_path,
            test: None,
        });
    }
    Ok(Data {
        institutions,
        labels,
        test: path("test.conll"),
        pooled: path("pooled.conll"),
    })
}
