//! The update on the wire: integers in blocks, each bit-packed to its own width.
//!
//! ```text
//! header   "FNU1" | dimension u64 | block length u32           little endian
//! block    width u8 (0..=32) | ceil(n · width / 8) bytes        n = block length, fewer in the last
//! ```
//! Values are zigzag-coded and packed least significant bit first; the unused bits of a block's
//! last byte are zero and the width is the smallest that fits, so one vector has one encoding.

mod order;
mod read;
mod sum;

use std::io::{self, Write};

use crate::unpack::zigzag;
pub use order::Middle;
pub use read::{Checker, Decoder, Sums};
pub use sum::{add_scaled, add_to_weights, squared_distance, squared_norm};

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
    #[error(
        "the update is longer than the plan allows from block {block} on: expected a squared norm of at most {bound} grid steps"
    )]
    Norm { block: u64, bound: u128 },
    #[error("the update ends too early, in block {block}")]
    Truncated { block: u64 },
    #[error("the update goes on after its last block")]
    Trailing,
    #[error("the update cannot be read or written: {0}")]
    Io(#[from] io::Error),
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
        let whole = Decoder::new(bytes, dimension, bound).and_then(Decoder::read_all);
        // However the bytes are cut, the checker comes to the same verdict.
        let mut checker = Checker::new(dimension, bound, u128::MAX);
        let pushed = bytes.chunks(977).try_for_each(|bytes| checker.push(bytes));
        let checked = pushed.and_then(|()| checker.finish());
        let told = |error: &Error| error.to_string();
        assert_eq!(
            whole.as_ref().err().map(told),
            checked.as_ref().err().map(told)
        );
        whole
    }

    /// As often as `tests/compare/instructions.sh` says, which counts instructions.
    #[test]
    #[ignore = "counted by tests/compare/instructions.sh"]
    fn unpack_and_add_of_65536() {
        let times = std::env::var("FEDNER_KERNEL_TIMES").ok();
        let times = times.and_then(|times| times.parse().ok()).unwrap_or(1);
        // Nine bits.
        let values: Vec<i32> = (0..65_536i32).map(|i| i * 7919 % 255).collect();
        let bytes = encoded(&values);
        let mut sums = [0i32; BLOCK];
        for _ in 0..times {
            let mut decoder = Decoder::new(&bytes[..], values.len(), 256).expect("a header");
            while decoder.read_ahead(16).expect("blocks") > 0 {
                for block in 0..16 {
                    let sums = Sums::Narrow(std::hint::black_box(&mut sums));
                    decoder.add(block, 1, sums).expect("added");
                }
            }
        }
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
    fn frozen_weights_that_change_are_refused_wherever_they_lie() {
        let mut values = vec![7; 3 * BLOCK];
        let zeros = vec![10..20, BLOCK - 2..BLOCK + 3];
        for range in &zeros {
            values[range.clone()].fill(0);
        }
        let check = |values: &[i32]| {
            let mut checker = Checker::new(values.len(), 100, u128::MAX).with_zeros(zeros.clone());
            checker
                .push(&encoded(values))
                .and_then(|()| checker.finish())
        };
        check(&values).expect("nothing frozen changes");
        for index in [10, 19, BLOCK - 2, BLOCK, BLOCK + 2] {
            let mut values = values.clone();
            values[index] = -1;
            let error = check(&values).expect_err("a frozen weight");
            assert!(matches!(error, Error::Range { index: found, .. } if found == index as u64));
        }
        for index in [9, 20, BLOCK - 3, BLOCK + 3] {
            let mut values = values.clone();
            values[index] = -1;
            check(&values).expect("a free weight");
        }
    }

    fn checked(values: &[i32], squared_bound: u128, chunk: usize) -> Result<(), Error> {
        let bytes = encoded(values);
        let mut checker = Checker::new(values.len(), 1 << 31, squared_bound);
        bytes
            .chunks(chunk)
            .try_for_each(|bytes| checker.push(bytes))?;
        checker.finish()
    }

    proptest! {
        #[test]
        fn a_norm_is_refused_from_the_first_step_beyond_the_bound(
            values in prop::collection::vec(any::<i32>(), 1..10_000),
            shift in 0..31,
            chunk in 1usize..20_000,
        ) {
            let values: Vec<i32> = values.into_iter().map(|value| value >> shift).collect();
            let square = |value: &i32| u128::from(value.unsigned_abs()).pow(2);
            let squared: u128 = values.iter().map(square).sum();
            prop_assert!(checked(&values, squared, chunk).is_ok());
            if squared > 0 {
                let refused = checked(&values, squared - 1, chunk);
                prop_assert!(matches!(refused, Err(Error::Norm { .. })), "{refused:?}");
            }
        }
    }

    #[test]
    fn the_longest_update_overflows_nothing_and_ends_in_its_first_block() {
        let values = vec![i32::MIN; 3 * BLOCK];
        let squared = (3 * BLOCK as u128) << 62;
        assert!(checked(&values, squared, 977).is_ok());
        assert!(matches!(
            checked(&values, squared - 1, 977),
            Err(Error::Norm { block: 2, .. })
        ));
        assert!(matches!(
            checked(&values, 5, 977),
            Err(Error::Norm { block: 0, bound: 5 })
        ));
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
