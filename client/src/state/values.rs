//! Single values: the session, and the last contact with the coordinator.

use fedner_model::corpus::{ReadOptions, Shapes};
use fedner_shared::digest::Digest;
use fedner_shared::keys::Trust;
use fedner_shared::sign::{PublicKey, Signed};
use fedner_shared::time::Time;
use rusqlite::{Connection, OptionalExtension, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, Store};

const CONTACT: &str = "contact";
const HISTORY: &str = "history";
const TRUST: &str = "trust";
pub(super) const EARLIER_KEYS: &str = "earlier keys";
const FORMS: &str = "forms";
const PAUSED: &str = "paused";
const MOVED: &str = "moved";
const PLACE: &str = "place";
/// Contradictions that are kept; the first ones tell most.
const CONTRADICTIONS: usize = 16;

/// What the coordinator has shown of its history of events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// The newest head that went on from the one before, with the coordinator's signature.
    pub newest: Option<Signed>,
    /// Heads that did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contradictions: Vec<Contradiction>,
}

/// Two heads that cannot both be of one history, or one of which is not signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    pub kept: Option<Signed>,
    pub shown: Signed,
    pub proof: Vec<Digest>,
    pub found: Time,
    pub reason: String,
}

impl History {
    /// The same with one contradiction more. What was shown is what the next one is compared with.
    #[must_use]
    pub fn contradicted(&self, contradiction: Contradiction) -> Self {
        let mut history = self.clone();
        history.newest = Some(contradiction.shown.clone());
        if history.contradictions.len() < CONTRADICTIONS {
            history.contradictions.push(contradiction);
        }
        history
    }
}

/// Where the institution works from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Moved {
    to: String,
    at: Time,
}

/// When the coordinator last answered, and what was wrong when it did not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Contact {
    pub succeeded: Option<Time>,
    /// The last failure, if it is newer than the last success.
    pub failure: Option<String>,
}

/// The forms of the institution's files, as a person or the policy agreed to a plan that reads them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Forms {
    /// The table `[reading]` by which they were found.
    pub reading: ReadOptions,
    pub files: Shapes,
}

pub(super) fn put(
    connection: &Connection,
    key: &str,
    value: &impl Serialize,
) -> rusqlite::Result<()> {
    let json = serde_json::to_string(value).map_err(|error| super::unreadable(Box::new(error)))?;
    connection.execute(
        "INSERT INTO notes (key, value) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        params![key, json],
    )?;
    Ok(())
}

/// The value, or the default one where there is none.
pub(super) fn get<T: DeserializeOwned + Default>(
    connection: &Connection,
    key: &str,
) -> rusqlite::Result<T> {
    let Some(text) = text(connection, key)? else {
        return Ok(T::default());
    };
    serde_json::from_str(&text).map_err(|error| super::unreadable(Box::new(error)))
}

fn text(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM notes WHERE key = ?1";
    connection
        .query_row(sql, [key], |row| row.get(0))
        .optional()
}

impl Store {
    pub(super) fn value<T: DeserializeOwned + Default>(&self, key: &str) -> Result<T, Error> {
        let text = self.query("read a note", |connection| text(connection, key))?;
        let Some(text) = text else {
            return Ok(T::default());
        };
        serde_json::from_str(&text)
            .map_err(|error| Error::Content(format!("the note {key}: {error}")))
    }

    /// Until when work is put off, by a person's word; nothing where it is not.
    pub fn paused(&self, now: Time) -> Result<Option<Time>, Error> {
        let until: Option<Time> = self.value(PAUSED)?;
        Ok(until.filter(|until| *until > now))
    }

    /// An error where the institution works from another directory now.
    pub fn check_not_moved(&self) -> Result<(), Error> {
        match self.value::<Option<Moved>>(MOVED)? {
            Some(Moved { to, at }) => Err(Error::Moved { to, at }),
            None => Ok(()),
        }
    }

    pub fn save_moved(&self, to: &str, at: Time) -> Result<(), Error> {
        let to = to.to_owned();
        self.transaction("save move", |t| put(t, MOVED, &Some(Moved { to, at })))
    }

    /// The place in which the directory was opened last.
    pub fn place(&self) -> Result<Option<String>, Error> {
        self.value(PLACE)
    }

    pub fn save_place(&self, place: &str) -> Result<(), Error> {
        let place = Some(place.to_owned());
        self.transaction("save place", |t| put(t, PLACE, &place))
    }

    pub fn save_paused(&self, until: Option<Time>) -> Result<(), Error> {
        self.transaction("save pause", |t| put(t, PAUSED, &until))
    }

    pub fn contact(&self) -> Result<Contact, Error> {
        self.value(CONTACT)
    }

    pub fn history(&self) -> Result<History, Error> {
        self.value(HISTORY)
    }

    pub fn save_history(&self, history: &History) -> Result<(), Error> {
        self.transaction("save history", |t| put(t, HISTORY, history))
    }

    /// What the coordinator said that is to be trusted; without authorities where it has not said so yet.
    pub fn trust(&self) -> Result<Trust, Error> {
        self.value(TRUST)
    }

    pub fn save_trust(&self, trust: &Trust) -> Result<(), Error> {
        self.transaction("save trust", |t| put(t, TRUST, trust))
    }

    /// The keys that signed for this institution before the present one.
    pub fn earlier_keys(&self) -> Result<Vec<PublicKey>, Error> {
        self.value(EARLIER_KEYS)
    }

    /// What is known of the files that are read by `reading`.
    pub fn shapes(&self, reading: &ReadOptions) -> Result<Shapes, Error> {
        let forms: Forms = self.value(FORMS)?;
        if forms.reading == *reading {
            return Ok(forms.files);
        }
        Ok(Shapes::default())
    }

    pub fn save_forms(&self, forms: &Forms) -> Result<(), Error> {
        self.transaction("save forms", |t| put(t, FORMS, forms))
    }

    pub fn save_contact(&self, contact: &Contact) -> Result<(), Error> {
        self.transaction("save contact", |t| put(t, CONTACT, contact))
    }
}
