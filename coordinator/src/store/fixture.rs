//! A plan and its run, for tests.

use fedner_round::{Created, Input, Run};
use fedner_shared::digest::Digest;
use fedner_shared::plan::Plan;
use fedner_shared::time::Time;

use crate::authority::Issued;

const PLAN: &str = r#"
    name = "notes"
    base = "base@1"
    labels = ["Disease"]
    method = "head"
    rounds = 5
    [cohort]
    institutions = ["anna", "mercy"]
    quorum = 1
    [privacy]
    unit = "none"
"#;

/// A certificate with that serial number.
pub(crate) fn issued(serial: &str) -> Issued {
    Issued {
        pem: String::new(),
        serial: serial.to_owned(),
        expires: Time::from_millis(9),
        authority: String::new(),
    }
}

pub(crate) fn plan() -> Plan {
    Plan::parse(PLAN).expect("plan")
}

/// The run `notes.1`, just created, of the plan that was signed with this digest.
pub(crate) fn run(plan_digest: Digest) -> Run {
    let created = Created {
        id: "notes.1".parse().expect("id"),
        plan: plan(),
        plan_digest,
        manifest: Digest::of(b"manifest"),
        dimension: 1,
        base: Digest::of(b"base"),
    };
    Run::create(Time::from_millis(0), created).run
}

/// The same after a sign of life of one of its members.
pub(crate) fn seen(run: &Run) -> Run {
    let seen = Input::Seen {
        institution: "mercy".parse().expect("name"),
    };
    run.step(Time::from_millis(7), seen).expect("seen").run
}
