//! Invites that are still open.

use fedner_shared::event::Event;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::Code;

use super::{Engine, Failure};
use crate::store::OpenInvite;

impl Engine {
    pub fn open_invites(&mut self) -> Result<Vec<OpenInvite>, Failure> {
        let now = self.now();
        Ok(self.store.read(|tx| tx.open_invites(now))?)
    }

    /// Makes the open invites of a name worth nothing; how many there were.
    pub fn withdraw_invites(&mut self, institution: InstitutionId) -> Result<usize, Failure> {
        let now = self.now();
        let open = self.store.read(|tx| tx.open_invites(now))?;
        let count = open.iter().filter(|i| i.institution == institution).count();
        if count == 0 {
            let message = format!("no invite of {institution} is open");
            return Err(Failure::refuse(Code::InviteUnknown, message));
        }
        let event = Event::InvitesWithdrawn {
            institution: institution.clone(),
        };
        self.record("withdraw invites", event, |tx| {
            tx.void_invites(now, &institution).map(drop)
        })?;
        Ok(count)
    }
}
