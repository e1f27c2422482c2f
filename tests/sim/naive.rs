//! The rules of aggregation as one would write them down: whole vectors, one after the other.

mod steps;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Layout;
use fedner_shared::digest::Digest;
use fedner_shared::figures::{Figures, UpdateFigures};
use fedner_shared::id::InstitutionId;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{OptimizerName, Plan, Rule, ServerOptimizer};
use fedner_shared::update::Decoder;
use fedner_shared::version::{Origin, Participant, Version};

use crate::objects::SimObjects;
use crate::secure::Masked;

/// The bytes of the version's weights, and of the moments beside them.
pub(crate) fn aggregated(
    plan: &Plan,
    version: &Version,
    parent: &Version,
    (masked, objects): (&Masked, &SimObjects),
) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let Origin::Round(round) = &version.origin else {
        bail!("a version of no round")
    };
    let object = |digest: Digest| {
        objects
            .peek(digest)
            .with_context(|| format!("object {digest} is gone"))
    };
    let config = String::from_utf8(object(parent.config)?.to_vec())?;
    let manifest = BertConfig::parse(&config)?.manifest(&plan.trainable(), plan.tags().len());
    let (mut rows, mut present) = (Vec::new(), Vec::new());
    let bare = masked.bare(plan, round, manifest.dimension(), objects)?;
    for (number, participant) in round.participants.iter().enumerate() {
        let bound = plan.privacy.value_bound();
        let mut values = if let Some(bare) = &bare {
            bare[number].clone()
        } else {
            let bytes = object(participant.update)?;
            Decoder::new(&bytes[..], manifest.dimension(), bound)?.read_all()?
        };
        let silent = silent(plan, participant, &manifest);
        for (value, silent) in values.iter_mut().zip(&silent) {
            ensure!(
                !*silent || *value == 0 || plan.privacy.shares_noise(),
                "a value of a type that is not annotated"
            );
        }
        present.push(silent.iter().map(|silent| !silent).collect::<Vec<bool>>());
        rows.push((i128::from(participant.weight), values));
    }
    let (total, sums) = combined(round.rule, &rows);
    // Of the rows that not all have a say in.
    let total_of = |j: usize| {
        if present.iter().all(|own| own[j]) {
            return total;
        }
        let heard = rows.iter().zip(&present).filter(|(_, own)| own[j]);
        heard.map(|((weight, _), _)| weight).sum()
    };
    if plan.privacy.is_synchronous() {
        let sums: Vec<i64> = (0..manifest.dimension())
            .map(|j| rows.iter().map(|(_, values)| i64::from(values[j])).sum())
            .collect();
        return steps::stepped(plan, round, parent, (&manifest, &sums), objects);
    }
    let mut weights = object(parent.weights)?.to_vec();
    let gamma = plan.privacy.grid().gamma();
    let changes = sums
        .into_iter()
        .enumerate()
        .map(|(j, sum)| match total_of(j) {
            0 => 0.0,
            total => sum as f64 * (gamma / total as f64),
        });
    let mut changes = changes.collect::<Vec<f64>>().into_iter();
    let mut moments = match (&parent.origin, plan.server_optimizer) {
        (Origin::Round(before), Some(_)) if before.run == round.run => {
            let before = before.moments.context("a round without moments")?;
            object(before)?.to_vec()
        }
        (_, Some(optimizer)) => {
            let first = [0.0, optimizer.tau.unwrap_or_default().powi(2)];
            let kept = if optimizer.name == OptimizerName::FedAvgM {
                1
            } else {
                2
            };
            let all = (0..manifest.dimension()).flat_map(|_| &first[..kept]);
            all.flat_map(|moment| (*moment as f32).to_le_bytes())
                .collect()
        }
        (_, None) => Vec::new(),
    };
    let mut at = 0;
    for (offset, length) in Layout::read(&weights[..])?.segments(&manifest)? {
        let start = offset as usize;
        for weight in weights[start..start + 4 * length].chunks_exact_mut(4) {
            let before = f32::from_le_bytes([weight[0], weight[1], weight[2], weight[3]]);
            let mean = changes.next().context("fewer sums than weights")?;
            let change = match plan.server_optimizer {
                None => mean,
                Some(optimizer) => optimized(&optimizer, &mut moments, &mut at, mean),
            };
            let after = (f64::from(before) + change) as f32;
            weight.copy_from_slice(&after.to_le_bytes());
        }
    }
    Ok((weights, plan.server_optimizer.map(|_| moments)))
}

/// Which values of an update are rows of the head for types that its institution annotates nothing of.
fn silent(plan: &Plan, participant: &Participant, manifest: &Manifest) -> Vec<bool> {
    let mut silent = vec![false; manifest.dimension()];
    let Some(annotation) = &participant.annotation else {
        return silent;
    };
    let mut place = 0;
    for tensor in &manifest.tensors {
        let width = tensor.len() / tensor.shape[0];
        for (row, tag) in plan.tags().iter().enumerate() {
            let label = tag.get(2..).unwrap_or_default();
            let known = annotation.types.iter().any(|own| own == label);
            if tag != "O" && !known {
                silent[place + row * width..place + (row + 1) * width].fill(true);
            }
        }
        place += tensor.len();
    }
    silent
}

/// The change of a weight whose moments stand at `at`, as the papers write it.
fn optimized(by: &ServerOptimizer, moments: &mut [u8], at: &mut usize, delta: f64) -> f64 {
    let mut moment = |old: &dyn Fn(f64) -> f64| {
        let bytes = &mut moments[*at..*at + 4];
        let before = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let after = old(f64::from(before));
        bytes.copy_from_slice(&(after as f32).to_le_bytes());
        *at += 4;
        after
    };
    let rate = by.learning_rate;
    if by.name == OptimizerName::FedAvgM {
        return rate * moment(&|m| by.momentum * m + delta);
    }
    let stays = by.second_momentum.unwrap_or_default();
    let m = moment(&|m| by.momentum * m + (1.0 - by.momentum) * delta);
    let v = moment(&|v| {
        let square = delta * delta;
        let sign = f64::from(i8::from(v > square) - i8::from(v < square));
        match by.name {
            OptimizerName::FedAdagrad => v + square,
            OptimizerName::FedYogi => v - (1.0 - stays) * square * sign,
            OptimizerName::FedAdam | OptimizerName::FedAvgM => stays * v + (1.0 - stays) * square,
        }
    });
    rate * m / (v.sqrt() + by.tau.unwrap_or_default())
}

/// That each update of the closed attempt was measured, and that its figures are its own.
pub(crate) fn check_figures(
    plan: &Plan,
    found: &[UpdateFigures],
    sent: &BTreeMap<InstitutionId, Digest>,
    objects: &SimObjects,
) -> Result<()> {
    let names: Vec<&InstitutionId> = found.iter().map(|update| &update.institution).collect();
    ensure!(
        names.iter().eq(&sent.keys().collect::<Vec<_>>()),
        "measured {names:?}"
    );
    let read = |digest: &Digest| {
        let bytes = objects.peek(*digest).context("an update is gone")?;
        // The dimension stands in the head of the encoding.
        let dimension = u64::from_le_bytes(bytes[4..12].try_into()?) as usize;
        let decoder = Decoder::new(&bytes[..], dimension, plan.privacy.value_bound())?;
        let values = decoder.read_all()?;
        let gamma = plan.privacy.grid().gamma();
        anyhow::Ok(values.iter().map(|x| f64::from(*x) * gamma).collect())
    };
    let rows: Vec<Vec<f64>> = sent.values().map(read).collect::<Result<_>>()?;
    let norm = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut norms: Vec<f64> = rows.iter().map(|row| norm(row)).collect();
    norms.sort_by(f64::total_cmp);
    let median = norms[(norms.len() - 1) / 2];
    for (k, update) in found.iter().enumerate() {
        let mut others = vec![0.0; rows[k].len()];
        for row in rows
            .iter()
            .enumerate()
            .filter(|(l, _)| *l != k)
            .map(|(_, row)| row)
        {
            let cut = (median / norm(row).max(1e-300)).min(1.0);
            for (sum, x) in others.iter_mut().zip(row) {
                *sum += cut * x;
            }
        }
        let product: f64 = rows[k].iter().zip(&others).map(|(a, b)| a * b).sum();
        let expected = product / (norm(&rows[k]) * norm(&others));
        let Figures {
            norm: length,
            to_others,
            ..
        } = update.figures;
        ensure!(
            (length / norm(&rows[k]) - 1.0).abs() < 1e-9,
            "norm {length}"
        );
        ensure!(
            to_others.is_some() == (rows.len() > 1),
            "cosine {to_others:?}"
        );
        let apart = to_others.map_or(0.0, |cosine| (cosine - expected).abs());
        ensure!(apart < 1e-3, "cosine {to_others:?}: expected {expected}");
    }
    Ok(())
}

/// What the rule makes of each weight's values, and how many of it one grid step is.
fn combined(rule: Rule, rows: &[(i128, Vec<i32>)]) -> (i128, Vec<i128>) {
    let n = rows.len();
    let dimension = rows.first().map_or(0, |(_, values)| values.len());
    let value = |k: usize, j: usize| i128::from(rows[k].1[j]);
    let middle = |trim: usize| {
        let of = |j: usize| {
            let mut values: Vec<i128> = (0..n).map(|k| value(k, j)).collect();
            values.sort_unstable();
            values[trim..n - trim].iter().sum()
        };
        let kept = (n - 2 * trim) as i128;
        (kept, (0..dimension).map(of).collect())
    };
    let scaled = |factors: Vec<i128>, total: i128| {
        let of = |j: usize| (0..n).map(|k| factors[k] * value(k, j)).sum();
        (total, (0..dimension).map(of).collect())
    };
    let total = rows.iter().map(|(weight, _)| weight).sum();
    match rule {
        Rule::FedAvg => scaled(rows.iter().map(|(weight, _)| *weight).collect(), total),
        Rule::TrimmedMean { trim } => {
            let part = (trim * n as f64) as usize;
            middle(if n < 3 { part } else { part.max(1) })
        }
        Rule::Median => middle((n - 1) / 2),
        Rule::MultiKrum { trim } => {
            let part = (trim * n as f64) as usize;
            let left_out = if n < 3 { part } else { part.max(1) };
            let apart = |k: usize, l: usize| {
                let terms = (0..dimension).map(|j| (value(k, j) - value(l, j)).pow(2));
                terms.sum::<i128>()
            };
            let score = |k: usize| {
                let mut distances: Vec<i128> = (0..n).map(|l| apart(k, l)).collect();
                distances.sort_unstable();
                let closest = n.saturating_sub(left_out + 2).max(1);
                distances.iter().take(closest + 1).sum::<i128>()
            };
            let scores: Vec<i128> = (0..n).map(score).collect();
            let mut sorted = scores.clone();
            sorted.sort_unstable();
            let kept = |k: usize| scores[k] <= sorted[n - left_out - 1];
            let factors = (0..n).map(|k| if kept(k) { rows[k].0 } else { 0 });
            let factors: Vec<i128> = factors.collect();
            let total = factors.iter().sum();
            scaled(factors, total)
        }
        Rule::NormClippedMean { factor } => {
            let square = |k: usize| (0..dimension).map(|j| value(k, j).pow(2)).sum::<i128>();
            let norms: Vec<i128> = (0..n).map(square).collect();
            let mut sorted = norms.clone();
            sorted.sort_unstable();
            let limit = ((factor * 65_536.0) as i128).pow(2) * sorted[(n - 1) / 2];
            let cut = |k: usize| match norms[k] {
                0 => 65_536,
                norm => (limit / norm).isqrt().min(65_536),
            };
            let factors = (0..n).map(|k| rows[k].0 * cut(k)).collect();
            scaled(factors, total * 65_536)
        }
    }
}

/// The weights of a round among `all` institutions of its plan: none is more than two of `all` parts
/// of the sum, and where that cannot be, all are alike.
pub(crate) fn shared_out(declared: Vec<u32>, all: usize) -> Vec<u32> {
    let count = declared.len();
    let mut weights = declared;
    loop {
        let largest = weights.iter().copied().max().unwrap_or(0);
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        if u64::from(largest) * all as u64 <= 2 * sum {
            return weights;
        }
        if largest <= 1 {
            return vec![1; count];
        }
        for weight in &mut weights {
            *weight = (*weight).min(largest - 1);
        }
    }
}
