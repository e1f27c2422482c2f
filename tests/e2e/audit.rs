//! `audit`: the real command on plans, and on models that know their text too well.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use fedner_tests::notes::Split;
use serde_json::Value;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused, run};

/// Protection of each sentence so strong that nobody may tell who was there.
const STRONG: &str =
    "unit = \"sentence\"\nclip = 0.1\nnoise_multiplier = 40.0\ndelta = 1e-5\nmax_epsilon = 50.0";

/// Words of the kind that `audit plant` draws.
const KNOWN_SECRETS: [&str; 4] = ["wozibemo", "kafidohe", "tilevase", "gobamiru"];

/// An institution that needs no federation.
fn institution() -> Result<Setting> {
    let setting = Setting::new()?;
    setting.enrol("i0", 0, 8)?;
    Ok(setting)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("path")
}

/// A report, and whether the status was that of a FAIL.
fn audited(setting: &Setting, arguments: &[&str]) -> Result<(Value, bool)> {
    let arguments = [&["audit", "run", "--output", "json"], arguments].concat();
    let output = setting.cluster.client_command("i0", &arguments)?.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
    Ok((report, output.status.code() == Some(1)))
}

fn write_plan(setting: &Setting, name: &str, text: &str) -> Result<String> {
    let path = setting.path(name);
    fs::write(&path, text)?;
    Ok(path.to_str().context("path")?.to_owned())
}

/// The reports kept for everything audited so far.
pub(crate) fn kept(setting: &Setting) -> Result<Vec<std::path::PathBuf>> {
    let audits = setting.cluster.client_directory("i0").join("audits");
    let mut files = Vec::new();
    for folder in fs::read_dir(audits)? {
        for file in fs::read_dir(folder?.path())? {
            files.push(file?.path());
        }
    }
    Ok(files)
}

#[test]
fn plans_pass_and_their_reports_are_signed() -> Result<()> {
    let setting = institution()?;
    let small = ["--runs", "60", "--canaries", "60", "--weights", "64"];
    for (unit, parts) in [("person", 3), ("institution", 1)] {
        let privacy = format!("unit = \"{unit}\"\nclip = 1.0\nnoise_multiplier = 1.0");
        let plan = write_plan(&setting, "plan.toml", &plan(1, 1, 1, "head", "", &privacy))?;
        let (report, failed) = audited(&setting, &[&["--plan", &plan], &small[..]].concat())?;
        assert_eq!(
            (&report["verdict"], failed),
            (&"pass".into(), false),
            "{report}"
        );
        assert_eq!(report["parts"].as_array().map(Vec::len), Some(parts));
        assert_eq!(report["plan"]["unit"], unit);
    }
    let reports = kept(&setting)?;
    assert_eq!(reports.len(), 2);
    for report in &reports {
        let verify = ["audit", "verify", text(report)?];
        let shown = setting.cluster.consult("i0", &verify)?;
        assert_eq!(shown["verdict"], "pass");
        let edited = fs::read_to_string(report)?.replace("\\\"pass\\\"", "\\\"none\\\"");
        fs::write(report, edited)?;
        let said = refused(setting.cluster.client_command("i0", &verify)?)?;
        assert!(said.contains("signature-invalid"), "{said}");
    }
    let open = write_plan(&setting, "open.toml", &plan(1, 1, 1, "head", "", NO_NOISE))?;
    let command = setting
        .cluster
        .client_command("i0", &["audit", "run", "--plan", &open])?;
    assert!(refused(command)?.contains("audit-invalid"));
    Ok(())
}

/// What `audit plant` wrote, with words of this test in place of those that it drew: how well a small
/// model learns a word depends on the word.
fn with_known_secrets(drawn: &str) -> String {
    let mut text = drawn.to_owned();
    let tagged = drawn
        .lines()
        .filter_map(|line| line.strip_suffix("\tB-Person"));
    let mut secrets: Vec<&str> = tagged.collect();
    secrets.dedup();
    assert_eq!(secrets.len(), KNOWN_SECRETS.len(), "{drawn}");
    for (secret, known) in secrets.into_iter().zip(KNOWN_SECRETS) {
        assert_eq!(secret.len(), known.len(), "{secret}");
        text = text.replace(secret, known);
    }
    text
}

#[test]
fn a_model_that_knows_its_text_is_found_out_and_one_that_never_saw_it_is_not() -> Result<()> {
    let setting = institution()?;
    let base = setting.base_model()?;
    let members = setting.text(0, Split::Train, 6)?;
    let others = setting.text(0, Split::Devel, 6)?;
    let planted = setting.path("planted.conll");
    let plant = [
        "audit", "plant", "--label", "Person", "--count", "4", "--repeat", "8",
    ];
    let drawn = run(setting.cluster.client_command("i0", &plant)?)?;
    fs::write(&planted, with_known_secrets(&drawn))?;
    let open = plan(1, 1, 1, "full", "", NO_NOISE).replace("local_epochs = 2", "local_epochs = 60");
    let open = write_plan(&setting, "open.toml", &open)?;
    let train = |to: &Path, files: &[&Path]| -> Result<()> {
        let mut command = setting
            .cluster
            .client_command("i0", &["train", "--model"])?;
        command
            .arg(&base)
            .args(["--plan", &open, "--data"])
            .args(files);
        command.arg("--to").arg(to);
        run(command).map(drop)
    };
    let (knows, innocent) = (setting.path("knows"), setting.path("innocent"));
    train(&knows, &[&members, &planted])?;
    train(&innocent, &[&others])?;
    let attack = |model: &Path, more: &[&str]| {
        let arguments = ["--model", text(model)?, "--planted", text(&planted)?];
        let files = [
            "--members",
            text(&members)?,
            "--non-members",
            text(&others)?,
        ];
        audited(&setting, &[&arguments, &files, more].concat())
    };
    let (report, failed) = attack(&knows, &["--candidates", "255"])?;
    assert_eq!(
        (&report["verdict"], failed),
        (&"none".into(), false),
        "{report}"
    );
    let figure = |report: &Value, pointer: &str| {
        let found = report.pointer(pointer).and_then(Value::as_f64);
        found.with_context(|| format!("{pointer}: {report}"))
    };
    assert!(figure(&report, "/membership/auc_low")? > 0.55, "{report}");
    assert!(figure(&report, "/exposure/mean_bits")? > 3.5, "{report}");
    let (other, _) = attack(&innocent, &["--candidates", "255"])?;
    assert!(figure(&other, "/membership/auc_high")? < 0.5, "{other}");
    assert!(figure(&other, "/exposure/mean_bits")? < 3.0, "{other}");
    // Trained without the noise that this plan would have added, the model refutes its claim.
    let strong = write_plan(&setting, "strong.toml", &plan(1, 1, 1, "head", "", STRONG))?;
    let small = ["--plan", &strong, "--runs", "40", "--canaries", "20"];
    let (report, failed) = attack(&knows, &[&["--random-split"], &small[..]].concat())?;
    assert_eq!(
        (&report["verdict"], failed),
        (&"fail".into(), true),
        "{report}"
    );
    let weights = report["model"]["weights"].as_str().context("weights")?;
    assert!(kept(&setting)?.iter().any(|file| {
        let folder = file.parent().and_then(Path::file_name);
        folder.is_some_and(|folder| folder == weights)
    }));
    Ok(())
}

/// A published model, its head trained beside a frozen encoder, and a report about it and a plan.
fn audited_version(setting: &mut Setting) -> Result<String> {
    setting.start_institutions(1, 6)?;
    let started = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    setting.wait_for_state(&started, "completed", MINUTES)?;
    let exported = setting.path("exported");
    let export = ["model", "export", "notes@2", "--to", text(&exported)?];
    setting.cluster.coordinate(&export)?;
    let person = "unit = \"person\"\nclip = 1.0\nnoise_multiplier = 1.0";
    let person = write_plan(setting, "person.toml", &plan(1, 1, 1, "head", "", person))?;
    let small = ["--plan", &person, "--runs", "60", "--canaries", "60"];
    let (report, _) = audited(
        setting,
        &[&["--model", text(&exported)?], &small[..]].concat(),
    )?;
    assert_eq!(report["verdict"], "pass", "{report}");
    let report = kept(setting)?.pop().context("a report")?;
    Ok(text(&report)?.to_owned())
}

#[test]
fn a_report_is_kept_with_the_version_that_it_is_about() -> Result<()> {
    let mut setting = Setting::with_model()?;
    let report = audited_version(&mut setting)?;
    let submit = |more: &[&str]| {
        let arguments = [&["audit", "submit", &report], more].concat();
        setting.cluster.client_command("i0", &arguments)
    };
    let named = ["--model-version", "notes@2"];
    assert!(refused(submit(&named)?)?.contains("policy-forbids"));
    setting.add_to_policy("i0", "share_audits = true\n")?;
    // A file alone loosens nothing.
    assert!(refused(submit(&named)?)?.contains("policy-forbids"));
    setting.cluster.consult("i0", &["policy", "apply"])?;
    // Its encoder is in a file of its own, so that its weights alone do not tell which version it is.
    assert!(refused(submit(&[])?)?.contains("audit-model-unknown"));
    assert!(refused(submit(&["--model-version", "base@1"])?)?.contains("audit-model-unknown"));
    assert!(refused(submit(&["--model-version", "notes@9"])?)?.contains("[model-unknown]"));
    run(submit(&named)?)?;
    run(submit(&[])?)?;

    let shown = setting.cluster.coordinate(&["model", "show", "notes@2"])?;
    let audits = shown["audits"].as_array().context("audits")?;
    assert_eq!(audits.len(), 1, "{shown}");
    assert_eq!(
        (&audits[0]["institution"], &audits[0]["verdict"]),
        (&"i0".into(), &"pass".into())
    );
    assert_eq!(audits[0]["parts"].as_array().map(Vec::len), Some(3));
    let command = setting
        .cluster
        .coordinator_command(&["model", "show", "notes@2"])?;
    let said = run(command)?;
    assert!(
        said.contains("audit by") && said.contains("holds"),
        "{said}"
    );
    let other = setting.cluster.coordinate(&["model", "show", "notes@1"])?;
    assert!(other["audits"].is_null(), "{other}");

    let receipts = setting.cluster.consult("i0", &["receipts", "list"])?;
    let receipts = receipts.as_array().context("receipts")?.iter();
    let of_audits: Vec<&Value> = receipts.filter(|row| row["kind"] == "audit").collect();
    assert_eq!(of_audits.len(), 1, "{of_audits:?}");
    assert_eq!(of_audits[0]["receipt"], audits[0]["report"]);
    assert_eq!(
        (&of_audits[0]["taken"], &of_audits[0]["run"]),
        (&true.into(), &Value::Null)
    );
    setting.cluster.consult("i0", &["receipts", "verify"])?;
    setting.cluster.consult("i0", &["privacy", "verify"])?;
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}
