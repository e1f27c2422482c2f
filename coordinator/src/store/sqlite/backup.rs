//! A consistent copy of the database beside a running coordinator.

use std::fs::File;
use std::path::Path;

use fedner_host::sqlite;
use rusqlite::{Connection, OpenFlags};

use super::schema;
use crate::store::Error;

/// Writes the database at `from`, as it is at one instant, to the new file `to`.
pub(in crate::store) fn backup(from: &Path, to: &Path) -> Result<(), Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(from, flags);
    let connection = connection.map_err(|error| Error::Open(error.into()))?;
    schema::check(&connection)?;
    let name = "back up";
    let path = to.to_string_lossy();
    sqlite::wait(&connection)
        .and_then(|()| connection.execute("VACUUM INTO ?1", [path.as_ref()]))
        .map_err(|error| Error::Transaction {
            name,
            source: error.into(),
        })?;
    make_durable(to)
}

/// Has the copy reach the disk.
pub(in crate::store) fn make_durable(to: &Path) -> Result<(), Error> {
    File::open(to)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::Damaged(format!("the copy cannot be made durable: {error}")))
}

#[cfg(test)]
mod tests {
    use fedner_shared::event::Event;
    use fedner_shared::time::Time;

    use super::*;
    use crate::store::Store;

    #[test]
    fn a_copy_is_of_one_instant_and_does_not_disturb_the_writer() {
        let folder = tempfile::tempdir().expect("folder");
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        let mut store = Store::open(&from).expect("store");
        let append = |store: &mut Store| {
            store
                .transact("test", |tx| {
                    tx.append_event(Time::from_millis(1), None, Event::RunStarted)
                })
                .map(drop)
        };
        append(&mut store).unwrap_or_else(|error: Error| panic!("{error}"));
        backup(&from, &to).expect("copy");
        append(&mut store).unwrap_or_else(|error: Error| panic!("{error}"));
        assert!(backup(&from, &to).is_err(), "a copy is never written over");
        let mut copy = Store::open(&to).expect("the copy opens");
        assert_eq!(copy.read(|tx| tx.verify_chain()).expect("whole"), 1);
        assert_eq!(store.read(|tx| tx.verify_chain()).expect("whole"), 2);
    }
}
