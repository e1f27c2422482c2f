//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests stand in the repository")
}

/// The text of a file, named from the root.
pub(crate) fn read(file: &str) -> Result<String> {
    fs::read_to_string(root().join(file)).with_context(|| format!("read {file}"))
}

/// All files with one of these endings, without those that git ignores or that are not ours.
pub(crate) fn files(endings: &[&str]) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![root().to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                let ours = !name.starts_with('.') || name == ".github";
                if ours && name != "target" && name != "fedner-demo" {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A path as people write it: from the root.
pub(crate) fn name(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap_or(path);
    path.display().to_string()
}

/// The first cell of each row of `file`'s tables, and the others, where the first is code.
pub(crate) fn rows(file: &str) -> Result<Vec<(String, Vec<String>)>> {
    let text = read(file)?;
    let rows = text.lines().filter_map(|line| {
        let line = line.strip_prefix("| `")?;
        let (first, rest) = line.split_once("` |")?;
        let cells = rest.trim_end_matches('|').split('|');
        Some((
            first.to_owned(),
            cells.map(|cell| cell.trim().to_owned()).collect(),
        ))
    });
    Ok(rows.collect())
}
