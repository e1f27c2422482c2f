//! One worker that tags what requests bring: those that wait together are tagged together, as `predict` tags the
//! texts of a folder.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use fedner_model::Prediction;
use fedner_shared::refusal::{Code, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::figures::Figures;
use crate::cli::predict::{TOGETHER, Tagging};

/// Text that may be there, in bytes: it waits, is tagged, or its answer is not taken yet.
const ROOM: usize = 32 << 20;
/// The longest text.
pub(super) const LONGEST: usize = 4 << 20;

/// What came of a text.
pub(super) type Outcome = Result<Prediction, Failure>;

/// Why a text has no entities.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Refused(Refusal),
    /// Our own fault; the log has the cause.
    Fault,
}

/// A text on its way, and who waits for it.
#[derive(Debug)]
struct Job {
    text: String,
    reply: oneshot::Sender<Outcome>,
    /// Its part of the room.
    _place: Arc<OwnedSemaphorePermit>,
}

/// Where the outcome of a text comes. It holds its part of the room until nobody needs it.
#[derive(Debug)]
pub(super) struct Waiting {
    receiver: oneshot::Receiver<Outcome>,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Waiting {
    pub(super) async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.receiver).await;
        outcome.unwrap_or(Err(Failure::Fault))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Engine {
    jobs: mpsc::UnboundedSender<Job>,
    room: Arc<Semaphore>,
}

impl Engine {
    pub(super) fn start(
        tagging: Tagging,
        figures: Arc<Figures>,
    ) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let worker = thread::Builder::new()
            .name("tagger".to_owned())
            .spawn(move || work(&tagging, queue, &figures))
            .context("start the worker that tags")?;
        let room = Arc::new(Semaphore::new(ROOM));
        Ok((Self { jobs, room }, worker))
    }

    /// Bytes of text that are there.
    pub(super) fn waiting(&self) -> usize {
        ROOM - self.room.available_permits()
    }

    /// Takes the texts all together or not at all.
    pub(super) fn offer(&self, texts: Vec<String>) -> Result<Vec<Waiting>, Refusal> {
        let all = texts.iter().map(|text| size(text)).sum::<usize>();
        let room = Arc::clone(&self.room);
        let place = u32::try_from(all).ok();
        let place = place.and_then(|all| room.try_acquire_many_owned(all).ok());
        let Some(place) = place else {
            let message = format!(
                "{} bytes of text wait already: there is room for {ROOM}",
                self.waiting()
            );
            return Err(Refusal::new(Code::TooManyRequests, message));
        };
        let place = Arc::new(place);
        let texts = texts.into_iter();
        Ok(texts.map(|text| self.send(text, &place)).collect())
    }

    /// Takes a text once there is room.
    pub(super) async fn take(&self, text: String) -> Option<Waiting> {
        let size = u32::try_from(size(&text)).ok()?;
        let place = Arc::clone(&self.room).acquire_many_owned(size).await.ok()?;
        Some(self.send(text, &Arc::new(place)))
    }

    fn send(&self, text: String, place: &Arc<OwnedSemaphorePermit>) -> Waiting {
        let (reply, receiver) = oneshot::channel();
        // Without a worker the receiver hears that nobody will answer.
        let _ = self.jobs.send(Job {
            text,
            reply,
            _place: Arc::clone(place),
        });
        Waiting {
            receiver,
            _place: Arc::clone(place),
        }
    }
}

/// An empty text takes a place too.
pub(super) fn size(text: &str) -> usize {
    text.len().max(1)
}

fn work(tagging: &Tagging, mut queue: mpsc::UnboundedReceiver<Job>, figures: &Figures) {
    let mut next = None;
    while let Some(first) = next.take().or_else(|| queue.blocking_recv()) {
        let mut bytes = first.text.len();
        let mut group = vec![first];
        // Whoever has gone is not tagged for.
        while bytes < TOGETHER {
            let Ok(job) = queue.try_recv() else { break };
            if job.reply.is_closed() {
                continue;
            }
            if bytes + job.text.len() > TOGETHER && job.text.len() > TOGETHER {
                // A long text makes a group of its own.
                next = Some(job);
                break;
            }
            bytes += job.text.len();
            group.push(job);
        }
        figures.grouped(group.len(), bytes);
        tag(tagging, group);
    }
}

fn tag(tagging: &Tagging, group: Vec<Job>) {
    let texts: Vec<&str> = group.iter().map(|job| job.text.as_str()).collect();
    let mut wanted = |_, _| {
        if group.iter().all(|job| job.reply.is_closed()) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    match tagging.tagger().predict(&texts, &mut wanted) {
        Ok(predictions) => {
            for (job, prediction) in group.into_iter().zip(predictions) {
                let _ = job.reply.send(Ok(prediction));
            }
        }
        Err(fedner_model::Error::Stopped { .. }) => {}
        // One text that cannot be read is not to cost the others theirs.
        Err(_) if group.len() > 1 => group.into_iter().for_each(|job| tag(tagging, vec![job])),
        Err(error) => {
            let error = crate::training::Error::from(error);
            let failure = if let Some(refusal) = error.refusal() {
                Failure::Refused(refusal)
            } else {
                tracing::error!("a text could not be tagged: {error}");
                Failure::Fault
            };
            for job in group {
                let _ = job.reply.send(Err(failure.clone()));
            }
        }
    }
}
