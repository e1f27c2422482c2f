//! What is kept with which version, and what is refused.

use std::sync::Arc;

use fedner_host::machine::ThisMachine;
use fedner_shared::audit::{Outcome, Part, Verdict};
use fedner_shared::sign::{SecretKey, Signed};
use fedner_shared::state::InstitutionState;
use fedner_shared::time::Time;
use fedner_shared::version::{Origin, Version};

use super::*;
use crate::engine::{Loaded, load};
use crate::store::{Institution, Store, fixture};

const ANNA: u8 = 1;
const MERCY: u8 = 2;

struct Bench {
    _folder: tempfile::TempDir,
    loaded: Loaded,
}

impl Bench {
    /// Two institutions, `notes@1` in one file, and `notes@2` in two.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut store = Store::open(&folder.path().join("s.sqlite")).expect("store");
        store
            .transact("test", |tx| {
                for (name, key) in [("anna", ANNA), ("mercy", MERCY)] {
                    tx.put_institution(&institution(name, key), &fixture::issued(name))?;
                }
                tx.put_version(&version("notes@1", None))?;
                tx.put_version(&version("notes@2", Some(Digest::of(b"frozen"))))?;
                Ok::<_, crate::store::Error>(())
            })
            .expect("state");
        let operator = SecretKey::from_seed([9; 32]).public();
        let loaded = load(store, operator, Arc::new(ThisMachine)).expect("engine");
        Self {
            _folder: folder,
            loaded,
        }
    }

    fn engine(&mut self) -> &mut Engine {
        &mut self.loaded.engine
    }

    fn accept(&mut self, signed: Signed, named: Option<&str>) -> Result<(), Failure> {
        let named = named.map(|name| self.engine().resolve(name).expect("a version"));
        let caller = "anna".parse().expect("name");
        let key = SecretKey::from_seed([ANNA; 32]).public();
        let code = Code::SignatureInvalid;
        let report = Vouched::verify(signed, &caller, key, code, |r: &AuditReport| &r.institution)?;
        self.engine().accept_audit(&report, named)
    }

    fn kept(&mut self, name: &str) -> Vec<Digest> {
        let digest = self.engine().resolve(name).expect("a version");
        let view = self.engine().audited_view(digest).expect("a view");
        view.audits.iter().map(|audit| audit.report).collect()
    }

    fn events(&mut self) -> usize {
        self.engine().events(None, 1, 1000).expect("events").len()
    }
}

fn institution(name: &str, key: u8) -> Institution {
    Institution {
        name: name.parse().expect("name"),
        state: InstitutionState::Active,
        signing_key: SecretKey::from_seed([key; 32]).public(),
        enrolled: Time::from_millis(1),
        certificate_expires: Time::from_millis(2),
    }
}

fn version(name: &str, frozen: Option<Digest>) -> Version {
    Version {
        name: name.parse().expect("name"),
        parent: None,
        origin: Origin::Import,
        labels: Vec::new(),
        weights: Digest::of(name.as_bytes()),
        frozen,
        config: Digest::of(b"config"),
        tokenizer: Digest::of(b"tokenizer"),
        created: Time::from_millis(0),
    }
}

/// A report of `anna` about the weights that have this content.
fn report(weights: &str) -> AuditReport {
    let institution = "anna".parse().expect("name");
    AuditReport {
        model: Some(AuditedModel {
            weights: Digest::of(weights.as_bytes()),
            tags: Vec::new(),
        }),
        parts: vec![Part {
            name: "steps".to_owned(),
            trials: 10,
            bounds: vec![Verdict {
                epsilon_lower_bound: 0.5,
                epsilon_claimed: 2.0,
                delta: 1e-5,
                confidence: 0.99,
            }],
            power: None,
        }],
        verdict: Outcome::Pass,
        ..AuditReport::new(
            "fedner-client/0.1.0",
            institution,
            Time::from_millis(5),
            0.99,
        )
    }
}

fn signed(report: &AuditReport, key: u8) -> Signed {
    Signed::new(report, &SecretKey::from_seed([key; 32]))
}

fn code(result: Result<(), Failure>) -> Code {
    match result {
        Err(Failure::Refused(refusal)) => refusal.code,
        other => panic!("{other:?} is no refusal"),
    }
}

#[test]
fn a_report_is_kept_once_with_the_version_of_its_weights() {
    let mut bench = Bench::new();
    let report = signed(&report("notes@1"), ANNA);
    let digest = report.digest();
    for _ in 0..2 {
        bench.accept(report.clone(), None).expect("kept");
    }
    bench.accept(report, Some("notes@1")).expect("kept already");
    assert_eq!(bench.kept("notes@1"), [digest]);
    assert!(bench.kept("notes@2").is_empty());
    assert_eq!(bench.events(), 1, "it came once");
    let all = bench.engine().model_views().expect("views");
    assert!(all.iter().all(|view| view.audits.is_empty()), "{all:?}");
}

#[test]
fn a_version_in_several_files_is_found_once_its_export_is_known() {
    let mut bench = Bench::new();
    let of_its_part = signed(&report("notes@2"), ANNA);
    assert_eq!(code(bench.accept(of_its_part, None)), Code::AuditModel);
    let report = signed(&report("whole"), ANNA);
    assert_eq!(code(bench.accept(report.clone(), None)), Code::AuditModel);
    let version = bench.engine().resolve("notes@2").expect("a version");
    let whole = Digest::of(b"whole");
    bench.engine().note_export(version, whole).expect("noted");
    assert_eq!(bench.engine().export(version).expect("known"), Some(whole));
    let other = bench.accept(report.clone(), Some("notes@1"));
    assert_eq!(code(other), Code::AuditModel);
    bench.accept(report.clone(), None).expect("kept");
    assert_eq!(bench.kept("notes@2"), [report.digest()]);
}

#[test]
fn what_the_caller_did_not_sign_is_refused() {
    let mut bench = Bench::new();
    let forged = signed(&report("notes@1"), MERCY);
    assert_eq!(code(bench.accept(forged, None)), Code::SignatureInvalid);
    let of_mercy = AuditReport {
        institution: "mercy".parse().expect("name"),
        ..report("notes@1")
    };
    for key in [ANNA, MERCY] {
        let signed = signed(&of_mercy, key);
        assert_eq!(code(bench.accept(signed, None)), Code::SignatureInvalid);
    }
    let mut edited = signed(&report("notes@1"), ANNA);
    edited.body = edited.body.replace("\"pass\"", "\"fail\"");
    assert_eq!(code(bench.accept(edited, None)), Code::SignatureInvalid);
    assert!(bench.kept("notes@1").is_empty());
    assert_eq!(bench.events(), 0);
}

#[test]
fn reports_that_contradict_themselves_or_are_about_nothing_known_are_refused() {
    let mut bench = Bench::new();
    let boast = AuditReport {
        verdict: Outcome::None,
        ..report("notes@1")
    };
    let boast = signed(&boast, ANNA);
    assert_eq!(code(bench.accept(boast, None)), Code::AuditInvalid);
    let of_a_plan = AuditReport {
        model: None,
        ..report("notes@1")
    };
    let of_a_plan = signed(&of_a_plan, ANNA);
    assert_eq!(code(bench.accept(of_a_plan, None)), Code::AuditInvalid);
    let unknown = signed(&report("unknown"), ANNA);
    assert_eq!(code(bench.accept(unknown, None)), Code::AuditModel);
    assert_eq!(bench.events(), 0);
}

#[test]
fn an_institution_has_so_many_reports_with_a_version_and_no_more() {
    let mut bench = Bench::new();
    let number = |number: u32| AuditReport {
        at: Time::from_millis(i64::from(number)),
        ..report("notes@1")
    };
    for each in 0..MOST_REPORTS {
        bench
            .accept(signed(&number(each), ANNA), None)
            .expect("room");
    }
    let more = signed(&number(MOST_REPORTS), ANNA);
    assert_eq!(code(bench.accept(more, None)), Code::AuditLimit);
    let known = signed(&number(0), ANNA);
    bench.accept(known, None).expect("is there already");
    assert_eq!(bench.kept("notes@1").len(), MOST_REPORTS as usize);
}
