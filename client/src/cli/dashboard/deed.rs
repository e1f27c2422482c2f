//! What a person decides. Each is a command too.

use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_shared::refusal::{Code, Refusal};
use serde::Deserialize;

use crate::cli::consent as command;
use crate::config::Directory;
use crate::consent::{self, Terms};
use crate::identity::Identity;
use crate::rules;
use crate::state::{Decision, Store};

/// As it stands in an address.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Deed {
    what: What,
    /// The digest of a plan or a receipt.
    name: String,
    /// The count to declare with a consent; empty for that of the configuration.
    #[serde(default)]
    examples: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Grant,
    Revoke,
    Release,
    Refuse,
}

impl Deed {
    /// What is asked, what follows, and the word on the button.
    pub(super) const fn words(&self) -> (&'static str, &'static str, &'static str) {
        match self.what {
            What::Grant => (
                "Take part in",
                "Your text is read and checked now. A consent is signed and sent, and rounds may be trained until it expires.",
                "Take part",
            ),
            What::Revoke => (
                "Withdraw from",
                "Nothing more is trained for the plan, and nothing more leaves. What has left cannot come back.",
                "Withdraw",
            ),
            What::Release => (
                "Release the update",
                "It leaves as it was shown. Your word cannot be taken back.",
                "Release",
            ),
            What::Refuse => (
                "Refuse the update",
                "It stays here for good, and the coordinator is told. It stays paid for.",
                "Refuse",
            ),
        }
    }

    pub(super) const fn is_harsh(&self) -> bool {
        matches!(self.what, What::Revoke | What::Refuse)
    }
}

/// What the deed is about, in words.
pub(super) fn name_of(directory: &Directory, deed: &Deed) -> anyhow::Result<String> {
    let store = Store::open(&directory.database())?;
    Ok(match deed.what {
        What::Grant | What::Revoke => command::find(&store, &deed.name)?.plan.name.to_string(),
        What::Release | What::Refuse => {
            let digest = deed.name.parse()?;
            let receipt = store
                .receipt(&digest)?
                .ok_or_else(|| Refusal::new(Code::NothingFound, "no such update waits"))?;
            receipt.digest.short()
        }
    })
}

pub(super) fn decide(
    directory: &Directory,
    deed: &Deed,
    handle: &tokio::runtime::Handle,
) -> anyhow::Result<()> {
    let store = Store::open(&directory.database())?;
    match deed.what {
        What::Grant => grant(directory, &store, deed, handle),
        What::Revoke => {
            let record = command::find(&store, &deed.name)?;
            if !store.revoke_consents(&record.digest, ThisMachine.now())? {
                let message = format!("no consent to {} is in force", record.plan.name);
                return Err(Refusal::new(Code::ConsentMissing, message).into());
            }
            Ok(())
        }
        What::Release => said(&store, deed, Decision::Granted),
        What::Refuse => said(&store, deed, Decision::Refused),
    }
}

/// As `consent grant` does it.
fn grant(
    directory: &Directory,
    store: &Store,
    deed: &Deed,
    handle: &tokio::runtime::Handle,
) -> anyhow::Result<()> {
    let settings = directory.settings()?;
    let identity = Identity::load(&directory.identity(), settings.institution.clone())?;
    let now = ThisMachine.now();
    // What is granted is granted by the policy in force.
    let policy = handle
        .block_on(rules::in_force(store, directory, now))?
        .policy;
    let terms = Terms {
        directory,
        settings: &settings,
        policy: &policy,
    };
    let record = command::find(store, &deed.name)?;
    let examples = match deed.examples.trim() {
        "" => None,
        number => Some(number.parse().map_err(|_| {
            Refusal::new(
                Code::ExamplesOutOfRange,
                "the examples to declare are a number",
            )
        })?),
    };
    consent::check_text(terms, &record.plan)?;
    consent::grant(store, &identity, terms, &record, examples, now)?;
    tracing::info!(plan = %record.plan.name, "a consent was granted on the page");
    Ok(())
}

/// As `release grant` and `release refuse` do it: the first word holds.
fn said(store: &Store, deed: &Deed, word: Decision) -> anyhow::Result<()> {
    let receipt = deed.name.parse()?;
    let holds = store.decide(&receipt, word)?;
    if holds != word {
        let message = format!("it was {} before, and the first word holds", holds.as_str());
        return Err(Refusal::new(Code::NothingFound, message).into());
    }
    tracing::info!(%receipt, word = word.as_str(), "a word was said on the page");
    Ok(())
}
