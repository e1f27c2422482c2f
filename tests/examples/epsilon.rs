//! ε of settings that are read line by line: rate, noise multiplier, steps, δ. `tests/compare/accountant.sh`
//! holds them beside a public accountant.

use std::io::{BufRead, Write, stdin, stdout};

use anyhow::{Context, Result};
use fedner_privacy::accountant::{Phase, Steps, pld, rdp};

fn main() -> Result<()> {
    let mut out = stdout().lock();
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [rate, noise, steps, delta] = words[..] else {
            anyhow::bail!("expected rate, noise, steps and delta, found `{line}`");
        };
        let phase = Phase {
            sampling_rate: rate.parse().context("rate")?,
            noise_multiplier: noise.parse().context("noise")?,
            steps: steps.parse().context("steps")?,
        };
        let delta: f64 = delta.parse().context("delta")?;
        let continuous = pld::epsilon(&[phase], delta)?;
        // Of a head.
        let discrete = Steps::own(phase, 5_379).epsilon(delta)?;
        let renyi = rdp::epsilon_discrete(&[phase], delta)?;
        writeln!(out, "{continuous} {discrete} {renyi}")?;
    }
    Ok(())
}
