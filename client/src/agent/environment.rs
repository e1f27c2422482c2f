//! What a daemon takes from outside of its directory.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use fedner_host::machine::Machine;
use fedner_host::machine::{ThisMachine, blocking};
use fedner_shared::score::Scores;
use tonic::transport::Channel;

use super::jobs::{EvaluateJob, TrainJob, TrainedUpdate};
use crate::training::{self, Stop};
use crate::transport::{self, Destination, TlsIdentity};

/// The machine, the network and the trainer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Environment {
    pub machine: Arc<dyn Machine>,
    pub network: Arc<dyn Network>,
    pub trainer: Arc<dyn Trainer>,
    pub defences: Defences,
}

/// What keeps the coordinator from learning of private text beside the gate. A program has all of
/// them; no setting takes one away. Tests switch off one at a time, to show that each is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defences {
    /// What the plan does not pin is not computed with.
    pub pins: bool,
    /// Faulty sentences are left out instead of ending the training.
    pub sound_text: bool,
    /// Results leave at the plan's times of release.
    pub release_times: bool,
    /// Every failure after text was read is one code.
    pub one_code: bool,
}

impl Default for Defences {
    fn default() -> Self {
        Self {
            pins: true,
            sound_text: true,
            release_times: true,
            one_code: true,
        }
    }
}

impl Environment {
    /// This machine, mutual TLS, and training on the device of the plan.
    pub fn here() -> Self {
        Self {
            machine: Arc::new(ThisMachine),
            network: Arc::new(Tls),
            trainer: Arc::new(OnDevice),
            defences: Defences::default(),
        }
    }
}

/// The way to a coordinator.
pub trait Network: Debug + Send + Sync {
    /// A channel that connects on first use, by which `identity` calls.
    fn dial(&self, to: &Destination, identity: &TlsIdentity) -> Result<Channel, transport::Error>;
}

/// What a trainer does comes some time later.
pub type Outcome<T> = Pin<Box<dyn Future<Output = Result<T, training::Error>> + Send>>;

/// Trains and evaluates. What it makes goes through the egress gate, whatever it is.
pub trait Trainer: Debug + Send + Sync {
    fn train(&self, job: TrainJob, stop: Stop) -> Outcome<TrainedUpdate>;
    /// The counts of each unit.
    fn evaluate(&self, job: EvaluateJob, stop: Stop) -> Outcome<Vec<Scores>>;
}

/// Mutual TLS 1.3 over TCP.
#[derive(Debug, Clone, Copy)]
struct Tls;

impl Network for Tls {
    fn dial(&self, to: &Destination, identity: &TlsIdentity) -> Result<Channel, transport::Error> {
        transport::secured(to, identity)
    }
}

/// Beside the asynchronous threads, on the device that plan and settings name.
#[derive(Debug, Clone, Copy)]
struct OnDevice;

impl Trainer for OnDevice {
    fn train(&self, job: TrainJob, stop: Stop) -> Outcome<TrainedUpdate> {
        Box::pin(async move { blocking(move || job.run(&stop)).await? })
    }

    fn evaluate(&self, job: EvaluateJob, stop: Stop) -> Outcome<Vec<Scores>> {
        Box::pin(async move { blocking(move || job.run(&stop)).await? })
    }
}
