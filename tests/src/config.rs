//! The configuration of programs under test, and addresses for them.

use std::fs;
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

/// Ports below those that the kernel gives to connections: none of them takes one while its program is restarted.
const PORTS: Range<u16> = 20_000..32_000;

/// A port of loopback that is free now, another one at each call. Another process may take it in between; then a start
/// fails and says so.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Processes beside each other begin far from each other.
    let first = std::process::id().wrapping_mul(7919);
    for _ in 0..count {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from(next % count)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free in {PORTS:?}")
}

/// The same with the host.
pub fn free_address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
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
