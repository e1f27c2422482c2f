//! Updates whose noise is a share: two figures, of which limits are on one.

use super::*;

#[test]
fn limits_are_on_the_figure_of_shared_noise_and_both_are_kept() {
    let (shared, own) = (
        Cost::SharedGaussian {
            squared_sensitivity: 1 << 36,
            scale: 262_144.0,
            senders: 4,
            dimension: 1_000,
        },
        account("wards"),
    );
    let of = |cost| Debit {
        cost,
        ..debit("wards", "a", 1.0)
    };
    // ρ = 1/8 by the noise of four, and 1/2 by its own.
    let (claim, alone) = (zcdp::epsilon(0.125, DELTA), zcdp::epsilon(0.5, DELTA));
    let between = limit(own.clone(), 0.5 * (claim + alone));
    let mut ledger = Ledger::default();
    let propose =
        |ledger: &Ledger, cost, run| ledger.propose(now(0), of(cost), run, Some(&between));
    let entry = propose(&ledger, shared, between.max_epsilon).expect("within both limits");
    assert!((entry.epsilon_after - claim).abs() < 1e-9);
    let refused = propose(&ledger, shared, claim * 0.99);
    assert!(matches!(refused, Err(Refused::Run { .. })), "{refused:?}");
    // The same noise that nobody else adds to: the control.
    let refused = propose(&ledger, shared.alone(), 100.0);
    assert!(
        matches!(refused, Err(Refused::Account { .. })),
        "{refused:?}"
    );
    ledger.append(entry).expect("own entry");
    let found = ledger.spent_alone(&own, Some(plan("a")), DELTA);
    assert!((found - alone).abs() < 1e-9, "{found}");
    assert!((ledger.spent(&own, None, DELTA) - claim).abs() < 1e-9);
    assert!(ledger.shares_noise(None) && !ledger.shares_noise(Some(plan("b"))));
    // A person is charged as two institutions in either figure.
    let person = Account {
        unit: Unit::Person,
        ..own
    };
    for (found, rho) in [
        (ledger.charged(&person, DELTA), 0.5),
        (ledger.charged_alone(&person, DELTA), 2.0),
    ] {
        let expected = zcdp::epsilon(rho, DELTA);
        assert!((found.epsilon - expected).abs() < 1e-6, "{found:?}");
    }
    let json = serde_json::to_string(ledger.entries()).expect("json");
    let entries: Vec<Entry> = serde_json::from_str(&json).expect("entries");
    assert_eq!(
        Ledger::replay(entries).expect("sound").head(),
        ledger.head()
    );
}

#[test]
fn shares_too_small_to_add_up_to_a_gaussian_are_not_charged() {
    let cost = Cost::SharedGaussian {
        squared_sensitivity: 1,
        scale: 3.9,
        senders: 4,
        dimension: 1,
    };
    let small = Debit {
        cost,
        ..debit("wards", "a", 1.0)
    };
    let refused = Ledger::default().propose(now(0), small, 100.0, None);
    assert!(
        matches!(refused, Err(Refused::Value { key: "scale", .. })),
        "{refused:?}"
    );
    assert!(cost.rho().expect("ρ").is_infinite());
}
