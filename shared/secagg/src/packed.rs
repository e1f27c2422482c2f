//! A masked update on the wire: integers modulo 2^b, side by side.
//!
//! ```text
//! header   "FNM1" | dimension u64 | b u32        little endian
//! values   b bits each, least significant first; the unused bits of the last byte are zero
//! ```
//! Every value has the same width: another one would tell of the value.

use std::io::{Read, Write};

use fedner_shared::unpack::{self, Into, SPARE};

use crate::Error;

const MAGIC: [u8; 4] = *b"FNM1";
pub const HEADER_BYTES: usize = 16;
/// Values that are worked on at a time. Of any width they take whole blocks of the cipher.
pub const BLOCK: usize = 4096;
/// A value and the bits before it in its first byte fit one word of 64 bits.
pub const LARGEST_WIDTH: u8 = 56;

/// b: sums are known modulo 2^b.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width(u8);

impl Width {
    /// The least that tells sums from −`largest` to `largest` apart.
    pub fn of_sums(largest: u128) -> Result<Self, Error> {
        let bits = (u128::BITS - largest.leading_zeros() + 1).max(1);
        match u8::try_from(bits) {
            Ok(bits) if bits <= LARGEST_WIDTH => Ok(Self(bits)),
            _ => Err(Error::Width(largest)),
        }
    }

    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    pub(crate) const fn mask(self) -> u64 {
        (1 << self.0) - 1
    }

    pub(crate) const fn payload_bytes(self, values: usize) -> usize {
        (values * self.0 as usize).div_ceil(8)
    }

    /// Bytes of a masked update of that many weights.
    pub const fn bytes(self, dimension: usize) -> u64 {
        (HEADER_BYTES + self.payload_bytes(dimension)) as u64
    }

    /// The integer of least magnitude that is `value` modulo 2^b.
    pub(crate) const fn signed(self, value: u64) -> i64 {
        let unused = 64 - self.0 as u32;
        ((value << unused) as i64) >> unused
    }
}

/// Room for that many packed values and for what [`add`] looks at behind them.
pub(crate) const fn room(values: usize, width: Width) -> usize {
    width.payload_bytes(values) + SPARE
}

/// Room for one block, to be read by [`add`].
pub(crate) fn buffer(width: Width) -> Vec<u8> {
    vec![0; room(BLOCK, width)]
}

/// Adds or subtracts packed values, with carries beyond b bits left in place. `packed` has [`room`].
pub(crate) fn add(sums: &mut [u64], packed: &[u8], width: Width, minus: bool) {
    if width.bits() <= unpack::LARGEST_WIDTH {
        let into = if minus {
            Into::Subtracted(sums)
        } else {
            Into::Added(sums)
        };
        unpack::unpack(packed, width.0.into(), into);
        return;
    }
    let (bits, mask) = (width.0 as usize, width.mask());
    for (index, sum) in sums.iter_mut().enumerate() {
        let at = index * bits;
        let mut word = [0; 8];
        word.copy_from_slice(&packed[at / 8..at / 8 + 8]);
        let value = (u64::from_le_bytes(word) >> (at % 8)) & mask;
        *sum = if minus {
            sum.wrapping_sub(value)
        } else {
            sum.wrapping_add(value)
        };
    }
}

/// The values modulo 2^b, side by side. The bits above b of each do not matter.
pub(crate) fn pack(values: &[u64], width: Width) -> Vec<u8> {
    let bytes = width.payload_bytes(values.len());
    let mut packed = vec![0; (bytes + 1).next_multiple_of(8)];
    let (words, _) = packed.as_chunks_mut();
    let (mut word, mut pending, mut bits) = (0, 0, 0);
    for value in values {
        let value = value & width.mask();
        pending |= value << bits;
        bits += width.bits();
        if bits >= 64 {
            words[word] = pending.to_le_bytes();
            word += 1;
            bits -= 64;
            // What did not fit. No value is as wide as a word: the shift is less than 64.
            pending = value >> (width.bits() - bits);
        }
    }
    words[word] = pending.to_le_bytes();
    packed.truncate(bytes);
    packed
}

fn header(dimension: usize, width: Width) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..12].copy_from_slice(&(dimension as u64).to_le_bytes());
    header[12..].copy_from_slice(&width.bits().to_le_bytes());
    header
}

pub(crate) fn write_header(
    dimension: usize,
    width: Width,
    writer: &mut impl Write,
) -> Result<(), Error> {
    Ok(writer.write_all(&header(dimension, width))?)
}

pub(crate) fn read_header(
    dimension: usize,
    width: Width,
    reader: &mut impl Read,
) -> Result<(), Error> {
    let mut found = [0; HEADER_BYTES];
    read_exact(reader, &mut found)?;
    if found == header(dimension, width) {
        return Ok(());
    }
    Err(wrong_header(dimension, width))
}

fn wrong_header(dimension: usize, width: Width) -> Error {
    Error::Header {
        dimension: dimension as u64,
        width: width.bits(),
    }
}

pub(crate) fn read_exact(reader: &mut impl Read, out: &mut [u8]) -> Result<(), Error> {
    reader.read_exact(out).map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Error::Truncated;
        }
        Error::Io(error)
    })
}

/// Whether bits after the last value are set.
pub(crate) fn has_padding(last: u8, values: usize, width: Width) -> bool {
    let used = values * width.0 as usize % 8;
    used > 0 && last >> used != 0
}

/// Checks the bytes of a masked update as they come: header, length and unused bits. Its values are uniform, so that
/// there is nothing else to look at.
#[derive(Debug)]
pub struct Checker {
    dimension: usize,
    width: Width,
    head: Vec<u8>,
    taken: u64,
    last: u8,
}

impl Checker {
    pub const fn new(dimension: usize, width: Width) -> Self {
        Self {
            dimension,
            width,
            head: Vec::new(),
            taken: 0,
            last: 0,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(last) = bytes.last() else {
            return Ok(());
        };
        if self.head.len() < HEADER_BYTES {
            let count = bytes.len().min(HEADER_BYTES - self.head.len());
            self.head.extend_from_slice(&bytes[..count]);
            if !header(self.dimension, self.width).starts_with(&self.head) {
                return Err(wrong_header(self.dimension, self.width));
            }
        }
        self.taken += bytes.len() as u64;
        self.last = *last;
        if self.taken > self.width.bytes(self.dimension) {
            return Err(Error::Trailing);
        }
        Ok(())
    }

    pub fn finish(self) -> Result<(), Error> {
        if self.taken < self.width.bytes(self.dimension) {
            return Err(Error::Truncated);
        }
        if has_padding(self.last, self.dimension, self.width) {
            return Err(Error::Padding);
        }
        Ok(())
    }
}
