//! What happens to an institution's directory: files that vanish or are half-written, copies of it, and people who
//! decline.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use fedner_client::egress::limit;
use fedner_client::state::{PolicySource, Store};
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::Code;

/// A file that people edit, or that lies on a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum File {
    Policy,
    Settings,
    Corpus,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoilt {
    Away,
    Empty,
    /// Cut off in the middle of a word.
    Half,
    /// Whole, and allowing more: a policy only.
    Looser,
}

/// How an institution says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum No {
    /// Not now: it is paused for so many minutes.
    Later(u8),
    /// Not this time: its text cannot be trained on.
    Attempt,
    /// Never: its policy forbids such plans from now on.
    ForGood,
}

impl No {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Later(_) => "later",
            Self::Attempt => "this attempt",
            Self::ForGood => "for good",
        }
    }
}

/// The refusal of a training whose text is not as it should be.
pub(crate) const OF_TEXT: Code = Code::CorpusInvalid;

impl File {
    fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy.toml",
            Self::Settings => "client.toml",
            Self::Corpus => "train.conll",
        }
    }
}

/// One institution's directory, and what was done to it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Files as they were before.
    whole: BTreeMap<File, Vec<u8>>,
    /// The policy is spoilt, since when there were so many receipts and consents.
    silent: Option<(usize, usize)>,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            whole: BTreeMap::new(),
            silent: None,
        }
    }

    pub(crate) fn spoil(&mut self, file: File, how: Spoilt) -> Result<()> {
        let path = self.path.join(file.name());
        if let std::collections::btree_map::Entry::Vacant(entry) = self.whole.entry(file) {
            entry.insert(fs::read(&path)?);
        }
        let before = &self.whole[&file];
        match how {
            Spoilt::Away => {
                if path.exists() {
                    fs::remove_file(&path)?;
                }
            }
            Spoilt::Empty => fs::write(&path, "")?,
            // In the middle of the last line's first word.
            Spoilt::Half => {
                let lines = String::from_utf8_lossy(before);
                let last = lines.trim_end().rfind('\n').map_or(0, |end| end + 1);
                fs::write(&path, &before[..last + 4])?;
            }
            Spoilt::Looser => {
                let text = String::from_utf8_lossy(before).into_owned();
                let looser = text.replace("max_epsilon_total = ", "max_epsilon_total = 9");
                fs::write(&path, looser)?;
            }
        }
        Ok(())
    }

    /// Whether the policy allows nothing.
    pub(crate) fn note_silence(&mut self, store: &Store) -> Result<()> {
        let policy = self.path.join(File::Policy.name());
        let text = fs::read_to_string(policy).unwrap_or_default();
        let whole = self.whole.get(&File::Policy);
        let spoilt = whole.is_some_and(|whole| text.len() < whole.len());
        self.silent = if spoilt { Some(said(store)?) } else { None };
        Ok(())
    }

    /// Writes its files as they were.
    pub(crate) fn mend(&mut self) -> Result<()> {
        for (file, text) in std::mem::take(&mut self.whole) {
            fs::write(self.path.join(file.name()), text)?;
        }
        self.silent = None;
        Ok(())
    }

    /// A policy that forbids every plan of these simulations from now on.
    pub(crate) fn forbid(&mut self) -> Result<()> {
        self.mend()?;
        let path = self.path.join(File::Policy.name());
        let text = fs::read_to_string(&path)?;
        let text = text.replace("allow_no_privacy = true", "allow_no_privacy = false");
        Ok(fs::write(path, text + "units = [\"person\"]\n")?)
    }

    /// Nothing leaves that the policy in force does not allow.
    pub(crate) fn check(&self, store: &Store, name: &InstitutionId) -> Result<()> {
        if let Some(before) = self.silent {
            let now = said(store)?;
            anyhow::ensure!(
                before == now,
                "{name} without a whole policy: {before:?} receipts and consents became {now:?}"
            );
        }
        let by_person = store
            .policies()?
            .iter()
            .any(|policy| policy.source == PolicySource::Apply);
        anyhow::ensure!(
            !by_person,
            "a looser policy came in force without a person's word"
        );
        let Some(policy) = store.policy()? else {
            return Ok(());
        };
        let limit = limit(name, &policy);
        let charged = store.ledger()?.charged(&limit.account, limit.delta);
        anyhow::ensure!(
            charged.epsilon <= limit.max_epsilon + 1e-9,
            "{name} has spent {}: its policy allows {}",
            charged.epsilon,
            limit.max_epsilon
        );
        Ok(())
    }
}

/// How many receipts and consents there are.
fn said(store: &Store) -> Result<(usize, usize)> {
    Ok((store.receipts()?.len(), store.consent_digests()?.len()))
}
