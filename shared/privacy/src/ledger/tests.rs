use fedner_shared::plan::Unit;
use proptest::prelude::*;

use super::*;
use crate::accountant::zcdp;

mod shared_noise;

const DELTA: f64 = 1e-5;

fn account(cohort: &str) -> Account {
    Account {
        cohort: cohort.to_owned(),
        unit: Unit::Institution,
    }
}

fn plan(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// Costs ρ, to within the rounding of its square root.
fn cost(rho: f64) -> Cost {
    Cost::Gaussian {
        squared_sensitivity: 2,
        scale: rho.recip().sqrt(),
    }
}

fn debit(cohort: &str, plan_name: &str, rho: f64) -> Debit {
    Debit {
        account: account(cohort),
        plan: plan(plan_name),
        run: "disease-ner-0123".parse().expect("run"),
        round: 1,
        attempt: 1,
        kind: Kind::Update,
        cost: cost(rho),
        delta: DELTA,
        per_person: None,
    }
}

fn limit(account: Account, max_epsilon: f64) -> Limit {
    Limit {
        account,
        delta: DELTA,
        max_epsilon,
    }
}

fn now(sequence: usize) -> Time {
    Time::from_millis(1_764_000_000_000 + sequence as i64)
}

fn spend(ledger: &mut Ledger, debit: Debit) {
    let entry = ledger
        .propose(now(ledger.entries().len()), debit, f64::INFINITY, None)
        .expect("no limit");
    ledger.append(entry).expect("own entry");
}

/// Two cohorts, two plans, rising amounts.
fn example() -> Ledger {
    let mut ledger = Ledger::default();
    for (index, (cohort, plan)) in [
        ("wards", "a"),
        ("wards", "a"),
        ("clinic", "a"),
        ("wards", "b"),
    ]
    .into_iter()
    .enumerate()
    {
        spend(&mut ledger, debit(cohort, plan, 0.1 * (index + 1) as f64));
    }
    ledger
}

#[test]
fn sums_are_kept_by_plan_and_by_account() {
    let ledger = example();
    let wards = account("wards");
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
    near(ledger.rho(&wards, Some(plan("a"))), 0.3);
    near(ledger.rho(&wards, Some(plan("b"))), 0.4);
    near(ledger.rho(&wards, None), 0.7);
    near(ledger.rho(&account("clinic"), None), 0.3);
    near(ledger.rho(&account("unknown"), None), 0.0);
    near(ledger.spent(&account("unknown"), None, DELTA), 0.0);
    let other_unit = Account {
        unit: Unit::None,
        ..wards.clone()
    };
    near(ledger.rho(&other_unit, None), 0.0);
    let spent = ledger.spent(&wards, None, DELTA);
    near(spent, zcdp::epsilon(0.7, DELTA));
    let last = ledger.entries().last().expect("entries");
    near(last.epsilon_account, spent);
    near(last.epsilon_after, zcdp::epsilon(0.4, DELTA));
}

#[test]
fn a_debit_is_refused_exactly_when_it_would_pass_a_limit() {
    let mut ledger = Ledger::default();
    let wards = |max| limit(account("wards"), max);
    spend(&mut ledger, debit("wards", "a", 0.25));
    let next = debit("wards", "a", 0.25);
    let quarter = cost(0.25).rho().expect("ρ");
    let reached = zcdp::epsilon(zcdp::add(quarter, quarter), DELTA);
    assert!(
        ledger
            .propose(now(1), next.clone(), reached, Some(&wards(reached)))
            .is_ok()
    );
    let below = reached.next_down();
    assert_eq!(
        ledger.propose(now(1), next.clone(), below, None),
        Err(Refused::Run {
            epsilon_next: reached,
            max: below
        })
    );
    assert_eq!(
        ledger.propose(now(1), next.clone(), reached, Some(&wards(below))),
        Err(Refused::Account {
            unit: Unit::Institution,
            epsilon_next: reached,
            max: below
        })
    );
    assert!(ledger.propose(now(1), next, f64::NAN, None).is_err());
    // Another plan begins at zero for its own limit, and not for the account's.
    let other = debit("wards", "b", 0.25);
    assert!(ledger.propose(now(1), other.clone(), below, None).is_ok());
    assert!(
        ledger
            .propose(now(1), other, below, Some(&wards(below)))
            .is_err()
    );
    // Another cohort begins at zero for both.
    let other = debit("clinic", "a", 0.25);
    assert!(
        ledger
            .propose(now(1), other, below, Some(&limit(account("clinic"), below)))
            .is_ok()
    );
}

/// The review's example: runs that protect other units than the person.
#[test]
fn every_release_is_charged_to_the_person() {
    let of = |unit| Account {
        cohort: "wards".to_owned(),
        unit,
    };
    let person = of(Unit::Person);
    let sampled = Cost::SampledGaussian {
        sampling_rate: 0.2,
        noise_multiplier: 6.0,
        steps: 30,
        dimension: None,
    };
    let by_unit = |unit, cost, per_person| Debit {
        account: of(unit),
        cost,
        per_person,
        ..debit("wards", "a", 1.0)
    };
    let own = by_unit(Unit::Person, sampled, None);
    let mut ledger = Ledger::default();
    spend(&mut ledger, own.clone());
    let once = ledger.charged(&person, DELTA).epsilon;
    assert!((once - ledger.spent(&person, None, DELTA)).abs() < 1e-9);
    let tight = limit(person.clone(), once * 1.01);
    let all = || ledger.entries().iter();
    assert_eq!(all().count(), 1);
    // What used to pass: the person's account did not know of it.
    for other in [
        by_unit(Unit::Institution, cost(0.02), None),
        by_unit(Unit::Sentence, sampled, Some(5)),
    ] {
        let refused = ledger.propose(now(1), other.clone(), 100.0, Some(&tight));
        assert!(
            matches!(
                refused,
                Err(Refused::Account {
                    unit: Unit::Person,
                    ..
                })
            ),
            "{refused:?}"
        );
        let wide = limit(person.clone(), 1e6);
        let entry = ledger
            .propose(now(1), other, 100.0, Some(&wide))
            .expect("fits");
        let mut longer = ledger.clone();
        longer.append(entry).expect("own entry");
        let both = longer.charged(&person, DELTA).epsilon;
        assert!(both > once * 1.1, "{both} {once}");
        // The control: the person's own account alone does not see it.
        assert!((longer.spent(&person, None, DELTA) - once).abs() < 1e-9);
    }
    // An institution's update costs four times its ρ, whatever δ its plan had.
    let mut alone = Ledger::default();
    let lax = Debit {
        delta: 0.5,
        ..by_unit(Unit::Institution, cost(0.25), None)
    };
    spend(&mut alone, lax);
    let found = alone.charged(&person, DELTA).epsilon;
    assert!((found - zcdp::epsilon(1.0, DELTA)).abs() < 1e-6, "{found}");
    assert!(alone.entries()[0].epsilon_after < 0.5 * found);
}

#[test]
fn what_has_no_bound_for_a_person_is_refused_and_stays_so() {
    let person = Account {
        cohort: "wards".to_owned(),
        unit: Unit::Person,
    };
    let sentence = Debit {
        account: Account {
            unit: Unit::Sentence,
            ..person.clone()
        },
        ..debit("wards", "a", 0.01)
    };
    let wide = limit(person.clone(), 1e6);
    let mut ledger = Ledger::default();
    let refused = ledger.propose(now(0), sentence.clone(), 100.0, Some(&wide));
    assert!(
        matches!(refused, Err(Refused::Unbounded { capped: false, .. })),
        "{refused:?}"
    );
    // As an older program let it through.
    spend(&mut ledger, sentence);
    let charged = ledger.charged(&person, DELTA);
    assert!(charged.epsilon.is_infinite() && charged.unbounded == [1]);
    let own = Debit {
        account: person.clone(),
        ..debit("wards", "a", 0.01)
    };
    let refused = ledger.propose(now(1), own.clone(), 100.0, Some(&wide));
    assert!(
        matches!(refused, Err(Refused::AccountOpen { sequence: 1, .. })),
        "{refused:?}"
    );
    // Another cohort's account does not know of it, and neither does one of sentences.
    let clinic = Account {
        cohort: "clinic".to_owned(),
        ..person
    };
    assert!(ledger.charged(&clinic, DELTA).epsilon <= 0.0);
    // Public text is in no account.
    let mut open = Ledger::default();
    spend(
        &mut open,
        Debit {
            cost: Cost::Unprotected,
            account: Account {
                unit: Unit::None,
                ..own.account.clone()
            },
            ..own.clone()
        },
    );
    let charged = open.charged(&own.account, DELTA);
    assert!(charged.epsilon <= 0.0 && charged.unprotected == [1]);
    assert!(open.propose(now(1), own, 100.0, Some(&wide)).is_ok());
}

#[test]
fn a_refusal_records_nothing_and_a_proposal_neither() {
    let ledger = example();
    let head = ledger.head();
    let _entry = ledger.propose(now(9), debit("wards", "a", 0.1), 100.0, None);
    let _refusal = ledger.propose(now(9), debit("wards", "a", 0.1), 0.1, None);
    assert_eq!((ledger.head(), ledger.entries().len()), (head, 4));
}

#[test]
fn release_without_noise_passes_only_an_infinite_limit() {
    let mut ledger = Ledger::default();
    let open = Debit {
        cost: Cost::Unprotected,
        ..debit("wards", "a", 1.0)
    };
    assert!(
        ledger
            .propose(now(0), open.clone(), f64::MAX, None)
            .is_err()
    );
    spend(&mut ledger, open);
    assert!(ledger.spent(&account("wards"), None, DELTA).is_infinite());
    // Nothing brings the account back.
    let next = debit("wards", "b", 1e-9);
    assert!(
        ledger
            .propose(now(1), next, 8.0, Some(&limit(account("wards"), 1e9)))
            .is_err()
    );
    let json = serde_json::to_string(ledger.entries()).expect("json");
    let entries: Vec<Entry> = serde_json::from_str(&json).expect("entries");
    assert_eq!(
        Ledger::replay(entries).expect("chain").head(),
        ledger.head()
    );
}

#[test]
fn what_cannot_be_accounted_is_refused_and_not_replayed() {
    let ledger = Ledger::default();
    for (rho, delta) in [
        (-0.1, DELTA),
        (f64::NAN, DELTA),
        (0.0, DELTA),
        (0.1, 0.0),
        (0.1, 1.0),
        (0.1, f64::NAN),
    ] {
        let wrong = Debit {
            cost: cost(rho),
            delta,
            ..debit("wards", "a", 0.1)
        };
        let refused = ledger.propose(now(0), wrong.clone(), f64::INFINITY, None);
        assert!(matches!(refused, Err(Refused::Value { .. })), "{refused:?}");
        let entry = Entry {
            sequence: 1,
            time: now(0),
            stage: Stage::Debited,
            debit: wrong,
            epsilon_after: 0.0,
            epsilon_account: 0.0,
            previous: GENESIS,
        };
        let error = Ledger::replay([entry]).expect_err("wrong value");
        assert!(matches!(error, Error::Value { sequence: 1, .. }), "{error}");
    }
}

#[test]
fn every_edit_of_an_entry_is_found() {
    let edits: [fn(&mut Entry); 12] = [
        |e| e.stage = Stage::Planned,
        |e| e.debit.cost = cost(0.1),
        |e| e.debit.cost = Cost::Unprotected,
        |e| e.debit.delta = 0.4,
        |e| e.debit.account.cohort = "others".into(),
        |e| e.debit.plan = Digest::of(b"other"),
        |e| e.debit.run = "other".parse().expect("run"),
        |e| e.debit.attempt += 1,
        |e| e.time = Time::from_millis(0),
        |e| e.epsilon_after = 0.0,
        |e| e.sequence += 1,
        |e| e.previous = GENESIS,
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let mut entries = example().entries().to_vec();
        edit(&mut entries[1]);
        assert!(Ledger::replay(entries).is_err(), "edit {number}");
    }
}

#[test]
fn removal_and_reordering_are_found_and_a_lost_end_by_the_head() {
    let ledger = example();
    for index in 0..3 {
        let mut entries = ledger.entries().to_vec();
        entries.remove(index);
        let error = Ledger::replay(entries).expect_err("a gap");
        assert!(matches!(error, Error::Sequence { .. }), "{error}");
        let mut entries = ledger.entries().to_vec();
        entries.swap(index, index + 1);
        assert!(Ledger::replay(entries).is_err(), "swap at {index}");
        // Renumbered, so that only the chain can tell.
        let mut entries = ledger.entries().to_vec();
        entries.remove(index);
        for (at, entry) in entries.iter_mut().enumerate() {
            entry.sequence = at as u64 + 1;
        }
        assert!(Ledger::replay(entries).is_err(), "renumbered at {index}");
    }
    let shorter = Ledger::replay(ledger.entries()[..3].to_vec()).expect("a valid chain");
    assert!(!shorter.contains(&ledger.head()));
    assert!(ledger.contains(&shorter.head()));
    assert!(ledger.contains(&GENESIS));
}

#[test]
fn only_the_debit_itself_spends() {
    let mut ledger = Ledger::default();
    let wish = debit("wards", "a", 0.25);
    let wards = account("wards");
    let limit = zcdp::epsilon(0.3, DELTA);
    // As older programs wrote it before each debit.
    let planned = ledger.unpaid(now(0), Stage::Planned, wish.clone());
    ledger.append(planned).expect("own entry");
    assert!(ledger.rho(&wards, None) <= 0.0, "planned is not spent");
    let paid = ledger
        .propose(now(1), wish.clone(), limit, None)
        .expect("fits");
    assert_eq!(ledger.confirm(now(1), &paid.digest()), None, "not made yet");
    ledger.append(paid.clone()).expect("own entry");
    let confirmed = ledger.confirm(now(2), &paid.digest()).expect("made");
    assert!((confirmed.epsilon_after - paid.epsilon_after).abs() < 1e-12);
    ledger.append(confirmed).expect("own entry");
    assert_eq!(
        ledger.confirm(now(3), &paid.digest()),
        None,
        "confirmed once"
    );
    assert!(
        (ledger.rho(&wards, None) - 0.25).abs() < 1e-12,
        "spent once"
    );
    assert!(
        ledger.propose(now(3), wish, limit, None).is_err(),
        "no more fits"
    );
    for stage in [Stage::Planned, Stage::Debited, Stage::Confirmed] {
        assert_eq!(ledger.count(&wards, stage), 1, "{stage:?}");
    }
    let replayed = Ledger::replay(ledger.entries().to_vec()).expect("chain");
    assert_eq!(replayed.head(), ledger.head());
}

#[test]
fn a_confirmation_without_its_debit_is_found() {
    let mut ledger = Ledger::default();
    spend(&mut ledger, debit("wards", "a", 0.1));
    let paid = ledger.head();
    let confirmed = ledger.confirm(now(1), &paid).expect("made");
    // Moved to where there is no debit yet.
    let first = Entry {
        sequence: 1,
        previous: GENESIS,
        ..confirmed.clone()
    };
    let error = Ledger::replay([first]).expect_err("nothing to confirm");
    assert!(
        matches!(error, Error::Confirmation { sequence: 1 }),
        "{error}"
    );
    ledger.append(confirmed.clone()).expect("own entry");
    let twice = Entry {
        sequence: 3,
        previous: ledger.head(),
        ..confirmed
    };
    assert!(matches!(
        ledger.append(twice),
        Err(Error::Confirmation { sequence: 3 })
    ));
}

#[test]
fn an_entry_made_for_an_older_state_does_not_fit() {
    let mut ledger = example();
    let stale = ledger
        .propose(now(4), debit("wards", "a", 0.1), 100.0, None)
        .expect("entry");
    spend(&mut ledger, debit("wards", "a", 0.1));
    assert!(matches!(
        ledger.append(stale),
        Err(Error::Sequence {
            expected: 6,
            found: 5
        })
    ));
}

proptest! {
    /// Every f64 in an entry comes back from JSON bit by bit, or the chain would break.
    #[test]
    fn a_ledger_survives_json(amounts in prop::collection::vec(1e-8f64..10.0, 0..20)) {
        let mut ledger = Ledger::default();
        for (index, rho) in amounts.iter().enumerate() {
            spend(&mut ledger, debit("wards", if index % 3 == 0 { "a" } else { "b" }, *rho));
        }
        let json = serde_json::to_string(ledger.entries()).expect("json");
        let entries: Vec<Entry> = serde_json::from_str(&json).expect("entries");
        let replayed = Ledger::replay(entries).expect("chain");
        prop_assert_eq!(replayed.entries(), ledger.entries());
        prop_assert_eq!(replayed.head(), ledger.head());
    }

    /// Whatever is charged, an account never falls.
    #[test]
    fn an_account_never_falls(
        wishes in prop::collection::vec((0usize..3, 1e-6f64..1.0, 1u32..20), 1..12), delta in 1e-9f64..0.1,
    ) {
        let person = Account { cohort: "wards".to_owned(), unit: Unit::Person };
        let (mut ledger, mut before) = (Ledger::default(), 0.0);
        for (unit, rho, most) in wishes {
            let unit = [Unit::Person, Unit::Sentence, Unit::Institution][unit];
            let wish = Debit {
                account: Account { unit, ..person.clone() },
                per_person: (unit == Unit::Sentence).then_some(most),
                // The plan's δ decides nothing.
                delta: if most % 2 == 0 { 0.5 } else { 1e-9 },
                ..debit("wards", "a", rho)
            };
            spend(&mut ledger, wish);
            let now = ledger.charged(&person, delta).epsilon;
            prop_assert!(now >= before, "{now} {before}");
            before = now;
        }
    }

    /// Whatever is proposed, the sums recorded never pass the limits.
    #[test]
    fn limits_hold_in_every_order(
        wishes in prop::collection::vec((0usize..2, 0usize..3, 1e-6f64..1.0), 0..60),
        max_run in 0.1f64..12.0,
        max_account in 0.1f64..12.0,
    ) {
        let (cohorts, plans) = (["wards", "clinic"], ["a", "b", "c"]);
        let mut ledger = Ledger::default();
        for (index, (cohort, plan, rho)) in wishes.into_iter().enumerate() {
            let wish = debit(cohorts[cohort], plans[plan], rho);
            let limit = limit(wish.account.clone(), max_account);
            if let Ok(entry) = ledger.propose(now(index), wish, max_run, Some(&limit)) {
                ledger.append(entry).expect("own entry");
            }
        }
        for cohort in cohorts.map(account) {
            prop_assert!(ledger.spent(&cohort, None, DELTA) <= max_account);
            for name in plans {
                prop_assert!(ledger.spent(&cohort, Some(plan(name)), DELTA) <= max_run);
            }
        }
        prop_assert!(Ledger::replay(ledger.entries().to_vec()).is_ok());
    }
}
