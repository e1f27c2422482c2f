//! FedAvg as one would write it down: whole vectors, one after the other.

use anyhow::{Context, Result, bail};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::Layout;
use fedner_shared::digest::Digest;
use fedner_shared::plan::Plan;
use fedner_shared::update::Decoder;
use fedner_shared::version::{Origin, Version};

use crate::objects::SimObjects;

/// The bytes of the version's weights: `w + γ Σ n_k x_k / Σ n_k`.
pub(crate) fn federated_average(
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
    let mut sums = vec![0i128; manifest.dimension()];
    let mut total = 0u64;
    for participant in &round.participants {
        let bytes = object(participant.update)?;
        let bound = plan.privacy.value_bound();
        let values = Decoder::new(&bytes[..], manifest.dimension(), bound)?.read_all()?;
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += i128::from(participant.weight) * i128::from(value);
        }
        total += u64::from(participant.weight);
    }
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
