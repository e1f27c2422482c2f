//! The configuration of programs under test, and addresses for them.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// An address of loopback that is free now. Somebody else may take it in between; then a start fails and says so.
pub fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// What a key of a configuration says, where that is a text.
pub fn value(file: &Path, key: &str) -> Result<String> {
    let text = fs::read_to_string(file).context("read a configuration")?;
    let begin = format!("{key} = \"");
    let line = text.lines().find_map(|line| line.strip_prefix(&begin));
    Ok(line.context("the key")?.trim_end_matches('"').to_owned())
}

/// Gives keys of a configuration other values, which are written as TOML has them.
pub fn set(file: &Path, values: &[(&str, &str)]) -> Result<()> {
    let text = fs::read_to_string(file).context("read a configuration")?;
    let line = |line: &str| {
        let named = |(key, _): &&(&str, &str)| line.starts_with(&format!("{key} = "));
        let found = values.iter().find(named);
        found.map_or_else(
            || format!("{line}\n"),
            |(key, value)| format!("{key} = {value}\n"),
        )
    };
    let changed: String = text.lines().map(line).collect();
    ensure!(changed != text, "{values:?} is not in {text}");
    fs::write(file, changed).context("write a configuration")
}
