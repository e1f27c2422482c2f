//! Other frameworks' rules, in their own processes: updates go out and come back as files.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

#[derive(Debug)]
pub(crate) struct Peers {
    sides: Vec<(&'static str, Side)>,
    scratch: TempDir,
}

#[derive(Debug)]
struct Side {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peers {
    /// `environments` has a Python environment a framework.
    pub(crate) fn start(environments: &Path) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare/attacks_peers.py");
        let start = |name: &'static str| {
            let mut child = Command::new(environments.join(name).join("bin/python"))
                .arg(&script)
                .arg(name)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("start {name}"))?;
            let asked = child.stdin.take().context("its input")?;
            let answers = BufReader::new(child.stdout.take().context("its output")?);
            anyhow::Ok((
                name,
                Side {
                    child,
                    asked,
                    answers,
                },
            ))
        };
        Ok(Self {
            sides: vec![start("flower")?, start("flare")?],
            scratch: tempfile::tempdir()?,
        })
    }

    /// The change that the rule makes of the updates; `None` where it refuses so many liars.
    pub(crate) fn aggregate(
        &mut self,
        side: &str,
        rule: &str,
        liars: usize,
        updates: &[Vec<f32>],
    ) -> Result<Option<Vec<f32>>> {
        let (source, target) = (
            self.scratch.path().join("in.npy"),
            self.scratch.path().join("out"),
        );
        fs::write(&source, npy(updates))?;
        let found = self.sides.iter_mut().find(|(name, _)| *name == side);
        let (_, side) = found.context("an unknown side")?;
        writeln!(
            side.asked,
            "{rule} {liars} {} {}",
            source.display(),
            target.display()
        )?;
        side.asked.flush()?;
        let mut answer = String::new();
        side.answers.read_line(&mut answer)?;
        match answer.split_whitespace().next() {
            Some("ok") => {}
            Some("none") => return Ok(None),
            _ => bail!("{rule} gave no answer"),
        }
        let bytes = fs::read(&target)?;
        let floats = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        Ok(Some(floats.collect()))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for (_, side) in &mut self.sides {
            let _ = side.child.kill();
            let _ = side.child.wait();
        }
    }
}

/// The NumPy format, version 1.0.
fn npy(rows: &[Vec<f32>]) -> Vec<u8> {
    let columns = rows.first().map_or(0, Vec::len);
    let shape = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {columns}), }}",
        rows.len()
    );
    // Magic, version, length and header are a multiple of 64 bytes together.
    let padded = (shape.len() + 11).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded as u16).to_le_bytes());
    bytes.extend(format!("{shape:<width$}\n", width = padded - 1).bytes());
    bytes.extend(rows.iter().flatten().flat_map(|x| x.to_le_bytes()));
    bytes
}
