//! What commands write with `--output json` keeps to the schemas in `proto/schema`.
//!
//! Every command of both programs is either carried out here and held against its schema, or listed with the reason
//! why it writes no data. So a command cannot be forgotten, and neither can a schema.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::binaries::binaries;
use fedner_tests::config::free_address;
use fedner_tests::schema::wrong;
use serde_json::Value;

use crate::setting::{MINUTES, Setting, plan};

const PRIVACY: &str =
    "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 4.0\ndelta = 1e-5\nmax_epsilon = 500.0";

/// Commands that write no JSON to stdout, and why.
const NO_DATA: [(&str, &str); 27] = [
    ("client completions", "writes a script"),
    ("client manual", "writes files"),
    ("client dashboard", "prints addresses of a page"),
    (
        "client serve",
        "prints its address; its answers are in its OpenAPI",
    ),
    ("client start", "is a daemon"),
    ("client audit plant", "writes CoNLL columns"),
    ("coordinator completions", "writes a script"),
    ("coordinator manual", "writes files"),
    ("coordinator dashboard", "prints addresses of a page"),
    ("coordinator top", "draws on a terminal"),
    ("coordinator invite withdraw", "only says what it did"),
    ("coordinator institution suspend", "only says what it did"),
    ("coordinator institution reinstate", "only says what it did"),
    ("coordinator institution revoke", "only says what it did"),
    ("coordinator key rotate", "only says what it did"),
    ("coordinator key withdraw", "only says what it did"),
    ("coordinator key issue", "only says what it did"),
    ("coordinator key revoke", "only says what it did"),
    ("coordinator key install", "only says what it did"),
    ("coordinator run start", "only says what it did"),
    ("coordinator run pause", "only says what it did"),
    ("coordinator run resume", "only says what it did"),
    ("coordinator run retry", "only says what it did"),
    ("coordinator run extend", "only says what it did"),
    ("coordinator run cancel", "only says what it did"),
    ("coordinator run exclude", "only says what it did"),
    ("coordinator run readmit", "only says what it did"),
];

/// What the commands of both programs write.
fn schemas() -> Result<BTreeMap<&'static str, Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/schema");
    let read = |program| {
        let text = fs::read_to_string(folder.join(format!("{program}.json")))?;
        Ok((program, serde_json::from_str(&text)?))
    };
    ["coordinator", "client"].into_iter().map(read).collect()
}

/// The commands below which there are no others, as `client consent list`.
fn commands(program: &Path, path: &[String], found: &mut Vec<String>) -> Result<()> {
    let mut command = Command::new(program);
    let output = command.args(&path[1..]).arg("--help").output()?;
    let text = String::from_utf8(output.stdout)?;
    let below = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    let below: Vec<&str> = below
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    // `invite NAME` is a command and has some.
    if below.is_empty() || text.contains("[COMMAND]") || path.last().is_some_and(|n| n == "invite")
    {
        found.push(path.join(" "));
    }
    for name in below {
        let mut path = path.to_vec();
        path.push(name.to_owned());
        commands(program, &path, found)?;
    }
    Ok(())
}

/// What was written by each command, and what is wrong with it.
struct Checked {
    setting: Setting,
    seen: BTreeMap<String, usize>,
    wrong: Vec<String>,
    schemas: BTreeMap<&'static str, Value>,
}

impl Checked {
    /// Carries a command out; `words` begin with its name, and `name` tells how many words that has.
    fn run(&mut self, whose: &str, name: &str, more: &[&str]) -> Result<Value> {
        let words: Vec<&str> = name.split(' ').chain(more.iter().copied()).collect();
        let (program, command) = if whose == "coordinator" {
            (
                "coordinator",
                self.setting.cluster.coordinator_command(&words)?,
            )
        } else {
            (
                "client",
                self.setting.cluster.client_command(whose, &words)?,
            )
        };
        self.take(&format!("{program} {name}"), command)
    }

    fn take(&mut self, name: &str, mut command: Command) -> Result<Value> {
        command.args(["--output", "json"]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8(output.stdout)?;
        let mut last = Value::Null;
        // A command that watches writes a line an event.
        for line in text.lines() {
            last = serde_json::from_str(line).with_context(|| format!("{name}: {line} {said}"))?;
            self.hold(name, &last)?;
        }
        if text.is_empty() {
            self.wrong.push(format!("{name} wrote nothing: {said}"));
        }
        Ok(last)
    }

    /// The line that a coordinator writes once it listens.
    fn serve(&mut self, directory: &str) -> Result<()> {
        let mut command = Command::new(&binaries()?.coordinator);
        command.args(["--dir", directory, "serve", "--output", "json"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("stdout")?;
        let read = BufReader::new(stdout).read_line(&mut line);
        child.kill()?;
        child.wait()?;
        read?;
        self.hold("coordinator serve", &serde_json::from_str(&line)?)
    }

    fn hold(&mut self, name: &str, value: &Value) -> Result<()> {
        let count = self.seen.entry(name.to_owned()).or_default();
        *count += 1;
        if let Some(folder) = std::env::var_os("FEDNER_SCHEMA_SAMPLES") {
            let file = format!("{}.{count}.json", name.replace(' ', "-"));
            fs::create_dir_all(&folder)?;
            fs::write(Path::new(&folder).join(file), value.to_string())?;
        }
        let (program, command) = name.split_once(' ').context("a command")?;
        let root = &self.schemas[program];
        let Some(schema) = root["commands"].get(command) else {
            self.wrong.push(format!("{name} has no schema"));
            return Ok(());
        };
        let wrong = wrong(root, schema, value).into_iter().take(4);
        self.wrong
            .extend(wrong.map(|said| format!("{name}: {said}")));
        Ok(())
    }
}

/// The files below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn what_commands_write_keeps_to_the_schemas() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 6)?;
    let run = setting.start_run(&plan(2, 2, 2, "head", "", PRIVACY))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    // The second run is to have an update that waits.
    setting.add_to_policy("i1", "hold = true\n")?;
    setting.add_to_policy("i0", "share_audits = true\n")?;
    let folder = setting.path("");
    let scratch = |name: &str| -> Result<String> {
        Ok(folder.join(name).to_str().context("path")?.to_owned())
    };
    let base = scratch("base")?;
    let train = scratch("0-train.conll")?;
    let devel = scratch("0-devel.conll")?;
    let plan_file = scratch("plan.toml")?;
    let [trained, exported, onnx, backup, restored, created, joined] = [
        "trained", "exported", "onnx", "backup", "restored", "created", "joined",
    ]
    .map(scratch);
    let (trained, exported, onnx) = (trained?, exported?, onnx?);
    let (backup, restored, created, joined) = (backup?, restored?, created?, joined?);
    let [profile, moved, texts] = ["profile.json", "moved", "texts"].map(scratch);
    let (profile, moved, texts) = (profile?, moved?, texts?);
    let mut all = Checked {
        setting,
        seen: BTreeMap::new(),
        wrong: Vec::new(),
        schemas: schemas()?,
    };
    let all = &mut all;

    // The operator's.
    let address = free_address()?;
    let init = ["--name", "other", "--address", &address];
    let mut command = Command::new(&binaries()?.coordinator);
    command.args(["--dir", &created, "init"]).args(init);
    all.take("coordinator init", command)?;
    let config = Path::new(&created).join("coordinator.toml");
    let several = "cluster_address = \"127.0.0.1:7444\"\nstore_url = \"postgres://a@127.0.0.1/b\"\nblobs_url = \"s3://c\"\n";
    let alone = fs::read_to_string(&config)?;
    fs::write(&config, several.to_owned() + &alone)?;
    let mut command = Command::new(&binaries()?.coordinator);
    command.args(["--dir", &joined, "join", "--from", &created]);
    command.args(["--cluster-address", "127.0.0.1:7445"]);
    all.take("coordinator join", command)?;
    fs::write(&config, alone)?;
    all.run("coordinator", "invite", &["newcomer"])?;
    all.run("coordinator", "invite list", &[])?;
    all.run("coordinator", "institution list", &[])?;
    all.run("coordinator", "institution show", &["i0"])?;
    let history = all.run("coordinator", "institution history", &["i0"])?;
    all.run("coordinator", "model list", &[])?;
    all.run(
        "coordinator",
        "model import",
        &["--from", &base, "--name", "again", "--encoder-only"],
    )?;
    all.run("coordinator", "model show", &["notes@2"])?;
    all.run("coordinator", "model lineage", &["notes@2"])?;
    all.run("coordinator", "model compare", &["notes@2", "notes@3"])?;
    all.run("coordinator", "model tag", &["notes@2", "steady"])?;
    let back = ["--to", "notes@1", "--alias", "steady"];
    all.run("coordinator", "model rollback", &back)?;
    all.run("coordinator", "model prune", &["--keep", "1", "--dry-run"])?;
    all.run(
        "coordinator",
        "model export",
        &["notes@3", "--to", &exported],
    )?;
    let prepared = all.run("coordinator", "plan prepare", &[&plan_file])?;
    let file = all.setting.path("prepared.json");
    fs::write(&file, prepared.to_string())?;
    let key = all
        .setting
        .cluster
        .coordinator_directory()
        .join("operator/signing.key");
    let sign = [
        file.to_str().context("path")?,
        "--key",
        key.to_str().context("path")?,
    ];
    all.run("coordinator", "plan sign", &sign)?;
    all.run("coordinator", "key list", &[])?;
    let plans = all.run("coordinator", "key open-plans", &[])?;
    let file = all.setting.path("plans.json");
    fs::write(&file, plans.to_string())?;
    let next = scratch("next.key")?;
    let succeed = [
        "--plans",
        file.to_str().context("path")?,
        "--old",
        key.to_str().context("path")?,
        "--to",
        &next,
    ];
    all.run("coordinator", "key succeed", &succeed)?;
    let more = plan(2, 2, 500, "head", "", PRIVACY).replace("\"notes\"", "\"second\"");
    fs::write(
        &plan_file,
        more.replace("max_epsilon = 500.0", "max_epsilon = 900.0"),
    )?;
    let second = all.run(
        "coordinator",
        "run create",
        &[&plan_file, "--start", "--force"],
    )?;
    let second = second["run"].as_str().unwrap_or_default().to_owned();
    let deadline = Instant::now() + MINUTES;
    let held = loop {
        let held = all.run("i1", "release list", &[])?;
        if let Some(receipt) = held[0]["receipt"].as_str() {
            break receipt.to_owned();
        }
        ensure!(
            Instant::now() < deadline,
            "no update waits: {}",
            all.setting.logs()
        );
        std::thread::sleep(Duration::from_millis(200));
    };
    let bytes = scratch("update")?;
    all.run("i1", "release bytes", &[&held, "--to", &bytes])?;
    all.run("i1", "release grant", &[&held, "--dry-run"])?;
    all.run("i1", "release refuse", &[&held])?;
    all.run("coordinator", "run explain", &[&second])?;
    all.run("coordinator", "run list", &[])?;
    all.run("coordinator", "status", &[])?;
    all.run("coordinator", "run show", &[&run])?;
    all.run("coordinator", "run watch", &[&run])?;
    all.run("coordinator", "replay", &["notes@3"])?;
    all.run("coordinator", "verify", &[])?;
    all.run("coordinator", "backup", &["--to", &backup])?;
    let mut command = Command::new(&binaries()?.coordinator);
    command.args(["--dir", &restored, "restore", "--from", &backup]);
    all.take("coordinator restore", command)?;

    // The institution's.
    all.run("i0", "check", &[])?;
    all.run("i0", "status", &[])?;
    all.run("i0", "consent list", &[])?;
    all.run("i0", "consent grant", &["second"])?;
    all.run("i0", "consent revoke", &["second"])?;
    all.run("i0", "policy show", &[])?;
    all.run("i0", "policy apply", &[])?;
    all.run("i0", "policy history", &[])?;
    all.run("i0", "pause", &[])?;
    all.run("i0", "resume", &[])?;
    all.run("i0", "privacy show", &[])?;
    all.run("i0", "privacy verify", &[])?;
    all.run("i0", "privacy forecast", &["--plan", &plan_file])?;
    let receipts = all.run("i0", "receipts list", &[])?;
    let receipt = receipts[0]["receipt"]
        .as_str()
        .or_else(|| receipts[0]["digest"].as_str());
    let receipt = receipt.unwrap_or_default().to_owned();
    all.run("i0", "receipts show", &[&receipt])?;
    all.run("i0", "receipts verify", &[])?;
    all.run("i0", "key show", &[])?;
    let file = all.setting.path("history.json");
    fs::write(&file, history.to_string())?;
    all.run("i0", "verify", &[file.to_str().context("path")?])?;
    all.run("i0", "release list", &[])?;
    all.run("i0", "data inspect", &[&train])?;
    let converted = all.setting.path("converted.jsonl");
    let convert = [
        &train,
        "--as",
        "json-tokens",
        "--to",
        converted.to_str().context("path")?,
    ];
    all.run("i0", "data convert", &convert)?;
    fs::write(&plan_file, plan(1, 1, 1, "head", "", "unit = \"none\""))?;
    all.run(
        "i0",
        "train",
        &[
            "--model",
            &base,
            "--data",
            &train,
            "--plan",
            &plan_file,
            "--to",
            &trained,
            "--held-out",
            &devel,
        ],
    )?;
    let distilled = format!("{trained}-distilled");
    all.run(
        "i0",
        "distil",
        &[
            "--layers", "0", "--model", &trained, "--data", &train, "--plan", &plan_file, "--to",
            &distilled,
        ],
    )?;
    all.run(
        "i0",
        "evaluate",
        &["--model", &trained, "--data", &devel, "--errors", "2"],
    )?;
    all.run(
        "i0",
        "predict",
        &["--model", &trained, "--text", "Seen by Anna Roe in Ghent."],
    )?;
    all.run("i0", "model export", &["--model", &trained, "--to", &onnx])?;
    fs::write(&texts, "Seen by Anna Roe in Ghent.\nNo fever today.\n")?;
    all.run(
        "i0",
        "monitor",
        &[
            "--model", &trained, "--file", &texts, "--lines", "--save", &profile,
        ],
    )?;
    let audit = [
        "--model",
        &exported,
        "--members",
        &train,
        "--non-members",
        &devel,
    ];
    all.run("i0", "audit run", &audit)?;
    let audits = all.setting.cluster.client_directory("i0").join("audits");
    let report = files(&audits)?.pop().context("a report")?;
    let report = report.to_str().context("path")?;
    all.run("i0", "audit verify", &[report])?;
    all.run(
        "i0",
        "audit submit",
        &[report, "--model-version", "notes@3"],
    )?;
    all.run("i0", "key rotate", &[])?;
    all.setting.cluster.kill_client("i1")?;
    all.run("i1", "move", &["--to", &moved])?;

    let invite = all.setting.cluster.invite("guest")?;
    let enroll = [
        invite.to_str().context("path")?,
        "--data",
        &train,
        "--held-out",
        &devel,
    ];
    all.run("guest", "enroll", &enroll)?;
    all.run("guest", "privacy recover", &["--dry-run"])?;
    all.serve(&created)?;

    let mut leaves = Vec::new();
    for (program, name) in [
        (&binaries()?.coordinator, "coordinator"),
        (&binaries()?.client, "client"),
    ] {
        commands(program, &[name.to_owned()], &mut leaves)?;
    }
    // A schema that nothing is held against is no better than none.
    for (program, root) in &all.schemas {
        for command in root["commands"].as_object().into_iter().flatten() {
            let name = format!("{program} {}", command.0);
            if !all.seen.contains_key(&name) {
                all.wrong
                    .push(format!("{name} has a schema and was not carried out"));
            }
        }
    }
    for leaf in &leaves {
        let without = NO_DATA.iter().any(|(name, _)| name == leaf);
        if all.seen.contains_key(leaf) == without {
            all.wrong.push(format!(
                "{leaf}: carried out, or listed as one without data?"
            ));
        }
    }
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
    Ok(())
}
