//! Time and peak memory to aggregate K updates of 110 million weights.
//!
//! ```sh
//! cargo bench -p fedner-coordinator --bench aggregate            # K = 10
//! cargo bench -p fedner-coordinator --bench aggregate -- 4       # another K
//! cargo bench -p fedner-coordinator --bench aggregate -- 10 median    # another rule
//! ```
//! Each case runs in a process of its own, so that its peak memory is its own. `memory`: encoded
//! updates and base lie in memory, the result goes to memory. `files`: all are cached files, every
//! digest is verified, the result is written to a file. `trained` updates are as narrow as those
//! of a few training steps, `noised` ones as wide as noise of z = 1 makes them.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use fedner_coordinator::aggregate::{Inputs, Source, VerifiedFile, Weighted, aggregate};
use fedner_coordinator::blobs::Verified;
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{Checkpoint, Layout};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Grid, Method, Rule, Strategy};
use fedner_shared::update::encode;

/// BERT-base with a vocabulary that makes the weights 110 million.
const CONFIG: &str = r#"{"model_type":"bert","vocab_size":31900,"hidden_size":768,
    "num_hidden_layers":12,"num_attention_heads":12,"intermediate_size":3072,
    "max_position_embeddings":512}"#;
const TAGS: usize = 9;
const GRID: Grid = Grid {
    clip: 1.0,
    exponent: 18,
};
const BOUND: i64 = 1 << 26;
const REPEATS: usize = 5;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    if let Ok(case) = std::env::var("FEDNER_BENCH_CASE") {
        return run_case(&case);
    }
    let number = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let count: usize = number.unwrap_or(10);
    let named = |name: &String| Strategy::ALL.iter().any(|s| s.to_string() == *name);
    let rule = std::env::args()
        .skip(1)
        .find(named)
        .unwrap_or("fedavg".into());
    let folder = tempfile::tempdir()?;
    let manifest = prepare_base(folder.path())?;
    println!(
        "{} weights, K = {count}, {rule}, {} threads",
        manifest.dimension(),
        rayon::current_num_threads()
    );
    for (kind, deviation) in [("trained", 40.0), ("noised", f64::from(1 << 18))] {
        let mut bytes = 0;
        for k in 0..count {
            let values = update(k as u64, manifest.dimension(), deviation);
            let path = update_path(folder.path(), k);
            encode(&values, BufWriter::new(File::create(&path)?))?;
            bytes += fs::metadata(path)?.len();
        }
        let bits = bytes as f64 * 8.0 / (manifest.dimension() * count) as f64;
        for from in ["memory", "files"] {
            let status = Command::new(std::env::current_exe()?)
                .env("FEDNER_BENCH_CASE", format!("{from} {count}"))
                .env("FEDNER_BENCH_RULE", &rule)
                .env(
                    "FEDNER_BENCH_NAME",
                    format!("{kind} ({bits:.1} bits a weight)"),
                )
                .env("FEDNER_BENCH_FOLDER", folder.path())
                .status()?;
            assert!(status.success(), "{kind} {from}");
        }
    }
    Ok(())
}

fn update_path(folder: &Path, k: usize) -> PathBuf {
    folder.join(format!("update-{k}"))
}

fn prepare_base(folder: &Path) -> Result<Manifest, Failure> {
    let config = BertConfig::parse(CONFIG)?;
    let manifest = config.manifest(&Method::Full.into(), TAGS);
    let checkpoint = Checkpoint::random(config, 1).with_new_head(TAGS, 1);
    fs::write(folder.join("base"), checkpoint.to_safetensors()?)?;
    Ok(manifest)
}

/// A bell of that deviation: the sum of twelve uniform numbers.
fn update(seed: u64, dimension: usize, deviation: f64) -> Vec<i32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let scale = deviation / f64::from(1u32 << 16);
    (0..dimension)
        .map(|_| {
            let words = [draw(), draw(), draw()];
            let sixteenths = words.iter().flat_map(|word| {
                [
                    word & 0xffff,
                    word >> 16 & 0xffff,
                    word >> 32 & 0xffff,
                    word >> 48,
                ]
            });
            let sum: u64 = sixteenths.sum();
            ((sum as f64 - 12.0 * 32767.5) * scale) as i32
        })
        .collect()
}

fn run_case(case: &str) -> Result<(), Failure> {
    let (from, count) = case.split_once(' ').ok_or("a case is `memory 10`")?;
    let folder = PathBuf::from(std::env::var("FEDNER_BENCH_FOLDER")?);
    let manifest = BertConfig::parse(CONFIG)?.manifest(&Method::Full.into(), TAGS);
    let base = folder.join("base");
    let layout = Layout::read(BufReader::new(File::open(&base)?))?;
    let paths: Vec<PathBuf> = (0..count.parse()?)
        .map(|k| update_path(&folder, k))
        .collect();
    let work: Box<dyn Fn() -> Result<(f64, Digest), Failure>> = if from == "memory" {
        from_memory(layout, manifest, &base, &paths)?
    } else {
        from_files(layout, manifest, &base, &paths)?
    };
    let mut times = Vec::new();
    let mut digests = Vec::new();
    for _ in 0..REPEATS {
        let (seconds, digest) = work()?;
        times.push(seconds);
        digests.push(digest);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    times.sort_by(f64::total_cmp);
    println!(
        "{:28} from {from:6}: {:.3} s (least {:.3}, most {:.3}), peak {} MiB",
        std::env::var("FEDNER_BENCH_NAME")?,
        times[REPEATS / 2],
        times[0],
        times[REPEATS - 1],
        peak_mebibytes()?
    );
    Ok(())
}

type Work = Box<dyn Fn() -> Result<(f64, Digest), Failure>>;

fn from_memory(
    layout: Layout,
    manifest: Manifest,
    base: &Path,
    paths: &[PathBuf],
) -> Result<Work, Failure> {
    let base = fs::read(base)?;
    let updates = paths.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
    Ok(Box::new(move || {
        let mut out = Vec::with_capacity(base.len());
        let began = Instant::now();
        let digest = add(
            &layout,
            &manifest,
            &base[..],
            updates.iter().map(|u| &u[..]),
            &mut out,
        )?;
        Ok((began.elapsed().as_secs_f64(), digest))
    }))
}

fn from_files(
    layout: Layout,
    manifest: Manifest,
    base: &Path,
    paths: &[PathBuf],
) -> Result<Work, Failure> {
    let digest_of = |path: &PathBuf| -> Result<(PathBuf, Digest), Failure> {
        Ok((path.clone(), Digest::of_reader(File::open(path)?)?))
    };
    let base = digest_of(&base.to_owned())?;
    let updates = paths.iter().map(digest_of).collect::<Result<Vec<_>, _>>()?;
    let out = base.0.with_extension("out");
    Ok(Box::new(move || {
        let _ = fs::remove_file(&out);
        let began = Instant::now();
        let open = |(path, digest): &(PathBuf, Digest)| -> Result<_, std::io::Error> {
            let (file, digest) = (File::open(path)?, *digest);
            Ok(VerifiedFile { file, digest })
        };
        let files = updates.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let base = Verified::new(File::open(&base.0)?, base.1);
        let digest = add(&layout, &manifest, base, files, File::create(&out)?)?;
        Ok((began.elapsed().as_secs_f64(), digest))
    }))
}

fn add<S: Source>(
    layout: &Layout,
    manifest: &Manifest,
    base: impl Read + Send,
    updates: impl IntoIterator<Item = S>,
    out: impl std::io::Write + Send,
) -> Result<Digest, Failure> {
    let weighted = updates.into_iter().zip(100..);
    let weighted = weighted.map(|(update, weight)| Weighted { weight, update });
    let inputs = Inputs {
        layout,
        base,
        updates: weighted.collect(),
        manifest,
        grid: GRID,
        bound: BOUND,
        rule: rule()?,
        left_out: Vec::new(),
    };
    Ok(aggregate(inputs, out)?)
}

fn rule() -> Result<Rule, Failure> {
    let name = std::env::var("FEDNER_BENCH_RULE")?;
    Ok(match name.as_str() {
        "trimmed-mean" => Rule::TrimmedMean { trim: 0.2 },
        "median" => Rule::Median,
        "multi-krum" => Rule::MultiKrum { trim: 0.2 },
        "norm-clipped-mean" => Rule::NormClippedMean { factor: 1.0 },
        _ => Rule::FedAvg,
    })
}

fn peak_mebibytes() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kibibytes.ok_or("no VmHWM")?.parse::<u64>()? / 1024)
}
