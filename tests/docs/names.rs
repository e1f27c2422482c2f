//! Every variable, error code, metric and service that the code has stands in the documents, and no
//! other does.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use fedner_proto::{FILE_DESCRIPTOR_SET, convert};
use fedner_shared::refusal::{Code, Refusal};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::tree::{files, name, read, rows};

/// Parts of `text` that begin with `prefix` and go on with characters that `fits`.
fn words<'a>(text: &'a str, prefix: &str, fits: fn(char) -> bool) -> Vec<&'a str> {
    let begins = text.match_indices(prefix).map(|(at, _)| &text[at..]);
    begins
        .map(|rest| {
            let end = rest.find(|c| !fits(c)).unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

fn assert_same(what: &str, code: &BTreeSet<String>, documented: &BTreeSet<String>) {
    assert!(!code.is_empty(), "no {what} was found in the code");
    let missing: Vec<_> = code.difference(documented).collect();
    assert!(missing.is_empty(), "{what} without a row: {missing:?}");
    let gone: Vec<_> = documented.difference(code).collect();
    assert!(
        gone.is_empty(),
        "{what} with a row that the code lacks: {gone:?}"
    );
}

fn documented(file: &str, prefix: &str) -> Result<BTreeSet<String>> {
    let rows = rows(file)?.into_iter().map(|(first, _)| first);
    let named = |first: &String| first.starts_with(prefix) && !first.contains([' ', '=']);
    Ok(rows.filter(named).collect())
}

#[test]
fn every_variable_is_documented() -> Result<()> {
    let mut found = BTreeSet::new();
    for path in files(&[".rs", ".sh", ".py"])? {
        if name(&path).starts_with("tests/docs/") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        found.extend(words(&text, "FEDNER_", fits).into_iter().map(str::to_owned));
    }
    assert_same(
        "variables",
        &found,
        &documented("tests/README.md", "FEDNER_")?,
    );
    Ok(())
}

/// Where metrics are made, and where their table is.
const METRICS: [(&[&str], &str); 2] = [
    (&["coordinator/src/observe.rs"], "coordinator/README.md"),
    (
        &["client/src/observe.rs", "client/src/cli/serve/figures.rs"],
        "client/README.md",
    ),
];

/// The metrics that are made in these files.
fn metrics_of(homes: &[&str]) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for home in homes {
        let found = metrics(&read(home)?);
        assert!(!found.is_empty(), "{home} makes no metric");
        all.extend(found);
    }
    Ok(all)
}

fn metrics(text: &str) -> BTreeSet<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    let quoted = text.split('"').filter(|word| word.starts_with("fedner_"));
    quoted
        .filter(|word| word.chars().all(fits))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_is_documented() -> Result<()> {
    for (homes, table) in METRICS {
        assert_same(
            "metrics",
            &metrics_of(homes)?,
            &documented(table, "fedner_")?,
        );
    }
    for path in files(&[".rs"])? {
        let text = fs::read_to_string(&path)?;
        let home = METRICS
            .iter()
            .any(|(homes, _)| homes.contains(&name(&path).as_str()));
        let elsewhere = !name(&path).starts_with("tests/docs/") && !home;
        let makes = ["counter!(", "gauge!(", "histogram!("];
        let metric = makes.iter().find(|make| text.contains(**make));
        assert!(
            metric.is_none() || !elsewhere,
            "{} makes a metric: all stand in {METRICS:?}",
            name(&path)
        );
    }
    Ok(())
}

/// Rules and dashboards ask for metrics that there are.
#[test]
fn rules_and_dashboards_name_metrics_that_exist() -> Result<()> {
    let mut known = BTreeSet::new();
    for (homes, _) in METRICS {
        known.extend(metrics_of(homes)?);
    }
    for file in [
        "coordinator/monitoring/alerts.yml",
        "coordinator/monitoring/grafana.json",
    ] {
        let fits = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
        let text = read(file)?;
        let asked = words(&text, "fedner_", fits);
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        for metric in asked {
            let base = metric
                .trim_end_matches("_bucket")
                .trim_end_matches("_count");
            let base = base.trim_end_matches("_sum");
            assert!(
                known.contains(metric) || known.contains(base),
                "{file}: {metric}"
            );
        }
    }
    Ok(())
}

/// `PermissionDenied` as gRPC writes it: `PERMISSION_DENIED`.
fn status(code: Code) -> String {
    let status = convert::status_of(&Refusal::new(code, ""));
    let mut written = String::new();
    for c in format!("{:?}", status.code()).chars() {
        if c.is_ascii_uppercase() && !written.is_empty() {
            written.push('_');
        }
        written.push(c.to_ascii_uppercase());
    }
    written
}

#[test]
fn every_error_code_is_documented_with_its_status() -> Result<()> {
    const HOME: &str = "proto/README.md";
    let rows = rows(HOME)?;
    let codes = Code::ALL.iter().map(|code| code.as_str().to_owned());
    let table = rows.iter().filter(|(_, cells)| cells.len() == 2);
    let table: Vec<_> = table
        .filter(|(_, cells)| cells[0] == cells[0].to_uppercase())
        .collect();
    let documented = table.iter().map(|(code, _)| code.clone()).collect();
    assert_same("error codes", &codes.collect(), &documented);
    for (code, cells) in table {
        let code = Code::parse(code).with_context(|| format!("{HOME}: `{code}`"))?;
        assert_eq!(cells[0], status(code), "the status of `{code}`");
        assert!(!cells[1].is_empty(), "`{code}` has no meaning");
    }
    Ok(())
}

#[test]
fn every_lemma_is_named_where_its_function_is() -> Result<()> {
    let mut code = String::new();
    for path in files(&[".rs"])? {
        let text = fs::read_to_string(&path)?;
        let lines = text
            .lines()
            .map(|line| line.trim_start().trim_start_matches(['/', '!']));
        let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
        code.push_str(&words.join(" "));
    }
    let claims = read("shared/privacy/README.md")?;
    let lemmas: Vec<_> = claims
        .split("**Lemma (")
        .skip(1)
        .filter_map(|rest| rest.split_once(','))
        .map(|(name, _)| name)
        .collect();
    assert!(lemmas.len() > 5, "only {lemmas:?} were found");
    for lemma in lemmas {
        let said = code.contains(&format!("lemma *{lemma}*"));
        assert!(said, "no function names the lemma *{lemma}*");
    }
    Ok(())
}

#[test]
fn every_service_is_documented() -> Result<()> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?;
    let services = set.file.iter().flat_map(|file| {
        let package = file.package();
        file.service
            .iter()
            .map(move |service| format!("{package}.{}", service.name()))
    });
    let documented = documented("proto/README.md", "fedner.v1.")?;
    assert_same("services", &services.collect(), &documented);
    Ok(())
}

/// The part of a source file that only tests are built of.
fn tested(path: &str, text: &str) -> String {
    let whole = (path.starts_with("tests/") && !path.starts_with("tests/docs/"))
        || path.contains("/tests/")
        || path.ends_with("tests.rs");
    match text.find("#[cfg(test)]") {
        _ if whole => text.to_owned(),
        Some(at) => text[at..].to_owned(),
        None => String::new(),
    }
}

/// Codes that no test names, by variant or by text.
fn unexpected<'a>(codes: &'a [Code], tests: &[String]) -> Vec<&'a Code> {
    let named = |code: &&Code| {
        let (variant, text) = (format!("Code::{code:?}"), code.as_str());
        let whole = |test: &String| {
            test.match_indices(&variant).any(|(at, _)| {
                let next = test[at + variant.len()..].chars().next();
                !next.is_some_and(char::is_alphanumeric)
            })
        };
        !tests.iter().any(|test| whole(test) || test.contains(text))
    };
    codes.iter().filter(named).collect()
}

#[test]
fn every_code_is_expected_by_a_test() -> Result<()> {
    let mut tests = Vec::new();
    for path in files(&[".rs", ".snap"])? {
        let name = name(&path);
        if name != "shared/src/refusal.rs" {
            tests.push(tested(&name, &fs::read_to_string(&path)?));
        }
    }
    let missing = unexpected(Code::ALL, &tests);
    assert!(missing.is_empty(), "no test expects {missing:?}");
    let none = ["Code::ServerNameX and nothing else".to_owned()];
    assert_eq!(unexpected(&[Code::ServerName], &none), [&Code::ServerName]);
    Ok(())
}
