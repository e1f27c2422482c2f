//! HTTP/2 as it was sent (RFC 9113): every byte belongs to a frame, and every frame to a request or to
//! the upkeep of the connection.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fedner_proto::FRAME_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
/// The payloads of the two kinds of pings that the HTTP/2 library of either program sends.
const PINGS: [[u8; 8]; 2] = [
    [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54],
    [0x3b, 0x7c, 0xdb, 0x7a, 0x0b, 0x87, 0x16, 0xb4],
];
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// One call as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// By which the answer is found.
    pub(crate) stream: u32,
    /// Those of HTTP/2 itself begin with a colon.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The client ended, or gave it up, before it said anything in it.
    pub(crate) unsaid: bool,
}

/// What one connection carried.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) requests: Vec<Request>,
    /// What is not as the two programs have reason to send it.
    pub(crate) problems: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
    /// With its head.
    bytes: &'a [u8],
}

pub(crate) fn decode(sent: &[u8]) -> Result<Connection> {
    let frames = frames(sent.strip_prefix(PREFACE).context("no HTTP/2 preface")?)?;
    let mut connection = Connection {
        problems: frames.iter().filter_map(Frame::problem).collect(),
        ..Connection::default()
    };
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    for frame in &frames {
        if frame.kind <= 1 && frame.flags & END_STREAM != 0 {
            ended.insert(frame.stream);
        }
        match frame.kind {
            0 => bodies
                .get_mut(&frame.stream)
                .context("a body before its headers")?
                .extend_from_slice(frame.payload),
            1 => {
                bodies.entry(frame.stream).or_default();
            }
            _ => {}
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut headers = runtime.block_on(headers(&frames))?;
    for (stream, body) in bodies {
        let Some(headers) = headers.remove(&stream) else {
            let problem = format!("the headers of stream {stream} cannot be read");
            connection.problems.push(problem);
            continue;
        };
        connection.requests.push(Request {
            stream,
            headers,
            unsaid: body.is_empty() && !ended.contains(&stream),
            body,
        });
    }
    Ok(connection)
}

/// What was answered to each stream, without headers.
pub(crate) fn answers(answered: &[u8]) -> Result<BTreeMap<u32, Vec<u8>>> {
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for frame in frames(answered)?.iter().filter(|frame| frame.kind == 0) {
        let body = bodies.entry(frame.stream).or_default();
        body.extend_from_slice(frame.payload);
    }
    Ok(bodies)
}

/// The frames after the preface, to the last byte.
fn frames(mut rest: &[u8]) -> Result<Vec<Frame<'_>>> {
    let mut frames = Vec::new();
    while !rest.is_empty() {
        ensure!(rest.len() >= HEAD, "{} bytes are no frame", rest.len());
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        ensure!(rest.len() >= HEAD + length, "a frame was cut off");
        let (bytes, after) = rest.split_at(HEAD + length);
        frames.push(Frame {
            kind: bytes[3],
            flags: bytes[4],
            stream: u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]),
            payload: &bytes[HEAD..],
            bytes,
        });
        rest = after;
    }
    Ok(frames)
}

impl Frame<'_> {
    /// Whether there is room in it for anything but what it is for.
    fn problem(&self) -> Option<String> {
        let payload = self.payload;
        let is_known = match self.kind {
            // Data and headers, looked into as requests.
            0 | 1 => self.flags & (PADDED | PRIORITY) == 0,
            // Why a stream is given up: one of the RFC's codes.
            3 => payload.len() == 4 && payload[..3] == [0; 3] && payload[3] <= 13,
            // Settings: what both programs are built with.
            4 => self.flags == ACK && payload.is_empty() || settings(payload),
            6 => PINGS.iter().any(|ping| ping == payload),
            // Farewell, without words.
            7 => payload.len() == 8,
            // How much more may be sent to the client.
            8 => payload.len() == 4,
            _ => false,
        };
        (!is_known).then(|| {
            format!(
                "a frame of the kind {} with the flags {} carries {} bytes: {:02x?}",
                self.kind,
                self.flags,
                payload.len(),
                &payload[..payload.len().min(32)]
            )
        })
    }
}

/// Each setting by its number: no pushes, the windows, and the sizes of frames and header lists.
fn settings(payload: &[u8]) -> bool {
    let known = |setting: &[u8]| {
        let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
        match (setting[0], setting[1]) {
            (0, 2) => value == 0,
            (0, 4) => value == 2 << 20,
            (0, 5) => value == FRAME_BYTES,
            (0, 6) => value == 16 << 10,
            _ => false,
        }
    };
    payload.len().is_multiple_of(6) && payload.chunks(6).all(known)
}

/// The headers of every stream, by an HTTP/2 server that hears the connection again.
async fn headers(frames: &[Frame<'_>]) -> Result<BTreeMap<u32, Vec<(String, String)>>> {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (mut answers, mut wire) = tokio::io::split(far);
    let frames: Vec<Vec<u8>> = std::iter::once(PREFACE.to_vec())
        .chain(frames.iter().map(|frame| frame.bytes.to_vec()))
        .collect();
    tokio::spawn(async move {
        let mut nobody = Vec::new();
        let _ = answers.read_to_end(&mut nobody).await;
    });
    let mut server = h2::server::Builder::new();
    server
        .initial_window_size(LARGEST_WINDOW)
        .initial_connection_window_size(LARGEST_WINDOW)
        .max_frame_size(FRAME_BYTES);
    tokio::spawn(async move {
        for frame in frames {
            if wire.write_all(&frame).await.is_err() {
                return;
            }
            // One after another, so that no stream is reset before it is looked at.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        let _ = wire.shutdown().await;
    });
    let mut connection = server.handshake::<_, Bytes>(near).await?;
    let mut all = BTreeMap::new();
    // What is not answered is kept: a stream that is let go would be reset.
    let mut open = Vec::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let uri = request.uri();
        let mut headers = vec![
            (":method".to_owned(), request.method().to_string()),
            (
                ":scheme".to_owned(),
                uri.scheme_str().unwrap_or_default().to_owned(),
            ),
            (
                ":authority".to_owned(),
                uri.authority().map(ToString::to_string).unwrap_or_default(),
            ),
            (
                ":path".to_owned(),
                uri.path_and_query()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
        ];
        headers.extend(request.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.to_string(), value)
        }));
        all.insert(respond.stream_id().as_u32(), headers);
        open.push((request.into_body(), respond));
    }
    Ok(all)
}
