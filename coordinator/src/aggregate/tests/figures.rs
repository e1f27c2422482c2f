//! What is told of each update beside the others.

use fedner_shared::figures::Figures;
use proptest::prelude::*;

use super::rules::Dripping;
use super::*;

/// Whole vectors, one after the other.
fn naive(updates: &[Vec<i32>], last: &[f64]) -> Vec<Figures> {
    let rows: Vec<Vec<f64>> = updates
        .iter()
        .map(|update| update.iter().map(|x| f64::from(*x)).collect())
        .collect();
    let norms: Vec<f64> = rows.iter().map(|row| norm(row)).collect();
    let mut sorted = norms.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[(sorted.len() - 1) / 2];
    let cosine = |a: &[f64], b: &[f64]| {
        let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        let lengths = norm(a) * norm(b);
        (lengths > 0.0).then(|| product / lengths)
    };
    let of = |k: usize| {
        let mut others = vec![0.0; rows[k].len()];
        for (l, row) in rows.iter().enumerate().filter(|(l, _)| *l != k) {
            let cut = if norms[l] > median {
                median / norms[l]
            } else {
                1.0
            };
            for (sum, x) in others.iter_mut().zip(row) {
                *sum += cut * x;
            }
        }
        Figures {
            norm: norms[k] * GRID.gamma(),
            to_others: cosine(&rows[k], &others),
            to_last_step: cosine(&rows[k], last),
        }
    };
    (0..rows.len()).map(of).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn last_step(setting: &Setting, after: &[u8]) -> LastStep<io::Cursor<Vec<u8>>> {
    let segments = |bytes: &[u8]| {
        let layout = Layout::read(bytes).expect("layout");
        layout.segments(&setting.manifest).expect("segments")
    };
    let file = |bytes: &[u8]| (io::Cursor::new(bytes.to_vec()), segments(bytes));
    LastStep::new(file(after), file(&setting.bytes))
}

fn close(found: Option<f64>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() < 1e-4,
        (None, None) => true,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Figures are those of the formula, and bit for bit the same in any order and any cut of the
    /// streams.
    #[test]
    fn figures_follow_from_the_updates_alone(
        count in 1usize..9,
        seed in 0u64..1000,
        chunk in 1usize..5000,
        factor in 1i32..8,
    ) {
        let setting = setting(Method::Full);
        let d = setting.manifest.dimension();
        let mut updates: Vec<Vec<i32>> = (0..count as u64).map(|k| update(seed + k, d)).collect();
        for x in &mut updates[0] {
            *x = (*x * factor).clamp(-(BOUND as i32), BOUND as i32);
        }
        let (after, _) = run(&setting, &[(1, update(seed + 77, d))]);
        let step = change(&setting, &after);
        let encoded: Vec<Vec<u8>> = updates.iter().map(|x| encoded(x)).collect();
        let sources: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
        let found = measure(&sources, d, BOUND, GRID, Some(last_step(&setting, &after)));
        let found = found.expect("figures");
        for (found, expected) in found.iter().zip(naive(&updates, &step)) {
            prop_assert!((found.norm / expected.norm - 1.0).abs() < 1e-12);
            prop_assert!(close(found.to_others, expected.to_others), "{found:?} {expected:?}");
            prop_assert!(close(found.to_last_step, expected.to_last_step), "{found:?} {expected:?}");
        }
        let dripping: Vec<Dripping> = encoded
            .iter()
            .rev()
            .map(|bytes| Dripping { bytes: bytes.clone(), chunk })
            .collect();
        let last = Some(last_step(&setting, &after));
        let mut again = measure(&dripping, d, BOUND, GRID, last).expect("figures");
        again.reverse();
        prop_assert_eq!(again, found);
    }
}

#[test]
fn what_has_no_direction_has_no_cosine() {
    let setting = setting(Method::Head);
    let d = setting.manifest.dimension();
    let figures = |updates: &[Vec<i32>]| {
        let encoded: Vec<Vec<u8>> = updates.iter().map(|x| encoded(x)).collect();
        let sources: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
        let last: Option<LastStep<&[u8]>> = None;
        measure(&sources, d, BOUND, GRID, last).expect("figures")
    };
    assert!(figures(&[]).is_empty());
    let alone = figures(&[update(1, d)]);
    assert_eq!((alone[0].to_others, alone[0].to_last_step), (None, None));
    let zeros = figures(&[vec![0; d], vec![0; d], update(1, d)]);
    assert!(zeros.iter().all(|figures| figures.to_others.is_none()));
    let opposite: Vec<i32> = update(1, d).iter().map(|x| -x).collect();
    let two = figures(&[update(1, d), opposite]);
    assert_eq!(two[0].to_others, Some(-1.0));
}

/// The four attacks of one in ten stand out by a figure.
#[test]
fn an_attack_stands_out_by_norm_or_cosine() {
    let setting = setting(Method::Head);
    let d = setting.manifest.dimension();
    let honest = super::hostile::honest(9, d);
    let figures = |hostile: &[i32]| {
        let all = honest.iter().map(|(_, x)| encoded(x));
        let all: Vec<Vec<u8>> = all.chain([encoded(hostile)]).collect();
        let sources: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let last: Option<LastStep<&[u8]>> = None;
        measure(&sources, d, BOUND, GRID, last).expect("figures")
    };
    let flipped: Vec<i32> = honest[0].1.iter().map(|x| -x).collect();
    let attacks = super::hostile::attacks(&honest);
    let attacks = attacks.into_iter().chain([("the sign flipped", flipped)]);
    for (name, values) in attacks {
        let found = figures(&values);
        let usual = found[..9].iter().map(|f| f.norm).fold(0.0, f64::max);
        let cosine = |f: &Figures| f.to_others.expect("a direction");
        assert!(
            found[..9].iter().all(|f| cosine(f) > 0.3),
            "{name}: {found:?}"
        );
        let liar = &found[9];
        assert!(
            liar.norm > 3.0 * usual || cosine(liar) < 0.0,
            "{name}: {liar:?}"
        );
    }
}
