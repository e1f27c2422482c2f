//! Which policy is in force: the one in the database, never a file that happens to be read.
//!
//! `policy.toml` is how people say what the policy is to be. A file that is absent, empty, unreadable or
//! cut short allows nothing. A changed file is taken over when it is whole and the same at two looks: what
//! it forbids holds from then on. What it allows beyond the policy in force waits for `policy apply`.

use fedner_shared::refusal::Refusal;
use fedner_shared::time::Time;

use crate::config::{self, Directory, Policy, settled};
use crate::state::{self, PolicySource, Store};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Config(error) => Some(error.refusal()),
            Self::State(error) => error.refusal(),
        }
    }
}

/// The policy in force.
#[derive(Debug, Clone, PartialEq)]
pub struct InForce {
    pub policy: Policy,
    /// The keys in which `policy.toml` would allow more.
    pub looser: Vec<&'static str>,
    /// Whether the file has just changed it.
    pub changed: bool,
}

/// The policy in force, with what `policy.toml` forbids beyond it.
pub async fn in_force(store: &Store, directory: &Directory, now: Time) -> Result<InForce, Error> {
    let known = store.policy()?;
    let file = directory.policy_file();
    let said = settled(file, known.as_ref(), || directory.policy()).await?;
    let Some(known) = known else {
        store.add_policy(&said, PolicySource::First, now)?;
        return Ok(InForce {
            policy: said,
            looser: Vec::new(),
            changed: true,
        });
    };
    let found = known.tightened_by(&said);
    let changed = found.policy != known;
    if changed {
        store.add_policy(&found.policy, PolicySource::File, now)?;
    }
    Ok(InForce {
        policy: found.policy,
        looser: found.looser,
        changed,
    })
}

/// What is shown to people.
#[derive(Debug)]
pub struct Shown {
    /// The policy in force, or the one that will be at the first start.
    pub policy: Policy,
    /// The keys in which `policy.toml` would allow more.
    pub looser: Vec<&'static str>,
    /// Why nothing is allowed now.
    pub fault: Option<config::Error>,
}

/// What [`in_force`] would answer, for those who only look.
pub fn shown(store: &Store, directory: &Directory) -> Result<Shown, Error> {
    match (store.policy()?, directory.policy()) {
        (None, said) => Ok(Shown {
            policy: said?,
            looser: Vec::new(),
            fault: None,
        }),
        (Some(known), Ok(said)) => {
            let found = known.tightened_by(&said);
            Ok(Shown {
                policy: found.policy,
                looser: found.looser,
                fault: None,
            })
        }
        (Some(policy), Err(fault)) => Ok(Shown {
            policy,
            looser: Vec::new(),
            fault: Some(fault),
        }),
    }
}

/// Puts `policy.toml` in force as it stands, by a person's word. The policy before, and the new one.
pub async fn apply(
    store: &Store,
    directory: &Directory,
    now: Time,
) -> Result<(Option<Policy>, Policy), Error> {
    let before = store.policy()?;
    let said = settled(directory.policy_file(), before.as_ref(), || {
        directory.policy()
    });
    let said = said.await?;
    if before.as_ref() != Some(&said) {
        store.add_policy(&said, PolicySource::Apply, now)?;
    }
    Ok((before, said))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use PolicySource::{Apply, File, First};

    use super::*;
    use crate::state::tests::Place;

    const NOW: Time = Time::from_millis(1_000);

    #[tokio::test]
    async fn a_looser_file_waits_for_a_person_and_a_stricter_one_does_not() {
        let place = Place::new();
        let (store, directory) = (
            place.open(),
            Directory::new(Some(place.path().to_owned())).expect("directory"),
        );
        let write = |text: &str| fs::write(directory.policy_file(), text).expect("written");
        let now = || in_force(&store, &directory, NOW);
        assert!(matches!(
            now().await,
            Err(Error::Config(config::Error::Missing { .. }))
        ));
        assert_eq!(store.policy().expect("store"), None);
        write("hold = true\nmax_epsilon_run = 4.0");
        assert!(now().await.expect("first").policy.hold);
        for gone in ["", "hold = tr"] {
            write(gone);
            assert!(matches!(now().await, Err(Error::Config(_))), "{gone:?}");
        }
        fs::remove_file(directory.policy_file()).expect("removed");
        assert!(now().await.is_err());
        // Cut short, and yet a file that can be read.
        let seen = shown(&store, &directory).expect("shown");
        assert!(seen.policy.hold && seen.fault.is_some());
        write("max_epsilon_run = 2.0");
        let found = now().await.expect("whole");
        assert_eq!(found.looser, ["hold"]);
        assert!(found.policy.hold && found.changed);
        assert!(found.policy.max_epsilon_run < 3.0);
        let (before, after) = apply(&store, &directory, NOW).await.expect("applied");
        assert!(before.is_some_and(|policy| policy.hold) && !after.hold);
        assert!(!now().await.expect("in force").policy.hold);
        let sources: Vec<_> = store.policies().expect("store");
        let sources: Vec<_> = sources.iter().map(|record| record.source).collect();
        assert_eq!(sources, [First, File, Apply]);
    }
}
