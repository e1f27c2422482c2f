//! Kills at random times while updates are masked: nothing is lost, doubled or revealed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use fedner_client::state::{ReceiptKind, Store as SiteStore};
use fedner_coordinator::store::{StatementKind, Store};
use fedner_shared::secure::{OfAttempt, SecureSet, SecureShares, SecureStep, SecureUnmasking};
use fedner_shared::sign::Signed;
use fedner_shared::statement::UpdateReceipt;
use serde_json::Value;

use crate::crash::{Cohort, Federation, kill_at_random};

/// Everybody is needed: without one of three the sum stays masked.
const MASKED: Cohort = Cohort {
    names: &["i0", "i1", "i2"],
    tables: "[secure_aggregation]\nstep_timeout_s = 600\n",
};

#[test]
fn kills_at_random_times_of_masked_rounds_lose_double_and_reveal_nothing() -> Result<()> {
    let mut first: Option<Vec<Value>> = None;
    kill_at_random(MASKED, |weights, federation| {
        let expected = first.get_or_insert_with(|| weights.to_vec());
        ensure!(
            weights == expected,
            "the weights differ: {weights:?}, {expected:?}"
        );
        ensure!(weights.len() == 3, "{} rounds", weights.len());
        one_vector_under_a_mask(federation)?;
        one_answer_in_an_attempt(federation)
    })
}

/// What an institution has signed of each update: with two under one mask, their difference would be open.
fn one_vector_under_a_mask(federation: &Federation) -> Result<()> {
    for name in MASKED.names {
        let directory = federation.setting.cluster.client_directory(name);
        let store = SiteStore::open(&directory.join("state.sqlite"))?;
        let mut vectors = BTreeMap::new();
        for receipt in store.receipts()? {
            if receipt.kind != ReceiptKind::Update {
                continue;
            }
            let said: UpdateReceipt = receipt.signed.peek()?;
            let masks = said.masked.context("an update without masks")?;
            let before = vectors.insert((masks.roster, masks.dealt), said.blob);
            ensure!(before.is_none(), "{name} has two vectors under one mask");
        }
        ensure!(
            vectors.len() >= 3,
            "{name} has sent {} vectors",
            vectors.len()
        );
    }
    Ok(())
}

/// What the coordinator was told in each attempt: by each member one set, and of each member one kind of share.
fn one_answer_in_an_attempt(federation: &Federation) -> Result<()> {
    let directory = federation.setting.cluster.coordinator_directory();
    let mut store = Store::open_read_only(&directory.join("state.sqlite"))?;
    let (mut rosters, mut sets, mut kinds) = (Answers::new(), Answers::new(), Answers::new());
    for statement in store.read(|tx| tx.statements())? {
        let StatementKind::Secure(step) = statement.kind else {
            continue;
        };
        match step {
            SecureStep::Keys => {}
            SecureStep::Shares => {
                let said: SecureShares = statement.signed.peek()?;
                note(&mut rosters, &said, said.roster.to_string());
            }
            SecureStep::Consistency => {
                let said: SecureSet = statement.signed.peek()?;
                note(&mut sets, &said, format!("{:?}", said.members));
            }
            SecureStep::Unmasking => note_kinds(&mut kinds, &statement.signed)?,
        }
    }
    for (what, answers) in [("roster", rosters), ("set", sets), ("kind of share", kinds)] {
        ensure!(
            answers.len() >= 9,
            "only {} answers of a {what}",
            answers.len()
        );
        let twice = answers.iter().find(|(_, said)| said.len() > 1);
        ensure!(twice.is_none(), "more than one {what}: {twice:?}");
    }
    Ok(())
}

/// What was said of whom in which attempt.
type Answers = BTreeMap<(String, String), BTreeSet<String>>;

fn note(answers: &mut Answers, said: &impl OfAttempt, answer: String) {
    let key = (
        said.of().digest().to_string(),
        said.institution().to_string(),
    );
    answers.entry(key).or_default().insert(answer);
}

/// Whoever tells it: of one member one kind.
fn note_kinds(kinds: &mut Answers, signed: &Signed) -> Result<()> {
    let said: SecureUnmasking = signed.peek()?;
    let seeds = said.own_seeds.keys().map(|member| (member, "seed"));
    let keys = said.mask_keys.keys().map(|member| (member, "key"));
    for (member, kind) in seeds.chain(keys) {
        let key = (said.of.digest().to_string(), member.to_string());
        kinds.entry(key).or_default().insert(kind.to_owned());
    }
    Ok(())
}
