//! The weighted sum of all updates, some blocks at a time.

use std::io::{self, Read};

use fedner_shared::update::{self, BLOCK, Decoder, add_weighted};
use rayon::prelude::*;

use super::{Error, Weighted};

/// Blocks read ahead, of all updates together: with four bytes a weight, 8 MB.
const AHEAD: usize = 512;

pub(super) struct Sum<R> {
    terms: Vec<Term<R>>,
    /// How many blocks of each update are taken at a time.
    blocks: usize,
    /// The sums at hand, and how many of them are used up.
    sums: Vec<i64>,
    used: usize,
    left: usize,
}

struct Term<R> {
    index: usize,
    weight: i32,
    decoder: Decoder<R>,
}

impl<R: Read + Send + Sync> Sum<R> {
    pub(super) fn new(
        updates: Vec<Weighted<R>>,
        dimension: usize,
        bound: i64,
    ) -> Result<Self, Error> {
        let blocks = (AHEAD / updates.len().max(1)).clamp(4, 64);
        let terms = updates.into_iter().enumerate();
        let terms = terms.map(|(index, Weighted { weight, update })| {
            let decoder = Decoder::new(update, dimension, bound);
            Ok(Term {
                index,
                weight: i32::try_from(weight).map_err(|_| Error::Weight { index, weight })?,
                decoder: decoder.map_err(|source| Error::Update { index, source })?,
            })
        });
        Ok(Self {
            terms: terms.collect::<Result<_, Error>>()?,
            blocks,
            sums: Vec::new(),
            used: 0,
            left: dimension,
        })
    }

    /// The next sums, at least one and at most `most`.
    pub(super) fn next(&mut self, most: usize) -> Result<&[i64], Error> {
        if self.used == self.sums.len() {
            self.add_blocks()?;
        }
        let start = self.used;
        self.used = self.sums.len().min(start + most);
        Ok(&self.sums[start..self.used])
    }

    fn add_blocks(&mut self) -> Result<(), Error> {
        let count = self.left.min(self.blocks * BLOCK);
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let blocks = self.blocks;
        self.terms
            .par_iter_mut()
            .try_for_each(|term| term.read_ahead(blocks).map(drop))?;
        self.sums.clear();
        self.sums.resize(count, 0);
        let terms = &self.terms;
        self.sums
            .par_chunks_mut(BLOCK)
            .enumerate()
            .try_for_each_init(
                || [0; BLOCK],
                |values, (block, sums)| {
                    terms
                        .iter()
                        .try_for_each(|term| term.add(block, values, sums))
                },
            )?;
        self.left -= count;
        self.used = 0;
        Ok(())
    }

    /// Reads every update to its end.
    pub(super) fn finish(self) -> Result<(), Error> {
        for mut term in self.terms {
            if term.read_ahead(1)? > 0 {
                return Err(term.fault(update::Error::Trailing));
            }
        }
        Ok(())
    }
}

impl<R: Read> Term<R> {
    fn read_ahead(&mut self, blocks: usize) -> Result<usize, Error> {
        let read = self.decoder.read_ahead(blocks);
        read.map_err(|source| self.fault(source))
    }

    /// Adds the values of one block that was read ahead, times the weight.
    fn add(&self, block: usize, values: &mut [i32; BLOCK], sums: &mut [i64]) -> Result<(), Error> {
        let values = self.decoder.decode(block, values);
        let values = values.map_err(|source| self.fault(source))?;
        // The plan was checked: institutions · weight · bound is below 2^62.
        add_weighted(sums, self.weight, values);
        Ok(())
    }

    fn fault(&self, source: update::Error) -> Error {
        Error::Update {
            index: self.index,
            source,
        }
    }
}
