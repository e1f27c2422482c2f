//! A step of AdamW that all take together, weight by weight.

use anyhow::{Context, Result};
use fedner_shared::checkpoint::standardiser::BIAS;
use fedner_shared::checkpoint::{Checkpoint, Layout, Standardiser};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Plan;
use fedner_shared::version::{Round, Version};

use crate::objects::SimObjects;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;

/// The bytes of the head after the step of `sums`, and of its moments.
pub(super) fn stepped(
    plan: &Plan,
    round: &Round,
    parent: &Version,
    (manifest, sums): (&Manifest, &[i64]),
    objects: &SimObjects,
) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let object = |digest: Digest| objects.peek(digest).context("an object is gone");
    let mut weights = object(parent.weights)?.to_vec();
    let before = parent.round().filter(|before| before.run == round.run);
    let before = match before {
        Some(before) => object(before.moments.context("a round without moments")?)?.to_vec(),
        None => vec![0; 8 * sums.len()],
    };
    let moment = |at: usize| float(&before[4 * at..4 * at + 4]);
    let scale = plan.privacy.clip / f64::from(1 << 16) / plan.training.batch_size as f64;
    let gradient = sums.iter().map(|sum| (*sum as f64 * scale) as f32);
    let gradient: Vec<f32> = gradient.collect();
    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let shorter = (plan.training.max_grad_norm / (norm.sqrt() + 1e-6)).min(1.0) as f32;
    let part = plan.part_of_schedule(round.round);
    let rate = plan
        .training
        .learning_rate_at(part.start.midpoint(part.end));
    let step = i32::try_from(round.round)?;
    let size = (rate / (1.0 - f64::from(BETA1).powi(step))) as f32;
    let root = (1.0 - f64::from(BETA2).powi(step)).sqrt().recip() as f32;

    let (mut first, mut second, mut change) = (Vec::new(), Vec::new(), Vec::new());
    for (j, g) in gradient.iter().enumerate() {
        let (g, m, v) = (g * shorter, moment(j), moment(sums.len() + j));
        first.push(m + (g - m) * (1.0 - BETA1));
        second.push(BETA2 * v + (1.0 - BETA2) * g * g);
        change.push(f64::from(
            0.0 - size * first[j] / (second[j].sqrt() * root + 1e-8),
        ));
    }

    let config = String::from_utf8(object(parent.config)?.to_vec())?;
    let frozen = parent.frozen.map(object).transpose()?;
    let model = Checkpoint::read_parts(&config, &weights, frozen.as_deref())?;
    let normal = Standardiser::from_checkpoint(&model)?;
    let place = |name: &str| {
        let found = manifest.segments().find(|(_, spec)| spec.name == name);
        found.map(|(at, _)| at).context("no head")
    };
    let (weight, bias) = (place("classifier.weight")?, place("classifier.bias")?);
    let (tags, width) = (plan.tags().len(), normal.width());
    let mut moved = vec![0.0; sums.len()];
    for tag in 0..tags {
        let mut by_bias = f64::from(BIAS) * change[bias + tag];
        for n in 0..width {
            let at = weight + tag * width + n;
            moved[at] = change[at] * f64::from(normal.scale()[n]);
            by_bias -= moved[at] * f64::from(normal.shift()[n]);
        }
        moved[bias + tag] = by_bias;
    }
    let mut moved = moved.into_iter();
    for (offset, length) in Layout::read(&weights[..])?.segments(manifest)? {
        let start = usize::try_from(offset)?;
        for bytes in weights[start..start + 4 * length].chunks_exact_mut(4) {
            let change = moved.next().context("fewer changes than weights")?;
            let after = (f64::from(float(bytes)) + change) as f32;
            bytes.copy_from_slice(&after.to_le_bytes());
        }
    }
    let moments = first.iter().chain(&second);
    let moments = moments.flat_map(|moment| moment.to_le_bytes()).collect();
    Ok((weights, Some(moments)))
}

fn float(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
