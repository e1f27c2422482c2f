//! An update under its masks.

use std::io::Write;

use rayon::prelude::*;

use crate::packed::{BLOCK, Width, add, buffer, pack, write_header};
use crate::stream::MaskStream;
use crate::{Error, Roster, Secret};

/// Blocks that are masked before they are written: some megabytes, whatever the size of the model.
const AHEAD: usize = 64;

/// All masks of one member in one attempt.
#[derive(Debug)]
pub struct Masker {
    width: Width,
    /// Each with whether it is subtracted.
    streams: Vec<(MaskStream, bool)>,
}

impl Masker {
    /// The masks of member `own` with all that dealt shares, of which it is one.
    pub fn new(
        secret: &Secret,
        roster: &Roster,
        own: usize,
        dealt: &[usize],
        width: Width,
    ) -> Result<Self, Error> {
        let (group, context) = (roster.group(), roster.context());
        if dealt.len() < group.threshold() || !dealt.contains(&own) {
            return Err(Error::TooFew {
                found: dealt.len(),
                threshold: group.threshold(),
            });
        }
        let mut streams = vec![(MaskStream::new(&*secret.own_seed(context)?)?, false)];
        let mask_key = secret.mask_key(context)?;
        for peer in dealt.iter().copied().filter(|peer| *peer != own) {
            let seed = roster.pair_seed(&mask_key, peer)?;
            streams.push((MaskStream::new(&seed)?, peer < own));
        }
        Ok(Self { width, streams })
    }

    /// Writes `values` times `weight` under the masks. `bound` is the largest magnitude of a value.
    pub fn write(
        &self,
        values: &[i32],
        (weight, bound): (u32, i64),
        writer: &mut impl Write,
    ) -> Result<(), Error> {
        let range = |value: &i32| i64::from(*value).abs() > bound;
        if let Some(index) = values.iter().position(range) {
            return Err(Error::Range { index });
        }
        write_header(values.len(), self.width, writer)?;
        for (window, values) in values.chunks(AHEAD * BLOCK).enumerate() {
            let blocks = values.par_chunks(BLOCK).enumerate();
            let masked = blocks.map_init(
                || (vec![0; BLOCK], buffer(self.width)),
                |(sums, mask), (block, values)| {
                    let sums = &mut sums[..values.len()];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = (i64::from(*value) * i64::from(weight)) as u64;
                    }
                    self.add(window * AHEAD + block, sums, mask)?;
                    Ok(pack(sums, self.width))
                },
            );
            let masked: Vec<Vec<u8>> = masked.collect::<Result<_, Error>>()?;
            for packed in masked {
                writer.write_all(&packed)?;
            }
        }
        Ok(())
    }

    fn add(&self, block: usize, sums: &mut [u64], mask: &mut [u8]) -> Result<(), Error> {
        let bytes = self.width.payload_bytes(sums.len());
        for (stream, minus) in &self.streams {
            stream.fill(block, self.width, &mut mask[..bytes])?;
            add(sums, mask, self.width, *minus);
        }
        Ok(())
    }
}
