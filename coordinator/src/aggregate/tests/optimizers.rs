//! Server optimizers over the whole stream.

use fedner_shared::plan::OptimizerName;

use super::*;
use crate::aggregate::{Aggregated, Optimizing, aggregate_with};

fn optimizer(name: OptimizerName) -> ServerOptimizer {
    ServerOptimizer {
        name,
        learning_rate: 0.5,
        momentum: 0.9,
        second_momentum: Some(0.99),
        tau: Some(1e-3),
    }
}

/// Weights and moments after a round, and what was said of them.
fn round(
    setting: &Setting,
    name: OptimizerName,
    base: &[u8],
    before: Option<&[u8]>,
    updates: &[(u32, Vec<i32>)],
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let encoded: Vec<_> = updates.iter().map(|(_, values)| encoded(values)).collect();
    let updates = updates.iter().zip(&encoded);
    let updates = updates.map(|((weight, _), bytes)| Weighted {
        weight: *weight,
        update: &bytes[..],
    });
    let inputs = Inputs {
        base,
        ..inputs(Rule::FedAvg, setting, updates.collect())
    };
    let (mut weights, mut moments) = (Vec::new(), Vec::new());
    let optimizing = Optimizing {
        optimizer: optimizer(name),
        before: before.map(|before| -> Box<dyn Read + Send> { Box::new(before) }),
        after: Box::new(&mut moments),
    };
    let said = aggregate_with(inputs, Some(optimizing), &mut weights)?;
    let found = Aggregated {
        weights: Digest::of(&weights),
        moments: Some(Digest::of(&moments)),
    };
    assert_eq!(said, found);
    Ok((weights, moments))
}

/// Whatever the order of updates, each round goes on from the moments of the one before; without them
/// it is a first round.
#[test]
fn rounds_go_on_from_the_moments_of_the_round_before() {
    let setting = setting(Method::Full);
    let d = setting.manifest.dimension();
    let updates = |seed: u64| -> Vec<(u32, Vec<i32>)> {
        (0..4)
            .map(|k| (1 + k as u32, update(seed + k, d)))
            .collect()
    };
    for name in OptimizerName::ALL {
        let first = round(&setting, name, &setting.bytes, None, &updates(0)).expect("round");
        let width = if name.is_adaptive() { 8 } else { 4 };
        assert_eq!(first.1.len(), width * d);
        let mut turned = updates(10);
        turned.rotate_left(2);
        let second = round(&setting, name, &first.0, Some(&first.1), &updates(10));
        let again = round(&setting, name, &first.0, Some(&first.1), &turned);
        let second = second.expect("round");
        assert_eq!(second, again.expect("round"));
        let anew = round(&setting, name, &first.0, None, &updates(10)).expect("round");
        assert_ne!(anew, second, "{name:?}");
        for wrong in [&first.1[4..], &[first.1.clone(), vec![0; 4]].concat()] {
            round(&setting, name, &first.0, Some(wrong), &updates(10)).expect_err("moments");
        }
    }
}

/// With η = 1 and no momentum it is `fedavg`.
#[test]
fn without_momentum_the_mean_is_added() {
    let setting = setting(Method::Head);
    let d = setting.manifest.dimension();
    let bytes = encoded(&update(3, d));
    let updates = || {
        let update = &bytes[..];
        vec![Weighted { weight: 7, update }]
    };
    let plain = ServerOptimizer {
        learning_rate: 1.0,
        momentum: 0.0,
        ..optimizer(OptimizerName::FedAvgM)
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let optimizing = Optimizing {
        optimizer: plain,
        before: None,
        after: Box::new(io::sink()),
    };
    let of = |updates| inputs(Rule::FedAvg, &setting, updates);
    aggregate_with(of(updates()), Some(optimizing), &mut with).expect("round");
    aggregate(of(updates()), &mut without).expect("round");
    assert_eq!(with, without);
    assert_ne!(with, setting.bytes);
}
