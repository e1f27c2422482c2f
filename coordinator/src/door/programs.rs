//! Which running program speaks for an institution.
//!
//! A copied directory has the same certificate, and a ledger that knows less than is spent. So one
//! program at a time speaks for an institution: the one that came first, for as long as it is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fedner_proto::LOOKS;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A program that is connected and says nothing for so long is gone: its machine has lost its power, or the
/// network its state.
const SILENCE: Duration = Duration::from_secs(45);
/// Refused programs that are remembered of an institution.
const REMEMBERED: usize = 16;

/// What speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Takes work and does it.
    Works,
    /// Takes none.
    Looks,
}

/// A program that was not let in.
#[derive(Debug)]
pub struct Second {
    pub refusal: Refusal,
    /// It is refused for the first time.
    pub first: bool,
}

/// The programs that speak, by institution.
#[derive(Debug, Default)]
pub struct Programs(Mutex<BTreeMap<InstitutionId, Held>>);

#[derive(Debug)]
struct Held {
    session: String,
    /// Its connections, each cancelled when it is closed.
    connections: BTreeMap<u64, CancellationToken>,
    last: Instant,
    refused: BTreeSet<String>,
}

impl Held {
    fn new(session: &str) -> Self {
        Self {
            session: session.to_owned(),
            connections: BTreeMap::new(),
            last: Instant::now(),
            refused: BTreeSet::new(),
        }
    }

    fn is_here(&self) -> bool {
        let open = self.connections.values().any(|gone| !gone.is_cancelled());
        open && self.last.elapsed() < SILENCE
    }
}

impl Programs {
    /// Lets a program speak for `institution` over a connection, unless another one does. A program that does
    /// not name itself is of an older client.
    pub fn admit(
        &self,
        institution: &InstitutionId,
        session: Option<&str>,
        (connection, gone): (u64, &CancellationToken),
    ) -> Result<Program, Second> {
        let session = match session {
            None => return Ok(Program::Works),
            Some(LOOKS) => return Ok(Program::Looks),
            Some(session) => session,
        };
        if session.len() != 16 || !session.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let message = "the session is not 16 hexadecimal digits";
            return Err(Second {
                refusal: Refusal::new(Code::RequestInvalid, message),
                first: false,
            });
        }
        let mut programs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = programs
            .entry(institution.clone())
            .or_insert_with(|| Held::new(session));
        if held.session != session {
            if held.is_here() {
                let full = held.refused.len() >= REMEMBERED;
                let first = !full && held.refused.insert(session.to_owned());
                let message =
                    format!("{institution} is in use by another running copy of its directory");
                let refusal = Refusal::new(Code::IdentityInUse, message);
                return Err(Second { refusal, first });
            }
            *held = Held::new(session);
        }
        held.last = Instant::now();
        held.connections.retain(|_, gone| !gone.is_cancelled());
        held.connections.insert(connection, gone.clone());
        Ok(Program::Works)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "000000000000000a";
    const B: &str = "000000000000000b";

    #[tokio::test(start_paused = true)]
    async fn a_second_program_is_kept_out_for_as_long_as_the_first_is_there() {
        let programs = Programs::default();
        let anna: InstitutionId = "anna".parse().expect("name");
        let gone = [(); 3].map(|()| CancellationToken::new());
        let admit = |session, connection: usize| {
            let number = connection as u64;
            programs.admit(&anna, Some(session), (number, &gone[connection]))
        };
        admit(A, 0).expect("the first");
        let second = admit(B, 1).expect_err("a copy");
        assert_eq!(
            (second.refusal.code, second.first),
            (Code::IdentityInUse, true)
        );
        assert!(!admit(B, 1).expect_err("again").first);
        let bert = "bert".parse().expect("name");
        programs
            .admit(&bert, Some(B), (1, &gone[1]))
            .expect("another institution");
        // A command that looks is no second program, and an older client does not say which it is.
        let looks = programs.admit(&anna, Some(LOOKS), (1, &gone[1]));
        assert_eq!(looks.expect("looks"), Program::Looks);
        programs.admit(&anna, None, (1, &gone[1])).expect("older");
        // A new connection of the first, and the end of its old one.
        admit(A, 2).expect("the first again");
        gone[0].cancel();
        assert!(admit(B, 1).is_err());
        // It was killed: its connections are closed at once.
        gone[2].cancel();
        admit(B, 1).expect("the next start");
        assert!(admit(A, 0).is_err(), "the first came back too late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_closed_holds_the_place_for_a_while_only() {
        let programs = Programs::default();
        let anna: InstitutionId = "anna".parse().expect("name");
        let gone = CancellationToken::new();
        programs.admit(&anna, Some(A), (0, &gone)).expect("first");
        tokio::time::advance(SILENCE / 2).await;
        assert!(programs.admit(&anna, Some(B), (1, &gone)).is_err());
        tokio::time::advance(SILENCE).await;
        programs
            .admit(&anna, Some(B), (1, &gone))
            .expect("the power was cut");
        assert!(programs.admit(&anna, Some("x"), (1, &gone)).is_err());
    }
}
