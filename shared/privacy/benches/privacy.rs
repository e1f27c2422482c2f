//! `cargo bench --profile dev --workspace --bench privacy`: the sampler beside OpenDP's, the
//! accountant, and the whole way from a trained update to encoded bytes. One core.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;
use std::time::Instant;

use fedner_privacy::accountant::{Phase, pld};
use fedner_privacy::noise::{Gaussian, Generator, Sampler, Shape};
use fedner_privacy::release::Releaser;
use fedner_shared::plan::{Clipping, Privacy, Unit};
use fedner_shared::update::encode;
use opendp::domains::{AtomDomain, VectorDomain};
use opendp::measurements::make_gaussian;
use opendp::metrics::L2Distance;

/// Repetitions of each figure; the median is given, with the extremes.
const REPETITIONS: usize = 7;
/// Trainable weights of MiniLM-L6 and a head.
const WEIGHTS: usize = 22_600_000;

fn main() {
    for exponent in [10, 14, 18, 20] {
        sampler(exponent);
    }
    opendp();
    accountant();
    release();
}

/// Seconds of the processor that this thread has had, where the system tells (Linux), so that the
/// turns of other programs do not count; else of the clock.
fn now(begin: Instant) -> f64 {
    let nanoseconds = std::fs::read_to_string("/proc/self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| begin.elapsed().as_secs_f64(), |ns| ns * 1e-9)
}

/// Seconds: least, median, most.
fn timed(mut work: impl FnMut()) -> [f64; 3] {
    let mut times: Vec<f64> = (0..REPETITIONS)
        .map(|_| {
            let clock = Instant::now();
            let begin = now(clock);
            work();
            now(clock) - begin
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[0], times[REPETITIONS / 2], times[REPETITIONS - 1]]
}

fn sampler(exponent: i32) {
    let sigma = f64::from(exponent).exp2();
    let sampler = Sampler::new(Shape::Gaussian { sigma }).expect("sampler");
    let mut generator = Generator::from_system().expect("randomness");
    let mut noise = vec![0; 1 << 12];
    let rounds = 1 << 11;
    let [least, median, most] = timed(|| {
        for _ in 0..rounds {
            sampler.fill(&mut generator, black_box(&mut noise));
        }
    });
    let million = (noise.len() * rounds) as f64 / 1e6;
    println!(
        "discrete Gaussian, scale 2^{exponent}: {:.1} M/s ({:.1} to {:.1})",
        million / median,
        million / most,
        million / least
    );
}

/// OpenDP's own, with whichever generator it was built with.
fn opendp() {
    let domain = VectorDomain::new(AtomDomain::<i64>::default());
    let metric = L2Distance::<f64>::default();
    let scale = 18f64.exp2();
    let mechanism: Gaussian = make_gaussian(domain, metric, scale, None).expect("mechanism");
    let values = vec![0; 1 << 14];
    let [least, median, most] = timed(|| {
        black_box(mechanism.invoke(&values).expect("noise"));
    });
    let million = values.len() as f64 / 1e6;
    println!(
        "OpenDP's sampler, scale 2^18: {:.2} M/s ({:.2} to {:.2})",
        million / median,
        million / most,
        million / least
    );
}

fn accountant() {
    let phase = Phase {
        sampling_rate: 0.01,
        noise_multiplier: 1.1,
        steps: 10_000,
    };
    let [least, median, most] = timed(|| {
        black_box(pld::epsilon(&[phase], 1e-5).expect("epsilon"));
    });
    println!(
        "PLD, 10,000 steps: {:.1} ms ({:.1} to {:.1})",
        median * 1e3,
        least * 1e3,
        most * 1e3
    );
}

fn release() {
    let privacy = Privacy {
        unit: Unit::Institution,
        clip: 1.0,
        clipping: Clipping::Threshold,
        noise_multiplier: 1.0,
        delta: 1e-5,
        max_epsilon: 8.0,
        ..Privacy::default()
    };
    let update: Vec<f32> = (0..WEIGHTS)
        .map(|i| (i as f32 * 0.37).sin() * 1e-3)
        .collect();
    // One worker: the machine's other processors stay out of the figure.
    let releaser = Releaser::new(&privacy, WEIGHTS)
        .expect("mechanism")
        .on_threads(1);
    let mut bytes = Vec::with_capacity(WEIGHTS * 4);
    let [least, median, most] = timed(|| {
        let release = releaser.release(&update).expect("release");
        bytes.clear();
        encode(&release.values, &mut bytes).expect("memory");
        black_box(&bytes);
    });
    println!(
        "clip, round, noise, encode {WEIGHTS} weights: {median:.3} s ({least:.3} to {most:.3})"
    );
}
