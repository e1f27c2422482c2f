//! Sums of updates that are under masks.

use std::io::{self, Read};

use fedner_secagg::MaskedSum;

use super::Error;
use super::sum::Sums;

pub(super) struct Unmasked<R> {
    sum: MaskedSum<R>,
    /// The sums at hand, and how many of them are used up.
    sums: Vec<i64>,
    used: usize,
}

impl<R: Read + Send> Unmasked<R> {
    pub(super) fn new(sum: MaskedSum<R>) -> Self {
        Self {
            sum,
            sums: Vec::new(),
            used: 0,
        }
    }
}

impl<R: Read + Send> Sums for Unmasked<R> {
    fn next(&mut self, most: usize) -> Result<&[i64], Error> {
        if self.used == self.sums.len() {
            if self.sum.left() == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.sum.next(&mut self.sums)?;
            self.used = 0;
        }
        let start = self.used;
        self.used = self.sums.len().min(start + most);
        Ok(&self.sums[start..self.used])
    }

    fn finish(self: Box<Self>) -> Result<(), Error> {
        Ok(self.sum.finish()?)
    }
}
