//! What is written into a store, and everything that it tells then, as one text.

use anyhow::Result;
use fedner_coordinator::authority::{Issued, Role};
use fedner_coordinator::store::{
    Error, HistorySeen, Institution, Invite, Person, StatementKind, Store, StoredStatement,
};
use fedner_round::{Created, Input, Run};
use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::history::Seen;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::sign::{SecretKey, Signed};
use fedner_shared::state::InstitutionState;
use fedner_shared::time::Time;
use fedner_shared::version::{Origin, Pruned, Version};

use crate::setting::{NO_NOISE, plan};

pub(super) fn time(millis: i64) -> Time {
    Time::from_millis(millis)
}

fn key() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

fn run_of(signed: &Signed) -> Result<Run> {
    let created = Created {
        id: "notes.1".parse()?,
        plan: a_plan()?,
        plan_digest: signed.digest(),
        manifest: Digest::of(b"manifest"),
        dimension: 1,
        base: Digest::of(b"base"),
    };
    Ok(Run::create(time(0), created).run)
}

fn a_plan() -> Result<Plan> {
    Ok(Plan::parse(&plan(2, 1, 2, "head", "", NO_NOISE))?)
}

pub(super) fn version(number: u32) -> Result<Version> {
    Ok(Version {
        name: format!("notes@{number}").parse()?,
        parent: None,
        origin: Origin::Import,
        labels: vec!["Disease".to_owned()],
        weights: Digest::of(format!("weights {number}").as_bytes()),
        frozen: (number == 2).then(|| Digest::of(b"frozen")),
        config: Digest::of(b"config"),
        tokenizer: Digest::of(b"tokenizer"),
        created: time(5),
    })
}

fn issued(serial: &str, authority: &str) -> Issued {
    Issued {
        pem: String::new(),
        serial: serial.to_owned(),
        expires: time(9),
        authority: authority.to_owned(),
    }
}

/// A signed statement of its own for each number.
fn said(size: u64) -> Signed {
    let seen = Seen {
        institution: "st-anna".parse().expect("a name"),
        size,
        root: Digest::of(b"root"),
        at: time(0),
    };
    Signed::new(&seen, &key())
}

/// Institutions whose names are ordered otherwise by a language than by their bytes.
pub(super) const NAMES: [&str; 4] = ["st-anna", "sta", "st-z", "b1"];

/// Writes something into every table, and something over it.
pub(super) fn write(store: &mut Store) -> Result<()> {
    let signed = Signed::new(&a_plan()?, &key());
    let names: [InstitutionId; 4] = NAMES.map(|name| name.parse().expect("a name"));
    store.transact("institutions", |tx| {
        for (number, name) in names.iter().enumerate() {
            let institution = Institution {
                name: name.clone(),
                state: InstitutionState::Active,
                signing_key: key().public(),
                enrolled: time(1),
                certificate_expires: time(2),
            };
            tx.put_institution(&institution, &issued(&format!("a{number}"), "first"))?;
        }
        tx.put_institution(
            &Institution {
                name: names[1].clone(),
                state: InstitutionState::Suspended,
                signing_key: SecretKey::from_seed([8; 32]).public(),
                enrolled: time(3),
                certificate_expires: time(4),
            },
            &issued("again", "second"),
        )?;
        tx.set_institution_state(&names[2], InstitutionState::Revoked)?;
        tx.set_signing_key(&names[3], &SecretKey::from_seed([9; 32]).public())?;
        tx.put_presence(&names[0], time(7), None)?;
        tx.put_presence(&names[0], time(8), Some("0.1.0"))?;
        for number in 0..20 {
            let head = Digest::of(format!("head {number}").as_bytes());
            tx.put_ledger_head(&names[0], head)?;
        }
        for (number, reenrol) in [(1_u8, false), (2, true), (3, false), (4, true)] {
            tx.put_invite(&Invite {
                secret_hash: Digest::from_bytes([number; 32]),
                institution: names[usize::from(number) - 1].clone(),
                expires: time(100),
                reenrol,
            })?;
        }
        tx.use_invite(time(10), Digest::from_bytes([1; 32]))?;
        tx.note_invite_used_by(Digest::from_bytes([1; 32]), Digest::of(b"keys"))?;
        ensure_eq(tx.void_invites(time(11), &names[1])?, 1)
    })?;
    store.transact("people and keys", |tx| {
        for (role, name, revoked) in [
            (Role::Viewer, "dash", Some(time(4))),
            (Role::Operator, "Ann", None),
            (Role::Viewer, "dash", None),
        ] {
            tx.put_person(&Person {
                role,
                name: name.to_owned(),
                issued: time(1),
                expires: time(9),
                revoked,
            })?;
        }
        tx.put_succession(None, &said(91))?;
        tx.put_succession(Some(&names[0]), &said(92))
    })?;
    store.transact("a run", |tx| {
        tx.put_plan(&signed)?;
        let run = run_of(&signed).map_err(inconsistent)?;
        tx.put_run(&run, None)?;
        let seen = Input::Seen {
            institution: "i1".parse().map_err(inconsistent)?,
        };
        let next = run.step(time(7), seen).map_err(inconsistent)?.run;
        tx.put_run(&next, Some(&run.members))?;
        let effect = fedner_round::Effect {
            round: 1,
            sequence: 2,
            attempt: 1,
            base: run.version,
            contributions: Vec::new(),
        };
        tx.put_effect(&run.id, &effect)?;
        let later = fedner_round::Effect {
            sequence: 3,
            ..effect.clone()
        };
        tx.put_effect(&run.id, &later)?;
        tx.remove_effect(&run.id, &effect)?;
        for number in 0..3 {
            tx.append_event(time(number), Some(&run.id), Event::RunStarted)?;
            tx.append_event(
                time(number),
                None,
                Event::RunFailed {
                    reason: "Ä".repeat(400),
                },
            )?;
        }
        Ok::<_, Error>(())
    })?;
    store.transact("models", |tx| {
        for number in [1, 3, 2] {
            tx.put_version(&version(number).map_err(inconsistent)?)?;
        }
        let of = |number| {
            version(number)
                .map(|version| version.digest())
                .map_err(inconsistent)
        };
        tx.put_alias(&"best".parse().map_err(inconsistent)?, of(1)?)?;
        tx.put_alias(&"best".parse().map_err(inconsistent)?, of(3)?)?;
        for name in [&names[1], &names[0], &names[1]] {
            tx.put_scores(of(1)?, name, &fedner_shared::score::Scores::default())?;
        }
        for (number, kind) in [
            (1, StatementKind::Consent),
            (2, StatementKind::Update),
            (3, StatementKind::Evaluation),
            (2, StatementKind::Update),
            (4, StatementKind::Audit),
        ] {
            let signed = said(number);
            tx.put_statement(&StoredStatement {
                digest: signed.digest(),
                kind,
                author: names[0].clone(),
                key: key().public(),
                signed,
            })?;
        }
        tx.put_export(of(2)?, Digest::of(b"one file"))?;
        tx.put_export(of(2)?, Digest::of(b"another"))?;
        tx.put_report(of(1)?, said(4).digest())?;
        tx.put_pruned(of(1)?, Pruned::Updates)?;
        tx.put_pruned(of(1)?, Pruned::Files)?;
        for (size, institution) in [(5, &names[0]), (3, &names[0]), (4, &names[1])] {
            tx.put_history_seen(&HistorySeen {
                institution: institution.clone(),
                size,
                key: key().public(),
                signed: said(size),
            })?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(())
}

pub(super) fn inconsistent(error: impl std::fmt::Display) -> Error {
    Error::Damaged(error.to_string())
}

pub(super) fn ensure_eq<T: PartialEq + std::fmt::Debug>(found: T, wanted: T) -> Result<(), Error> {
    if found == wanted {
        return Ok(());
    }
    Err(inconsistent(format!(
        "found {found:?}: expected {wanted:?}"
    )))
}

/// Everything that can be asked, in one text.
pub(super) fn told(store: &mut Store) -> Result<String> {
    let asked = store.read(|tx| {
        let mut told = Vec::new();
        let mut tell = |what: &str, answer: String| told.push(format!("{what}: {answer}"));
        tell("institutions", format!("{:#?}", tx.institutions()?));
        for name in NAMES {
            let name = name.parse().map_err(inconsistent)?;
            tell("one", format!("{:?}", tx.institution(&name)?));
            tell(
                "stands",
                format!("{:?}", tx.certificate_stands(&name, "a1")?),
            );
            tell("heads", format!("{:?}", tx.ledger_heads(&name)?));
            for kind in [StatementKind::Update, StatementKind::Audit] {
                tell("newest", format!("{:?}", tx.newest_statement(&name, kind)?));
            }
            for (after, most) in [(0, 9), (0, 1), (2, 9)] {
                tell(
                    "receipts",
                    format!("{:?}", tx.receipts_of(&name, after, most)?),
                );
            }
        }
        let mut presences = tx.presences()?;
        presences.sort_by(|a, b| a.0.cmp(&b.0));
        tell("presences", format!("{presences:?}"));
        tell("invites", format!("{:?}", tx.open_invites(time(50))?));
        tell("expired", format!("{:?}", tx.open_invites(time(500))?));
        tell("people", format!("{:?}", tx.people()?));
        tell(
            "without",
            format!("{:?}", tx.without_certificate_of("second")?),
        );
        tell(
            "keys",
            format!("{:?} {:?}", tx.own_successions()?, tx.all_successions()?),
        );
        tell("runs", format!("{:?}", tx.runs()?));
        tell("outbox", format!("{:?}", tx.outbox()?));
        let run = "notes.1".parse().map_err(inconsistent)?;
        for (run, from, limit) in [
            (None, 1, 99),
            (Some(&run), 1, 99),
            (None, 3, 2),
            (None, u64::MAX, 1),
        ] {
            tell("events", format!("{:?}", tx.events(run, from, limit)?));
        }
        tell(
            "digests",
            format!("{:?} {}", tx.entry_digests(2)?, tx.last_sequence()?),
        );
        tell("chain", format!("{}", tx.verify_chain()?));
        tell("seen", format!("{:?}", tx.histories_seen()?));
        tell("statements", format!("{:?}", tx.statements()?));
        tell("versions", format!("{:?}", tx.versions()?));
        tell("pruned", format!("{:?}", tx.pruned()?));
        for number in 1..=3 {
            let version = version(number).map_err(inconsistent)?;
            tell("view", format!("{:#?}", tx.version_view(version.digest())?));
            tell(
                "weights",
                format!("{:?}", tx.versions_of_weights(version.weights)?),
            );
            tell("export", format!("{:?}", tx.export(version.digest())?));
        }
        tell(
            "weights",
            format!("{:?}", tx.versions_of_weights(Digest::of(b"one file"))?),
        );
        for reference in ["best", "notes@2", "notes@9"] {
            let reference = reference.parse().map_err(inconsistent)?;
            tell("resolve", format!("{:?}", tx.resolve(&reference)?));
        }
        tell(
            "next",
            format!(
                "{}",
                tx.next_number(&"notes".parse().map_err(inconsistent)?)?
            ),
        );
        tell("needed", format!("{:?}", tx.needed_objects()?));
        Ok(told)
    })?;
    Ok(asked.join("\n"))
}
