//! What the packages take in from outside: nothing that they do not use, nothing under a licence that
//! forbids what we do, nothing from elsewhere than the registry.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use toml::{Table, Value};

use crate::tree::{files, name, root};

/// Named by generated code alone.
const GENERATED: [(&str, &str); 2] = [("proto", "prost"), ("proto", "tonic-prost")];

/// Each may be used, changed and passed on with a program of ours.
const LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    // Of changed files alone.
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// They name a file of the MIT licence and not the licence.
const READ_BY_HAND: [&str; 3] = ["cfg_block", "opendp", "opendp_derive"];

/// A second TLS stack, and C libraries that were taken out.
const BANNED: [&str; 4] = ["native-tls", "openssl", "openssl-sys", "onig_sys"];

fn members() -> Result<Vec<(String, Table)>> {
    let manifests = files(&["Cargo.toml"])?.into_iter();
    let manifests = manifests.filter(|path| path.parent() != Some(root()));
    manifests
        .map(|path| {
            let folder = path.parent().context("a manifest's folder")?;
            Ok((name(folder), toml::from_str(&fs::read_to_string(&path)?)?))
        })
        .collect()
}

/// The names in a table of dependencies, whatever the target.
fn dependencies<'a>(manifest: &'a Table, kind: &str) -> Vec<&'a String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    let tables = targets
        .chain([manifest])
        .filter_map(|table| table.get(kind)?.as_table());
    tables.flat_map(Table::keys).collect()
}

/// Whether the text names a crate: `name::`, `name;`, `name {` or `name as`.
fn names(text: &str, dependency: &str) -> bool {
    let name = dependency.replace('-', "_");
    text.match_indices(&name).any(|(at, _)| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        let begins = !before.ends_with(part);
        begins
            && ["::", ";", " {", " as "]
                .iter()
                .any(|next| after.starts_with(next))
    })
}

/// The sources that may use a kind of dependency.
fn sources(folder: &str, kind: &str) -> Result<String> {
    let folder = root().join(folder);
    let mut text = String::new();
    for path in files(&[".rs"])? {
        let Ok(inside) = path.strip_prefix(&folder) else {
            continue;
        };
        let mut folders = inside.ancestors().skip(1).filter(|up| *up != Path::new(""));
        // Another package's, such as coordinator/round.
        if folders.any(|up| folder.join(up).join("Cargo.toml").exists()) {
            continue;
        }
        let fits = match kind {
            "dependencies" => inside.starts_with("src"),
            "build-dependencies" => inside == Path::new("build.rs"),
            _ => true,
        };
        if fits {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(text)
}

#[test]
fn every_dependency_is_named_in_code() -> Result<()> {
    let mut unused = Vec::new();
    for (folder, manifest) in members()? {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let text = sources(&folder, kind)?;
            for dependency in dependencies(&manifest, kind) {
                let generated = GENERATED.contains(&(folder.as_str(), dependency.as_str()));
                if !generated && !names(&text, dependency) {
                    unused.push(format!("{folder}: {kind}: {dependency}"));
                }
            }
        }
    }
    assert!(unused.is_empty(), "nothing names these: {unused:#?}");
    Ok(())
}

#[test]
fn every_shared_version_is_of_a_dependency_that_somebody_has() -> Result<()> {
    let workspace: Table = toml::from_str(&fs::read_to_string(root().join("Cargo.toml"))?)?;
    let shared = workspace["workspace"]["dependencies"]
        .as_table()
        .context("the table")?;
    let members = members()?;
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let used: BTreeSet<&String> = members
        .iter()
        .flat_map(|(_, manifest)| kinds.iter().flat_map(|kind| dependencies(manifest, kind)))
        .collect();
    let unused: Vec<_> = shared.keys().filter(|key| !used.contains(key)).collect();
    assert!(unused.is_empty(), "no package has these: {unused:?}");
    Ok(())
}

/// The packages of a build, as cargo has them on this machine.
fn packages() -> Result<Vec<Json>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let rustc = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("start rustc")?;
    let rustc = String::from_utf8(rustc.stdout)?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", host.context("rustc names its host")?])
        .current_dir(root())
        .output()
        .context("start cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata: {errors}");
    let metadata: Json = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["packages"].as_array().context("packages")?.clone())
}

/// Whether an SPDX expression lets us choose allowed licences alone. `/` is an old way to write OR;
/// AND binds more strongly.
fn allows(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut words: Vec<String> = Vec::new();
    for word in expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
    {
        match words.last_mut() {
            Some(last) if last.ends_with(" WITH") || word == "WITH" => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    either(&mut words.iter().map(String::as_str).peekable())
}

type Words<'a, I> = std::iter::Peekable<I>;

fn either<'a, I: Iterator<Item = &'a str>>(words: &mut Words<'a, I>) -> bool {
    let mut allowed = both(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= both(words);
    }
    allowed
}

fn both<'a, I: Iterator<Item = &'a str>>(words: &mut Words<'a, I>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one<'a, I: Iterator<Item = &'a str>>(words: &mut Words<'a, I>) -> bool {
    match words.next() {
        Some("(") => {
            let allowed = either(words);
            words.next_if_eq(&")").is_some() && allowed
        }
        Some(licence) => LICENCES.contains(&licence),
        None => false,
    }
}

#[test]
fn every_package_may_be_used_and_comes_from_the_registry() -> Result<()> {
    let packages = packages()?;
    assert!(
        packages.len() > 100,
        "only {} packages were found",
        packages.len()
    );
    for package in packages {
        let name = package["name"].as_str().context("a name")?;
        let licence = package["license"].as_str().unwrap_or_default();
        let allowed = allows(licence) || READ_BY_HAND.contains(&name);
        assert!(allowed, "{name} has the licence `{licence}`");
        assert!(!BANNED.contains(&name), "{name} is not to be taken in");
        let ours = package["source"].is_null() && name.starts_with("fedner-");
        let registry = package["source"].as_str().unwrap_or_default();
        assert!(
            ours || registry.starts_with("registry+"),
            "{name} is from `{registry}`"
        );
    }
    Ok(())
}

#[test]
fn licences_are_read_as_spdx_writes_them() {
    for yes in [
        "MIT",
        "MIT/GPL-3.0",
        "GPL-3.0 OR (MIT AND ISC)",
        "Apache-2.0 WITH LLVM-exception",
        "(MIT OR GPL-2.0) AND Unicode-3.0",
    ] {
        assert!(allows(yes), "{yes}");
    }
    for no in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT AND (GPL-3.0 OR AGPL-3.0)",
        "(MIT",
        "Apache-2.0 WITH GPL",
    ] {
        assert!(!allows(no), "{no}");
    }
}

#[test]
fn a_crate_is_named_by_a_path_alone() {
    assert!(names("use a_b::C;", "a-b") && names("extern crate a_b;", "a-b"));
    assert!(!names("// a_b is gone", "a-b") && !names("use xa_b::C;", "a-b"));
}
