//! The memory that `data inspect` takes, for files of more and more sentences.
//!
//! `cargo run -p fedner-model --example inspect_memory -- [TOKENIZER_JSON]`
//!
//! Each size is inspected by a process of its own, which then tells the largest memory it had.
#![allow(clippy::print_stdout, reason = "a program for people to watch")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use fedner_model::Tokenizer;
use fedner_model::corpus::{InspectOptions, inspect};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mark, file, tokenizer @ ..] = arguments.as_slice()
        && mark == "--of"
    {
        return child(Path::new(file), tokenizer.first().map(Path::new));
    }
    for sentences in [1_000, 100_000, 1_000_000] {
        let file = std::env::temp_dir().join(format!("fedner-{}.tsv", std::process::id()));
        write(&file, sentences)?;
        let mut child = Command::new(std::env::current_exe()?);
        child.arg("--of").arg(&file).args(&arguments);
        let status = child.status();
        fs::remove_file(&file)?;
        if !status?.success() {
            return Err("the inspection failed".into());
        }
    }
    Ok(())
}

/// Sentences of 20 words, all of them different.
fn write(file: &Path, sentences: usize) -> Result<(), Failure> {
    let mut out = BufWriter::new(File::create(file)?);
    let words = [
        "the", "patient", "has", "chronic", "asthma", "and", "fever", "since", "monday",
    ];
    for sentence in 0..sentences {
        for place in 0..19 {
            let word = words[(sentence * 7 + place * place) % words.len()];
            let tag = if place == 4 { "B-Disease" } else { "O" };
            writeln!(out, "{word}\t{tag}")?;
        }
        writeln!(out, "{sentence}\tO\n")?;
    }
    out.flush()?;
    Ok(())
}

fn child(file: &Path, tokenizer: Option<&Path>) -> Result<(), Failure> {
    let tokenizer = tokenizer.map(Tokenizer::read).transpose()?;
    let options = InspectOptions {
        tokenizer: tokenizer.as_ref(),
        max_tokens: 256,
        ..InspectOptions::default()
    };
    let (size, start) = (fs::metadata(file)?.len(), Instant::now());
    let found = inspect(&[PathBuf::from(file)], &options, &mut |_| ())?;
    println!(
        "{} sentences, {} MiB: {:.1} s, peak memory {} MiB",
        found.files[0].sentences,
        size >> 20,
        start.elapsed().as_secs_f64(),
        peak_kib()? >> 10
    );
    Ok(())
}

/// The largest resident memory of this process; Linux only.
fn peak_kib() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM")?.parse()?)
}
