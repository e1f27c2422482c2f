//! That a page hears when something has changed: server-sent events that carry no data, only that it is time to
//! look again. A browser that stops reading holds nothing up, since there is nothing to queue.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Open streams at the same time; a new one takes the place of the oldest.
const STREAMS: usize = 32;
/// Changes in between are told together.
const AT_MOST_EVERY: Duration = Duration::from_millis(150);
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How often something has changed, and who is told.
#[derive(Debug, Clone)]
pub struct Live {
    changes: Arc<watch::Sender<u64>>,
    open: Arc<Mutex<VecDeque<CancellationToken>>>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            changes: Arc::new(watch::Sender::new(0)),
            open: Arc::default(),
        }
    }
}

impl Live {
    /// Something has changed.
    pub fn touch(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// Whether a page is open.
    pub fn is_watched(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    fn place(&self) -> CancellationToken {
        let place = CancellationToken::new();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !other.is_cancelled());
        open.push_back(place.clone());
        while open.len() > STREAMS {
            if let Some(oldest) = open.pop_front() {
                oldest.cancel();
            }
        }
        place
    }

    /// The answer to one page that listens. Its connection ends with it, and makes room for another.
    pub fn response(&self) -> Response {
        ([(header::CONNECTION, "close")], self.stream()).into_response()
    }

    fn stream(&self) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let place = self.place();
        let ended = place.clone().cancelled_owned();
        let begin = (self.changes.subscribe(), place.drop_guard(), true);
        let changes = stream::unfold(begin, |(mut changes, guard, first)| async move {
            if !first {
                changes.changed().await.ok()?;
                tokio::time::sleep(AT_MOST_EVERY).await;
            }
            let number = *changes.borrow_and_update();
            let event = Event::default().event("change").data(number.to_string());
            Some((Ok(event), (changes, guard, false)))
        });
        Sse::new(changes.take_until(ended)).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_streams_end_the_oldest_and_closed_ones_leave_no_place() {
        let live = Live::default();
        let first = live.place();
        for _ in 0..STREAMS - 1 {
            live.place();
        }
        assert!(!first.is_cancelled());
        live.place();
        assert!(first.is_cancelled(), "the oldest gave way");
        for _ in 0..1000 {
            drop(live.stream());
        }
        assert!(!live.is_watched());
        assert!(live.open.lock().expect("lock").len() <= STREAMS);
    }
}
