//! Bodies of requests and answers, measured as they pass.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fedner_shared::refusal::{Code, Refusal};
use futures::task::AtomicWaker;
use http_body::Body as HttpBody;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::gate::status;
use crate::door::{Busy, UnderWay};

type Frame = http_body::Frame<Bytes>;

/// How long a sender may keep us waiting, and what must have come by then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Time spent waiting, not working.
    pub(super) patience: Duration,
    /// Bytes; `u64::MAX` where all of it must have come.
    pub(super) least: u64,
}

/// A call under way, until its answer has been sent.
#[derive(Debug)]
pub(super) struct Ticket {
    _call: UnderWay,
    _busy: Busy,
}

impl Ticket {
    pub(super) fn new(call: UnderWay, busy: Busy) -> Self {
        Self {
            _call: call,
            _busy: busy,
        }
    }
}

/// The body of a request: messages that are neither too long nor compressed, and come at a pace.
#[derive(Debug)]
pub(super) struct Measured {
    inner: Body,
    largest: usize,
    pace: Pace,
    /// The beginning of the next message, five bytes.
    head: [u8; 5],
    head_length: usize,
    /// Bytes that are left of the present message.
    left: usize,
    /// Bytes since the patience began.
    came: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl Measured {
    pub(super) fn new(inner: Body, largest: usize, pace: Pace) -> Self {
        Self {
            inner,
            largest,
            pace,
            head: [0; 5],
            head_length: 0,
            left: 0,
            came: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            alarm: Box::pin(tokio::time::sleep(pace.patience)),
        }
    }

    /// Reads the heads of the messages in these bytes: one byte that says whether it is compressed, four of
    /// its length.
    fn check(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        self.came += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = self.left.min(bytes.len());
                self.left -= here;
                bytes = &bytes[here..];
                continue;
            }
            let here = (5 - self.head_length).min(bytes.len());
            self.head[self.head_length..self.head_length + here].copy_from_slice(&bytes[..here]);
            self.head_length += here;
            bytes = &bytes[here..];
            if self.head_length < 5 {
                return Ok(());
            }
            self.head_length = 0;
            let [compressed, length @ ..] = self.head;
            if compressed != 0 {
                let message = "a message is compressed: expected plain ones";
                return Err(refuse(Code::MessageCompressed, message));
            }
            self.left = u32::from_be_bytes(length) as usize;
            if self.left > self.largest {
                let message = format!(
                    "a message has {} bytes: expected at most {}",
                    self.left, self.largest
                );
                return Err(refuse(Code::MessageTooLarge, message));
            }
        }
        Ok(())
    }

    /// Nothing has come: an error once the patience is over.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        loop {
            let now = Instant::now();
            let since = *self.waiting_since.get_or_insert(now);
            let waited = self.waited + now.saturating_duration_since(since);
            let Some(left) = self
                .pace
                .patience
                .checked_sub(waited)
                .filter(|l| !l.is_zero())
            else {
                if self.came >= self.pace.least {
                    (self.came, self.waited, self.waiting_since) = (0, Duration::ZERO, None);
                    continue;
                }
                let seconds = self.pace.patience.as_secs();
                let message = match self.pace.least {
                    u64::MAX => format!("the request is not complete after {seconds} s of waiting"),
                    least => format!(
                        "{} bytes came in {seconds} s of waiting: expected at least {least}",
                        self.came
                    ),
                };
                return Poll::Ready(refuse(Code::RequestSlow, message));
            };
            self.alarm.as_mut().reset(now + left);
            ready!(self.alarm.as_mut().poll(cx));
        }
    }
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            return self.wait(cx).map(|status| Some(Err(status)));
        };
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.check(data)
        {
            return Poll::Ready(Some(Err(status)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

/// Bytes of an answer that may wait for its reader before more are made. Beneath, HTTP/2 would take as many as the reader's
/// window allows, which the reader alone decides.
const MOST_UNSENT: usize = 64 << 10;

/// The body of an answer, with the ticket of its call.
#[derive(Debug)]
pub(super) struct Held<T = Ticket> {
    inner: Body,
    unsent: Arc<Unsent>,
    _ticket: T,
}

/// What was handed on and not yet written to the connection.
#[derive(Debug, Default)]
struct Unsent {
    bytes: AtomicUsize,
    /// Who waits for there to be fewer.
    waker: AtomicWaker,
}

/// Bytes that count as unsent until nobody holds them any more.
#[derive(Debug)]
struct Counted {
    bytes: Bytes,
    unsent: Arc<Unsent>,
}

impl Unsent {
    fn is_much(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= MOST_UNSENT
    }

    fn count(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.bytes.fetch_add(bytes.len(), Ordering::AcqRel);
        Bytes::from_owner(Counted {
            bytes,
            unsent: self.clone(),
        })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let bytes = self.bytes.len();
        self.unsent.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.unsent.waker.wake();
    }
}

impl<T> Held<T> {
    pub(super) fn new(inner: Body, ticket: T) -> Self {
        Self {
            inner,
            unsent: Arc::default(),
            _ticket: ticket,
        }
    }
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, Status>>> {
        if self.unsent.is_much() {
            self.unsent.waker.register(cx.waker());
            // They may have been written just before.
            if self.unsent.is_much() {
                return Poll::Pending;
            }
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let counted = |frame: Frame| frame.map_data(|bytes| self.unsent.count(bytes));
        Poll::Ready(frame.map(|frame| frame.map(counted)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

/// For a stream that was cut because its sender was too slow, or sent what is no message.
fn refuse(code: Code, message: impl Into<String>) -> Status {
    status(Refusal::new(code, message))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use fedner_proto::convert;
    use futures::{FutureExt, Stream, StreamExt, stream};

    use super::*;

    const PACE: Pace = Pace {
        patience: Duration::from_millis(200),
        least: 10,
    };

    /// Data in frames, and then, where it is asked for, silence.
    struct Frames<S>(S);

    impl<S: Stream<Item = Vec<u8>> + Unpin> HttpBody for Frames<S> {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame, Status>>> {
            let next = self.0.poll_next_unpin(cx);
            next.map(|data| data.map(|data| Ok(Frame::data(data.into()))))
        }
    }

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((length as u32).to_be_bytes());
        bytes.resize(5 + length, 7);
        bytes
    }

    /// How many bytes come through, and the code with which it ends.
    async fn read(
        frames: impl Stream<Item = Vec<u8>> + Send + Unpin + 'static,
        pace: Pace,
    ) -> (usize, Option<Code>) {
        let mut body = Measured::new(Body::new(Frames(frames)), 100, pace);
        let mut came = 0;
        loop {
            match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                Some(Ok(frame)) => came += frame.data_ref().map_or(0, |data| data.len()),
                Some(Err(status)) => {
                    return (
                        came,
                        convert::refusal_of(&status).map(|refusal| refusal.code),
                    );
                }
                None => return (came, None),
            }
        }
    }

    #[tokio::test]
    async fn messages_of_any_cut_pass_up_to_their_largest_length() {
        let bytes: Vec<u8> = [message(100), message(0), message(37)].concat();
        for size in [1, 2, 5, 6, 64, 1000] {
            let frames: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            assert_eq!(
                read(stream::iter(frames), PACE).await,
                (152, None),
                "{size}"
            );
        }
        let long = [message(3), message(101)].concat();
        for size in [1, 4, 7, 1000] {
            let frames: Vec<Vec<u8>> = long.chunks(size).map(<[u8]>::to_vec).collect();
            let (came, code) = read(stream::iter(frames), PACE).await;
            assert_eq!(code, Some(Code::MessageTooLarge));
            assert!(came < 13, "its head is enough: {came}");
        }
        let mut compressed = message(3);
        compressed[0] = 1;
        let (_, code) = read(stream::iter([compressed]), PACE).await;
        assert_eq!(code, Some(Code::MessageCompressed));
    }

    #[tokio::test]
    async fn an_answer_is_made_no_faster_than_it_is_written() {
        let made = Arc::new(AtomicUsize::new(0));
        let counting = made.clone();
        let frames = stream::iter(0..100).map(move |_| {
            counting.fetch_add(1, Ordering::SeqCst);
            vec![7; MOST_UNSENT / 4]
        });
        let mut body = Held::new(Body::new(Frames(frames)), ());
        let mut next = || poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
        let mut unwritten = VecDeque::new();
        for written in 0..100 {
            // Beneath, everything is taken that there is.
            while let Some(Some(frame)) = next() {
                unwritten.push_back(frame.expect("a frame").into_data().expect("data"));
            }
            assert_eq!(unwritten.len(), 4.min(100 - written));
            assert!(made.load(Ordering::SeqCst) <= written + 4);
            // As long as a part of it is held, it is not written.
            let whole = unwritten.pop_front().expect("something to write");
            let part = whole.slice(..10);
            drop(whole);
            assert!(!matches!(next(), Some(Some(_))));
            drop(part);
        }
    }

    #[tokio::test]
    async fn who_keeps_us_waiting_is_cut_off_and_who_keeps_the_pace_is_not() {
        let silent = stream::iter([message(3)]).chain(stream::pending());
        let (came, code) = read(silent, PACE).await;
        assert_eq!((came, code), (8, Some(Code::RequestSlow)));
        // Ten bytes in 200 ms of waiting: three bytes each 40 ms are fifteen.
        let slow = |each: usize| {
            let bytes = message(60);
            let parts: Vec<Vec<u8>> = bytes.chunks(each).map(<[u8]>::to_vec).collect();
            Box::pin(stream::iter(parts).then(|part| async {
                tokio::time::sleep(Duration::from_millis(40)).await;
                part
            }))
        };
        assert_eq!(read(slow(4), PACE).await, (65, None));
        assert_eq!(read(slow(1), PACE).await.1, Some(Code::RequestSlow));
        // A request that must be complete has no second chance.
        let all = Pace {
            least: u64::MAX,
            ..PACE
        };
        assert_eq!(read(slow(20), all).await, (65, None));
        assert_eq!(read(slow(4), all).await.1, Some(Code::RequestSlow));
    }
}
