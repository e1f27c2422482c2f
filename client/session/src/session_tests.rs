use fedner_shared::digest::Digest;
use fedner_shared::refusal::Code;
use proptest::prelude::*;

use super::*;

const NOW: Time = Time::from_millis(1_000);

fn task(kind: Kind, round: u32) -> Task {
    Task {
        kind,
        run: "disease-ner-1a2b".parse().expect("name"),
        plan: Digest::of(b"plan"),
        round,
        attempt: 1,
        version: Digest::of(b"version"),
        record: "{}".into(),
        manifest: Digest::of(b"manifest"),
    }
}

fn release(name: &[u8]) -> Release {
    Release {
        blob: Digest::of(name),
        bytes: 7,
        receipt: Digest::of(b"receipt"),
    }
}

fn refusal() -> Refusal {
    Refusal::new(Code::BudgetSpent, "spent")
}

fn charge() -> Charge {
    Charge {
        entry: Some(Digest::of(b"debit")),
        at: NOW,
        begun: 1,
    }
}

fn states() -> Vec<State> {
    let task = task(Kind::Train, 1);
    let evaluate = self::task(Kind::Evaluate, 1);
    let charge = Some(charge());
    vec![
        State::Idle,
        State::Fetching {
            task: task.clone(),
            charge: None,
        },
        State::Training {
            task: task.clone(),
            charge: None,
        },
        State::Training {
            task: task.clone(),
            charge,
        },
        State::Releasing {
            task: task.clone(),
            charge,
        },
        State::Uploading {
            task,
            release: release(b"u"),
            not_before: Some(NOW),
        },
        State::Evaluating {
            task: evaluate.clone(),
            charge,
        },
        State::Submitting {
            task: evaluate,
            receipt: Digest::of(b"counts"),
            not_before: Some(NOW),
        },
    ]
}

fn inputs() -> Vec<Input> {
    vec![
        Input::Assigned {
            task: task(Kind::Train, 2),
            before: None,
        },
        Input::Fetched,
        Input::Charged(charge()),
        Input::Trained,
        Input::Released {
            release: release(b"v"),
            not_before: None,
        },
        Input::Accepted,
        Input::Counted {
            receipt: Digest::of(b"counts"),
            not_before: None,
        },
        Input::Submitted,
        Input::Declined(refusal()),
        Input::Dropped,
        Input::Restarted,
        Input::Copied,
    ]
}

/// One row a state, one column an input, in the order of `states` and `inputs`: the next state,
/// `-` where the input does not fit. `training` stands there twice: without its charge, and with it.
#[test]
fn the_table_of_transitions_holds() {
    #[rustfmt::skip]
    let table = [
        //            assigned    fetched     charged       trained      released     accepted  counted       submitted declined  dropped  restarted     copied
        ["idle",       "fetching", "-",        "-",          "-",         "-",         "-",      "-",          "-",      "-",      "-",     "idle",       "idle"],
        ["fetching",   "-",        "training", "-",          "-",         "-",         "-",      "-",          "-",      "idle",   "idle",  "fetching",   "fetching"],
        ["training",   "-",        "-",        "training",   "-",         "-",         "-",      "-",          "-",      "idle",   "idle",  "fetching",   "fetching"],
        ["training",   "-",        "-",        "training",   "releasing", "-",         "-",      "-",          "-",      "idle",   "idle",  "fetching",   "fetching"],
        ["releasing",  "-",        "-",        "-",          "-",         "uploading", "-",      "-",          "-",      "idle",   "idle",  "fetching",   "fetching"],
        ["uploading",  "-",        "-",        "-",          "-",         "-",         "idle",   "-",          "-",      "-",      "idle",  "uploading",  "uploading"],
        ["evaluating", "-",        "-",        "evaluating", "-",         "-",         "-",      "submitting", "-",      "idle",   "idle",  "fetching",   "fetching"],
        ["submitting", "-",        "-",        "-",          "-",         "-",         "-",      "-",          "idle",   "-",      "idle",  "submitting", "submitting"],
    ];
    for (state, row) in states().into_iter().zip(table) {
        assert_eq!(state.name(), row[0]);
        let session = Session { state, since: None };
        for (input, expected) in inputs().into_iter().zip(&row[1..]) {
            let name = input.name();
            let found = match session.step(NOW, input) {
                Ok(transition) => transition.session.state.name(),
                Err(_) => "-",
            };
            assert_eq!(found, *expected, "{} on {name}", row[0]);
        }
    }
}

#[test]
fn in_a_copy_nothing_that_was_paid_before_pays() {
    for state in states() {
        let session = Session { state, since: None };
        let after = session.step(NOW, Input::Copied).expect("fits");
        assert_eq!(after.session.charge(), None, "{}", session.state.name());
        if session.charge().is_none() && session.not_before().is_some() {
            assert_eq!(after.session.state, session.state, "what was released");
        }
    }
}

#[test]
fn a_restart_sends_again_what_was_released_and_keeps_the_charge_of_what_was_not() {
    for state in states() {
        let session = Session {
            state: state.clone(),
            since: None,
        };
        let paid = session.charge().copied();
        let after = session.step(NOW, Input::Restarted).expect("fits");
        let effects = after.effects;
        match state {
            State::Idle => assert!(effects.is_empty()),
            State::Uploading { task, release, .. } => {
                assert_eq!(effects, [Effect::Upload(task, release)]);
                assert_eq!(after.session.not_before(), Some(NOW));
            }
            State::Submitting { task, receipt, .. } => {
                assert_eq!(effects, [Effect::Submit(task, receipt)]);
                assert_eq!(after.session.not_before(), Some(NOW));
            }
            State::Fetching { task, .. }
            | State::Training { task, .. }
            | State::Releasing { task, .. }
            | State::Evaluating { task, .. } => {
                assert_eq!(effects, [Effect::Fetch(task)]);
                assert_eq!(after.session.charge().copied(), paid);
            }
        }
    }
}

#[test]
fn what_left_for_an_attempt_before_is_sent_again_not_made_again() {
    let after = |kind, before| {
        let input = Input::Assigned {
            task: task(kind, 1),
            before: Some(before),
        };
        Session::default().step(NOW, input).expect("fits").effects
    };
    assert_eq!(
        after(Kind::Train, Before::Update(release(b"u"))),
        [Effect::Upload(task(Kind::Train, 1), release(b"u"))]
    );
    let receipt = Digest::of(b"counts");
    assert_eq!(
        after(Kind::Evaluate, Before::Counts(receipt)),
        [Effect::Submit(task(Kind::Evaluate, 1), receipt)]
    );
}

/// A session of a program before charges is gone on with; its charge is made then.
#[test]
fn an_older_session_is_read() {
    let task = serde_json::to_string(&task(Kind::Train, 1)).expect("json");
    let json = format!(r#"{{"state":"training","task":{task},"since":5}}"#);
    let session: Session = serde_json::from_str(&json).expect("read");
    assert_eq!((session.state.name(), session.charge()), ("training", None));
}

fn any_input() -> impl Strategy<Value = Input> {
    let count = inputs().len();
    (0..count, any::<bool>(), 1u32..4, any::<u8>()).prop_map(|(index, evaluate, round, byte)| {
        let kind = if evaluate {
            Kind::Evaluate
        } else {
            Kind::Train
        };
        match inputs().swap_remove(index) {
            Input::Assigned { .. } => Input::Assigned {
                task: task(kind, round),
                before: None,
            },
            Input::Released { not_before, .. } => Input::Released {
                release: release(&[byte]),
                not_before,
            },
            other @ (Input::Fetched
            | Input::Charged(_)
            | Input::Trained
            | Input::Accepted
            | Input::Counted { .. }
            | Input::Submitted
            | Input::Declined(_)
            | Input::Dropped
            | Input::Restarted
            | Input::Copied) => other,
        }
    })
}

proptest! {
    /// Whatever happens in whatever order: text is read only after a charge, a release is uploaded
    /// unchanged until it is taken or unwanted, nothing is trained while it exists, and the state
    /// survives its JSON.
    #[test]
    fn nothing_is_read_uncharged_or_released_twice(
        inputs in prop::collection::vec(any_input(), 1..60),
    ) {
        let mut session = Session::default();
        let mut held: Option<Release> = None;
        for input in inputs {
            let leaves = matches!(input, Input::Accepted | Input::Dropped);
            let Ok(transition) = session.step(NOW, input) else { continue };
            for effect in &transition.effects {
                match effect {
                    Effect::Upload(_, release) => {
                        prop_assert!(held.is_none_or(|held| held == *release));
                        held = Some(*release);
                    }
                    Effect::Forget(release) => {
                        prop_assert!(leaves);
                        prop_assert_eq!(held.take(), Some(*release));
                    }
                    Effect::Train(_) | Effect::Evaluate(_) | Effect::Release(_) => {
                        prop_assert!(held.is_none());
                        prop_assert!(transition.session.charge().is_some(), "read uncharged");
                    }
                    Effect::Fetch(_) | Effect::Charge(_) | Effect::Submit(..)
                    | Effect::Decline(..) => prop_assert!(held.is_none()),
                }
            }
            session = transition.session;
            let json = serde_json::to_string(&session).expect("json");
            prop_assert_eq!(&serde_json::from_str::<Session>(&json).expect("own json"), &session);
        }
    }
}
