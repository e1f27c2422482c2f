//! Reading an object and verifying its digest in one pass.

use std::io::{self, Read};

use fedner_shared::digest::Digest;

use super::Error;

/// A reader that fails at its end unless everything it has read has the digest expected.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    hasher: blake3::Hasher,
    expected: Digest,
}

impl<R: Read> Verified<R> {
    pub fn new(inner: R, expected: Digest) -> Self {
        Self {
            inner,
            hasher: blake3::Hasher::new(),
            expected,
        }
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        let found = Digest::from_bytes(*self.hasher.finalize().as_bytes());
        if found == self.expected {
            return Ok(0);
        }
        let expected = self.expected;
        let corrupt = Error::Corrupt { expected, found };
        Err(io::Error::new(io::ErrorKind::InvalidData, corrupt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_comes_only_with_the_right_digest() {
        let read = |bytes: &[u8]| {
            let mut all = Vec::new();
            let mut reader = Verified::new(bytes, Digest::of(b"weights"));
            reader.read_to_end(&mut all).map(|_| all)
        };
        assert_eq!(read(b"weights").expect("whole"), b"weights");
        for wrong in [&b"weight"[..], b"weights!", b"", b"WEIGHTS"] {
            let error = read(wrong).expect_err("another digest");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }
}
