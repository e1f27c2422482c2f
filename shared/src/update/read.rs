//! Reading updates: block by block from a file, or checked chunk by chunk as they come.

use std::io::Read;
use std::ops::Range;

use super::sum::squared_norm;
use super::{BLOCK, Error, HEADER_BYTES, MAGIC, payload_bytes};
use crate::unpack::{Into, SPARE, unpack};

/// Bytes asked of the reader at a time.
const READ: usize = 1 << 16;

/// Where a block lies among the bytes at hand.
#[derive(Debug, Clone, Copy)]
struct Frame {
    number: u64,
    /// The index of its first value.
    first: u64,
    count: usize,
    width: u8,
    /// The offset of its payload.
    payload: usize,
}

impl Frame {
    fn end(&self) -> usize {
        self.payload + payload_bytes(self.count, self.width)
    }

    /// The block's values, everything about them checked. [`SPARE`] bytes follow `bytes[..end]`.
    fn decode<'a>(
        &self,
        bytes: &[u8],
        bound: i64,
        values: &'a mut [i32; BLOCK],
    ) -> Result<&'a [i32], Error> {
        let values = &mut values[..self.count];
        let union = self.unpack(bytes, Into::Values(values));
        self.check(bytes, bound, union)?;
        Ok(values)
    }

    fn unpack(&self, bytes: &[u8], into: Into<'_>) -> u32 {
        let payload = &bytes[self.payload..self.end() + SPARE];
        unpack(payload, self.width.into(), into)
    }

    /// Everything about a block of which the codes have this union.
    fn check(&self, bytes: &[u8], bound: i64, union: u32) -> Result<(), Error> {
        let (block, width) = (self.number, self.width);
        if union.leading_zeros() + u32::from(width) != 32 {
            let expected = "the smallest that fits";
            return Err(Error::Width {
                block,
                width,
                expected,
            });
        }
        let used = self.count * width as usize;
        if !used.is_multiple_of(8) && bytes[self.end() - 1] >> (used % 8) != 0 {
            return Err(Error::Padding { block });
        }
        // Codes up to 2·bound are those of -bound to bound, and none is above the union of all.
        if i64::from(union) > 2 * bound {
            let mut values = vec![0; self.count];
            self.unpack(bytes, Into::Values(&mut values));
            if let Some(index) = values.iter().position(|v| i64::from(*v).abs() > bound) {
                return Err(Error::Range {
                    index: self.first + index as u64,
                    value: values[index].into(),
                    bound,
                });
            }
        }
        Ok(())
    }
}

/// That a block, whose values begin at `first`, has none but 0 in the ranges.
fn check_zeros(zeros: &[Range<usize>], first: u64, values: &[i32]) -> Result<(), Error> {
    let start = first as usize;
    for range in zeros {
        let from = range.start.max(start);
        let until = range.end.min(start + values.len());
        let mut own = from..until;
        if let Some(index) = own.find(|index| values[index - start] != 0) {
            return Err(Error::Range {
                index: index as u64,
                value: values[index - start].into(),
                bound: 0,
            });
        }
    }
    Ok(())
}

/// Finds the blocks in the bytes of an update.
#[derive(Debug)]
struct Parser {
    dimension: u64,
    next: u64,
    block: u64,
}

impl Parser {
    /// `dimension` is what the plan's manifest says.
    fn new(header: [u8; HEADER_BYTES], dimension: usize) -> Result<Self, Error> {
        let [
            m0,
            m1,
            m2,
            m3,
            d0,
            d1,
            d2,
            d3,
            d4,
            d5,
            d6,
            d7,
            b0,
            b1,
            b2,
            b3,
        ] = header;
        let magic = [m0, m1, m2, m3];
        if magic != MAGIC {
            return Err(Error::Magic(magic));
        }
        let found = u64::from_le_bytes([d0, d1, d2, d3, d4, d5, d6, d7]);
        let expected = dimension as u64;
        if found != expected {
            return Err(Error::Dimension { expected, found });
        }
        let block = u32::from_le_bytes([b0, b1, b2, b3]);
        if block as usize != BLOCK {
            return Err(Error::Block(block));
        }
        Ok(Self {
            dimension: found,
            next: 0,
            block: 0,
        })
    }

    fn is_done(&self) -> bool {
        self.next == self.dimension
    }

    fn truncated(&self) -> Error {
        Error::Truncated { block: self.block }
    }

    /// The next block, if all of it lies in `bytes[at..]`.
    fn frame(&mut self, bytes: &[u8], at: usize) -> Result<Option<Frame>, Error> {
        let Some(width) = bytes.get(at).copied() else {
            return Ok(None);
        };
        if width > 32 {
            return Err(Error::Width {
                block: self.block,
                width,
                expected: "at most 32",
            });
        }
        let frame = Frame {
            number: self.block,
            first: self.next,
            count: (self.dimension - self.next).min(BLOCK as u64) as usize,
            width,
            payload: at + 1,
        };
        if frame.end() > bytes.len() {
            return Ok(None);
        }
        self.next += frame.count as u64;
        self.block += 1;
        Ok(Some(frame))
    }
}

/// Sums of a block's values.
#[derive(Debug)]
pub enum Sums<'a> {
    /// Where 32 bits hold them: twice as many at a time.
    Narrow(&'a mut [i32]),
    Wide(&'a mut [i64]),
}

/// Reads an update some blocks ahead, in memory of those.
#[derive(Debug)]
pub struct Decoder<R> {
    reader: R,
    parser: Parser,
    bound: i64,
    bytes: Bytes,
    frames: Vec<Frame>,
}

/// What was read and not used yet.
#[derive(Debug, Default)]
struct Bytes {
    /// The bytes at hand are `buffer[start..end]`; [`SPARE`] more follow.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Bytes {
    fn at_hand(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads some more; how many there are, none at the end.
    fn refill(&mut self, reader: &mut impl Read) -> Result<usize, Error> {
        if self.buffer.len() < self.end + READ + SPARE {
            self.buffer.resize(self.end + READ + SPARE, 0);
        }
        loop {
            let room = &mut self.buffer[self.end..self.end + READ];
            match reader.read(room) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Moves what is at hand to the front.
    fn compact(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }
}

impl<R: Read> Decoder<R> {
    /// Reads the header; `dimension` is what the plan's manifest says, `bound` the largest
    /// magnitude the plan allows.
    pub fn new(mut reader: R, dimension: usize, bound: i64) -> Result<Self, Error> {
        let mut bytes = Bytes::default();
        // Read with what follows: a digest is made fastest of pieces that begin where its own chunks do.
        let header = loop {
            if let Some(header) = bytes.at_hand().first_chunk::<HEADER_BYTES>() {
                break *header;
            }
            if bytes.refill(&mut reader)? == 0 {
                return Err(Error::Truncated { block: 0 });
            }
        };
        bytes.start = HEADER_BYTES;
        Ok(Self {
            reader,
            parser: Parser::new(header, dimension)?,
            bound,
            bytes,
            frames: Vec::new(),
        })
    }

    /// Goes on to the next blocks, at most `most` of them; how many lie ready. 0 after the last,
    /// once the stream has been found to end there.
    pub fn read_ahead(&mut self, most: usize) -> Result<usize, Error> {
        self.frames.clear();
        let Self { reader, bytes, .. } = self;
        bytes.compact();
        while self.frames.len() < most && !self.parser.is_done() {
            let read = &bytes.buffer[..bytes.end];
            if let Some(frame) = self.parser.frame(read, bytes.start)? {
                bytes.start = frame.end();
                self.frames.push(frame);
            } else if bytes.refill(reader)? == 0 {
                return Err(self.parser.truncated());
            }
        }
        let mut more = || Ok::<_, Error>(!bytes.at_hand().is_empty() || bytes.refill(reader)? > 0);
        if self.frames.is_empty() && more()? {
            return Err(Error::Trailing);
        }
        Ok(self.frames.len())
    }

    /// The values of a block that lies ready, everything about them checked.
    pub fn decode<'a>(
        &self,
        ready: usize,
        values: &'a mut [i32; BLOCK],
    ) -> Result<&'a [i32], Error> {
        self.frames[ready].decode(&self.bytes.buffer, self.bound, values)
    }

    /// No value of a block that lies ready is longer than this.
    pub fn largest(&self, ready: usize) -> u32 {
        // Codes below 2^w are of values from -2^(w-1) on.
        match self.frames[ready].width {
            0 => 0,
            width => 1 << (width - 1),
        }
    }

    /// Adds `weight` times each value of a block that lies ready to `sums`, which the caller knows to hold
    /// them; everything about the block is checked. After an error the sums mean nothing.
    pub fn add(&self, ready: usize, weight: i32, sums: Sums<'_>) -> Result<(), Error> {
        let frame = &self.frames[ready];
        let union = frame.unpack(
            &self.bytes.buffer,
            match sums {
                Sums::Narrow(sums) => Into::Narrow(&mut sums[..frame.count], weight),
                Sums::Wide(sums) => Into::Wide(&mut sums[..frame.count], weight),
            },
        );
        frame.check(&self.bytes.buffer, self.bound, union)
    }

    /// Reads to the end; all values.
    pub fn read_all(mut self) -> Result<Vec<i32>, Error> {
        let mut all = Vec::with_capacity(self.parser.dimension as usize);
        let mut values = [0; BLOCK];
        while self.read_ahead(1)? > 0 {
            all.extend_from_slice(self.decode(0, &mut values)?);
        }
        Ok(all)
    }
}

/// Checks the bytes of an update as they come, and keeps at most a block of them.
#[derive(Debug)]
pub struct Checker {
    dimension: usize,
    bound: i64,
    /// The squared norm so far, and the largest there may be.
    squared: u128,
    squared_bound: u128,
    /// Where every value must be 0.
    zeros: Vec<Range<usize>>,
    parser: Option<Parser>,
    buffer: Vec<u8>,
    values: Box<[i32; BLOCK]>,
}

impl Checker {
    /// `dimension` is what the plan's manifest says, `bound` the largest magnitude the plan
    /// allows, `squared_bound` the largest squared norm, in grid steps.
    pub fn new(dimension: usize, bound: i64, squared_bound: u128) -> Self {
        Self {
            dimension,
            bound,
            squared: 0,
            squared_bound,
            zeros: Vec::new(),
            parser: None,
            buffer: Vec::new(),
            values: Box::new([0; BLOCK]),
        }
    }

    /// Also refuses an update that changes weights which a plan freezes.
    #[must_use]
    pub fn with_zeros(self, zeros: Vec<Range<usize>>) -> Self {
        Self { zeros, ..self }
    }

    /// The next bytes; an error as soon as they cannot be those of a sound update.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        if self.parser.is_none() {
            let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
                return Ok(());
            };
            self.parser = Some(Parser::new(*header, self.dimension)?);
            at = HEADER_BYTES;
        }
        let Some(parser) = &mut self.parser else {
            return Ok(());
        };
        let end = self.buffer.len();
        self.buffer.resize(end + SPARE, 0);
        while !parser.is_done() {
            let Some(frame) = parser.frame(&self.buffer[..end], at)? else {
                break;
            };
            let values = frame.decode(&self.buffer, self.bound, &mut self.values)?;
            check_zeros(&self.zeros, frame.first, values)?;
            self.squared += squared_norm(values);
            if self.squared > self.squared_bound {
                return Err(Error::Norm {
                    block: frame.number,
                    bound: self.squared_bound,
                });
            }
            at = frame.end();
        }
        if parser.is_done() && at < end {
            return Err(Error::Trailing);
        }
        self.buffer.truncate(end);
        self.buffer.drain(..at);
        Ok(())
    }

    /// The bytes have ended.
    pub fn finish(&self) -> Result<(), Error> {
        match &self.parser {
            Some(parser) if parser.is_done() => Ok(()),
            Some(parser) => Err(parser.truncated()),
            None => Err(Error::Truncated { block: 0 }),
        }
    }
}
