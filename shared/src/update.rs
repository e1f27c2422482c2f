//! The update on the wire: integers in blocks, each bit-packed to its own width.
//!
//! ```text
//! header   "FNU1" | dimension u64 | block length u32           little endian
//! block    width u8 (0..=32) | ceil(n · width / 8) bytes        n = block length, fewer in the last
//! ```
//! Values are zigzag-coded and packed least significant bit first; the unused bits of a block's
//! last byte are zero and the width is the smallest that fits, so one vector has one encoding.

use std::io::{self, Read, Write};

const MAGIC: [u8; 4] = *b"FNU1";
const HEADER_BYTES: usize = 16;

/// Values in a block: small enough that one large value widens few others, large enough that the
/// width byte costs nothing.
pub const BLOCK: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the update begins with {0:02x?}: expected the header FNU1")]
    Magic([u8; 4]),
    #[error("the update has {found} weights: expected {expected}")]
    Dimension { expected: u64, found: u64 },
    #[error("the update has blocks of {0} weights: expected {BLOCK}")]
    Block(u32),
    #[error("block {block} has a width of {width} bits: expected {expected}")]
    Width {
        block: u64,
        width: u8,
        expected: &'static str,
    },
    #[error("block {block} has bits set after its last value")]
    Padding { block: u64 },
    #[error("weight {index} is {value}: expected a magnitude of at most {bound}")]
    Range { index: u64, value: i64, bound: i64 },
    #[error("the update ends too early, in block {block}")]
    Truncated { block: u64 },
    #[error("the update goes on after its last block")]
    Trailing,
    #[error("the update cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn unzigzag(code: u32) -> i32 {
    ((code >> 1) as i32) ^ -((code & 1) as i32)
}

const fn payload_bytes(values: usize, width: u8) -> usize {
    (values * width as usize).div_ceil(8)
}

/// Writes `values` in the wire format.
pub fn encode(values: &[i32], mut writer: impl Write) -> Result<(), Error> {
    writer.write_all(&MAGIC)?;
    writer.write_all(&(values.len() as u64).to_le_bytes())?;
    writer.write_all(&(BLOCK as u32).to_le_bytes())?;
    let mut payload = Vec::with_capacity(payload_bytes(BLOCK, 32) + 8);
    for block in values.chunks(BLOCK) {
        payload.clear();
        let union = block.iter().fold(0u32, |bits, value| bits | zigzag(*value));
        let width = (32 - union.leading_zeros()) as u8;
        pack(block, width, &mut payload);
        writer.write_all(&[width])?;
        writer.write_all(&payload)?;
    }
    Ok(())
}

fn pack(block: &[i32], width: u8, payload: &mut Vec<u8>) {
    let (mut pending, mut bits) = (0u64, 0u32);
    for value in block {
        pending |= u64::from(zigzag(*value)) << bits;
        bits += u32::from(width);
        while bits >= 32 {
            payload.extend_from_slice(&(pending as u32).to_le_bytes());
            pending >>= 32;
            bits -= 32;
        }
    }
    let rest = bits.div_ceil(8) as usize;
    payload.extend_from_slice(&pending.to_le_bytes()[..rest]);
}

/// Reads an update block by block, in memory of one block.
#[derive(Debug)]
pub struct Decoder<R> {
    reader: R,
    dimension: u64,
    bound: i64,
    next: u64,
    block: u64,
    payload: Vec<u8>,
}

impl<R: Read> Decoder<R> {
    /// Reads the header; `dimension` is what the plan's manifest says, `bound` the largest
    /// magnitude the plan allows.
    pub fn new(mut reader: R, dimension: usize, bound: i64) -> Result<Self, Error> {
        let mut header = [0u8; HEADER_BYTES];
        read_exact(&mut reader, &mut header, 0)?;
        let magic = [header[0], header[1], header[2], header[3]];
        if magic != MAGIC {
            return Err(Error::Magic(magic));
        }
        let mut eight = [0u8; 8];
        eight.copy_from_slice(&header[4..12]);
        let found = u64::from_le_bytes(eight);
        if found != dimension as u64 {
            return Err(Error::Dimension {
                expected: dimension as u64,
                found,
            });
        }
        let block = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        if block as usize != BLOCK {
            return Err(Error::Block(block));
        }
        Ok(Self {
            reader,
            dimension: found,
            bound,
            next: 0,
            block: 0,
            payload: Vec::new(),
        })
    }

    /// The next block's values, in `values`; `false` after the last, once the stream has been
    /// found to end there.
    pub fn next_block(&mut self, values: &mut Vec<i32>) -> Result<bool, Error> {
        values.clear();
        if self.next == self.dimension {
            let mut extra = [0u8; 1];
            return match self.reader.read(&mut extra)? {
                0 => Ok(false),
                _ => Err(Error::Trailing),
            };
        }
        let count = (self.dimension - self.next).min(BLOCK as u64) as usize;
        let block = self.block;
        let mut width = [0u8; 1];
        read_exact(&mut self.reader, &mut width, block)?;
        let width = width[0];
        if width > 32 {
            return Err(Error::Width {
                block,
                width,
                expected: "at most 32",
            });
        }
        let bytes = payload_bytes(count, width);
        self.payload.clear();
        // Eight spare bytes let the unpacking read whole words.
        self.payload.resize(bytes + 8, 0);
        read_exact(&mut self.reader, &mut self.payload[..bytes], block)?;
        let union = unpack(&self.payload, count, width, values);
        if union.leading_zeros() + u32::from(width) != 32 {
            return Err(Error::Width {
                block,
                width,
                expected: "the smallest that fits",
            });
        }
        let used = count * width as usize;
        if !used.is_multiple_of(8) && self.payload[bytes - 1] >> (used % 8) != 0 {
            return Err(Error::Padding { block });
        }
        if let Some(index) = values.iter().position(|v| i64::from(*v).abs() > self.bound) {
            let value = i64::from(values[index]);
            return Err(Error::Range {
                index: self.next + index as u64,
                value,
                bound: self.bound,
            });
        }
        self.next += count as u64;
        self.block += 1;
        Ok(true)
    }

    /// Reads to the end, checking everything and keeping nothing.
    pub fn check(mut self) -> Result<(), Error> {
        let mut values = Vec::with_capacity(BLOCK);
        while self.next_block(&mut values)? {}
        Ok(())
    }
}

/// Appends `count` values to `values`; returns the union of the codes' bits.
fn unpack(payload: &[u8], count: usize, width: u8, values: &mut Vec<i32>) -> u32 {
    let mask = (1u64 << width) - 1;
    let mut union = 0;
    for index in 0..count {
        let bit = index * width as usize;
        let mut word = [0u8; 8];
        word.copy_from_slice(&payload[bit / 8..bit / 8 + 8]);
        let code = ((u64::from_le_bytes(word) >> (bit % 8)) & mask) as u32;
        union |= code;
        values.push(unzigzag(code));
    }
    union
}

fn read_exact(reader: &mut impl Read, buffer: &mut [u8], block: u64) -> Result<(), Error> {
    reader.read_exact(buffer).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Error::Truncated { block }
        } else {
            Error::Io(error)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(values: &[i32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(values, &mut bytes).expect("memory");
        bytes
    }

    fn decoded(bytes: &[u8], dimension: usize, bound: i64) -> Result<Vec<i32>, Error> {
        let mut decoder = Decoder::new(bytes, dimension, bound)?;
        let (mut all, mut block) = (Vec::new(), Vec::new());
        while decoder.next_block(&mut block)? {
            all.extend_from_slice(&block);
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn any_vector_round_trips(values in prop::collection::vec(any::<i32>(), 0..10_000), shift in 0..32) {
            let values: Vec<i32> = values.into_iter().map(|value| value >> shift).collect();
            prop_assert_eq!(decoded(&encoded(&values), values.len(), 1 << 31).expect("own encoding"), values);
        }

        #[test]
        fn damage_never_panics_and_never_reads_as_the_same_vector(
            values in prop::collection::vec(-300i32..300, 1..9000),
            at in any::<prop::sample::Index>(),
            flip in 1u8..=255,
        ) {
            let mut bytes = encoded(&values);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(read) = decoded(&bytes, values.len(), 1 << 31) {
                prop_assert_ne!(read, values);
            }
        }
    }

    #[test]
    fn extremes_round_trip() {
        let values = [i32::MIN, i32::MAX, 0, -1, 1];
        assert_eq!(
            decoded(&encoded(&values), 5, 1 << 31).expect("own encoding"),
            values
        );
        assert_eq!(
            encoded(&vec![0; 5000]).len(),
            HEADER_BYTES + 2,
            "zeros cost one byte a block"
        );
    }

    #[test]
    fn what_does_not_fit_the_plan_is_named() {
        let bytes = encoded(&[1, -7, 3]);
        assert!(matches!(
            decoded(&bytes, 4, 100),
            Err(Error::Dimension {
                expected: 4,
                found: 3
            })
        ));
        assert!(matches!(
            decoded(&bytes, 3, 6),
            Err(Error::Range {
                index: 1,
                value: -7,
                bound: 6
            })
        ));
        assert!(matches!(
            decoded(&bytes[..bytes.len() - 1], 3, 100),
            Err(Error::Truncated { block: 0 })
        ));
        assert!(matches!(
            decoded(&[&bytes[..], &[0]].concat(), 3, 100),
            Err(Error::Trailing)
        ));
        assert!(matches!(
            decoded(b"JUNKJUNKJUNKJUNK", 3, 100),
            Err(Error::Magic(_))
        ));
        let mut wide = bytes.clone();
        wide[HEADER_BYTES] = 33;
        assert!(matches!(
            decoded(&wide, 3, 100),
            Err(Error::Width { width: 33, .. })
        ));
        let mut padded = bytes;
        *padded.last_mut().expect("payload") |= 0x80;
        assert!(matches!(
            decoded(&padded, 3, 1000),
            Err(Error::Padding { block: 0 })
        ));
    }
}
