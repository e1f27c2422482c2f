//! Metrics of both programs: what the documents list is what a scrape returns, and a real Prometheus takes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_tests::config::free_address;
use fedner_tests::process::{Process, run};
use fedner_tests::skip::skipped;
use serde_json::Value;

use crate::pages::dashboard::{get, raw};
use crate::setting::{MINUTES, Setting, plan};

const PRIVACY: &str =
    "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 4.0\ndelta = 1e-5\nmax_epsilon = 50.0";

/// Name and kind of each metric in the table of a document.
fn documented(file: &str) -> Result<BTreeMap<String, String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let text = fs::read_to_string(path)?;
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `fedner_")?.split(" | ");
        let name = format!("fedner_{}", cells.next()?.trim_end_matches('`'));
        let kind = cells.next()?.split(',').next()?.to_owned();
        Some((name, kind))
    });
    // Those of `serve` are another program's; `tests/cli/serve.rs` looks at them.
    let rows = rows.filter(|(name, _)| !name.starts_with("fedner_serve_"));
    Ok(rows
        .filter(|(_, kind)| ["counter", "gauge", "histogram"].contains(&kind.as_str()))
        .collect())
}

/// The same of a scrape.
fn scraped(address: &str) -> Result<BTreeMap<String, String>> {
    let answer = get(address, "/metrics")?;
    ensure!(answer.status == 200, "{answer:?}");
    let lines = answer.body.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    });
    Ok(lines.collect())
}

/// A federation of one whose programs both show metrics, and that has carried out a run.
fn watched() -> Result<(Setting, String, String)> {
    let mut setting = Setting::with_model()?;
    let (coordinator, client) = (free_address()?, free_address()?);
    let file = setting
        .cluster
        .coordinator_directory()
        .join("coordinator.toml");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, format!("metrics_listen = \"{coordinator}\"\n{text}"))?;
    setting.cluster.kill_coordinator()?;
    setting.cluster.start_coordinator()?;
    setting.enrol("i0", 0, 4)?;
    let file = setting.cluster.client_directory("i0").join("client.toml");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, format!("metrics_listen = \"{client}\"\n{text}"))?;
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&plan(1, 1, 2, "head", "", PRIVACY))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    // One that does not end, for what is shown of those under way.
    let second = plan(1, 1, 500, "head", "", PRIVACY).replace("\"notes\"", "\"second\"");
    let second = second.replace("max_epsilon = 50.0", "max_epsilon = 500.0");
    setting.start_run(&second)?;
    Ok((setting, coordinator, client))
}

#[test]
fn what_the_documents_list_is_what_a_scrape_returns() -> Result<()> {
    let (setting, coordinator, client) = watched()?;
    for (address, file) in [
        (&coordinator, "coordinator/README.md"),
        (&client, "client/README.md"),
    ] {
        let expected = documented(file)?;
        let deadline = Instant::now() + MINUTES;
        // What is looked up is looked up every two seconds.
        let mut found = scraped(address)?;
        while found != expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(300));
            found = scraped(address)?;
        }
        assert_eq!(found, expected, "{file}");
    }
    let answer = get(&client, "/metrics")?;
    // The client's own account, and nothing of its text.
    assert!(
        answer
            .body
            .contains("fedner_client_epsilon_spent{account=\"person\"}"),
        "{answer:?}"
    );
    let request = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(
        raw(&client, request)?.status,
        403,
        "a name bound to loopback"
    );
    prometheus(&setting, &coordinator, &client)?;
    Ok(())
}

/// Debian's Prometheus loads the rules and scrapes both programs.
fn prometheus(setting: &Setting, coordinator: &str, client: &str) -> Result<()> {
    if !Path::new("/usr/bin/prometheus").exists() {
        return skipped(
            "scraping by a real Prometheus",
            "Debian's package prometheus",
        );
    }
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coordinator/monitoring/alerts.yml");
    let rules = fs::canonicalize(rules)?;
    let mut check = Command::new("/usr/bin/promtool");
    check.args(["check", "rules"]).arg(&rules);
    run(check)?;
    let folder = setting.path("prometheus");
    fs::create_dir_all(&folder)?;
    let configuration = folder.join("prometheus.yml");
    fs::write(
        &configuration,
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{}\"]\n\
             scrape_configs: [{{job_name: fedner, static_configs: [{{targets: [\"{coordinator}\", \"{client}\"]}}]}}]\n",
            rules.display()
        ),
    )?;
    let address = free_address()?;
    let mut command = Command::new("/usr/bin/prometheus");
    command
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg(format!("--web.listen-address={address}"));
    let _server = Process::start("prometheus", command, &setting.cluster.log("prometheus"))?;
    let ask = |path: &str| -> Result<Value> {
        // Of this version, so that the answer is in one piece.
        let answer = raw(
            &address,
            &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"),
        )?;
        Ok(serde_json::from_str(&answer.body)?)
    };
    let deadline = Instant::now() + MINUTES;
    loop {
        let up = ask("/api/v1/query?query=up").unwrap_or(Value::Null);
        let up = up["data"]["result"].as_array().cloned().unwrap_or_default();
        if up.len() == 2 && up.iter().all(|target| target["value"][1] == "1") {
            break;
        }
        ensure!(Instant::now() < deadline, "both are scraped: {up:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    loop {
        let groups = ask("/api/v1/rules")?;
        let groups = groups["data"]["groups"]
            .as_array()
            .context("groups")?
            .clone();
        let rules = groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten();
        let health: Vec<&Value> = rules.map(|rule| &rule["health"]).collect();
        ensure!(!health.iter().any(|state| **state == "err"), "{groups:?}");
        if health.len() > 10 && health.iter().all(|state| **state == "ok") {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "every rule is evaluated: {groups:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
