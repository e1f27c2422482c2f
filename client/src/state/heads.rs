//! The heads of the ledger in a second place.
//!
//! A chain has no key, so that whoever cuts its end off, and the receipts that name it, leaves a valid
//! one. What stands in another place, which may be another machine's, tells.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fedner_privacy::ledger::Ledger;
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};

/// A file to which the number and the digest of each entry are appended, a line each.
#[derive(Debug, Clone)]
pub struct Heads {
    file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the ledger's heads in {} cannot be read or written: {source}", file.display())]
    File { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Behind(#[from] Refusal),
}

impl Heads {
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Refuses a ledger that lacks an entry which the file names: its end was cut off.
    pub fn check(&self, ledger: &Ledger) -> Result<(), Error> {
        let text = self.text()?;
        self.check_text(&text, ledger)
    }

    /// Puts a file of another ledger aside, and begins one for this ledger.
    pub fn begin_anew(&self, ledger: &Ledger) -> Result<(), Error> {
        if self.check(ledger).is_err() {
            let aside = self.file.with_extension("lost");
            fs::rename(&self.file, aside).map_err(|source| Error::File {
                file: self.file.clone(),
                source,
            })?;
        }
        self.keep(ledger)
    }

    /// Appends the heads that the file lacks; on disk before this returns.
    pub fn keep(&self, ledger: &Ledger) -> Result<(), Error> {
        let text = self.text()?;
        self.check_text(&text, ledger)?;
        let whole = text.is_empty() || text.ends_with('\n');
        let known = text.lines().filter(|line| parsed(line).is_some()).count();
        let entries = ledger.entries().iter().skip(known);
        let missing: Vec<String> = entries
            .map(|entry| format!("{} {} {}", entry.sequence, entry.digest(), entry.time))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        // What a crash left of a line stays a line that says nothing.
        let end = if whole { "" } else { "\n" };
        let append = || {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.file)?;
            file.write_all(format!("{end}{}\n", missing.join("\n")).as_bytes())?;
            file.sync_all()
        };
        append().map_err(|source| self.fault(source))
    }

    fn check_text(&self, text: &str, ledger: &Ledger) -> Result<(), Error> {
        let lost = text.lines().filter_map(parsed);
        let lost = lost
            .filter(|(_, digest)| !ledger.contains(digest))
            .map(|(sequence, _)| sequence)
            .next();
        let Some(sequence) = lost else {
            return Ok(());
        };
        let message = format!(
            "{} names ledger entry {sequence}, which is not among the {} here",
            self.file.display(),
            ledger.entries().len()
        );
        Err(Refusal::new(Code::LedgerBehind, message).into())
    }

    fn text(&self) -> Result<String, Error> {
        match fs::read_to_string(&self.file) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(source) => Err(self.fault(source)),
        }
    }

    fn fault(&self, source: io::Error) -> Error {
        Error::File {
            file: self.file.clone(),
            source,
        }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// The number and the digest of a line; nothing of one that was cut short.
fn parsed(line: &str) -> Option<(u64, Digest)> {
    let mut words = line.split(' ');
    let (sequence, digest) = (words.next()?, words.next()?);
    Some((sequence.parse().ok()?, digest.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use fedner_privacy::ledger::{Account, Cost, Debit, Kind};
    use fedner_shared::plan::Unit;
    use fedner_shared::time::Time;

    use super::*;

    fn ledger(entries: u32) -> Ledger {
        let mut ledger = Ledger::default();
        for round in 1..=entries {
            let debit = Debit {
                account: Account {
                    cohort: "st-anna".into(),
                    unit: Unit::Institution,
                },
                plan: Digest::of(b"plan"),
                run: "notes-1".parse().expect("run"),
                round,
                attempt: 1,
                kind: Kind::Update,
                cost: Cost::Gaussian {
                    squared_sensitivity: 4,
                    scale: 8.0,
                },
                delta: 1e-5,
                per_person: None,
            };
            let entry = ledger.propose(Time::from_millis(round.into()), debit, 100.0, None);
            ledger.append(entry.expect("fits")).expect("own entry");
        }
        ledger
    }

    #[test]
    fn a_ledger_whose_end_was_cut_off_is_behind_its_second_place() {
        let folder = tempfile::tempdir().expect("folder");
        let heads = Heads::new(folder.path().join("heads"));
        heads.keep(&ledger(0)).expect("nothing yet");
        assert!(!heads.file().exists());
        heads.keep(&ledger(2)).expect("two");
        heads.keep(&ledger(2)).expect("once each");
        heads.keep(&ledger(3)).expect("one more");
        let text = fs::read_to_string(heads.file()).expect("text");
        let numbers: Vec<&str> = text.lines().map(|line| &line[..2]).collect();
        assert_eq!(numbers, ["1 ", "2 ", "3 "]);
        heads.check(&ledger(3)).expect("the same");
        heads.check(&ledger(4)).expect("a longer one");
        for cut in 0..3 {
            let error = heads.check(&ledger(cut)).expect_err("cut");
            assert!(
                matches!(&error, Error::Behind(refusal) if refusal.code == Code::LedgerBehind),
                "{error}"
            );
            assert!(heads.keep(&ledger(cut)).is_err());
        }
    }

    #[test]
    fn a_line_that_a_crash_cut_short_is_written_again() {
        let folder = tempfile::tempdir().expect("folder");
        let heads = Heads::new(folder.path().join("heads"));
        heads.keep(&ledger(2)).expect("two");
        let text = fs::read_to_string(heads.file()).expect("text");
        fs::write(heads.file(), &text[..text.len() - 60]).expect("cut");
        heads.keep(&ledger(3)).expect("mended");
        let text = fs::read_to_string(heads.file()).expect("text");
        let whole: Vec<u64> = text.lines().filter_map(parsed).map(|line| line.0).collect();
        assert_eq!(whole, [1, 2, 3]);
    }
}
