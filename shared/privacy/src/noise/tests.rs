//! The sampler against exact probabilities and against OpenDP's sampler.
//!
//! Own draws have fixed seeds. OpenDP's have not, so their tolerances are passed by chance less than
//! once in 10^11 runs.
//!
//! The long suite: `cargo test --workspace --lib noise:: -- --ignored`.

use super::measurement::reference;
use super::shared::{PART, SHARE};
use super::*;

fn add(values: &mut [i32], sigma: f64, bound: i64) -> Result<(), Error> {
    Shared::new(Shape::Gaussian { sigma })?.add(values, bound)
}

fn generator(seed: u8) -> Generator {
    Generator::from_seed([seed; 32])
}

fn draws(sampler: &Sampler, seed: u8, count: usize) -> Vec<i64> {
    let mut noise = vec![0; count];
    sampler.fill(&mut generator(seed), &mut noise);
    noise
}

/// χ² of `counts` against `probabilities`, whose cells are merged from the rare ends until each
/// expects ten; panics beyond the mean by eight standard deviations.
#[track_caller]
fn assert_fits(counts: &[u64], probabilities: &[f64], what: &str) {
    let n: u64 = counts.iter().sum();
    let (mut chi_squared, mut cells) = (0.0, 0u32);
    let (mut found, mut expected) = (0.0, 0.0);
    for (count, probability) in counts.iter().zip(probabilities) {
        found += *count as f64;
        expected += probability * n as f64;
        if expected >= 10.0 {
            chi_squared += (found - expected) * (found - expected) / expected;
            (found, expected) = (0.0, 0.0);
            cells += 1;
        }
    }
    let freedom = f64::from(cells.max(2) - 1);
    let limit = freedom + 8.0 * (2.0 * freedom).sqrt() + 20.0;
    assert!(
        chi_squared < limit,
        "{what}: χ² = {chi_squared} with {freedom}"
    );
}

fn weight(shape: Shape, x: i64) -> f64 {
    match shape {
        Shape::Gaussian { sigma } => (-((x as f64) / sigma).powi(2) / 2.0).exp(),
        Shape::Laplace { scale } => (-(x.abs() as f64) / scale).exp(),
    }
}

/// Compares frequencies of −reach…reach one by one.
#[track_caller]
fn assert_exact(sampler: &Sampler, seed: u8, count: usize) {
    let shape = sampler.shape();
    let reach = shape.reach(50).ceil() as i64;
    let weights: Vec<f64> = (-reach..=reach).map(|x| weight(shape, x)).collect();
    let total: f64 = weights.iter().sum();
    let probabilities: Vec<f64> = weights.iter().map(|w| w / total).collect();
    let mut counts = vec![0u64; weights.len()];
    for x in draws(sampler, seed, count) {
        counts[(x.clamp(-reach, reach) + reach) as usize] += 1;
    }
    assert_fits(&counts, &probabilities, &format!("{shape:?}"));
}

/// As often as `tests/compare/instructions.sh` says, which counts instructions.
#[test]
#[ignore = "counted by tests/compare/instructions.sh"]
fn noise_of_16384() {
    let times = std::env::var("FEDNER_KERNEL_TIMES").ok();
    let times = times.and_then(|times| times.parse().ok()).unwrap_or(1);
    let sigma = 18f64.exp2();
    let sampler = Sampler::new(Shape::Gaussian { sigma }).expect("a sampler");
    let mut generator = Generator::from_seed([7; 32]);
    let mut noise = vec![0; 16_384];
    for _ in 0..times {
        sampler.fill(&mut generator, std::hint::black_box(&mut noise));
    }
}

#[test]
fn small_scales_have_the_exact_frequencies() {
    let gaussian = [0.3, 0.5, 1.0, 2.7, 9.3, 30.0, 38.5, 77.0, 300.25];
    for (seed, sigma) in (1..).zip(gaussian) {
        let sampler = Sampler::new(Shape::Gaussian { sigma }).expect("sampler");
        assert_exact(&sampler, seed, 400_000);
    }
    for (seed, scale) in (101..).zip([0.3, 1.0, 5.0, 5.9, 20.0, 100.0]) {
        let sampler = Sampler::new(Shape::Laplace { scale }).expect("sampler");
        assert_exact(&sampler, seed, 400_000);
    }
}

#[test]
fn a_tail_that_is_reached_has_the_exact_frequencies() {
    for bits in [1, 2, 5] {
        for (seed, scale) in (1..).zip([0.4, 3.0, 40.0, 500.0]) {
            for shape in [Shape::Gaussian { sigma: scale }, Shape::Laplace { scale }] {
                let sampler = Sampler::with_tail(shape, bits).expect("sampler");
                assert_exact(&sampler, seed + bits as u8, 20_000);
            }
        }
    }
}

#[test]
fn moments_are_those_of_the_discrete_gaussian() {
    for (seed, exponent) in [(1, 1), (2, 7), (3, 10), (4, 18), (5, 25), (6, 40)] {
        let sigma = f64::from(exponent).exp2() * 0.9;
        let sampler = Sampler::new(Shape::Gaussian { sigma }).expect("sampler");
        let n = 400_000;
        let noise: Vec<f64> = draws(&sampler, seed, n)
            .iter()
            .map(|x| *x as f64 / sigma)
            .collect();
        let moment = |k| noise.iter().map(|x| x.powi(k)).sum::<f64>() / n as f64;
        // Of a standard normal, to within 1/12σ² e^(-2π²σ²); the variances of the estimates are
        // E x^2k − (E x^k)².
        for (k, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let found = moment(k);
            let allowed = 5.0 * (variance / n as f64).sqrt();
            assert!(
                (found - expected).abs() < allowed,
                "{sigma}: moment {k} is {found}"
            );
        }
    }
}

#[test]
fn the_same_key_gives_the_same_noise_and_another_key_another() {
    let sampler = Sampler::new(Shape::Gaussian { sigma: 1e5 }).expect("sampler");
    assert_eq!(draws(&sampler, 1, 2000), draws(&sampler, 1, 2000));
    assert_ne!(draws(&sampler, 1, 2000), draws(&sampler, 2, 2000));
    let mut system = Generator::from_system().expect("randomness");
    let (first, second) = (sampler.draw(&mut system), sampler.draw(&mut system));
    let mut other = Generator::from_system().expect("randomness");
    assert!(first != second || sampler.draw(&mut other) != first);
}

/// Largest distance between the empirical distribution functions, over its scale.
fn kolmogorov_smirnov(mut left: Vec<i64>, mut right: Vec<i64>) -> f64 {
    left.sort_unstable();
    right.sort_unstable();
    let (n, m) = (left.len() as f64, right.len() as f64);
    let below = |sorted: &[i64], x: i64| sorted.partition_point(|y| *y <= x) as f64;
    let distance = left
        .iter()
        .chain(&right)
        .map(|x| (below(&left, *x) / n - below(&right, *x) / m).abs())
        .fold(0.0, f64::max);
    distance * (n * m / (n + m)).sqrt()
}

fn opendp(sigma: f64, count: usize) -> Vec<i64> {
    let mechanism = reference::gaussian(sigma).expect("mechanism");
    (0..count.div_ceil(PART))
        .flat_map(|_| mechanism.invoke(&vec![0; PART]).expect("noise"))
        .take(count)
        .collect()
}

fn compare_with_opendp(sigma: f64, count: usize) {
    let sampler = Sampler::new(Shape::Gaussian { sigma }).expect("sampler");
    let (ours, theirs) = (draws(&sampler, 9, count), opendp(sigma, count));
    // P(K > 3.6) = 2e^(-2·3.6²) ≈ 1e-11.
    let statistic = kolmogorov_smirnov(ours.clone(), theirs.clone());
    assert!(statistic < 3.6, "{sigma}: Kolmogorov-Smirnov {statistic}");
    for deviations in [1.0, 2.0, 3.0, 4.0] {
        let beyond = |x: &[i64]| {
            x.iter()
                .filter(|x| x.abs() as f64 > deviations * sigma)
                .count() as f64
        };
        let (a, b) = (beyond(&ours), beyond(&theirs));
        let allowed = 7.0 * (a + b).sqrt() + 7.0;
        assert!(
            (a - b).abs() < allowed,
            "{sigma}: {a} and {b} beyond {deviations}"
        );
    }
}

#[test]
fn opendps_sampler_draws_from_the_same_distribution() {
    for sigma in [0.7, 12.0, 1024.0, 262_144.0] {
        compare_with_opendp(sigma, 20_000);
    }
}

#[test]
fn measurements_add_noise_and_cost_what_opendp_says() {
    for mechanism in [gaussian(8.0), reference::gaussian(8.0)] {
        let mechanism = mechanism.expect("mechanism");
        let rho = mechanism.map(&4.0).expect("map");
        assert!((rho - 0.125).abs() < 1e-12, "{rho}");
        let noised = mechanism.invoke(&vec![1_000_000; 2000]).expect("noise");
        let mean = noised.iter().sum::<i64>() as f64 / 2000.0 - 1e6;
        assert!(mean.abs() < 8.0 * 8.0 / 2000f64.sqrt(), "{mean}");
    }
    for mechanism in [laplace(4.0), reference::laplace(4.0)] {
        let mechanism = mechanism.expect("mechanism");
        let epsilon = mechanism.map(&2).expect("map");
        assert!((epsilon - 0.5).abs() < 1e-12, "{epsilon}");
        let noised = mechanism.invoke(&vec![-50; 2000]).expect("noise");
        let mean = noised.iter().sum::<i64>() as f64 / 2000.0 + 50.0;
        assert!(mean.abs() < 8.0 * 6.0 / 2000f64.sqrt(), "{mean}");
    }
    let edge = gaussian(1e6).expect("mechanism");
    assert!(edge.invoke(&vec![i64::MAX; 64]).is_err(), "nothing wraps");
    assert!(gaussian(0.0).is_err());
    assert!(laplace(f64::NAN).is_err());
}

#[test]
fn a_value_out_of_range_is_an_error_that_names_its_place() {
    let mut values = vec![0; 3 * PART];
    values[2 * PART + 5] = 1_000_000;
    let error = add(&mut values, 2.0, 1000).expect_err("far outside");
    assert!(
        matches!(error, Error::OutOfRange { index, bound: 1000 } if index == 2 * PART + 5),
        "{error}"
    );
    let mut edge = vec![i32::MAX; 64];
    assert!(
        add(&mut edge, 1e6, i64::MAX).is_err(),
        "i32 overflow is not wrapped"
    );
}

#[test]
fn threads_share_the_work_and_every_value_is_noised() {
    let mut values = vec![0; 2 * SHARE + 17];
    add(&mut values, 1e6, i64::from(i32::MAX)).expect("noise");
    for part in values.chunks(PART) {
        let zeros = part.iter().filter(|value| **value == 0).count();
        assert!(zeros < 3, "{zeros} values without noise");
    }
}

/// 2^27 draws at each scale: equally likely cells between quantiles, and the tails one by one.
#[test]
#[ignore = "the long suite: minutes"]
fn long_a_hundred_million_draws_have_the_right_distribution() {
    for (seed, sigma) in [(1, 1024.0), (2, 262_144.0), (3, 1e6), (4, 3e10)] {
        let sampler = Sampler::new(Shape::Gaussian { sigma }).expect("sampler");
        let mut generator = generator(seed);
        let cells = 4096;
        let (mut counts, mut square) = (vec![0u64; cells + 2], 0.0);
        let mut noise = vec![0; 1 << 16];
        for _ in 0..1 << 11 {
            sampler.fill(&mut generator, &mut noise);
            for x in &noise {
                let z = *x as f64 / sigma;
                square += z * z;
                // Cells of 14/4096 deviations from −7 to 7.
                let cell = ((z + 7.0) * cells as f64 / 14.0).floor() + 1.0;
                counts[cell.clamp(0.0, cells as f64 + 1.0) as usize] += 1;
            }
        }
        let n = (noise.len() << 11) as f64;
        let upper = |z: f64| libm::erfc(z / std::f64::consts::SQRT_2) / 2.0;
        // A cell holds the integers from its lower end up; half a step earlier in the integral.
        let edge = |cell: usize| {
            let z = cell as f64 * 14.0 / cells as f64 - 7.0;
            ((z * sigma).ceil() - 0.5) / sigma
        };
        let mut probabilities = vec![upper(-edge(0))];
        probabilities.extend((0..cells).map(|cell| {
            let (from, to) = (edge(cell), edge(cell + 1));
            if from > 0.0 {
                upper(from) - upper(to)
            } else {
                upper(-to) - upper(-from)
            }
        }));
        probabilities.push(upper(edge(cells)));
        assert_fits(&counts, &probabilities, &format!("{sigma}"));
        let variance = square / n;
        assert!(
            (variance - 1.0).abs() < 6.0 * (2.0 / n).sqrt(),
            "{sigma}: {variance}"
        );
    }
}

#[test]
#[ignore = "the long suite: minutes"]
fn long_small_scales_and_opendp() {
    for (seed, sigma) in (1..).zip([0.3, 1.0, 4.0, 33.0, 38.0, 100.0]) {
        let sampler = Sampler::new(Shape::Gaussian { sigma }).expect("sampler");
        assert_exact(&sampler, seed, 100_000_000);
    }
    for sigma in [0.3, 3.0, 262_144.0] {
        compare_with_opendp(sigma, 2_000_000);
    }
}
