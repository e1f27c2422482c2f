//! What happened, in the order in which it was made durable. Monitoring is a projection of this.

use std::io;

use serde::{Deserialize, Serialize};

use crate::audit::Outcome;
use crate::digest::Digest;
use crate::figures::{Aside, UpdateFigures};
use crate::id::{Alias, InstitutionId, RunId, VersionName};
use crate::keys::Signs;
use crate::refusal::Code;
use crate::secure::SecureStep;
use crate::sign::PublicKey;
use crate::time::Time;

/// One entry of the coordinator's audit chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// 1, 2, 3, … without gaps.
    pub sequence: u64,
    pub time: Time,
    /// The digest of the entry before, so that none can be changed, removed or put elsewhere.
    pub previous: Digest,
    pub run: Option<RunId>,
    pub event: Event,
}

impl Entry {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    CoordinatorCreated {
        name: String,
    },
    /// The coordinator goes on from a backup that ended with the event of that number.
    CoordinatorRestored {
        events: u64,
    },
    InviteWritten {
        institution: InstitutionId,
        expires: Time,
    },
    /// Open invites of the name are worth nothing any more.
    InvitesWithdrawn {
        institution: InstitutionId,
    },
    InstitutionEnrolled {
        institution: InstitutionId,
    },
    /// A name that was known got new keys, by an invite that says so; `was` is the state before.
    InstitutionReenrolled {
        institution: InstitutionId,
        was: String,
    },
    /// Another running copy of the institution's directory spoke while the first was connected.
    SecondProgramRefused {
        institution: InstitutionId,
    },
    CertificateRenewed {
        institution: InstitutionId,
    },
    InstitutionSuspended {
        institution: InstitutionId,
    },
    InstitutionReinstated {
        institution: InstitutionId,
    },
    InstitutionRevoked {
        institution: InstitutionId,
    },
    /// An operator or a viewer got a certificate.
    CertificateIssued {
        name: String,
        role: String,
    },
    /// All certificates of that name and role are worth nothing from then on.
    CertificateRevoked {
        name: String,
        role: String,
    },
    /// A new authority signs certificates, and the older one is trusted beside it. SHA-256 of the certificate.
    AuthorityAdded {
        sha256: String,
    },
    /// The older authority is trusted no more.
    AuthorityWithdrawn {
        sha256: String,
    },
    /// A signing key gave way to a new one by a signed statement.
    KeyReplaced {
        signs: Signs,
        new: PublicKey,
        succession: Digest,
    },
    ModelImported {
        version: VersionName,
        digest: Digest,
    },
    /// The updates that these versions are the sums of are kept no more; nor are their own files, unless it
    /// says so.
    ModelsPruned {
        versions: Vec<VersionName>,
        updates_only: bool,
    },
    AliasMoved {
        alias: Alias,
        version: VersionName,
        digest: Digest,
    },
    RolledBack {
        alias: Alias,
        version: VersionName,
        digest: Digest,
    },
    /// A signed report is kept with the versions of the model that it is about.
    AuditReported {
        institution: InstitutionId,
        report: Digest,
        versions: Vec<VersionName>,
        verdict: Outcome,
    },
    RunCreated {
        plan: Digest,
        base: Digest,
        rounds: u32,
    },
    RunStarted,
    RunPaused,
    RunResumed,
    RunCancelled,
    RunCompleted {
        version: Digest,
    },
    RunFailed {
        reason: String,
    },
    /// The run waits for a time of its schedule before that round.
    Scheduled {
        round: u32,
        until: Time,
    },
    /// A failed run goes on with that round.
    RunRetried {
        round: u32,
    },
    Joined {
        institution: InstitutionId,
        examples: u32,
        consent: Digest,
    },
    Left {
        institution: InstitutionId,
        code: Code,
        reason: String,
    },
    RoundStarted {
        round: u32,
        attempt: u32,
        participants: Vec<InstitutionId>,
        base: Digest,
    },
    AssignmentTaken {
        round: u32,
        attempt: u32,
        institution: InstitutionId,
    },
    /// A member took a step of secure aggregation, by a signed statement.
    SecureStepTaken {
        round: u32,
        attempt: u32,
        institution: InstitutionId,
        step: SecureStep,
        statement: Digest,
    },
    UpdateAccepted {
        round: u32,
        attempt: u32,
        institution: InstitutionId,
        update: Digest,
        bytes: u64,
        epsilon: Option<f64>,
    },
    Declined {
        round: u32,
        attempt: u32,
        institution: InstitutionId,
        code: Code,
        reason: String,
    },
    WentAway {
        round: u32,
        attempt: u32,
        institution: InstitutionId,
    },
    CameBack {
        round: u32,
        attempt: u32,
        institution: InstitutionId,
    },
    RoundClosed {
        round: u32,
        attempt: u32,
        updates: usize,
        missing: Vec<InstitutionId>,
    },
    /// The updates of a closed round, seen from outside.
    Measured {
        round: u32,
        attempt: u32,
        updates: Vec<UpdateFigures>,
    },
    /// An update is beyond a limit of the plan's guard, and the operator is to decide.
    Suspected {
        round: u32,
        institution: InstitutionId,
        #[serde(flatten)]
        aside: Aside,
    },
    /// An institution takes no part in some rounds.
    SetAside {
        round: u32,
        institution: InstitutionId,
        #[serde(flatten)]
        aside: Aside,
    },
    /// It takes part again from the next round that begins.
    Readmitted {
        round: u32,
        institution: InstitutionId,
    },
    RoundRepeated {
        round: u32,
        attempt: u32,
        reason: String,
    },
    VersionPublished {
        round: u32,
        attempt: u32,
        version: VersionName,
        digest: Digest,
        weights: Digest,
        seconds: f64,
    },
    Evaluated {
        round: u32,
        institution: InstitutionId,
        f1: f64,
        precision: f64,
        recall: f64,
        support: u64,
    },
    RoundFinished {
        round: u32,
        /// Of all counts added up.
        f1: Option<f64>,
        /// The median of the institutions' own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        median_f1: Option<f64>,
    },
    /// The plan's gate has decided whether a version is published.
    Judged {
        round: u32,
        version: Digest,
        judgement: Judgement,
        /// Which rule decided, with its figures.
        reason: String,
        /// The gain of F1 over the last version that passed.
        gain: Option<f64>,
        /// The last version that passed, this one perhaps.
        champion: Digest,
    },
}

/// What a gate says of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// It is published.
    Passed,
    /// It gained too little, or lost too much of a type.
    Regressed,
    /// Too few institutions evaluated it.
    Unjudged,
}

impl Event {
    /// Whether it tells of that institution alone.
    pub fn is_about(&self, institution: &InstitutionId) -> bool {
        if let Self::KeyReplaced { signs, .. } = self {
            return *signs == Signs::Statements(institution.clone());
        }
        let value = serde_json::to_value(self).unwrap_or_default();
        value["institution"] == institution.as_str()
    }

    /// The stable name of the event, as it stands in its JSON.
    pub fn kind(&self) -> String {
        let mut head = Head::default();
        // It fails where the event goes on, and the kind comes first.
        let _ = serde_json::to_writer(&mut head, self);
        let head = str::from_utf8(&head.0).unwrap_or_default();
        let kind = head.strip_prefix(r#"{"kind":""#);
        let kind = kind.and_then(|kind| kind.split('"').next());
        kind.unwrap_or("unknown").to_owned()
    }
}

/// The first bytes of what is written: events may have a line for each of thousands of institutions.
#[derive(Default)]
struct Head(Vec<u8>);

impl io::Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() > 64 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_that_of_the_record_however_long_it_is() {
        let participants = (0..1000).map(|i| format!("i{i}").parse().expect("a name"));
        let events = [
            Event::RunStarted,
            Event::CoordinatorRestored { events: 7 },
            Event::RunFailed {
                reason: "x\"".repeat(100),
            },
            Event::RoundStarted {
                round: 1,
                attempt: 1,
                participants: participants.collect(),
                base: Digest::of(b""),
            },
        ];
        for event in events {
            let written = serde_json::to_value(&event).expect("json");
            assert_eq!(written["kind"], event.kind());
        }
    }
}
