//! Updates that can be read more than once.

use std::fs::File;
use std::io::{self, Read, Seek};

use fedner_shared::digest::Digest;

use crate::blobs::Verified;

/// An encoded update.
pub trait Source {
    type Reader: Read + Send + Sync;

    /// Reads it from its beginning. One reader at a time is in use.
    fn open(&self) -> io::Result<Self::Reader>;
}

impl<'a> Source for &'a [u8] {
    type Reader = &'a [u8];

    fn open(&self) -> io::Result<Self::Reader> {
        Ok(self)
    }
}

/// A file whose digest is verified each time that it is read to its end.
#[derive(Debug)]
pub struct VerifiedFile {
    pub file: File,
    pub digest: Digest,
}

impl Source for VerifiedFile {
    type Reader = Verified<File>;

    fn open(&self) -> io::Result<Self::Reader> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(Verified::new(file, self.digest))
    }
}
