//! Pages of a large federation, without a coordinator: how large they are, and how long they take.

use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use fedner_page::guard::Base;
use fedner_shared::digest::Digest;
use fedner_shared::event::{Entry, Event};
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::plan::{Method, Unit};
use fedner_shared::score::Counts;
use fedner_shared::state::{InstitutionState, MemberState, RunState};
use fedner_shared::time::Time;
use fedner_shared::view::{Explanation, InstitutionView, MemberView, RunView};
use tower::ServiceExt as _;

use super::history::History;
use super::routes::pages;
use super::site::Site;
use super::world::Version;
use crate::cli::connect::Who;
use crate::config::{Config, Paths};

const INSTITUTIONS: usize = 400;
pub(super) const ROUNDS: u32 = 300;
/// What a page may weigh.
const BYTES: usize = 300_000;
const LABELS: [&str; 6] = [
    "Person",
    "Date",
    "Location",
    "Identifier",
    "Organisation",
    "Drug",
];

fn name(number: usize) -> InstitutionId {
    format!("hospital-{number:03}").parse().expect("name")
}

fn run() -> RunId {
    "notes.0123abcd".parse().expect("name")
}

pub(super) fn at(round: u32, millis: u64) -> Time {
    Time::from_millis(1_700_000_000_000) + Duration::from_millis(u64::from(round) * 60_000 + millis)
}

fn digest(round: u32) -> Digest {
    Digest::of(format!("version {round}").as_bytes())
}

/// A number between 0 and 1 that depends on both.
fn spread(a: usize, b: u32) -> f64 {
    let mixed = (a as u64 * 2_654_435_761 + u64::from(b) * 40_503) % 1_000;
    mixed as f64 / 1_000.0
}

fn history() -> History {
    let mut history = History::default();
    let mut sequence = 0;
    let mut take = |time: Time, event: Event| {
        sequence += 1;
        history.take(Entry {
            sequence,
            time,
            previous: Digest::of(b"before"),
            run: Some(run()),
            event,
        });
    };
    for round in 1..=ROUNDS {
        let attempt = 1;
        let participants = (0..INSTITUTIONS).map(name).collect();
        let started = Event::RoundStarted {
            round,
            attempt,
            participants,
            base: digest(round - 1),
        };
        take(at(round, 0), started);
        for number in 0..INSTITUTIONS {
            let institution = name(number);
            let late = (spread(number, round) * 20_000.0) as u64;
            take(
                at(round, late / 10),
                Event::AssignmentTaken {
                    round,
                    attempt,
                    institution: institution.clone(),
                },
            );
            if round == ROUNDS && number % 7 == 0 {
                continue;
            }
            let epsilon = Some(8.0 * f64::from(round).sqrt() / 18.0);
            let event = Event::UpdateAccepted {
                round,
                attempt,
                institution,
                update: digest(round),
                bytes: 48_000,
                epsilon,
            };
            take(at(round, 20_000 + late), event);
        }
        if round == ROUNDS {
            break;
        }
        take(
            at(round, 41_000),
            Event::RoundClosed {
                round,
                attempt,
                updates: INSTITUTIONS,
                missing: Vec::new(),
            },
        );
        let version = format!("notes@{round}").parse().expect("name");
        take(
            at(round, 42_000),
            Event::VersionPublished {
                round,
                attempt,
                version,
                digest: digest(round),
                weights: digest(round),
                seconds: 0.4,
            },
        );
        let learnt = 0.9 * (1.0 - (-f64::from(round) / 60.0).exp());
        for number in 0..INSTITUTIONS {
            let f1 = learnt * (0.8 + 0.2 * spread(number, 1));
            take(
                at(round, 50_000),
                Event::Evaluated {
                    round,
                    institution: name(number),
                    f1,
                    precision: f1,
                    recall: f1,
                    support: 100,
                },
            );
        }
        take(
            at(round, 51_000),
            Event::RoundFinished {
                round,
                f1: Some(learnt),
                median_f1: Some(learnt),
            },
        );
    }
    history
}

fn version(round: u32) -> Version {
    let learnt = 0.9 * (1.0 - (-f64::from(round) / 60.0).exp());
    let counts = |index: usize| {
        let found = (learnt * (1.0 - 0.06 * index as f64) * 4_000.0) as u64;
        Counts {
            true_positives: found,
            false_positives: 4_000 - found,
            false_negatives: 4_000 - found,
        }
    };
    Version {
        digest: digest(round),
        name: format!("notes@{round}").parse().expect("name"),
        parent: (round > 1).then(|| digest(round - 1)),
        created: at(round, 42_000),
        origin: "round",
        run: Some((run(), round)),
        labels: LABELS.map(str::to_owned).to_vec(),
        aliases: Vec::new(),
        f1: Some(learnt),
        median_f1: Some(learnt * 0.98),
        by_type: LABELS
            .iter()
            .enumerate()
            .map(|(index, label)| ((*label).to_owned(), counts(index)))
            .collect(),
        scored: INSTITUTIONS,
        participants: INSTITUTIONS,
        epsilon: Some(7.3),
        pruned: None,
        audits: Vec::new(),
    }
}

fn member(number: usize) -> MemberView {
    MemberView {
        institution: name(number),
        state: if number.is_multiple_of(7) {
            MemberState::Working
        } else {
            MemberState::Answered
        },
        examples: Some(1_000 + number as u32),
        annotation: None,
        epsilon: Some(7.31),
        last_seen: Some(at(ROUNDS, 20_000)),
        f1: Some(spread(number, 1)),
        figures: None,
        aside: None,
        refused: None,
    }
}

fn institution(number: usize) -> InstitutionView {
    InstitutionView {
        institution: name(number),
        state: InstitutionState::Active,
        enrolled: at(0, 0),
        certificate_expires: at(1_000_000, 0),
        last_seen: Some(at(ROUNDS, 20_000)),
        software: Some("fedner-client 0.1.0".to_owned()),
        not_before: None,
        not_before_code: None,
        twice: false,
    }
}

pub(super) fn large() -> Site {
    let config: Config = toml::from_str(
        "name = \"North federation\"\naddress = \"fedner.example.org:7443\"\nlisten = \"0.0.0.0:7443\"\n",
    )
    .expect("toml");
    let site = Site::new(config, Paths::new("/nowhere"), Who::Operator);
    site.change(|world| {
        world.history = history();
        world.runs = vec![RunView {
            run: run(),
            name: "notes".parse().expect("name"),
            plan: digest(0),
            state: RunState::Collecting,
            round: ROUNDS,
            rounds: ROUNDS,
            attempt: 1,
            method: Method::Head,
            unit: Unit::Institution,
            labels: LABELS.map(str::to_owned).to_vec(),
            version: digest(ROUNDS - 1),
            failure: None,
            members: (0..INSTITUTIONS).map(member).collect(),
            dimension: 4_623,
            f1: Some(0.894),
            median_f1: Some(0.88),
            champion: None,
            gate: None,
            next_start: None,
        }];
        world.explained.insert(
            run(),
            Explanation {
                run: run(),
                state: RunState::Collecting,
                awaits: format!("updates for round {ROUNDS} of {ROUNDS}"),
                from: (0..INSTITUTIONS).step_by(7).map(name).collect(),
                until: Some(at(ROUNDS, 3_600_000)),
                then: "with at least 300 updates a version is published".to_owned(),
                expected: Some(at(ROUNDS, 50_000)),
                finish: Some(at(ROUNDS, 60_000)),
                gate: None,
                absent: Vec::new(),
            },
        );
        world.institutions = (0..INSTITUTIONS).map(institution).collect();
        world.versions = (1..ROUNDS)
            .map(version)
            .map(|version| (version.digest, version))
            .collect();
    });
    site
}

async fn page(site: &Site, path: &str) -> String {
    let request = Request::get(path)
        .extension(Base {
            address: "/s/key/".to_owned(),
            rest: path[1..].to_owned(),
        })
        .body(Body::empty())
        .expect("request");
    let answer = pages(site.clone())
        .oneshot(request)
        .await
        .expect("answered");
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    let bytes = to_bytes(answer.into_body(), usize::MAX)
        .await
        .expect("body");
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "the figures are for whoever asks for them"
)]
async fn pages_of_400_institutions_and_300_rounds_stay_small() {
    let site = large();
    let run = format!("/runs/{}", run());
    for path in ["/", run.as_str(), "/institutions", "/models", "/events"] {
        let began = Instant::now();
        let text = page(&site, path).await;
        println!("{path}: {} bytes in {:?}", text.len(), began.elapsed());
        assert!(text.len() < BYTES, "{path}: {} bytes", text.len());
        assert!(
            text.contains("hospital-") || text.contains("notes@"),
            "{path}"
        );
    }
    let all = page(&site, &format!("{run}?all=true")).await;
    assert!(all.matches("class=\"lane\"").count() == INSTITUTIONS);
    assert!(all.len() < BYTES, "{} bytes", all.len());
}

#[tokio::test]
#[ignore = "tests/compare/page.py opens it in a browser"]
#[allow(clippy::print_stdout, reason = "what is written is read by a script")]
async fn the_large_page_is_written() {
    println!("{}", page(&large(), &format!("/runs/{}", run())).await);
}
