use fedner_shared::plan::{Pinned, Rule};
use fedner_shared::time::Time;
use fedner_shared::version::{Origin, Participant};

use super::*;
use crate::config::policy::tests::plan as any_plan;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn plan() -> Plan {
    let pinned = |name| Pinned {
        digest: digest(name),
        bytes: 100,
    };
    let mut plan = any_plan("person");
    plan.inputs = Some(Inputs {
        config: pinned("config"),
        tokenizer: pinned("tokenizer"),
        weights: pinned("weights"),
        frozen: Some(pinned("frozen")),
        known: Vec::new(),
        manifest: digest("manifest"),
    });
    plan
}

fn start() -> Version {
    Version {
        name: "tiny@1".parse().expect("name"),
        parent: None,
        origin: Origin::Import,
        labels: vec!["Disease".to_owned()],
        weights: digest("weights"),
        frozen: Some(digest("frozen")),
        config: digest("config"),
        tokenizer: digest("tokenizer"),
        created: Time::from_millis(1),
    }
}

/// The version of round 1, of which st-anna's update was a part.
fn first(plan: &Plan) -> (Version, Vec<Own>) {
    let own = Own {
        receipt: digest("receipt"),
        statement: UpdateReceipt {
            run: "run-1".parse().expect("name"),
            plan: plan.digest(),
            round: 1,
            attempt: 1,
            institution: "st-anna".parse().expect("name"),
            base: start().digest(),
            manifest: digest("manifest"),
            weight: 1,
            blob: digest("update"),
            bytes: 7,
            masked: None,
            sigma: 1.0,
            epsilon_after: None,
            epsilon_alone: None,
            ledger_head: None,
            at: Time::from_millis(2),
        },
    };
    let round = Round {
        run: "run-1".parse().expect("name"),
        plan: plan.digest(),
        method: plan.method,
        round: 1,
        attempt: 1,
        manifest: digest("manifest"),
        participants: vec![Participant {
            institution: "st-anna".parse().expect("name"),
            weight: 1,
            update: digest("update"),
            receipt: digest("receipt"),
            epsilon: None,
            annotation: None,
        }],
        rule: Rule::default(),
        moments: None,
        unmasking: None,
        sealed: Vec::new(),
    };
    let version = Version {
        parent: Some(start().digest()),
        origin: Origin::Round(round),
        weights: digest("weights of round 1"),
        ..start()
    };
    (version, vec![own])
}

fn check(plan: &Plan, version: &Version, before: u32, own: &[Own]) -> Result<(), Code> {
    let institution = "st-anna".parse().expect("name");
    let begins = Begins {
        plan,
        run: "run-1",
        version,
        manifest: digest("manifest"),
        before,
        institution: &institution,
    };
    begins.check(own).map_err(|refusal| refusal.code)
}

#[test]
fn what_the_plan_names_and_what_follows_from_it_is_taken() {
    let plan = plan();
    assert_eq!(check(&plan, &start(), 1, &[]), Ok(()));
    // A gate may lead back to the beginning.
    assert_eq!(check(&plan, &start(), 2, &[]), Ok(()));
    let (version, own) = first(&plan);
    assert_eq!(check(&plan, &version, 2, &own), Ok(()));
    // Who was not there can only compare the record's own parts.
    let (mut without, _) = first(&plan);
    if let Origin::Round(round) = &mut without.origin {
        round.participants.clear();
    }
    assert_eq!(check(&plan, &without, 3, &[]), Ok(()));
}

#[test]
fn each_file_that_is_not_the_plans_is_refused() {
    let plan = plan();
    let changes: [fn(&mut Version); 5] = [
        |version| version.config = digest("other"),
        |version| version.tokenizer = digest("other"),
        |version| version.frozen = Some(digest("other")),
        |version| version.frozen = None,
        |version| version.weights = digest("other"),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut version = start();
        change(&mut version);
        let found = check(&plan, &version, 1, &[]);
        assert_eq!(found, Err(Code::BaseMismatch), "change {number}");
    }
    let mut open = plan.clone();
    open.inputs = None;
    assert_eq!(check(&open, &start(), 1, &[]), Err(Code::PlanInvalid));
}

#[test]
fn a_record_that_contradicts_what_was_sent_here_is_refused() {
    let plan = plan();
    let changes: [fn(&mut Version, &mut Round); 7] = [
        |version, _| version.parent = Some(Digest::of(b"other")),
        |_, round| round.run = "run-2".parse().expect("name"),
        |_, round| round.plan = Digest::of(b"other"),
        |_, round| round.manifest = Digest::of(b"other"),
        |_, round| round.round = 2,
        |_, round| round.attempt = 99,
        |_, round| round.participants[0].update = Digest::of(b"other"),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (mut version, own) = first(&plan);
        let mut round = version.round().cloned().expect("of a round");
        change(&mut version, &mut round);
        version.origin = Origin::Round(round);
        let found = check(&plan, &version, 2, &own);
        assert_eq!(found, Err(Code::BaseMismatch), "change {number}");
    }
    // A part that was sealed as another one.
    let (mut version, mut own) = first(&plan);
    let sealed = version
        .round()
        .cloned()
        .map(Round::sealed)
        .expect("of a round");
    version.origin = Origin::Round(sealed.clone());
    assert_eq!(check(&plan, &version, 2, &own), Ok(()));
    let mut shown = sealed;
    shown.participants[0].weight += 1;
    version.origin = Origin::Round(shown);
    assert_eq!(check(&plan, &version, 2, &own), Err(Code::BaseMismatch));
    own.clear();
    // A coordinator that came back from a backup had the attempt made again, and has either update.
    let (version, mut own) = first(&plan);
    let mut again = own[0].clone();
    again.receipt = digest("another receipt");
    again.statement.blob = digest("another update");
    own.insert(0, again);
    assert_eq!(check(&plan, &version, 2, &own), Ok(()));
    // An update under this institution's name that it never made.
    let (version, _) = first(&plan);
    assert_eq!(check(&plan, &version, 2, &[]), Err(Code::BaseMismatch));
}
