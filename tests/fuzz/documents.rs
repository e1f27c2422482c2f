//! TOML that people write, and JSON that is signed.

use fedner_client::config::{Policy, Settings};
use fedner_coordinator::config::Config;
use fedner_shared::audit::AuditReport;
use fedner_shared::digest::{Digest, canonical_json};
use fedner_shared::event::Entry;
use fedner_shared::history::{Export, Head, Seen};
use fedner_shared::keys::Succession;
use fedner_shared::plan::Plan;
use fedner_shared::sign::SecretKey;
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::version::Version;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A plan that is taken has the same digest when it was signed, sent and read.
pub(crate) fn plan(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(plan) = Plan::parse(&text) else {
        return;
    };
    let json = canonical_json(&plan);
    let again: Plan = serde_json::from_slice(&json).expect("a plan is read as it was signed");
    assert_eq!(again, plan);
    assert_eq!(Digest::of_json(&again), plan.digest());
    again.check().expect("what was taken once is taken again");
    // What follows from a plan is there for every plan that is taken.
    for (dimension, units) in [(1, 1), (7_000, 5_000), (110_000_000, u32::MAX)] {
        assert!(plan.largest_norm(dimension, units) >= 0.0);
        let _ = plan.squared_norm_bound(dimension, units);
        let _ = plan.sampling(units);
        let _ = plan.noise_to_signal(dimension);
    }
    let _ = (
        plan.tags(),
        plan.trainable(),
        plan.largest_weight(),
        plan.privacy.value_bound(),
    );
}

const EVERY_KEY: &str = include_str!("../../shared/src/plan/PLAN.md");

fn block() -> &'static str {
    let after = EVERY_KEY.split_once("```toml\n").expect("a block").1;
    after.split_once("```").expect("its end").0
}

pub(crate) fn plans() -> Vec<Vec<u8>> {
    let plan = |method: &str, unit: &str, more: &str| {
        format!(
            "name = \"a\"\nbase = \"b@1\"\nlabels = [\"A\", \"B\"]\nmethod = \"{method}\"\nrounds = 5\n\
             seed = 7\n[training]\nlocal_epochs = 2\nbatch_size = 16\nclass_weights = {{ A = 2.0 }}\n\
             [cohort]\ninstitutions = [\"x\", \"y\", \"z\"]\nquorum = 2\n{more}\n[privacy]\n\
             unit = \"{unit}\"\nclip = 1.0\nnoise_multiplier = 1.0\ndelta = 1e-5\nmax_epsilon = 8.0\n"
        )
    };
    let gate = "[gate]\nmin_gain = -0.02\nscore = \"median\"\non_regression = \"roll-back\"\n";
    let texts = [
        plan("head", "institution", ""),
        plan(
            "lora",
            "person",
            "weighting = \"examples\"\nmax_share = 0.5",
        ),
        plan(
            "full",
            "none",
            "weighting = \"plan\"\nweights = { x = 1, y = 2, z = 3 }",
        ),
        plan("ffa-lora", "sentence", "enough = 3") + gate,
        block().to_owned(),
    ];
    texts.map(String::into_bytes).to_vec()
}

pub(crate) fn configuration(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(policy) = toml::from_str::<Policy>(&text) {
        written_and_read_again(&policy);
    }
    if let Ok(settings) = toml::from_str::<Settings>(&text) {
        written_and_read_again(&settings);
    }
    if let Ok(config) = toml::from_str::<Config>(&text) {
        written_and_read_again(&config);
    }
}

fn written_and_read_again<T: Serialize + DeserializeOwned + std::fmt::Debug>(value: &T) {
    let text = toml::to_string(value).expect("a configuration can be written");
    let again: T = toml::from_str(&text).expect("and read");
    assert_eq!(format!("{again:?}"), format!("{value:?}"));
}

pub(crate) fn configurations() -> Vec<Vec<u8>> {
    let policy = toml::to_string(&Policy::default()).expect("policy");
    let more = format!("{policy}units = [\"person\"]\nhours = \"20:00-06:00\"\nlabels = [\"A\"]\n");
    let settings = "institution = \"a\"\ncoordinator = \"a:1\"\ndata = [\"x\"]\nheld_out = [\"y\"]\n\
                    device = \"cpu\"\ndeclared_examples = 5\n[reading]\nformat = \"conll\"\n";
    let config = "name = \"a\"\naddress = \"[::1]:1\"\nlisten = \"127.0.0.1:1\"\nblobs_url = \"file:///a\"\n";
    [policy, more, settings.into(), config.into()]
        .map(String::into_bytes)
        .to_vec()
}

/// A record that is read has one canonical text, which reads as the same record.
pub(crate) fn statements(input: &[u8]) {
    kinds(input);
}

/// How many kinds of records it is.
fn kinds(input: &[u8]) -> usize {
    let found = [
        signed_again::<Consent>(input),
        signed_again::<UpdateReceipt>(input),
        signed_again::<EvaluationReceipt>(input),
        signed_again::<AuditReport>(input),
        signed_again::<Version>(input),
        signed_again::<Entry>(input),
        signed_again::<Plan>(input),
        signed_again::<Succession>(input),
        signed_again::<Head>(input),
        signed_again::<Seen>(input),
        signed_again::<Export>(input),
    ];
    found.into_iter().filter(|found| *found).count()
}

fn signed_again<T: Serialize + DeserializeOwned>(input: &[u8]) -> bool {
    let Ok(record) = serde_json::from_slice::<T>(input) else {
        return false;
    };
    let text = canonical_json(&record);
    let again: T = serde_json::from_slice(&text).expect("a record is read as it was written");
    assert_eq!(canonical_json(&again), text);
    true
}

pub(crate) fn signed() -> Vec<Vec<u8>> {
    let d = "07".repeat(32);
    let key = SecretKey::from_seed([1; 32]).public();
    let texts = [
        format!(
            r#"{{"plan":"{d}","institution":"a","examples":5,"policy":"{d}","at":1,"expires":2}}"#
        ),
        format!(
            r#"{{"plan":"{d}","institution":"a","examples":5,"held_out":9,"policy":"{d}","at":1,"expires":2}}"#
        ),
        format!(
            r#"{{"run":"a-1","plan":"{d}","round":1,"attempt":1,"institution":"a","base":"{d}","manifest":"{d}","weight":1,"blob":"{d}","bytes":9,"sigma":0.5,"epsilon_after":1e300,"ledger_head":null,"at":1}}"#
        ),
        format!(
            r#"{{"name":"b@1","parent":null,"origin":{{"kind":"import"}},"labels":["A"],"weights":"{d}","config":"{d}","tokenizer":"{d}","created":1}}"#
        ),
        format!(
            r#"{{"sequence":1,"time":1,"previous":"{d}","run":"a-1","event":{{"kind":"run_created","plan":"{d}","base":"{d}","rounds":3}}}}"#
        ),
        format!(r#"{{"signs":{{"statements":"a"}},"old":"{key}","new":"{key}","at":1}}"#),
        format!(r#"{{"size":3,"root":"{d}","key":"{key}","at":1}}"#),
        format!(r#"{{"institution":"a","size":3,"root":"{d}","at":1}}"#),
        format!(r#"{{"institution":"a","digests":["{d}"],"entries":[]}}"#),
    ];
    let plans = plans().into_iter().filter_map(|plan| {
        let plan = Plan::parse(&String::from_utf8(plan).ok()?).ok()?;
        Some(canonical_json(&plan))
    });
    texts
        .map(String::into_bytes)
        .into_iter()
        .chain(plans)
        .collect()
}

#[test]
fn the_seeds_are_sound_documents() {
    let sound = |seed: &Vec<u8>| Plan::parse(&String::from_utf8_lossy(seed)).is_ok();
    // The last has every key that there is, and so some that exclude each other.
    assert_eq!(
        plans().iter().filter(|seed| sound(seed)).count(),
        plans().len() - 1
    );
    for seed in signed() {
        assert_eq!(kinds(&seed), 1, "{}", String::from_utf8_lossy(&seed));
    }
}
