//! The session as it was last.

use fedner_session::Session;

use super::{Error, Store, notes};

pub(super) const SESSION: &str = "session";

impl Store {
    pub fn session(&self) -> Result<Session, Error> {
        self.note(SESSION)
    }

    pub fn save_session(&self, session: &Session) -> Result<(), Error> {
        self.transaction("save session", |t| notes::put(t, SESSION, session))
    }
}
