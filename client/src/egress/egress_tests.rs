mod audit_tests;
mod charge_tests;
mod kill_tests;
mod secure_tests;

use std::path::Path;

use fedner_privacy::accountant::zcdp;
use fedner_privacy::ledger::{self, Cost, Stage};
use fedner_session::{Charge, Input, Kind, Session, State, Task};
use fedner_shared::bert::BertConfig;
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::Method;
use fedner_shared::score::{Counts, Scores};
use fedner_shared::sign::{SecretKey, Signed};
use fedner_shared::statement::{EvaluationReceipt, UpdateReceipt};
use fedner_shared::update::Decoder;

use super::*;
use crate::config::policy::tests::plan;
use crate::identity::Validity;
use crate::state::Decision;
use crate::state::tests::Place;
use crate::training::RoundUpdate;
use crate::transport::TlsIdentity;

const NOW: Time = Time::from_millis(1_000_000);

pub(crate) fn identity() -> Identity {
    Identity {
        institution: "st-anna".parse().expect("name"),
        tls: TlsIdentity {
            key_pem: String::new().into(),
            certificate_pem: String::new(),
            authority_pem: String::new(),
        },
        signing: SecretKey::from_seed([1; 32]),
        operator: SecretKey::from_seed([2; 32]).public(),
        validity: Validity {
            not_before: NOW,
            not_after: NOW,
        },
    }
}

pub(super) fn manifest() -> Manifest {
    let json = r#"{"model_type":"bert","vocab_size":11,"hidden_size":4,"num_hidden_layers":1,
        "num_attention_heads":2,"intermediate_size":8,"max_position_embeddings":16}"#;
    BertConfig::parse(json)
        .expect("config")
        .manifest(&Method::Head.into(), 3)
}

struct Bench {
    place: Place,
    plan: Plan,
    policy: Policy,
}

impl Bench {
    fn new(unit: &str) -> Self {
        let bench = Self {
            place: Place::new(),
            plan: plan(unit),
            policy: Policy {
                allow_no_privacy: true,
                ..Policy::default()
            },
        };
        bench.consent();
        bench
    }

    fn consent(&self) {
        let store = self.place.open();
        let operator = SecretKey::from_seed([2; 32]);
        let record = crate::state::PlanRecord {
            digest: self.plan.digest(),
            run: "run-1".parse().expect("name"),
            plan: self.plan.clone(),
            signed: Signed::new(&self.plan, &operator),
            dimension: 15,
            memory: 0,
            roster: fedner_shared::secure::Signers::new(),
            proposed: NOW,
        };
        store.add_plan(&record).expect("plan");
        let consent = Consent {
            plan: self.plan.digest(),
            institution: "st-anna".parse().expect("name"),
            examples: 7,
            held_out: None,
            annotation: None,
            policy: self.policy.digest(),
            at: NOW,
            expires: Time::from_millis(2_000_000),
        };
        let signed = Signed::new(&consent, &identity().signing);
        store.add_consent(&consent, &signed).expect("consent");
    }

    fn gate(&self) -> Gate {
        let blobs = Blobs::open(self.place.path().join("blobs")).expect("blobs");
        Gate::new(self.place.open(), blobs, Arc::new(identity()))
    }

    fn task(&self, round: u32) -> Task {
        Task {
            kind: Kind::Train,
            run: "run-1".parse().expect("name"),
            plan: self.plan.digest(),
            round,
            attempt: 1,
            version: Digest::of(b"version"),
            record: "{}".into(),
            manifest: manifest().digest(),
        }
    }

    fn evaluation(&self, round: u32) -> Task {
        Task {
            kind: Kind::Evaluate,
            ..self.task(round)
        }
    }

    /// The session of an attempt that is paid for.
    fn charged(&self, task: &Task, now: Time) -> Result<Session, Error> {
        let (task, charge) = (task.clone(), None);
        let state = match task.kind {
            Kind::Train => State::Training { task, charge },
            Kind::Evaluate => State::Evaluating { task, charge },
        };
        let session = Session { state, since: None };
        Ok(self
            .gate()
            .charge(&self.charge_request(&session, now))?
            .session)
    }

    fn charge_request<'a>(&'a self, session: &'a Session, now: Time) -> ChargeRequest<'a> {
        ChargeRequest {
            task: session.task().expect("a task"),
            plan: &self.plan,
            policy: &self.policy,
            dimension: 15,
            session,
            now,
        }
    }

    fn release(&self, round: u32, update: &[f32], now: Time) -> Result<Released, Error> {
        let task = self.task(round);
        let session = self.charged(&task, now)?;
        let session = session.step(now, Input::Trained)?.session;
        let request = UpdateRequest {
            task: &task,
            plan: &self.plan,
            policy: &self.policy,
            manifest: &manifest(),
            update: &RoundUpdate::from_values(update, self.plan.sampling(7)),
            session: &session,
            now,
        };
        let (release, _) = self.gate().release_update(&request)?;
        self.gate().resume(&release, &self.policy)
    }

    fn assert_nothing_left(&self) {
        let store = self.place.open();
        assert!(store.ledger().expect("ledger").entries().is_empty());
        assert!(store.receipts().expect("receipts").is_empty());
        assert!(store.session().expect("session").is_idle());
        let blobs = std::fs::read_dir(self.place.path().join("blobs")).expect("folder");
        assert_eq!(blobs.count(), 0, "no update lies about");
    }
}

fn code(result: Result<Released, Error>) -> Code {
    result
        .expect_err("refused")
        .refusal()
        .expect("a refusal")
        .code
}

#[test]
fn a_release_is_paid_for_signed_and_survives_a_crash_byte_for_byte() {
    let bench = Bench::new("institution");
    let released = bench.release(1, &[0.01; 15], NOW).expect("released");
    let receipt: UpdateReceipt = released
        .receipt()
        .verify(&identity().signing.public())
        .expect("signed");
    assert_eq!((receipt.weight, receipt.bytes), (7, released.bytes()));
    assert!((receipt.sigma - 2.0).abs() < 1e-12);
    // Everything is read again from the disk, as after a crash.
    let store = bench.place.open();
    let ledger = store.ledger().expect("ledger");
    assert_eq!(receipt.ledger_head, Some(ledger.head()));
    assert_eq!(
        receipt.epsilon_after,
        Some(ledger.entries()[0].epsilon_after)
    );
    let State::Uploading { release, .. } = store.session().expect("session").state else {
        panic!("the session uploads")
    };
    let again = bench
        .gate()
        .resume(&release, &bench.policy)
        .expect("resumed");
    assert_eq!(
        (again.blob(), again.receipt()),
        (released.blob(), released.receipt())
    );
    let bound = bench.plan.privacy.value_bound();
    Decoder::new(again.open().expect("file"), 15, bound)
        .and_then(Decoder::read_all)
        .expect("a valid update");
    let found = store.released(&bench.task(1)).expect("store");
    assert_eq!(found, Some(release), "the same attempt finds it");
}

#[test]
fn a_second_release_of_the_same_training_has_fresh_noise_and_is_charged_again() {
    let bench = Bench::new("institution");
    let first = bench.release(1, &[0.01; 15], NOW).expect("first");
    let second = bench.release(1, &[0.01; 15], NOW).expect("second");
    assert_ne!(first.blob(), second.blob());
    let ledger = bench.place.open().ledger().expect("ledger");
    assert_eq!(ledger.entries().len(), 2);
}

#[test]
fn what_is_not_an_update_of_the_plan_stays() {
    let bench = Bench::new("institution");
    assert_eq!(code(bench.release(1, &[0.0; 14], NOW)), Code::UpdateShape);
    let mut update = [0.0; 15];
    let bench = Bench::new("none");
    for value in [f32::NAN, f32::INFINITY] {
        update[3] = value;
        assert_eq!(code(bench.release(1, &update, NOW)), Code::NotFinite);
    }
    let store = bench.place.open();
    assert!(store.receipts().expect("receipts").is_empty());
    assert_eq!(
        store.ledger().expect("ledger").entries().len(),
        2,
        "it costs"
    );
}

/// That an update is not finite can depend on one person's text: noise alone leaves.
#[test]
fn what_is_not_finite_counts_as_nothing_under_a_guarantee() {
    let bench = Bench::new("institution");
    for value in [f32::NAN, f32::INFINITY] {
        let mut update = [0.0; 15];
        update[3] = value;
        let released = bench.release(1, &update, NOW).expect("released");
        let receipt: UpdateReceipt = released.receipt().peek().expect("receipt");
        assert!((receipt.sigma - 2.0).abs() < 1e-12);
        let note = &bench.place.open().receipts().expect("receipts")[0].note;
        assert_eq!(note["norm_before"], 0.0);
    }
}

#[test]
fn the_budget_is_a_hard_stop() {
    let mut bench = Bench::new("institution");
    // A person counts like two institutions: another update is there instead.
    bench.policy.max_epsilon_total = 5.0;
    bench.release(1, &[0.0; 15], NOW).expect("the first fits");
    assert_eq!(code(bench.release(2, &[0.0; 15], NOW)), Code::BudgetSpent);
    let ledger = bench.place.open().ledger().expect("ledger");
    assert_eq!(ledger.entries().len(), 1);
}

#[test]
fn without_consent_or_against_the_policy_nothing_leaves() {
    let mut bench = Bench::new("institution");
    let late = Time::from_millis(2_000_000);
    assert_eq!(
        code(bench.release(1, &[0.0; 15], late)),
        Code::ConsentMissing
    );
    bench.policy.methods = vec![Method::Full];
    assert_eq!(code(bench.release(1, &[0.0; 15], NOW)), Code::PolicyForbids);
    bench.policy.methods = vec![Method::Head];
    let store = bench.place.open();
    assert!(
        store
            .revoke_consents(&bench.plan.digest(), NOW)
            .expect("revoked")
    );
    assert_eq!(
        code(bench.release(1, &[0.0; 15], NOW)),
        Code::ConsentMissing
    );
    bench.gate();
    bench.assert_nothing_left();
}

#[test]
fn a_debit_that_is_not_durable_releases_nothing() {
    for table in ["ledger", "receipts", "notes"] {
        let bench = Bench::new("institution");
        bench.place.break_table(table);
        let error = bench.release(1, &[0.0; 15], NOW).expect_err("broken");
        assert!(matches!(error, Error::State(_)), "{table}: {error}");
        let store = bench.place.open();
        let entries = store.ledger().expect("ledger").entries().len();
        // The charge is another transaction, and may have been made.
        assert_eq!(entries, usize::from(table == "receipts"), "{table}");
        assert!(store.receipts().expect("receipts").is_empty());
        let state = store.session().expect("session").state;
        assert!(!matches!(state, State::Uploading { .. }), "{table}");
        let blobs = std::fs::read_dir(bench.place.path().join("blobs")).expect("folder");
        assert_eq!(blobs.count(), 0, "no update lies about");
    }
}

#[test]
fn without_noise_the_release_is_recorded_and_has_no_epsilon() {
    let bench = Bench::new("none");
    let released = bench.release(1, &[0.5; 15], NOW).expect("released");
    let receipt: UpdateReceipt = released.receipt().peek().expect("receipt");
    assert_eq!(receipt.epsilon_after, None);
    assert!(receipt.sigma.abs() < f64::MIN_POSITIVE);
    let ledger = bench.place.open().ledger().expect("ledger");
    assert_eq!(ledger.entries().len(), 1);
    assert_eq!(ledger.entries()[0].debit.cost, Cost::Unprotected);
}

#[test]
fn an_old_copy_of_the_ledger_is_told_by_the_coordinators_receipt() {
    let bench = Bench::new("institution");
    bench.release(1, &[0.01; 15], NOW).expect("released");
    let old = bench.place.open().ledger().expect("ledger");
    let released = bench.release(2, &[0.01; 15], NOW).expect("released");
    let receipt: UpdateReceipt = released.receipt().peek().expect("receipt");
    let head = receipt.ledger_head.expect("a debit");
    let ledger = bench.place.open().ledger().expect("ledger");
    assert_eq!(check_not_behind(&ledger, &head), Ok(()));
    let refusal = check_not_behind(&old, &head).expect_err("an old copy");
    assert_eq!(refusal.code, Code::LedgerBehind);
}

#[test]
fn a_taken_update_is_confirmed_once() {
    let bench = Bench::new("institution");
    let released = bench.release(1, &[0.01; 15], NOW).expect("released");
    let store = bench.place.open();
    for _ in 0..2 {
        store
            .mark_taken(&released.receipt().digest(), NOW)
            .expect("marked");
    }
    let ledger = store.ledger().expect("ledger");
    let stages: Vec<_> = ledger.entries().iter().map(|entry| entry.stage).collect();
    assert_eq!(stages, [Stage::Debited, Stage::Confirmed]);
    let taken = store.receipts().expect("receipts")[0].taken;
    assert_eq!(taken, Some(NOW));
}

#[test]
fn a_file_that_changed_after_the_release_is_not_sent() {
    let bench = Bench::new("institution");
    let released = bench.release(1, &[0.0; 15], NOW).expect("released");
    let path = bench
        .place
        .path()
        .join("blobs")
        .join(released.blob().to_string());
    std::fs::write(&path as &Path, b"other").expect("written");
    let release = bench
        .place
        .open()
        .released(&bench.task(1))
        .expect("store")
        .expect("release");
    assert_eq!(
        code(bench.gate().resume(&release, &bench.policy)),
        Code::StateInvalid
    );
}

const COUNTS: Counts = Counts {
    true_positives: 1,
    false_positives: 2,
    false_negatives: 3,
};

/// The counts of three units, of a type that the plan has and of one that it has not.
fn counted() -> Vec<Scores> {
    let by_type = [
        ("Disease".to_owned(), COUNTS),
        ("Patient".to_owned(), COUNTS),
    ];
    let unit = Scores {
        by_type: by_type.into(),
    };
    vec![unit; 3]
}

impl Bench {
    fn release_counts(&self) -> Result<EvaluationReceipt, Error> {
        self.release_counts_of(&self.plan.labels)
    }

    fn release_counts_of(&self, types: &[String]) -> Result<EvaluationReceipt, Error> {
        let (task, units) = (self.evaluation(1), counted());
        let session = self.charged(&task, NOW)?;
        let transition = self.gate().release_evaluation(&EvaluationRequest {
            task: &task,
            plan: &self.plan,
            policy: &self.policy,
            units: &units,
            types,
            session: &session,
            now: NOW,
        })?;
        let State::Submitting { receipt, .. } = transition.session.state else {
            panic!("the session submits")
        };
        let released = self.gate().resume_evaluation(&receipt)?;
        let receipt = released.receipt().verify(&identity().signing.public());
        Ok(receipt.expect("signed"))
    }
}

#[test]
fn exact_counts_leave_only_where_the_policy_says_so_and_only_those_of_the_plan() {
    let mut bench = Bench::new("institution");
    let code = |bench: &Bench| bench.release_counts().expect_err("forbidden").refusal();
    assert_eq!(code(&bench).map(|r| r.code), Some(Code::PolicyForbids));
    bench.policy.share_evaluation = true;
    assert_eq!(code(&bench).map(|r| r.code), Some(Code::PolicyForbids));
    bench.assert_nothing_left();
    bench.policy.exact_evaluation = true;
    let receipt = bench.release_counts().expect("released");
    let labels: Vec<_> = receipt.scores.by_type.keys().collect();
    assert_eq!(labels, ["Disease"]);
    assert_eq!(receipt.noise, None);
    assert_eq!(receipt.scores.by_type["Disease"].true_positives, 3);
    let store = bench.place.open();
    assert_eq!(store.receipts().expect("receipts").len(), 1);
    assert!(store.ledger().expect("ledger").entries().is_empty());
}

/// Of a type that is declared not to be annotated there is nothing to count, with noise or without.
#[test]
fn counts_are_of_the_types_that_the_text_is_declared_to_annotate() {
    for noise in [0.0, 20.0] {
        let mut bench = Bench::new("institution");
        bench.policy.share_evaluation = true;
        bench.policy.exact_evaluation = true;
        bench.plan.privacy.evaluation_noise = noise;
        bench.plan.labels = ["Disease", "Gene", "Patient"].map(str::to_owned).to_vec();
        bench.consent();
        let types = ["Gene", "Patient"].map(str::to_owned);
        let receipt = bench.release_counts_of(&types).expect("released");
        let labels: Vec<_> = receipt.scores.by_type.keys().collect();
        let expected: &[&str] = if noise > 0.0 {
            &["Gene", "Patient"]
        } else {
            &["Patient"]
        };
        assert_eq!(labels, expected);
    }
}

#[test]
fn counts_with_noise_are_paid_for_and_tell_of_every_type_alike() {
    let mut bench = Bench::new("institution");
    bench.policy.share_evaluation = true;
    bench.plan.privacy.evaluation_noise = 20.0;
    bench.plan.labels.push("Gene".to_owned());
    bench.consent();
    let receipt = bench.release_counts().expect("released");
    let labels: Vec<_> = receipt.scores.by_type.keys().collect();
    assert_eq!(labels, ["Disease", "Gene"]);
    let noise = receipt.noise.expect("noised");
    let store = bench.place.open();
    let ledger = store.ledger().expect("ledger");
    let entry = &ledger.entries()[0];
    assert_eq!(
        (entry.digest(), ledger.head()),
        (noise.ledger_head, noise.ledger_head)
    );
    assert_eq!(entry.debit.kind, ledger::Kind::Evaluation);
    let cost = Cost::Gaussian {
        squared_sensitivity: 100,
        scale: 200.0,
    };
    assert_eq!(entry.debit.cost, cost);
    assert!((noise.sigma - 200.0).abs() < 1e-9);
    let expected = zcdp::epsilon(zcdp::rho_of(100.0, 200.0), bench.plan.privacy.delta);
    assert!((noise.epsilon_after - expected).abs() < 1e-9);
    // The coordinator has them: confirmed as an update is.
    let kept = store.receipts().expect("receipts");
    store.mark_taken(&kept[0].digest, NOW).expect("marked");
    let ledger = store.ledger().expect("ledger");
    let stages: Vec<_> = ledger.entries().iter().map(|entry| entry.stage).collect();
    assert_eq!(stages, [Stage::Debited, Stage::Confirmed]);
}

#[test]
fn counts_that_would_pass_the_limit_stay() {
    let mut bench = Bench::new("institution");
    bench.policy.share_evaluation = true;
    bench.plan.privacy.evaluation_noise = 20.0;
    bench.policy.max_epsilon_run = 0.01;
    bench.plan.privacy.max_epsilon = 0.01;
    bench.consent();
    let refusal = bench.release_counts().expect_err("too dear").refusal();
    assert_eq!(refusal.map(|r| r.code), Some(Code::BudgetSpent));
    bench.assert_nothing_left();
}

#[test]
fn a_held_update_is_paid_for_and_waits_for_a_person_over_restarts() {
    let mut bench = Bench::new("institution");
    bench.policy.hold = true;
    assert_eq!(code(bench.release(1, &[0.01; 15], NOW)), Code::ReleaseHeld);
    let store = bench.place.open();
    let paid = store.ledger().expect("ledger").entries().len();
    assert_eq!(paid, 1, "debited before anybody looks at it");
    let State::Uploading { release, .. } = store.session().expect("session").state else {
        panic!("the session uploads")
    };
    let resume = |bench: &Bench| bench.gate().resume(&release, &bench.policy);
    assert_eq!(code(resume(&bench)), Code::ReleaseHeld);
    store
        .decide(&release.receipt, Decision::Refused)
        .expect("said");
    assert_eq!(code(resume(&bench)), Code::ReleaseRefused);
    bench.policy.hold = false;
    assert_eq!(
        code(resume(&bench)),
        Code::ReleaseRefused,
        "a word once given holds whatever the policy says later"
    );
    let ledger = store.ledger().expect("ledger");
    assert_eq!(ledger.entries().len(), paid, "refused, and still paid for");
}

#[test]
fn a_person_lets_the_very_bytes_go_that_were_held() {
    let mut bench = Bench::new("institution");
    bench.policy.hold = true;
    assert!(bench.release(1, &[0.01; 15], NOW).is_err());
    let store = bench.place.open();
    let State::Uploading { release, .. } = store.session().expect("session").state else {
        panic!("the session uploads")
    };
    store
        .decide(&release.receipt, Decision::Granted)
        .expect("said");
    let released = bench
        .gate()
        .resume(&release, &bench.policy)
        .expect("let go");
    assert_eq!(released.blob(), release.blob);
    assert_eq!(store.ledger().expect("ledger").entries().len(), 1);
}
