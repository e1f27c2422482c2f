//! What the rule makes of all updates, some blocks at a time.

use std::io::{self, Read};
use std::ops::Range;

use fedner_shared::update::{self, BLOCK, Decoder, Sums as Places, squared_distance, squared_norm};
use rayon::prelude::*;

use super::Error;
use super::strategy::{Block, Combination, Scratch, Updates};

/// Blocks read ahead, of all updates together: with four bytes a weight, 8 MB.
const AHEAD: usize = 512;

/// All updates, read side by side.
pub(super) struct Terms<R> {
    pub(super) each: Vec<Term<R>>,
    /// How many blocks of each update are taken at a time.
    blocks: usize,
    pub(super) left: usize,
}

pub(super) struct Term<R> {
    index: usize,
    decoder: Decoder<R>,
}

impl<R: Read + Send + Sync> Terms<R> {
    pub(super) fn new(updates: Vec<R>, dimension: usize, bound: i64) -> Result<Self, Error> {
        let blocks = (AHEAD / updates.len().max(1)).clamp(4, 64);
        let terms = updates.into_iter().enumerate().map(|(index, update)| {
            let decoder = Decoder::new(update, dimension, bound);
            let decoder = decoder.map_err(|source| Error::Update { index, source })?;
            Ok(Term { index, decoder })
        });
        Ok(Self {
            each: terms.collect::<Result<_, Error>>()?,
            blocks,
            left: dimension,
        })
    }

    /// Reads the next blocks of all; how many values of each lie ready.
    pub(super) fn read_ahead(&mut self) -> Result<usize, Error> {
        let count = self.left.min(self.blocks * BLOCK);
        let blocks = self.blocks;
        self.each
            .par_iter_mut()
            .try_for_each(|term| term.read_ahead(blocks).map(drop))?;
        self.left -= count;
        Ok(count)
    }

    /// Reads every update to its end.
    pub(super) fn finish(self) -> Result<(), Error> {
        for mut term in self.each {
            if term.read_ahead(1)? > 0 {
                return Err(term.fault(update::Error::Trailing));
            }
        }
        Ok(())
    }
}

/// The squared norm of each update, all of which are read to their end.
pub(super) fn squared_norms<R: Read + Send + Sync>(
    updates: Vec<R>,
    dimension: usize,
    bound: i64,
) -> Result<Vec<u128>, Error> {
    let mut terms = Terms::new(updates, dimension, bound)?;
    let mut norms = vec![0u128; terms.each.len()];
    while terms.left > 0 {
        let blocks = terms.read_ahead()?.div_ceil(BLOCK);
        let all = terms.each.par_iter().zip(&mut norms);
        all.try_for_each_init(
            || [0; BLOCK],
            |values, (term, norm)| {
                for block in 0..blocks {
                    let count = term.decode(block, values)?;
                    *norm += squared_norm(&values[..count]);
                }
                Ok::<_, Error>(())
            },
        )?;
    }
    terms.finish()?;
    Ok(norms)
}

/// The squared distances between all updates, which are read to their end: a row for each.
pub(super) fn squared_distances<R: Read + Send + Sync>(
    updates: Vec<R>,
    dimension: usize,
    bound: i64,
) -> Result<Vec<Vec<u128>>, Error> {
    let mut terms = Terms::new(updates, dimension, bound)?;
    let n = terms.each.len();
    let mut all = vec![vec![0u128; n]; n];
    while terms.left > 0 {
        let blocks = terms.read_ahead()?.div_ceil(BLOCK);
        let of_block = |block| {
            let mut values = [0; BLOCK];
            let mut rows = Vec::with_capacity(n);
            for term in &terms.each {
                let count = term.decode(block, &mut values)?;
                rows.push(values[..count].to_vec());
            }
            let pairs = (0..n).flat_map(|k| (0..k).map(move |l| (k, l)));
            let distances = pairs.map(|(k, l)| squared_distance(&rows[k], &rows[l]));
            Ok::<Vec<u128>, Error>(distances.collect())
        };
        let found = (0..blocks).into_par_iter().map(of_block);
        // Exact sums, so that it does not matter which blocks come first.
        let add = |mut sums: Vec<u128>, block: Vec<u128>| {
            for (sum, distance) in sums.iter_mut().zip(block) {
                *sum += distance;
            }
            Ok(sums)
        };
        let found = found.try_reduce(|| vec![0; n * n.saturating_sub(1) / 2], add)?;
        let pairs = (0..n).flat_map(|k| (0..k).map(move |l| (k, l)));
        for ((k, l), distance) in pairs.zip(found) {
            all[k][l] += distance;
            all[l][k] += distance;
        }
    }
    terms.finish()?;
    Ok(all)
}

pub(super) struct Sum<R> {
    terms: Terms<R>,
    combination: Box<dyn Combination>,
    /// Of each update the values that count as zero.
    left_out: Vec<Vec<Range<usize>>>,
    /// Values of each update that the sums before were of.
    position: usize,
    /// The sums at hand, and how many of them are used up.
    sums: Vec<i64>,
    used: usize,
}

impl<R: Read + Send + Sync> Sum<R> {
    pub(super) fn new(
        updates: Vec<R>,
        dimension: usize,
        bound: i64,
        combination: Box<dyn Combination>,
    ) -> Result<Self, Error> {
        Ok(Self {
            terms: Terms::new(updates, dimension, bound)?,
            combination,
            left_out: Vec::new(),
            position: 0,
            sums: Vec::new(),
            used: 0,
        })
    }

    /// Counts some values of each update as zero.
    pub(super) fn without(self, left_out: Vec<Vec<Range<usize>>>) -> Self {
        Self { left_out, ..self }
    }

    fn add_blocks(&mut self) -> Result<(), Error> {
        if self.terms.left == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let count = self.terms.read_ahead()?;
        self.sums.resize(count, 0);
        let (terms, combination) = (&self.terms.each, &self.combination);
        let heard = Heard {
            terms,
            left_out: &self.left_out,
            position: self.position,
        };
        self.position += count;
        self.sums
            .par_chunks_mut(BLOCK)
            .enumerate()
            .try_for_each_init(Scratch::default, |scratch, (block, sums)| {
                sums.fill(0);
                let mut block = Block {
                    updates: &heard,
                    number: block,
                    members: terms.len(),
                    scratch,
                };
                combination.combine(&mut block, sums)
            })?;
        self.used = 0;
        Ok(())
    }
}

/// Sums of all updates, weight by weight.
pub(super) trait Sums {
    /// The next sums, at least one and at most `most`.
    fn next(&mut self, most: usize) -> Result<&[i64], Error>;

    /// Reads every update to its end.
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

impl<R: Read + Send + Sync> Sums for Sum<R> {
    fn next(&mut self, most: usize) -> Result<&[i64], Error> {
        if self.used == self.sums.len() {
            self.add_blocks()?;
        }
        let start = self.used;
        self.used = self.sums.len().min(start + most);
        Ok(&self.sums[start..self.used])
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        self.terms.finish()
    }
}

/// What of the blocks that lie ready counts.
struct Heard<'a, R> {
    terms: &'a [Term<R>],
    left_out: &'a [Vec<Range<usize>>],
    /// Values of each update before these blocks.
    position: usize,
}

impl<R> Heard<'_, R> {
    /// The places in a block of `count` values that do not count.
    fn silent(
        &self,
        member: usize,
        block: usize,
        count: usize,
    ) -> impl Iterator<Item = Range<usize>> {
        let start = self.position + block * BLOCK;
        let own = self.left_out.get(member).into_iter().flatten();
        own.filter_map(move |range| {
            let from = range.start.max(start);
            let to = range.end.min(start + count);
            (from < to).then(|| from - start..to - start)
        })
    }
}

impl<R: Read + Send + Sync> Updates for Heard<'_, R> {
    fn decode(
        &self,
        member: usize,
        block: usize,
        values: &mut [i32; BLOCK],
    ) -> Result<usize, Error> {
        let count = self.terms[member].decode(block, values)?;
        for range in self.silent(member, block, count) {
            values[range].fill(0);
        }
        Ok(count)
    }

    fn largest(&self, member: usize, block: usize) -> u32 {
        self.terms[member].decoder.largest(block)
    }

    fn add(&self, member: usize, block: usize, weight: i32, sums: Places<'_>) -> Result<(), Error> {
        let term = &self.terms[member];
        match sums {
            Places::Narrow(sums) => self.add_heard(member, block, sums, |sums| {
                term.add(block, weight, Places::Narrow(sums))
            }),
            Places::Wide(sums) => self.add_heard(member, block, sums, |sums| {
                term.add(block, weight, Places::Wide(sums))
            }),
        }
    }
}

impl<R> Heard<'_, R> {
    /// Adds a whole block to `sums`, and takes back what does not count.
    fn add_heard<T: Copy>(
        &self,
        member: usize,
        block: usize,
        sums: &mut [T],
        add: impl FnOnce(&mut [T]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let before = self.silent(member, block, sums.len());
        let before: Vec<(Range<usize>, Vec<T>)> = before
            .map(|range| (range.clone(), sums[range].to_vec()))
            .collect();
        add(sums)?;
        for (range, before) in before {
            sums[range].copy_from_slice(&before);
        }
        Ok(())
    }
}

impl<R: Read> Term<R> {
    fn read_ahead(&mut self, blocks: usize) -> Result<usize, Error> {
        let read = self.decoder.read_ahead(blocks);
        read.map_err(|source| self.fault(source))
    }

    /// Decodes one block that was read ahead; how many values it has.
    pub(super) fn decode(&self, block: usize, values: &mut [i32; BLOCK]) -> Result<usize, Error> {
        let values = self.decoder.decode(block, values);
        Ok(values.map_err(|source| self.fault(source))?.len())
    }

    fn add(&self, block: usize, weight: i32, sums: Places<'_>) -> Result<(), Error> {
        let added = self.decoder.add(block, weight, sums);
        added.map_err(|source| self.fault(source))
    }

    fn fault(&self, source: update::Error) -> Error {
        Error::Update {
            index: self.index,
            source,
        }
    }
}
