//! The rules of aggregation as one would write them down: whole vectors, one after the other.

use anyhow::{Context, Result, bail};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Layout;
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Plan, Rule};
use fedner_shared::update::Decoder;
use fedner_shared::version::{Origin, Version};

use crate::objects::SimObjects;

/// The bytes of the version's weights: `w + γ Σ n_k x_k / Σ n_k`, or the mean of what a trimmed mean
/// keeps.
pub(crate) fn aggregated(
    plan: &Plan,
    version: &Version,
    parent: &Version,
    objects: &SimObjects,
) -> Result<Vec<u8>> {
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
    let mut rows = Vec::new();
    for participant in &round.participants {
        let bytes = object(participant.update)?;
        let bound = plan.privacy.value_bound();
        let values = Decoder::new(&bytes[..], manifest.dimension(), bound)?.read_all()?;
        rows.push((i128::from(participant.weight), values));
    }
    let trim = match round.rule {
        Rule::FedAvg => 0,
        Rule::TrimmedMean { trim } => (trim * rows.len() as f64) as usize,
        Rule::Median | Rule::NormClipped { .. } => bail!("{} is not simulated", round.rule),
    };
    let kept = trim..rows.len() - trim;
    let weights: Vec<i128> = rows.iter().map(|(weight, _)| *weight).collect();
    let total: i128 = if trim == 0 {
        weights.iter().sum()
    } else {
        kept.len() as i128
    };
    let sums = (0..manifest.dimension()).map(|j| {
        let mut terms: Vec<i128> = rows.iter().map(|(n, x)| n * i128::from(x[j])).collect();
        terms.sort_unstable();
        terms[kept.clone()].iter().sum::<i128>()
    });
    let sums: Vec<i128> = sums.collect();
    let mut weights = object(parent.weights)?.to_vec();
    let step = plan.privacy.grid().gamma() / total as f64;
    let mut sums = sums.into_iter();
    for (offset, length) in Layout::read(&weights[..])?.segments(&manifest)? {
        let start = offset as usize;
        for weight in weights[start..start + 4 * length].chunks_exact_mut(4) {
            let before = f32::from_le_bytes([weight[0], weight[1], weight[2], weight[3]]);
            let sum = sums.next().context("fewer sums than weights")?;
            let after = (f64::from(before) + sum as f64 * step) as f32;
            weight.copy_from_slice(&after.to_le_bytes());
        }
    }
    Ok(weights)
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
