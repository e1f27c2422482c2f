//! A coordinator with several addresses, at most of which nobody answers.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fedner_tests::config::set;
use serde_json::Value;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let began = Instant::now();
    Ok((what()?, began.elapsed()))
}

#[test]
fn institutions_and_commands_find_the_address_that_answers_and_follow_when_it_moves() -> Result<()>
{
    let mut setting = Setting::with_model()?;
    let address = setting.cluster.address();
    let (_, port) = address.split_once(':').context("a port")?;
    let nobody = TcpListener::bind("127.0.0.1:0")?;
    let silent = nobody.local_addr()?;
    let (first, last) = (format!("127.0.0.2:{port}"), format!("127.0.0.3:{port}"));
    let list = format!("[\"{first}\", \"{silent}\", \"{last}\"]");
    let config = setting
        .cluster
        .coordinator_directory()
        .join("coordinator.toml");
    let listen = |setting: &mut Setting, at: &str| {
        setting.cluster.kill_coordinator()?;
        set(
            &config,
            &[("address", &list), ("listen", &format!("\"{at}\""))],
        )?;
        setting.cluster.start_coordinator()
    };

    // One address refuses, and one says nothing.
    listen(&mut setting, &last)?;
    let (_, waited) = timed(|| setting.cluster.coordinate(&["institution", "list"]))?;
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    let names = setting.start_institutions(2, 4)?;
    let settings = setting
        .cluster
        .client_directory(&names[0])
        .join("client.toml");
    let written = fs::read_to_string(&settings)?;
    assert!(
        written.contains(&format!("coordinator = {list}")),
        "{written}"
    );
    let (check, waited) = timed(|| {
        Ok(setting
            .cluster
            .client_command(&names[0], &["check"])?
            .output()?)
    })?;
    let said = String::from_utf8(check.stdout)?;
    assert!(
        said.contains(" answers") && waited < Duration::from_secs(20),
        "{waited:?}: {said}"
    );

    // It moves to another of them while a run goes on.
    let run = setting.start_run(&plan(2, 2, 2, "head", "", NO_NOISE))?;
    setting.wait_until(&run, MINUTES, |view| view["round"].as_u64() >= Some(1))?;
    listen(&mut setting, &first)?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let status = setting.cluster.consult(&names[0], &["status"])?;
    let shown: Vec<&str> = status["coordinator"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        shown,
        [first.as_str(), &silent.to_string(), &last],
        "{status}"
    );

    // An address that the coordinator does not name is not one of its certificate.
    let every = format!("0.0.0.0:{port}");
    listen(&mut setting, &every)?;
    for (address, named) in [(last, true), (format!("127.0.0.4:{port}"), false)] {
        set(&settings, &[("coordinator", &format!("\"{address}\""))])?;
        let check = setting
            .cluster
            .client_command(&names[0], &["check"])?
            .output()?;
        let said = String::from_utf8(check.stdout)?;
        assert_eq!(said.contains("server-name"), !named, "{address}: {said}");
        assert_eq!(said.contains(" answers"), named, "{address}: {said}");
    }
    Ok(())
}
