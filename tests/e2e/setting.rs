//! A small federation to test with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fedner_tests::cluster::{Cluster, Engines, Member, Policy};
use fedner_tests::notes::{self, Split, Style};
use fedner_tests::{process, tiny};
use serde_json::Value;
use tempfile::TempDir;

/// A running coordinator with a tiny base model, and text for institutions.
pub(crate) struct Setting {
    pub(crate) cluster: Cluster,
    folder: TempDir,
}

impl Setting {
    pub(crate) fn new() -> Result<Self> {
        Self::on(Engines::default())
    }

    fn on(engines: Engines) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let cluster = Cluster::start_on(folder.path(), engines)?;
        Ok(Self { cluster, folder })
    }

    /// The same with a tiny base model registered as `base@1`.
    pub(crate) fn with_model() -> Result<Self> {
        Self::with_model_of(tiny::TEST)
    }

    pub(crate) fn with_model_of(size: tiny::Size) -> Result<Self> {
        Self::new()?.importing(size)
    }

    /// The same of a coordinator on those engines.
    pub(crate) fn with_model_on(engines: Engines) -> Result<Self> {
        Self::on(engines)?.importing(tiny::TEST)
    }

    fn importing(self, size: tiny::Size) -> Result<Self> {
        let setting = self;
        let model = setting.model_of(size)?;
        let from = model.to_str().context("path")?;
        setting
            .cluster
            .coordinate(&["model", "import", "--from", from, "--name", "base"])?;
        Ok(setting)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A tiny BERT's Hugging Face directory.
    pub(crate) fn base_model(&self) -> Result<PathBuf> {
        self.model_of(tiny::TEST)
    }

    fn model_of(&self, size: tiny::Size) -> Result<PathBuf> {
        let model = self.path("base");
        if !model.exists() {
            let text = notes::to_conll(&notes::generate(Style::StAnna, Split::Train, 60, 1));
            tiny::write(&model, size, &text, 1)?;
        }
        Ok(model)
    }

    /// Notes of the institution with that number, in a file.
    pub(crate) fn text(&self, number: usize, split: Split, documents: usize) -> Result<PathBuf> {
        let style = Style::ALL[number % Style::ALL.len()];
        let path = self.path(&format!("{number}-{}.conll", split.name()));
        fs::write(
            &path,
            notes::to_conll(&notes::generate(style, split, documents, number as u64)),
        )?;
        Ok(path)
    }

    /// Enrols institutions `i0`, `i1`, … that consent to everything, and starts their clients.
    pub(crate) fn start_institutions(
        &mut self,
        count: usize,
        documents: usize,
    ) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for number in 0..count {
            let name = format!("i{number}");
            self.enrol(&name, number, documents)?;
            self.cluster.start_client(&name)?;
            names.push(name);
        }
        Ok(names)
    }

    pub(crate) fn enrol(&self, name: &str, number: usize, documents: usize) -> Result<()> {
        self.cluster.enrol(&self.member(name, number, documents)?)
    }

    /// The same with the invite in that file.
    pub(crate) fn enrol_with(
        &self,
        name: &str,
        number: usize,
        documents: usize,
        invite: &Path,
    ) -> Result<()> {
        let member = self.member(name, number, documents)?;
        self.cluster.enrol_with(&member, invite)
    }

    fn member(&self, name: &str, number: usize, documents: usize) -> Result<Member> {
        Ok(Member {
            name: name.to_owned(),
            data: self.text(number, Split::Train, documents)?,
            held_out: self.text(number, Split::Devel, documents.div_ceil(4))?,
            policy: Policy {
                allow_no_privacy: true,
                share_evaluation: true,
                max_epsilon_run: 1000.0,
                declared_examples: Some(100 + number as u32),
            },
        })
    }

    /// Writes more lines into the policy of an institution.
    pub(crate) fn add_to_policy(&self, name: &str, more: &str) -> Result<()> {
        let file = self.cluster.client_directory(name).join("policy.toml");
        let policy = fs::read_to_string(&file)? + more;
        Ok(fs::write(file, policy)?)
    }

    /// Creates and starts a run; `extra` goes into the plan's tables by their names.
    pub(crate) fn start_run(&self, plan: &str) -> Result<String> {
        let path = self.path("plan.toml");
        fs::write(&path, plan)?;
        let path = path.to_str().context("path")?;
        let created = self
            .cluster
            .coordinate(&["run", "create", path, "--start", "--force"])?;
        Ok(created["run"].as_str().context("run")?.to_owned())
    }

    /// Asks until the run has `state`, or ends without it, or `within` has passed.
    pub(crate) fn wait_for_state(&self, run: &str, state: &str, within: Duration) -> Result<Value> {
        self.wait_until(run, within, |view| view["state"] == state)
    }

    pub(crate) fn wait_until(
        &self,
        run: &str,
        within: Duration,
        reached: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + within;
        let mut last = Value::Null;
        while Instant::now() < deadline {
            if let Ok(view) = self.cluster.coordinate(&["run", "show", run]) {
                if reached(&view) {
                    return Ok(view);
                }
                if ["failed", "cancelled", "completed"]
                    .iter()
                    .any(|end| view["state"] == *end)
                {
                    bail!("the run ended: {view}\n{}", self.logs());
                }
                last = view;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!(
            "the run did not get there within {within:?}: {last}\n{}",
            self.logs()
        )
    }

    /// What all programs said.
    pub(crate) fn logs(&self) -> String {
        let entries = fs::read_dir(self.path("logs"))
            .into_iter()
            .flatten()
            .flatten();
        let texts = entries.map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            format!("--- {}\n{}\n", entry.path().display(), tail.join("\n"))
        });
        texts.collect()
    }

    /// An ERROR in a log is a failure of the test, whatever else went well.
    pub(crate) fn assert_no_errors_logged(&self) {
        let logs = self.logs();
        let errors: Vec<&str> = logs
            .lines()
            .filter(|line| line.contains(" ERROR "))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    /// The versions that rounds have published.
    pub(crate) fn published(&self) -> Result<Vec<Value>> {
        let models = self.cluster.coordinate(&["model", "list"])?;
        let models = models.as_array().context("list")?.clone();
        Ok(models
            .into_iter()
            .filter(|model| model["version"]["origin"]["kind"] == "round")
            .collect())
    }

    /// Every published version is the sum of its stored updates, and everything verifies.
    pub(crate) fn assert_replays(&self) -> Result<()> {
        let published = self.published()?;
        assert!(!published.is_empty());
        for model in published {
            let name = model["version"]["name"].as_str().context("name")?;
            let replayed = self.cluster.coordinate(&["replay", name])?;
            assert_eq!(replayed["same"], true, "{replayed}");
        }
        let verdict = self.cluster.coordinate(&["verify"])?;
        assert_eq!(verdict["problems"], serde_json::json!([]), "{verdict}");
        Ok(())
    }
}

/// Runs a command that must be refused; what it says on stderr.
pub(crate) fn refused(mut command: std::process::Command) -> Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    assert!(said.contains("hint: "), "{said}");
    Ok(said)
}

/// Runs a command that must succeed; what it writes to stdout.
pub(crate) fn run(command: std::process::Command) -> Result<String> {
    Ok(String::from_utf8(process::run(command)?.stdout)?)
}

/// A plan over institutions `i0`, `i1`, …
pub(crate) fn plan(
    institutions: usize,
    quorum: usize,
    rounds: u32,
    method: &str,
    extra_cohort: &str,
    privacy: &str,
) -> String {
    let names: Vec<String> = (0..institutions)
        .map(|number| format!("\"i{number}\""))
        .collect();
    format!(
        r#"
name = "notes"
base = "base@1"
labels = ["Person", "Date", "Location", "Identifier", "Organisation", "Drug"]
method = "{method}"
rounds = {rounds}
seed = 7
[training]
local_epochs = 2
batch_size = 8
learning_rate = 1e-3
max_tokens = 64
[cohort]
institutions = [{}]
quorum = {quorum}
weighting = "examples"
{extra_cohort}
[privacy]
{privacy}
"#,
        names.join(", ")
    )
}

pub(crate) const NO_NOISE: &str = "unit = \"none\"";

/// With `release_after_s` in the cohort a round of it lasts that long at least, so a test meets each.
pub(crate) const PROTECTED: &str =
    "unit = \"institution\"\nnoise_multiplier = 1.0\nmax_epsilon = 900.0";
pub(crate) const MINUTES: Duration = Duration::from_mins(2);
