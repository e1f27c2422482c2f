//! FedAvg by integer addition (McMahan et al. 2017, Algorithm 1, on the integer grid of the plan).
//!
//! ```text
//! w' = w + γ · Σ_k n_k x_k / Σ_k n_k        x_k: the integers of update k, n_k: its weight
//! ```
//! The sum is exact, so neither the order of the updates nor the machine can change a bit of the
//! result. Base, updates and result are read and written block by block: memory is that of one
//! block, whatever the size of the model or the number of updates.

use std::io::{self, Read, Write};

use fedner_shared::checkpoint::{self, Layout};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Grid;
use fedner_shared::update::{self, BLOCK, Decoder};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the base cannot be read: {0}")]
    Base(#[from] checkpoint::Error),
    #[error("the update of number {index} cannot be read: {source}")]
    Update { index: usize, source: update::Error },
    #[error("there is nothing to add")]
    Empty,
    #[error("a weights file cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// One update with its weight n_k.
#[derive(Debug)]
pub struct Weighted<R> {
    pub weight: u32,
    pub update: R,
}

/// Reads the base weights twice: once for their layout, once to add to them.
pub fn aggregate<B: Read, U: Read, W: Write>(
    layout: &Layout,
    base: B,
    updates: Vec<Weighted<U>>,
    manifest: &Manifest,
    grid: Grid,
    bound: i64,
    out: W,
) -> Result<Digest, Error> {
    let total: u64 = updates.iter().map(|update| u64::from(update.weight)).sum();
    if total == 0 {
        return Err(Error::Empty);
    }
    let dimension = manifest.dimension();
    let mut decoders = Vec::with_capacity(updates.len());
    for (index, Weighted { weight, update }) in updates.into_iter().enumerate() {
        let decoder = Decoder::new(update, dimension, bound)
            .map_err(|source| Error::Update { index, source })?;
        decoders.push((i64::from(weight), decoder));
    }
    let mut sum = Sum {
        decoders,
        block: Vec::new(),
        values: Vec::with_capacity(BLOCK),
        used: 0,
    };
    let mut out = Hashing {
        inner: out,
        hasher: blake3::Hasher::new(),
    };
    let mut base = Positioned {
        inner: base,
        position: 0,
    };
    // γ / Σ n_k, the value of one integer step of the sum.
    let step = grid.gamma() / total as f64;
    for (offset, length) in layout.segments(manifest)? {
        base.copy_until(offset, &mut out)?;
        add_segment(&mut base, &mut sum, step, length, &mut out)?;
    }
    sum.finish()?;
    io::copy(&mut base, &mut out)?;
    out.flush()?;
    Ok(Digest::from_bytes(*out.hasher.finalize().as_bytes()))
}

fn add_segment(
    base: &mut impl Read,
    sum: &mut Sum<impl Read>,
    step: f64,
    length: usize,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut bytes = vec![0u8; 4 * BLOCK];
    let mut left = length;
    while left > 0 {
        let sums = sum.next(left)?;
        let bytes = &mut bytes[..4 * sums.len()];
        base.read_exact(bytes)?;
        for (weight, sum) in bytes.chunks_exact_mut(4).zip(sums) {
            let before = f32::from_le_bytes([weight[0], weight[1], weight[2], weight[3]]);
            let after = (f64::from(before) + *sum as f64 * step) as f32;
            weight.copy_from_slice(&after.to_le_bytes());
        }
        out.write_all(bytes)?;
        left -= sums.len();
    }
    Ok(())
}

/// The weighted sum of all updates, one block at a time.
struct Sum<R> {
    decoders: Vec<(i64, Decoder<R>)>,
    /// The sums of the present block, and how many of them are used up.
    block: Vec<i64>,
    used: usize,
    values: Vec<i32>,
}

impl<R: Read> Sum<R> {
    /// The next sums, at least one and at most `most`.
    fn next(&mut self, most: usize) -> Result<&[i64], Error> {
        if self.used == self.block.len() {
            self.add_block()?;
        }
        let start = self.used;
        self.used = self.block.len().min(start + most);
        Ok(&self.block[start..self.used])
    }

    fn add_block(&mut self) -> Result<(), Error> {
        self.block.clear();
        self.used = 0;
        for (index, (weight, decoder)) in self.decoders.iter_mut().enumerate() {
            decoder
                .next_block(&mut self.values)
                .map_err(|source| Error::Update { index, source })?;
            self.block.resize(self.values.len(), 0);
            for (sum, value) in self.block.iter_mut().zip(&self.values) {
                // The plan was checked: institutions · weight · bound is below 2^62.
                *sum += *weight * i64::from(*value);
            }
        }
        if self.block.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        let mut values = self.values;
        for (index, (_, mut decoder)) in self.decoders.into_iter().enumerate() {
            let more = decoder
                .next_block(&mut values)
                .map_err(|source| Error::Update { index, source })?;
            if more {
                return Err(Error::Update {
                    index,
                    source: update::Error::Trailing,
                });
            }
        }
        Ok(())
    }
}

struct Positioned<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Positioned<R> {
    fn copy_until(&mut self, offset: u64, out: &mut impl Write) -> io::Result<()> {
        let count = offset - self.position;
        let copied = io::copy(&mut self.by_ref().take(count), out)?;
        if copied == count {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

impl<R: Read> Read for Positioned<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

struct Hashing<W> {
    inner: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::bert::BertConfig;
    use fedner_shared::checkpoint::Checkpoint;
    use fedner_shared::plan::Method;
    use fedner_shared::update::encode;

    use super::*;

    const CONFIG: &str = r#"{"model_type":"bert","vocab_size":300,"hidden_size":16,
        "num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":32,
        "max_position_embeddings":16}"#;
    const GRID: Grid = Grid {
        clip: 1.0,
        exponent: 18,
    };

    struct Setting {
        checkpoint: Checkpoint,
        bytes: Vec<u8>,
        layout: Layout,
        manifest: Manifest,
    }

    fn setting(method: Method) -> Setting {
        let config = BertConfig::parse(CONFIG).expect("config");
        let checkpoint = Checkpoint::random(config, 3).with_new_head(3, 4);
        let bytes = checkpoint.to_safetensors().expect("file");
        let layout = Layout::read(&bytes[..]).expect("layout");
        let manifest = checkpoint.config.manifest(method, 3);
        Setting {
            checkpoint,
            bytes,
            layout,
            manifest,
        }
    }

    /// Small pseudo-random integers, different for each institution.
    fn update(k: u64, dimension: usize) -> Vec<i32> {
        let mix = |j: u64| (j + 1).wrapping_mul(k * 2 + 0x9e37_79b9_7f4a_7c15) >> 47;
        (0..dimension as u64)
            .map(|j| mix(j) as i32 - (1 << 16))
            .collect()
    }

    fn run(setting: &Setting, order: &[(u32, Vec<i32>)]) -> (Vec<u8>, Digest) {
        let encoded: Vec<(u32, Vec<u8>)> = order
            .iter()
            .map(|(weight, values)| {
                let mut bytes = Vec::new();
                encode(values, &mut bytes).expect("encode");
                (*weight, bytes)
            })
            .collect();
        let updates = encoded.iter().map(|(weight, bytes)| Weighted {
            weight: *weight,
            update: &bytes[..],
        });
        let mut out = Vec::new();
        let digest = aggregate(
            &setting.layout,
            &setting.bytes[..],
            updates.collect(),
            &setting.manifest,
            GRID,
            1 << 20,
            &mut out,
        )
        .expect("aggregate");
        (out, digest)
    }

    #[test]
    fn any_order_gives_the_same_bytes_and_the_weighted_mean() {
        for method in [Method::Full, Method::Head] {
            let setting = setting(method);
            let d = setting.manifest.dimension();
            let mut updates: Vec<(u32, Vec<i32>)> =
                (0..4).map(|k| (100 + 7 * k, update(k.into(), d))).collect();
            let (forward, digest) = run(&setting, &updates);
            assert_eq!(Digest::of(&forward), digest);
            updates.rotate_left(1);
            updates.swap(0, 2);
            assert_eq!(run(&setting, &updates).0, forward);

            let read = Checkpoint::read(CONFIG, &forward).expect("a checkpoint");
            let before = setting.checkpoint.flatten(&setting.manifest).expect("flat");
            let after = read.flatten(&setting.manifest).expect("flat");
            let total: u32 = updates.iter().map(|(weight, _)| weight).sum();
            for j in (0..d).step_by(13) {
                let sum: i64 = updates
                    .iter()
                    .map(|(w, x)| i64::from(*w) * i64::from(x[j]))
                    .sum();
                let expected = f64::from(before[j]) + sum as f64 * GRID.gamma() / f64::from(total);
                assert!(
                    (f64::from(after[j]) - expected).abs() < 1e-7,
                    "{method} {j}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_trained_stays_as_it_is() {
        let setting = setting(Method::Head);
        let d = setting.manifest.dimension();
        let (after, _) = run(&setting, &[(1, update(1, d))]);
        let read = Checkpoint::read(CONFIG, &after).expect("a checkpoint");
        let name = "bert.embeddings.word_embeddings.weight";
        assert_eq!(
            read.tensor(name).expect("tensor"),
            setting.checkpoint.tensor(name).expect("tensor")
        );
        assert_ne!(
            read.tensor("classifier.weight").expect("tensor"),
            setting
                .checkpoint
                .tensor("classifier.weight")
                .expect("tensor")
        );
    }

    #[test]
    fn a_short_update_and_no_update_are_errors() {
        let setting = setting(Method::Head);
        let none: Vec<Weighted<&[u8]>> = Vec::new();
        let result = aggregate(
            &setting.layout,
            &setting.bytes[..],
            none,
            &setting.manifest,
            GRID,
            9,
            io::sink(),
        );
        assert!(matches!(result, Err(Error::Empty)));
        let mut bytes = Vec::new();
        encode(&[1, 2, 3], &mut bytes).expect("encode");
        let short = vec![Weighted {
            weight: 1,
            update: &bytes[..],
        }];
        let result = aggregate(
            &setting.layout,
            &setting.bytes[..],
            short,
            &setting.manifest,
            GRID,
            9,
            io::sink(),
        );
        assert!(matches!(
            result,
            Err(Error::Update {
                index: 0,
                source: update::Error::Dimension { .. }
            })
        ));
    }
}
