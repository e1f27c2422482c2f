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

fn states() -> Vec<State> {
    let task = task(Kind::Train, 1);
    vec![
        State::Idle,
        State::Fetching { task: task.clone() },
        State::Training { task: task.clone() },
        State::Releasing { task: task.clone() },
        State::Uploading {
            task,
            release: release(b"u"),
        },
        State::Evaluating {
            task: self::task(Kind::Evaluate, 1),
        },
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::Assigned {
            task: task(Kind::Train, 2),
            released: None,
        },
        Event::Fetched,
        Event::Trained,
        Event::Released(release(b"v")),
        Event::Accepted,
        Event::Submitted,
        Event::Declined(refusal()),
        Event::Dropped,
        Event::Restarted,
    ]
}

/// One row a state, one column an event, in the order of `states` and `events`: the next state,
/// `-` where the event does not fit.
#[test]
fn the_table_of_transitions_holds() {
    #[rustfmt::skip]
    let table = [
        //            assigned    fetched     trained      released     accepted  submitted declined  dropped  restarted
        ["idle",       "fetching", "-",        "-",         "-",         "-",      "-",      "-",      "-",     "idle"],
        ["fetching",   "-",        "training", "-",         "-",         "-",      "-",      "idle",   "idle",  "fetching"],
        ["training",   "-",        "-",        "releasing", "-",         "-",      "-",      "idle",   "idle",  "fetching"],
        ["releasing",  "-",        "-",        "-",         "uploading", "-",      "-",      "idle",   "idle",  "fetching"],
        ["uploading",  "-",        "-",        "-",         "-",         "idle",   "-",      "-",      "idle",  "uploading"],
        ["evaluating", "-",        "-",        "-",         "-",         "-",      "idle",   "idle",   "idle",  "fetching"],
    ];
    for (state, row) in states().into_iter().zip(table) {
        assert_eq!(state.name(), row[0]);
        let session = Session { state, since: None };
        for (event, expected) in events().into_iter().zip(&row[1..]) {
            let name = event.name();
            let found = match session.step(NOW, event) {
                Ok(transition) => transition.session.state.name(),
                Err(_) => "-",
            };
            assert_eq!(found, *expected, "{} on {name}", row[0]);
        }
    }
}

#[test]
fn a_restart_after_release_sends_the_same_bytes_and_before_it_begins_again() {
    for state in states() {
        let session = Session {
            state: state.clone(),
            since: None,
        };
        let effects = session.step(NOW, Event::Restarted).expect("fits").effects;
        match state {
            State::Idle => assert!(effects.is_empty()),
            State::Uploading { task, release } => {
                assert_eq!(effects, [Effect::Upload(task, release)]);
            }
            State::Fetching { task }
            | State::Training { task }
            | State::Releasing { task }
            | State::Evaluating { task } => assert_eq!(effects, [Effect::Fetch(task)]),
        }
    }
}

#[test]
fn an_attempt_that_was_released_before_is_uploaded_not_trained_again() {
    let event = Event::Assigned {
        task: task(Kind::Train, 1),
        released: Some(release(b"u")),
    };
    let transition = Session::default().step(NOW, event).expect("fits");
    assert_eq!(
        transition.effects,
        [Effect::Upload(task(Kind::Train, 1), release(b"u"))]
    );
}

fn any_event() -> impl Strategy<Value = Event> {
    let count = events().len();
    (0..count, any::<bool>(), 1u32..4, any::<u8>()).prop_map(|(index, evaluate, round, byte)| {
        let kind = if evaluate {
            Kind::Evaluate
        } else {
            Kind::Train
        };
        match events().swap_remove(index) {
            Event::Assigned { .. } => Event::Assigned {
                task: task(kind, round),
                released: None,
            },
            Event::Released(_) => Event::Released(release(&[byte])),
            other @ (Event::Fetched
            | Event::Trained
            | Event::Accepted
            | Event::Submitted
            | Event::Declined(_)
            | Event::Dropped
            | Event::Restarted) => other,
        }
    })
}

proptest! {
    /// Whatever happens in whatever order: a release is uploaded unchanged until it is taken or
    /// unwanted, nothing is trained while it exists, and the state survives its JSON.
    #[test]
    fn a_release_is_never_made_twice(events in prop::collection::vec(any_event(), 1..60)) {
        let mut session = Session::default();
        let mut held: Option<Release> = None;
        for event in events {
            let leaves = matches!(event, Event::Accepted | Event::Dropped);
            let Ok(transition) = session.step(NOW, event) else { continue };
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
                    Effect::Fetch(_) | Effect::Train(_) | Effect::Release(_)
                    | Effect::Evaluate(_) | Effect::Decline(..) => prop_assert!(held.is_none()),
                }
            }
            session = transition.session;
            let json = serde_json::to_string(&session).expect("json");
            prop_assert_eq!(&serde_json::from_str::<Session>(&json).expect("own json"), &session);
        }
    }
}
