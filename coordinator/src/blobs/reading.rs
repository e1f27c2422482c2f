//! Reading an object piece by piece, from a file or as it comes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fedner_host::machine::on_disk;
use fedner_shared::digest::Digest;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::{Error, PIECE};

/// An object that is being read.
#[derive(Debug)]
pub struct Reading(From);

enum From {
    File {
        file: Arc<File>,
        left: u64,
    },
    Stream {
        digest: Digest,
        stream: BoxStream<'static, object_store::Result<Bytes>>,
        /// What came beyond the last piece.
        rest: BytesMut,
    },
}

impl std::fmt::Debug for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { left, .. } => write!(f, "File({left} left)"),
            Self::Stream { digest, .. } => write!(f, "Stream({digest})"),
        }
    }
}

impl Reading {
    pub(super) fn of_file(file: File, offset: u64, length: u64) -> io::Result<Self> {
        (&file).seek(SeekFrom::Start(offset))?;
        Ok(Self(From::File {
            file: Arc::new(file),
            left: length.saturating_sub(offset),
        }))
    }

    pub(super) fn of_stream(
        digest: Digest,
        stream: BoxStream<'static, object_store::Result<Bytes>>,
    ) -> Self {
        Self(From::Stream {
            digest,
            stream,
            rest: BytesMut::new(),
        })
    }

    pub(super) fn nothing(digest: Digest) -> Self {
        Self::of_stream(digest, futures::stream::empty().boxed())
    }

    /// Writes all that is left to a file, and gives it back.
    pub(super) async fn write_to<W: io::Write + Send + 'static>(
        mut self,
        mut file: W,
    ) -> Result<W, Error> {
        while let Some(piece) = self.next(PIECE).await? {
            file = on_disk(move || file.write_all(&piece).map(|()| file)).await?;
        }
        Ok(file)
    }

    /// The next bytes: `count`, or at the end fewer; `None` when all have been read.
    pub async fn next(&mut self, count: usize) -> Result<Option<Vec<u8>>, Error> {
        match &mut self.0 {
            From::File { left: 0, .. } => Ok(None),
            From::File { file, left } => {
                let count = (*left).min(count as u64);
                *left -= count;
                let file = file.clone();
                let piece = on_disk(move || {
                    let mut piece = vec![0; count as usize];
                    (&*file).read_exact(&mut piece).map(|()| piece)
                });
                Ok(Some(piece.await?))
            }
            From::Stream {
                digest,
                stream,
                rest,
            } => {
                while rest.len() < count {
                    let Some(bytes) = stream.next().await else {
                        break;
                    };
                    let digest = *digest;
                    rest.extend_from_slice(
                        &bytes.map_err(|source| Error::Store { digest, source })?,
                    );
                }
                let piece = rest.split_to(rest.len().min(count));
                Ok((!piece.is_empty()).then(|| piece.to_vec()))
            }
        }
    }
}
