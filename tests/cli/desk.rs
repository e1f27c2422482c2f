//! A scratch folder and the client, for tests of its commands.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use fedner_tests::binaries::binaries;
use fedner_tests::dictionary::Dictionary;
use serde_json::Value;
use tempfile::TempDir;

/// A scratch folder and the client.
pub(crate) struct Desk {
    folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().context("parent")?)?;
        fs::write(&path, contents)?;
        Ok(path)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(&binaries()?.client);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("FEDNER_CLIENT_DIR")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        Ok(command)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments)?.output().context("run the client")
    }

    pub(crate) fn stdout(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.stdout(&[arguments, &["--output", "json"]].concat())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// What is said on stderr by a command that must end with status 1.
    pub(crate) fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("hint: "), "{said}");
        Ok(said)
    }

    /// A model of its own in the folder.
    pub(crate) fn model(&self, name: &str, dictionary: &Dictionary) -> Result<()> {
        dictionary.write(&self.path(name))
    }

    /// What `data inspect` counts in a file: sentences, words, and entities by type.
    pub(crate) fn found(&self, arguments: &[&str]) -> Result<String> {
        let report = self.json(&[&["data", "inspect"], arguments].concat())?;
        let file = &report["files"][0];
        let entities = file["entities"].as_object().context("entities")?;
        let entities = entities
            .iter()
            .map(|(label, count)| format!("{label}:{count}"));
        Ok(format!(
            "{} sentences, {} words, {}",
            file["sentences"],
            file["words"],
            entities.collect::<Vec<_>>().join(" ")
        ))
    }

    /// The entities that `predict` finds: a line a text, each as `LABEL:START-END`.
    pub(crate) fn predicted(&self, arguments: &[&str]) -> Result<String> {
        let text = self.stdout(&[&["predict", "--as", "jsonl"], arguments].concat())?;
        Ok(text
            .lines()
            .map(spans)
            .collect::<Result<Vec<_>>>()?
            .join("\n"))
    }
}

/// The entities of a JSON line, each as `LABEL:START-END`.
pub(crate) fn spans(line: &str) -> Result<String> {
    let record: Value = serde_json::from_str(line)?;
    let entities = record["entities"].as_array().context("entities")?.iter();
    let spans = entities.map(|entity| {
        let label = entity["label"].as_str().unwrap_or_default();
        format!("{label}:{}-{}", entity["start"], entity["end"])
    });
    Ok(spans.collect::<Vec<_>>().join(" "))
}
