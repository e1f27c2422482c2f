//! The Helm chart: each value that a template asks for is there, each that is there is asked for, and what comes out
//! are blocks of YAML that keep to what the programs take.
//!
//! A chart is filled in by `helm template`; the templates use so little of its language that this file does the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::tree::{read, root};

const CHART: &str = ".github/packages/helm/fedner-coordinator";

/// Plain values, by the path to them.
fn values(text: &str) -> Result<BTreeMap<String, String>> {
    let (mut found, mut group) = (BTreeMap::new(), String::new());
    for line in text.lines() {
        let bare = line.trim_start();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let (name, value) = bare.split_once(':').with_context(|| line.to_owned())?;
        let value = value.trim().trim_matches('"');
        match (line.len() - bare.len(), value) {
            (0, "") => name.clone_into(&mut group),
            (0, value) => {
                found.insert(name.to_owned(), value.to_owned());
            }
            (2, value) => {
                found.insert(format!("{group}.{name}"), value.to_owned());
            }
            _ => bail!("{line}: more than two levels"),
        }
    }
    Ok(found)
}

/// The text with what stands in braces filled in.
fn filled(
    text: &str,
    values: &BTreeMap<String, String>,
    asked: &mut BTreeSet<String>,
) -> Result<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").context("braces that do not close")?;
        let (what, quoted) = match inside.trim().split_once('|') {
            Some((what, "quote" | " quote")) => (what.trim(), true),
            Some((_, filter)) => bail!("the filter `{filter}` is not known here"),
            None => (inside.trim(), false),
        };
        let value = if what == ".Release.Name" {
            "north"
        } else {
            let name = what
                .strip_prefix(".Values.")
                .with_context(|| what.to_owned())?;
            asked.insert(name.to_owned());
            values
                .get(name)
                .with_context(|| format!("values.yaml lacks {name}"))?
        };
        out.push_str(before);
        if quoted {
            let _ = write!(out, "{value:?}");
        } else {
            out.push_str(value);
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Keys, items and scalars, each level two blanks deeper than the one it belongs to.
fn check_yaml(name: &str, text: &str) -> Result<()> {
    // How deep a line may be.
    let mut most = 0;
    for line in text.lines() {
        let bare = line.trim_start();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let mut depth = line.len() - bare.len();
        ensure!(
            !line.contains('\t') && depth.is_multiple_of(2),
            "{name}: {line}"
        );
        ensure!(depth <= most, "{name}: {line}: too deep");
        let mut entry = bare;
        if let Some(item) = entry.strip_prefix("- ") {
            depth += 2;
            entry = item;
        }
        let scalar = entry.starts_with(['"', '\'']);
        let (key, value) = match entry.split_once(':') {
            Some((key, value)) if !scalar => (key, value.trim()),
            _ => {
                ensure!(scalar, "{name}: {line}: no key and no quoted text");
                most = depth;
                continue;
            }
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "./-".contains(c);
        ensure!(key.chars().all(fits), "{name}: {line}: a strange key");
        let quoted = value.len() >= 2
            && ["\"", "'"]
                .iter()
                .any(|mark| value.starts_with(mark) && value.ends_with(mark));
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || c == '/');
        ensure!(quoted || plain, "{name}: {line}: a value without quotes");
        most = if value.is_empty() { depth + 2 } else { depth };
    }
    Ok(())
}

#[test]
fn the_chart_is_filled_in_and_keeps_to_what_the_program_takes() -> Result<()> {
    let values = values(&read(&format!("{CHART}/values.yaml"))?)?;
    let (mut asked, mut all) = (BTreeSet::new(), String::new());
    for entry in fs::read_dir(root().join(CHART).join("templates"))? {
        let path = entry?.path();
        let text = filled(&fs::read_to_string(&path)?, &values, &mut asked)?;
        check_yaml(&path.display().to_string(), &text)?;
        all.push_str(&text);
    }
    let there: BTreeSet<String> = values.keys().cloned().collect();
    assert_eq!(asked, there, "asked for, and there");
    let chart = read(&format!("{CHART}/Chart.yaml"))?;
    let version = format!("appVersion: \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(chart.contains(&version), "{chart}");
    assert_eq!(values["image.tag"], env!("CARGO_PKG_VERSION"));
    // As the unit and the Containerfile have it.
    for (setting, times) in [
        ("runAsNonRoot: true", 1),
        ("runAsUser: 900", 1),
        ("readOnlyRootFilesystem: true", 2),
        ("allowPrivilegeEscalation: false", 2),
        ("- \"ALL\"", 2),
        ("automountServiceAccountToken: false", 1),
        ("replicas: 1\n", 1),
    ] {
        assert_eq!(all.matches(setting).count(), times, "{setting}");
    }
    let image = read(".github/packages/Containerfile.coordinator")?;
    assert!(image.contains("--uid 900") && image.contains("EXPOSE 7443"));
    // Commands and options are the program's.
    let help = read("tests/cli/snapshots/cli__coordinator-help.snap")?;
    for part in [
        "$ fedner-coordinator serve --help",
        "$ fedner-coordinator run list --help",
        "$ fedner-coordinator init --help",
        "--name <NAME>",
        "--address <HOST:PORT>",
        "--log-format <FORMAT>",
        "--quiet",
    ] {
        assert!(help.contains(part), "{part}");
    }
    Ok(())
}

#[test]
fn what_is_no_yaml_is_noticed() {
    for wrong in [
        "a: b\n   c: d\n",
        "a:\n    b: c\n",
        "a b\n",
        "a: b: c\n",
        "a:\n\tb: c\n",
    ] {
        assert!(check_yaml("", wrong).is_err(), "{wrong:?}");
    }
    let values = BTreeMap::new();
    for wrong in [
        "{{ .Values.a }}",
        "{{ .Values.a",
        "{{ .Files.a }}",
        "{{ .Release.Name | upper }}",
    ] {
        assert!(
            filled(wrong, &values, &mut BTreeSet::new()).is_err(),
            "{wrong}"
        );
    }
}
