//! Events in words.

use fedner_page::words;
use fedner_shared::event::{Entry, Event, Judgement};
use fedner_shared::id::InstitutionId;

/// What happened, as a sentence without its subject in time.
pub(super) fn of(entry: &Entry) -> String {
    match &entry.event {
        Event::CoordinatorCreated { name } => format!("the coordinator {name} was created"),
        Event::CoordinatorRestored { events } => {
            format!("the coordinator goes on from a backup of {events} events")
        }
        Event::InviteWritten {
            institution,
            expires,
        } => format!("{institution} is invited until {expires}"),
        Event::InvitesWithdrawn { institution } => {
            format!("the open invites of {institution} were withdrawn")
        }
        Event::InstitutionEnrolled { institution } => format!("{institution} enrolled"),
        Event::InstitutionReenrolled { institution, was } => {
            format!("{institution} enrolled anew; it was {was}")
        }
        Event::SecondProgramRefused { institution } => {
            format!("a second running copy of {institution} was refused")
        }
        Event::CertificateRenewed { institution } => {
            format!("{institution} renewed its certificate")
        }
        Event::InstitutionSuspended { institution } => format!("{institution} was suspended"),
        Event::InstitutionReinstated { institution } => format!("{institution} was reinstated"),
        Event::InstitutionRevoked { institution } => format!("{institution} was revoked"),
        Event::CertificateIssued { name, role } => {
            format!("the {role} {name} got a certificate")
        }
        Event::CertificateRevoked { name, role } => {
            format!("the certificates of the {role} {name} were revoked")
        }
        Event::AuthorityAdded { .. } => "a new authority signs certificates".to_owned(),
        Event::AuthorityWithdrawn { .. } => "the older authority was withdrawn".to_owned(),
        Event::KeyReplaced { signs, .. } => {
            format!("a signing key gave way to a new one: {signs:?}")
        }
        Event::ModelImported { version, .. } => format!("{version} was imported"),
        Event::ModelsPruned {
            versions,
            updates_only,
        } => format!(
            "{} let go of {}",
            words::count(versions.len(), "version", "versions"),
            if *updates_only {
                "their updates"
            } else {
                "their updates and files"
            }
        ),
        Event::AliasMoved { alias, version, .. } => format!("{alias} is {version} now"),
        Event::RolledBack { alias, version, .. } => format!("{alias} was rolled back to {version}"),
        Event::AuditReported {
            institution,
            verdict,
            ..
        } => format!("{institution} reported an audit: {}", verdict.as_str()),
        Event::RunCreated { rounds, .. } => {
            format!(
                "the run was created, of {}",
                words::count(*rounds as usize, "round", "rounds")
            )
        }
        Event::RunStarted => "the run was started".to_owned(),
        Event::RunPaused => "the run was paused".to_owned(),
        Event::RunResumed => "the run was resumed".to_owned(),
        Event::RunCancelled => "the run was cancelled".to_owned(),
        Event::RunCompleted { .. } => "the run was completed".to_owned(),
        Event::RunFailed { reason } => format!("the run failed: {reason}"),
        Event::Scheduled { round, until } => {
            format!("round {round} waits for its time, {until}")
        }
        Event::RunRetried { round } => format!("the run goes on with round {round}"),
        Event::Joined {
            institution,
            examples,
            ..
        } => format!("{institution} joined with {examples} examples"),
        Event::Left {
            institution,
            code,
            reason,
        } => format!("{institution} left ({}): {reason}", code.as_str()),
        Event::RoundStarted {
            round,
            attempt,
            participants,
            ..
        } => format!(
            "round {round} began with {}{}",
            words::count(participants.len(), "institution", "institutions"),
            again(*attempt)
        ),
        Event::SecureStepTaken {
            round,
            attempt,
            institution,
            step,
            ..
        } => format!(
            "{institution} took the step {step} of secure aggregation in round {round}{}",
            again(*attempt)
        ),
        Event::AssignmentTaken {
            round, institution, ..
        } => format!("{institution} took on round {round}"),
        Event::UpdateAccepted {
            round,
            institution,
            bytes,
            epsilon,
            ..
        } => {
            let spent = epsilon.map_or_else(String::new, |epsilon| {
                format!(", ε {} so far", words::epsilon(epsilon))
            });
            format!(
                "{institution} sent its update of round {round}, {}{spent}",
                words::bytes(*bytes)
            )
        }
        Event::Declined {
            round,
            institution,
            code,
            reason,
            ..
        } => format!(
            "{institution} declined round {round} ({}): {reason}",
            code.as_str()
        ),
        Event::WentAway {
            round, institution, ..
        } => format!("{institution} went away in round {round}"),
        Event::CameBack {
            round, institution, ..
        } => format!("{institution} came back in round {round}"),
        Event::RoundClosed {
            round,
            updates,
            missing,
            ..
        } => format!(
            "round {round} closed with {}{}",
            words::count(*updates, "update", "updates"),
            lacking(missing)
        ),
        Event::Measured { round, updates, .. } => format!(
            "{} of round {round} measured",
            words::count(updates.len(), "update was", "updates were")
        ),
        Event::Suspected {
            round, institution, ..
        } => {
            format!("the update of {institution} in round {round} is beyond a limit; decide on it")
        }
        Event::SetAside {
            round, institution, ..
        } => format!("{institution} was set aside in round {round}"),
        Event::Readmitted {
            round, institution, ..
        } => format!("{institution} takes part again after round {round}"),
        Event::RoundRepeated { round, reason, .. } => {
            format!("round {round} is repeated: {reason}")
        }
        Event::VersionPublished {
            round,
            version,
            seconds,
            ..
        } => format!("round {round} published {version}, added up in {seconds:.1} s"),
        Event::Evaluated {
            round,
            institution,
            f1,
            ..
        } => format!(
            "{institution} scored the version of round {round}: F1 {}",
            words::f1(*f1)
        ),
        Event::RoundFinished { round, f1, .. } => match f1 {
            Some(f1) => format!("round {round} is over, F1 {}", words::f1(*f1)),
            None => format!("round {round} is over, unscored"),
        },
        Event::Judged {
            round,
            judgement,
            reason,
            ..
        } => format!("the gate {} round {round}: {reason}", verdict(*judgement)),
    }
}

fn verdict(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Passed => "let pass",
        Judgement::Regressed => "held back",
        Judgement::Unjudged => "could not judge",
    }
}

fn again(attempt: u32) -> String {
    if attempt > 1 {
        return format!(", attempt {attempt}");
    }
    String::new()
}

fn lacking(missing: &[InstitutionId]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    format!(", without {}", names(missing, 5))
}

/// The first few names, and how many more.
pub(super) fn names(all: &[InstitutionId], most: usize) -> String {
    let shown: Vec<&str> = all.iter().take(most).map(InstitutionId::as_str).collect();
    match all.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
