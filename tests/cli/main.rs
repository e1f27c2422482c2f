//! The words of the command line, pinned: a change of `--help` is a change that somebody reads.

mod corpora;
mod desk;
mod drift;
mod models;
mod onnx;
mod origins;
mod segmentation;
mod serve;
mod text;

use std::process::Command;

use anyhow::{Context, Result};
use fedner_shared::refusal::Code;
use fedner_tests::binaries::binaries;

fn output(program: &std::path::Path, arguments: &[&str]) -> Result<std::process::Output> {
    Command::new(program)
        .args(arguments)
        .env("COLUMNS", "100")
        .env_remove("FEDNER_COORDINATOR_DIR")
        .env_remove("FEDNER_CLIENT_DIR")
        .output()
        .context("start the program")
}

/// `--help` of a command and of all its subcommands, one after another.
fn help(program: &std::path::Path, path: &[String]) -> Result<String> {
    let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
    arguments.push("--help");
    let output = output(program, &arguments)?;
    assert!(output.status.success(), "{path:?}");
    let text = String::from_utf8(output.stdout)?;
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut all = format!(
        "$ {} {}\n{}\n\n",
        program.file_name().unwrap_or_default().display(),
        arguments.join(" "),
        lines.join("\n")
    );
    let commands = text
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    for command in commands.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = command.split_whitespace().next().unwrap_or_default();
        if name != "help" {
            let mut path = path.to_vec();
            path.push(name.to_owned());
            all.push_str(&help(program, &path)?);
        }
    }
    Ok(all)
}

#[test]
fn coordinator_help() -> Result<()> {
    insta::assert_snapshot!("coordinator-help", help(&binaries()?.coordinator, &[])?);
    Ok(())
}

#[test]
fn client_help() -> Result<()> {
    insta::assert_snapshot!("client-help", help(&binaries()?.client, &[])?);
    Ok(())
}

#[test]
fn wrong_usage_ends_with_2_and_a_missing_directory_with_1() -> Result<()> {
    for program in [&binaries()?.coordinator, &binaries()?.client] {
        assert_eq!(
            output(program, &["no-such-command"])?.status.code(),
            Some(2)
        );
        assert_eq!(output(program, &[])?.status.code(), Some(2));
        let scratch = tempfile::tempdir()?;
        let directory = scratch.path().join("nothing-here");
        let directory = directory.to_str().context("path")?;
        let (command, code) = if program.ends_with("fedner-client") {
            (&["status"][..], Code::NotEnrolled)
        } else {
            (&["run", "list"][..], Code::ConfigInvalid)
        };
        let output = output(program, &[&["--dir", directory], command].concat())?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with(&format!("error[{code}]")) && said.contains("hint: "),
            "{said}"
        );
        assert!(output.stdout.is_empty(), "errors belong to stderr");
    }
    Ok(())
}

#[test]
fn completions_are_written_for_every_shell() -> Result<()> {
    for program in [&binaries()?.coordinator, &binaries()?.client] {
        for shell in ["bash", "zsh", "fish"] {
            let output = output(program, &["completions", shell])?;
            assert!(output.status.success());
            assert!(
                String::from_utf8(output.stdout)?.contains("fedner-"),
                "{shell}"
            );
        }
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_stdout_that_fails_is_told_and_a_reader_that_went_away_is_none() -> Result<()> {
    for program in [&binaries()?.coordinator, &binaries()?.client] {
        let write_to = |stdout: std::process::Stdio| {
            let mut command = Command::new(program);
            command.args(["completions", "bash"]).stdout(stdout);
            command.output().context("start the program")
        };
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
        let output = write_to(full.into())?;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("hint: this is a fault"), "{said}");
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = write_to(writer.into())?;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    Ok(())
}
