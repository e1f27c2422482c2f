//! The sum of masked updates, once enough members have told their shares.

use std::io::Read;

use rayon::prelude::*;

use crate::keys::{commitment, public_key};
use crate::packed::{BLOCK, Width, add, buffer, has_padding, read_exact, read_header, room};
use crate::shamir::recover;
use crate::stream::MaskStream;
use crate::{Error, Roster, Share};

/// Bytes of masked updates that are read ahead, of all together.
const AHEAD_BYTES: usize = 8 << 20;

/// What one member tells of the others: the share of a seed for each whose vector is in the sum, of a mask key for each
/// who dealt shares and was lost.
#[derive(Debug, Clone)]
pub struct Answer {
    pub own_seeds: Vec<(usize, Share)>,
    pub mask_keys: Vec<(usize, Share)>,
}

/// What takes the masks off a sum.
#[derive(Debug)]
pub struct Opening {
    /// Each with whether it is subtracted from the sum.
    streams: Vec<(MaskStream, bool)>,
    vectors: usize,
}

impl Opening {
    /// For the sum over `present`, of `dealt` who have masks with each other. Fewer than the threshold of vectors or
    /// shares give nothing.
    pub fn new(
        roster: &Roster,
        dealt: &[usize],
        present: &[usize],
        answers: &[Answer],
    ) -> Result<Self, Error> {
        let threshold = roster.group().threshold();
        let distinct = |members: &[usize]| {
            let mut all = members.to_vec();
            all.sort_unstable();
            all.dedup();
            all.len() == members.len()
        };
        let within = present.iter().all(|member| dealt.contains(member));
        if present.len() < threshold || !within || !distinct(present) || !distinct(dealt) {
            let found = present.len();
            return Err(Error::TooFew { found, threshold });
        }
        for answer in answers {
            let told = |(member, _): &&(usize, Share)| {
                answer.own_seeds.iter().any(|(other, _)| other == member)
            };
            if let Some((member, _)) = answer.mask_keys.iter().find(told) {
                return Err(Error::Both { member: *member });
            }
        }
        let mut streams = Vec::new();
        for member in present {
            let shares = answers.iter().flat_map(|answer| &answer.own_seeds);
            let seed = recover(*member, roster.group(), &of(*member, shares))?;
            let announced = roster.keys(*member)?.commitment;
            if commitment(&seed, roster.context())? != announced {
                return Err(Error::Secret { member: *member });
            }
            streams.push((MaskStream::new(&seed)?, true));
        }
        for lost in dealt.iter().filter(|member| !present.contains(member)) {
            let shares = answers.iter().flat_map(|answer| &answer.mask_keys);
            let key = recover(*lost, roster.group(), &of(*lost, shares))?;
            if public_key(&key)? != roster.keys(*lost)?.mask {
                return Err(Error::Secret { member: *lost });
            }
            for member in present {
                // Who stands before the lost one added this mask, and who stands behind it subtracted it.
                let seed = roster.pair_seed(&key, *member)?;
                streams.push((MaskStream::new(&seed)?, member < lost));
            }
        }
        Ok(Self {
            streams,
            vectors: present.len(),
        })
    }

    /// The sum of the vectors of `present`, given in that order.
    pub fn sum<R: Read + Send>(
        self,
        mut vectors: Vec<R>,
        dimension: usize,
        width: Width,
    ) -> Result<MaskedSum<R>, Error> {
        if vectors.len() != self.vectors {
            return Err(Error::TooFew {
                found: vectors.len(),
                threshold: self.vectors,
            });
        }
        for vector in &mut vectors {
            read_header(dimension, width, vector)?;
        }
        let block = width.payload_bytes(BLOCK) * vectors.len();
        Ok(MaskedSum {
            opening: self,
            width,
            ahead: (AHEAD_BYTES / block.max(1)).clamp(4, 64),
            buffers: vectors.iter().map(|_| Vec::new()).collect(),
            vectors,
            block: 0,
            left: dimension,
        })
    }
}

fn of<'a>(member: usize, shares: impl Iterator<Item = &'a (usize, Share)>) -> Vec<&'a Share> {
    let shares = shares.filter(|(subject, _)| *subject == member);
    shares.map(|(_, share)| share).collect()
}

/// A sum that is read some blocks at a time.
#[derive(Debug)]
pub struct MaskedSum<R> {
    opening: Opening,
    width: Width,
    ahead: usize,
    vectors: Vec<R>,
    buffers: Vec<Vec<u8>>,
    block: usize,
    left: usize,
}

impl<R: Read + Send> MaskedSum<R> {
    /// How many values have yet to be read.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Reads the next blocks; `sums` has their values then.
    pub fn next(&mut self, sums: &mut Vec<i64>) -> Result<(), Error> {
        let count = self.left.min(self.ahead * BLOCK);
        let (width, last) = (self.width, count == self.left);
        let bytes = width.payload_bytes(count);
        let vectors = self.vectors.par_iter_mut().zip(&mut self.buffers);
        vectors.try_for_each(|(vector, buffer)| {
            buffer.clear();
            buffer.resize(room(count, width), 0);
            read_exact(vector, &mut buffer[..bytes])?;
            if last && count > 0 && has_padding(buffer[bytes - 1], count, width) {
                return Err(Error::Padding);
            }
            Ok(())
        })?;
        sums.clear();
        sums.resize(count, 0);
        let (first, packed) = (self.block, width.payload_bytes(BLOCK));
        let (streams, buffers) = (&self.opening.streams, &self.buffers);
        sums.par_chunks_mut(BLOCK).enumerate().try_for_each_init(
            || (vec![0u64; BLOCK], buffer(width)),
            |(words, mask), (block, sums)| {
                let words = &mut words[..sums.len()];
                words.fill(0);
                for buffer in buffers {
                    add(words, &buffer[block * packed..], width, false);
                }
                let bytes = width.payload_bytes(words.len());
                for (stream, minus) in streams {
                    stream.fill(first + block, width, &mut mask[..bytes])?;
                    add(words, mask, width, *minus);
                }
                for (sum, word) in sums.iter_mut().zip(words) {
                    *sum = width.signed(*word & width.mask());
                }
                Ok::<_, Error>(())
            },
        )?;
        self.block += self.ahead;
        self.left -= count;
        Ok(())
    }

    /// Reads every vector to its end, so that a reader which verifies a digest there has done so.
    pub fn finish(mut self) -> Result<(), Error> {
        for vector in &mut self.vectors {
            if vector.read(&mut [0])? > 0 {
                return Err(Error::Trailing);
            }
        }
        Ok(())
    }
}
