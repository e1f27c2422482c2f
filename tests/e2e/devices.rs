//! Institutions that train on another device than `cpu`.
//!
//! `FEDNER_DEVICE` names it, and `FEDNER_CLIENT` a program that was built for it. Without them both
//! sides are `cpu`, and their weights are the same.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;

use crate::setting::{NO_NOISE, Setting, plan};

const CPU: &str = "cpu";
/// A driver that computes on the processor compiles each kernel for some seconds first.
const LONG: Duration = Duration::from_mins(10);
/// How far devices may be apart after two rounds, beside what the second round changed. A weight
/// that is rounded to the other side of a step of an update counts in full.
const CLOSE: f64 = 0.01;

type Weights = BTreeMap<String, Vec<f32>>;

#[test]
#[allow(clippy::print_stderr, reason = "how far devices are apart is a figure")]
fn rounds_on_another_device_make_the_model_that_cpu_makes() -> Result<()> {
    let device = std::env::var("FEDNER_DEVICE").unwrap_or_else(|_| CPU.to_owned());
    for method in ["full", "head"] {
        let [first, second] = versions(method, CPU)?;
        let [_, found] = versions(method, &device)?;
        let (round, apart) = (distance(&second, &first)?, distance(&second, &found)?);
        eprintln!("{method} on {device}: {apart:.2e} apart, a round changes {round:.2e}");
        ensure!(round > 0.0, "the second round changed nothing");
        ensure!(
            apart <= CLOSE * round,
            "{method} on {device}: {apart} apart, a round changes {round}"
        );
        ensure!(device != CPU || apart <= 0.0, "cpu is not cpu: {apart}");
    }
    Ok(())
}

/// The versions of two rounds of two institutions, all on that device.
fn versions(method: &str, device: &str) -> Result<[Weights; 2]> {
    let mut setting = Setting::with_model()?;
    for (number, name) in ["i0", "i1"].iter().enumerate() {
        setting.enrol(name, number, 4)?;
        let path = setting.cluster.client_directory(name).join("client.toml");
        let text = fs::read_to_string(&path)?;
        let named = text.replace("device = \"auto\"", &format!("device = \"{device}\""));
        ensure!(named != text, "client.toml has no device: {text}");
        fs::write(&path, named)?;
        setting.cluster.start_client(name)?;
    }
    let run = setting.start_run(&plan(2, 2, 2, method, "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", LONG)?;
    let check = setting.cluster.consult("i0", &["check"])?.to_string();
    ensure!(check.contains(&format!("\"{device}: {device}")), "{check}");
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    let published = setting.published()?;
    let versions: [_; 2] = published.try_into().ok().context("two versions")?;
    let [first, second] = versions.map(|version| {
        let name = version["version"]["name"].as_str().context("name")?;
        let folder = setting.path(&format!("exported-{}", name.replace('@', "-")));
        let to = folder.to_str().context("path")?;
        let export = ["model", "export", name, "--to", to];
        setting.cluster.coordinate(&export)?;
        read(&fs::read(folder.join("model.safetensors"))?)
    });
    Ok([first?, second?])
}

fn read(bytes: &[u8]) -> Result<Weights> {
    let tensors = SafeTensors::deserialize(bytes)?.tensors();
    let weights = tensors.into_iter().map(|(name, tensor)| {
        let values = tensor.data().chunks_exact(4);
        let values = values.map(|bytes| Ok(f32::from_le_bytes(bytes.try_into()?)));
        Ok((name, values.collect::<Result<_>>()?))
    });
    weights.collect()
}

/// ‖a - b‖ over all weights.
fn distance(a: &Weights, b: &Weights) -> Result<f64> {
    let mut squares = 0.0;
    for (name, values) in a {
        let others = b.get(name).with_context(|| format!("no {name}"))?;
        ensure!(values.len() == others.len(), "{name} has another shape");
        let pairs = values.iter().zip(others);
        squares += pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    }
    Ok(squares.sqrt())
}
