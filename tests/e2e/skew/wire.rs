//! gRPC without TLS and without types: bodies as they were, within this process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf as _, BufMut as _, Bytes};
use fedner_coordinator::tls::Peer;
use fedner_host::machine::Machine;
use fedner_shared::time::Time;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio_util::sync::DropGuard;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};

/// What a pipe holds.
const ROOM: usize = 1 << 20;

/// A connection that is known to be that peer's.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: DuplexStream,
    peer: Peer,
    _gone: DropGuard,
}

/// Both ends of a connection.
pub(crate) fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(ROOM)
}

pub(crate) fn nobody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1))
}

/// A channel whose only connection is that one.
pub(crate) fn channel(near: DuplexStream) -> Channel {
    let mut near = Some(near);
    let dial = tower::service_fn(move |_| {
        let near = near.take().ok_or_else(|| io::Error::other("it broke"));
        std::future::ready(near.map(TokioIo::new))
    });
    Endpoint::from_static("http://recorded").connect_with_connector_lazy(dial)
}

impl Wire {
    pub(crate) fn new(stream: DuplexStream, peer: Peer) -> Self {
        Self {
            stream,
            _gone: peer.close_guard(),
            peer,
        }
    }
}

impl Connected for Wire {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A machine on which it is the time of the recording.
#[derive(Debug)]
pub(crate) struct Then {
    began: Time,
    /// Since when time passes; it stands still without.
    since: Option<Instant>,
}

impl Then {
    pub(crate) fn still(at: Time) -> Self {
        Self {
            began: at,
            since: None,
        }
    }

    pub(crate) fn passing(from: Time) -> Self {
        Self {
            began: from,
            since: Some(Instant::now()),
        }
    }
}

impl Machine for Then {
    fn now(&self) -> Time {
        let passed = self.since.map(|since| since.elapsed()).unwrap_or_default();
        self.began + passed
    }

    fn seed(&self) -> Result<u64, getrandom::Error> {
        Ok(7)
    }
}
