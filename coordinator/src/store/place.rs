//! Where the state is kept, as `coordinator.toml` says it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Error;
use super::postgres::Address;
use crate::config::{Config, Paths};

/// A file of SQLite's, or a database of a PostgreSQL server.
#[derive(Debug, Clone)]
pub enum Place {
    File(PathBuf),
    Server(Box<Address>),
}

impl Place {
    pub fn from_config(paths: &Paths, config: &Config) -> Result<Self, Error> {
        Self::of(paths, config.store_url.as_deref())
    }

    /// Reads `sqlite:FILE` or `postgres://…`; without either it is the file in the directory.
    pub fn of(paths: &Paths, url: Option<&str>) -> Result<Self, Error> {
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::at(paths, url, &environment.collect())
    }

    /// The same, where the environment has the password of a server.
    pub fn at(
        paths: &Paths,
        url: Option<&str>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let Some(url) = url else {
            return Ok(Self::File(paths.store()));
        };
        if let Some(path) = url.strip_prefix("sqlite:")
            && !path.is_empty()
        {
            return Ok(Self::File(paths.directory().join(path)));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let address = Address::parse(url, environment);
            return address
                .map(Box::new)
                .map(Self::Server)
                .map_err(Error::Place);
        }
        Err(Error::Place(
            "store_url is neither sqlite:FILE nor postgres://USER@HOST/DATABASE".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_file_or_a_server_and_holds_no_password() {
        let paths = Paths::new("/srv/fedner");
        let file = |url: Option<&str>| match Place::of(&paths, url) {
            Ok(Place::File(path)) => path.display().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(file(None), "/srv/fedner/state.sqlite");
        assert_eq!(file(Some("sqlite:other.db")), "/srv/fedner/other.db");
        assert_eq!(file(Some("sqlite:/mnt/state.db")), "/mnt/state.db");
        let server = Place::of(&paths, Some("postgres://fedner@db.example.org/north"));
        assert!(matches!(server, Ok(Place::Server(_))));
        for wrong in [
            "",
            "sqlite:",
            "mysql://a",
            "postgres://fedner:secret@db/north",
        ] {
            let error = Place::of(&paths, Some(wrong)).expect_err(wrong);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
