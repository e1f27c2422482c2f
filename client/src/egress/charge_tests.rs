//! What an attempt costs, and when its result may leave.

use super::*;

/// The debit is there when text may be read, once for an attempt whatever becomes of it, and it pays
/// for one release.
#[test]
fn an_attempt_is_charged_before_text_is_read_and_pays_once() {
    let bench = Bench::new("institution");
    let task = bench.task(1);
    let session = bench.charged(&task, NOW).expect("charged");
    let store = bench.place.open();
    assert_eq!(store.session().expect("session"), session, "durable");
    let entries = || store.ledger().expect("ledger").entries().len();
    assert_eq!(entries(), 1);
    // Cut short and begun again: the same charge, so often and no oftener.
    let mut session = session;
    for begun in 2..=5 {
        let again = bench.gate().charge(&bench.charge_request(&session, NOW));
        session = again.expect("again").session;
        assert_eq!(session.charge().map(|charge| charge.begun), Some(begun));
    }
    assert_eq!(entries(), 1);
    let error = bench.gate().charge(&bench.charge_request(&session, NOW));
    let refusal = error.expect_err("too often").refusal();
    assert_eq!(refusal.map(|refusal| refusal.code), Some(Code::NotDone));
    // One release is paid for.
    let session = session.step(NOW, Input::Trained).expect("trained").session;
    let release = |session: &Session| {
        bench.gate().release_update(&UpdateRequest {
            task: &task,
            plan: &bench.plan,
            policy: &bench.policy,
            manifest: &manifest(),
            update: &RoundUpdate::from_values(&[0.01; 15], bench.plan.sampling(7)),
            session,
            now: NOW,
        })
    };
    release(&session).expect("paid for");
    let refusal = release(&session).expect_err("paid once").refusal();
    assert_eq!(
        refusal.map(|refusal| refusal.code),
        Some(Code::StateInvalid)
    );
    // Without a charge nothing leaves.
    let state = State::Releasing {
        task: task.clone(),
        charge: None,
    };
    let uncharged = Session { state, since: None };
    let refusal = release(&uncharged).expect_err("not paid").refusal();
    assert_eq!(
        refusal.map(|refusal| refusal.code),
        Some(Code::StateInvalid)
    );
    assert_eq!(store.receipts().expect("receipts").len(), 1);
}

/// Results leave at multiples of the plan's step of time after the charge, whatever the work took.
#[test]
fn results_leave_at_times_that_do_not_depend_on_the_work() {
    let mut bench = Bench::new("institution");
    bench.plan.cohort.release_after_s = Some(10);
    let charge = Charge {
        entry: None,
        at: NOW,
        begun: 1,
    };
    let after = |bench: &Bench, millis: u64| {
        let now = NOW + std::time::Duration::from_millis(millis);
        due(&bench.plan, &bench.policy, (7, Some(&charge)), now).map(|due| due.since(NOW).as_secs())
    };
    for (took, leaves) in [(0, 10), (9_999, 10), (10_000, 20), (25_000, 30)] {
        assert_eq!(after(&bench, took), Some(leaves), "{took} ms");
    }
    bench.policy.release_padding = false;
    assert_eq!(after(&bench, 1), None, "given up by the policy");
    let bench = Bench::new("none");
    assert_eq!(after(&bench, 1), None, "nothing is protected");
}
