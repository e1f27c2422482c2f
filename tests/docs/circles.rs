//! No two files of a crate import each other, straight or around a corner.
//!
//! A file may name what the modules above it define: they are its own. All else would be a circle, in
//! which no file can be read or changed without the others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::imports::{Arrows, arrows, circles};
use crate::tree::{files, name, root};

/// Whether `above` is a module that `file` stands in.
fn stands_in(file: &Path, above: &Path) -> bool {
    let whole = ["mod.rs", "lib.rs", "main.rs"].map(|name| above.ends_with(name));
    let folder = if whole.contains(&true) {
        above.with_file_name("")
    } else {
        above.with_extension("")
    };
    file.starts_with(folder)
}

/// The circles of the crate with this root, each as the arrows that make it.
fn found(root: &Path) -> Result<Vec<String>> {
    let mut all: Arrows = arrows(root)?;
    for (from, to) in &mut all {
        to.retain(|to, _| !stands_in(from, to));
    }
    let circles = circles(&all).into_iter();
    Ok(circles.map(|circle| told(&circle, &all)).collect())
}

fn told(circle: &BTreeSet<PathBuf>, all: &Arrows) -> String {
    let mut lines = Vec::new();
    for from in circle {
        let to = all.get(from).into_iter().flatten();
        for (to, names) in to.filter(|(to, _)| circle.contains(*to)) {
            let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
            lines.push(format!("{} -> {}: {names}", name(from), name(to)));
        }
    }
    lines.join("\n")
}

/// Roots of crates: libraries, programs without one, and the crates of tests.
fn roots() -> Result<Vec<PathBuf>> {
    let sources = files(&["lib.rs", "main.rs"])?.into_iter();
    Ok(sources
        .filter(|path| {
            let file = path.file_name().unwrap_or_default();
            file == "lib.rs" || !path.with_file_name("lib.rs").exists()
        })
        .collect())
}

#[test]
fn no_files_of_a_crate_import_each_other() -> Result<()> {
    let roots = roots()?;
    assert!(
        roots.contains(&root().join("shared/src/lib.rs")),
        "{roots:?}"
    );
    let mut circles = Vec::new();
    for root in roots {
        circles.extend(found(&root)?);
    }
    assert!(circles.is_empty(), "\n{}", circles.join("\n\n"));
    Ok(())
}

/// Writes a crate of these files, and finds its circles.
fn circles_of(sources: &[(&str, &str)]) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    for (file, text) in sources {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, text)?;
    }
    found(&folder.path().join("lib.rs"))
}

#[test]
fn a_circle_is_found_and_a_line_is_none() -> Result<()> {
    let lib = ("lib.rs", "mod a; mod b; mod c; pub use c::{C, deep};");
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    let line = circles_of(&[
        lib,
        a,
        ("b.rs", "pub struct B;"),
        // Its own module's names, and those of its unit tests, are no circle.
        (
            "c/mod.rs",
            "mod deep; pub use deep::deep; pub struct C; pub fn c() -> C { deep() }",
        ),
        (
            "c/deep.rs",
            "use super::C; pub fn deep() -> C { C }\n#[cfg(test)] mod tests { use crate::a::A; }",
        ),
    ])?;
    assert!(line.is_empty(), "{line:?}");

    let straight = circles_of(&[
        lib,
        a,
        ("b.rs", "pub struct B; pub fn b(_: crate::a::A) {}"),
        ("c/mod.rs", "pub struct C; pub fn deep() {}"),
    ])?;
    assert_eq!(straight.len(), 1, "{straight:?}");
    assert!(straight[0].contains("a.rs: crate::a::A"), "{straight:?}");

    // Around a corner, through a name that the root hands on, in a macro's argument.
    let corner = circles_of(&[
        lib,
        a,
        (
            "b.rs",
            "pub struct B; pub fn b() { assert!(crate::deep()) }",
        ),
        ("c/mod.rs", "mod inner; pub use inner::deep; pub struct C;"),
        (
            "c/inner.rs",
            "use crate::{a, b}; pub fn deep() -> bool { a::A(b::B); true }",
        ),
    ])?;
    assert_eq!(corner.len(), 1, "{corner:?}");
    assert_eq!(corner[0].lines().count(), 4, "{corner:?}");
    Ok(())
}
