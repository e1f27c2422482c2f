//! `check`.

use std::fmt::Write as _;
use std::process::ExitCode;

use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_host::{disk, memory};
use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::text::brief;
use serde::Serialize;

use super::{Context, runtime};
use crate::config::{Directory, Settings};
use crate::consent::{self, Terms};
use crate::egress::check_heads;
use crate::identity::{self, Identity};
use crate::state::{PlanRecord, Standing, Store};
use crate::transport::{Coordinator, Error as TransportError, Says, Session};
use crate::{SOFTWARE, rules};

/// Check connection, certificate, clock, data, device and disk, and say what to mend
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    ok: bool,
    /// What was found.
    found: String,
    /// What to do; absent where it is well.
    hint: Option<String>,
}

/// Free space below which a model version may not fit, while no plan is agreed to.
const ROOM: u64 = 2 << 30;
/// Of each trained weight: its update, and in the state of a training itself and two moments.
const BYTES_A_WEIGHT: u64 = 16;

pub(super) fn run(context: &Context, _: Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let mut lines = vec![policy(&directory), state(&directory)];
    match Identity::load(&directory.identity(), settings.institution.clone()) {
        Ok(identity) => {
            lines.push(certificate(&identity));
            lines.extend(connection(&directory, &settings, &identity)?);
        }
        Err(error) => {
            let refusal = error.refusal().unwrap_or_else(|| other(&error));
            lines.push(Line::failed("certificate", &refusal));
        }
    }
    lines.push(corpora("data", &directory, &settings, true));
    lines.push(corpora("held_out", &directory, &settings, false));
    lines.extend(plans(&directory, &settings));
    lines.push(device(&settings));
    lines.push(disk(&directory));
    lines.extend(memory(&directory));
    context.output.data(&lines, |lines| text(lines))?;
    let failed = lines.iter().any(|line| !line.ok);
    Ok(ExitCode::from(u8::from(failed)))
}

impl Line {
    fn well(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            ok: true,
            found: found.into(),
            hint: None,
        }
    }

    fn failed(check: &'static str, refusal: &Refusal) -> Self {
        Self {
            check,
            ok: false,
            found: format!("{} [{}]", refusal.message, refusal.code),
            hint: Some(refusal.code.hint().to_owned()),
        }
    }
}

fn other(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::StateInvalid, error.to_string())
}

fn policy(directory: &Directory) -> Line {
    let shown = Store::open(&directory.database())
        .map_err(rules::Error::from)
        .and_then(|store| rules::shown(&store, directory));
    match shown {
        Ok(shown) => match shown.fault {
            Some(fault) => Line::failed("policy", &fault.refusal()),
            None if shown.looser.is_empty() => {
                let digest = shown.policy.digest();
                Line::well("policy", format!("{} is in force", digest.short()))
            }
            None => {
                let keys = shown.looser.join(", ");
                Line::well(
                    "policy",
                    format!(
                        "policy.toml would allow more in {keys}; `policy apply` puts it in force"
                    ),
                )
            }
        },
        Err(error) => {
            let refusal = error.refusal().unwrap_or_else(|| other(&error));
            Line::failed("policy", &refusal)
        }
    }
}

fn state(directory: &Directory) -> Line {
    let ledger = Store::open(&directory.database()).and_then(|store| store.ledger());
    match ledger {
        Ok(ledger) => {
            let entries = ledger.entries().len();
            Line::well("ledger", format!("{entries} entries, the chain is whole"))
        }
        Err(error) => Line::failed("ledger", &error.refusal().unwrap_or_else(|| other(&error))),
    }
}

fn certificate(identity: &Identity) -> Line {
    let (validity, now) = (identity.validity, ThisMachine.now());
    if now < validity.not_before {
        let message = format!(
            "it holds from {} on and the clock says {now}: expected a clock that is right",
            validity.not_before
        );
        return Line::failed("certificate", &Refusal::new(Code::StateInvalid, message));
    }
    if now >= validity.not_after {
        let message = format!("it expired at {}", validity.not_after);
        let refusal = Refusal::new(Code::CertificateExpired, message);
        return Line::failed("certificate", &refusal);
    }
    let due = if identity::is_due(validity, now) {
        "; `start` renews it"
    } else {
        ""
    };
    Line::well(
        "certificate",
        format!("holds until {}{due}", validity.not_after),
    )
}

/// Connects and checks in without waiting. The certificate's dates are checked by both sides in
/// the handshake, so that it also shows a clock that is far off.
fn connection(
    directory: &Directory,
    settings: &Settings,
    identity: &Identity,
) -> anyhow::Result<Vec<Line>> {
    let address = &settings.coordinator;
    let checked: Result<_, TransportError> = runtime()?.block_on(async {
        let coordinator = Coordinator::new(&settings.into(), &identity.tls)?;
        coordinator
            .with_session(Session::looks())
            .check_in(Says::default())
            .await
    });
    let clock = format!("{}; both certificates hold at this time", ThisMachine.now());
    Ok(match checked {
        Ok(answer) => vec![
            Line::well(
                "connection",
                format!("{address} answers{}", of(&answer.software)),
            ),
            Line::well("clock", clock),
            books(directory, &answer.ledger_heads),
        ],
        Err(error) => {
            let refusal = error.refusal().unwrap_or_else(|| other(&error));
            let of_time = matches!(
                refusal.code,
                Code::ServerExpired | Code::ServerNotYetValid | Code::CertificateExpired
            );
            let clock = if of_time {
                let message = format!("the clock says {}: is it right?", ThisMachine.now());
                Line::failed("clock", &Refusal::new(refusal.code, message))
            } else {
                Line::well("clock", ThisMachine.now().to_string())
            };
            vec![Line::failed("connection", &refusal), clock]
        }
    })
}

/// Whether the ledger has what the coordinator has seen receipts of, as the daemon asks before it works.
fn books(directory: &Directory, heads: &[Digest]) -> Line {
    let found = Store::open(&directory.database()).and_then(|store| check_heads(&store, heads));
    match found {
        Ok(Ok(())) => Line::well("receipts", "the ledger has what the coordinator has seen"),
        Ok(Err(refusal)) => Line::failed("receipts", &refusal),
        Err(error) => Line::failed(
            "receipts",
            &error.refusal().unwrap_or_else(|| other(&error)),
        ),
    }
}

fn of(software: &str) -> String {
    if software.is_empty() {
        String::new()
    } else {
        format!("; it runs {}, here is {SOFTWARE}", brief(software))
    }
}

fn corpora(check: &'static str, directory: &Directory, settings: &Settings, needed: bool) -> Line {
    let files = if needed {
        &settings.data
    } else {
        &settings.held_out
    };
    if files.is_empty() {
        if !needed {
            return Line::well(check, "none: this institution does not evaluate");
        }
        if !settings.held_out.is_empty() {
            return Line::well(check, "none: this institution only evaluates");
        }
        let message = "client.toml has no `data`: expected at least one file";
        return Line::failed(check, &Refusal::new(Code::CorpusEmpty, message));
    }
    let mut reader = directory.reader(settings);
    let (mut sentences, mut labels) = (0, std::collections::BTreeSet::new());
    for file in files {
        match reader.corpus(&directory.resolve(file)) {
            Ok(corpus) => {
                sentences += corpus.sentences.len();
                labels.extend(corpus.labels().into_iter().map(str::to_owned));
            }
            Err(error) => {
                let code = crate::training::code_of_corpus(&error);
                let refusal = Refusal::new(code, error.to_string());
                return Line::failed(check, &refusal);
            }
        }
    }
    if sentences == 0 {
        let message = "no file has a sentence";
        return Line::failed(check, &Refusal::new(Code::CorpusEmpty, message));
    }
    let labels: Vec<String> = labels.into_iter().collect();
    Line::well(
        check,
        format!(
            "{sentences} sentences in {} files, types: {}",
            files.len(),
            labels.join(", ")
        ),
    )
}

/// Plans whose text is looked at, the newest ones.
const PLANS: usize = 5;

/// Whether the text is what the plans mean that were agreed to, or may be: people look at it here, since no
/// consent by policy does.
fn plans(directory: &Directory, settings: &Settings) -> Vec<Line> {
    let Ok(policy) = directory.policy() else {
        return Vec::new();
    };
    let (found, now) = (Store::open(&directory.database()), ThisMachine.now());
    let open = found.and_then(|store| {
        let mut open = Vec::new();
        for record in store.plans()?.into_iter().rev().take(PLANS) {
            let standing = store.standing(&record.digest, now)?;
            if matches!(standing, Standing::Pending | Standing::Granted) {
                open.push(record.plan);
            }
        }
        Ok(open)
    });
    let terms = Terms {
        directory,
        settings,
        policy: &policy,
    };
    let looked =
        open.unwrap_or_default()
            .into_iter()
            .map(|plan| match consent::check_text(terms, &plan) {
                Ok(()) => Line::well("plan", format!("{}: the text is what it means", plan.name)),
                Err(error) => {
                    let refusal = error.refusal().unwrap_or_else(|| other(&error));
                    Line::failed("plan", &refusal)
                }
            });
    looked.collect()
}

fn device(settings: &Settings) -> Line {
    match settings.device.parse::<fedner_model::device::Device>() {
        Ok(device) => {
            let guarantee = device.guarantee();
            let found = format!("{}: {device}; privacy: {guarantee}", settings.device);
            Line::well("device", found)
        }
        Err(error) => Line::failed(
            "device",
            &Refusal::new(Code::DeviceUnknown, error.to_string()),
        ),
    }
}

/// Whether there is room for what the plans that were agreed to take, and whether the disk is this machine's.
fn disk(directory: &Directory) -> Line {
    let free = match disk::free_space(directory.root()) {
        Ok(Some(free)) => free,
        Ok(None) => return Line::well("disk", "its free space is not known on this platform"),
        Err(error) => return Line::failed("disk", &other(&error)),
    };
    let (needed, by) = match largest(directory) {
        Some((name, bytes)) => (bytes, format!("the plan {name} takes about")),
        None => (ROOM, "expected at least".to_owned()),
    };
    let room = format!(
        "{:.1} GiB are free: {by} {:.1}",
        gibibytes(free),
        gibibytes(needed)
    );
    if free < needed {
        return Line::failed("disk", &Refusal::new(Code::StorageFull, room));
    }
    match disk::warning(directory.root()) {
        Some(warning) => Line::well("disk", format!("{room}; {warning}")),
        None => Line::well("disk", room),
    }
}

/// Whether a training of what was agreed to finds its memory now; nothing where nothing is known of it.
fn memory(directory: &Directory) -> Option<Line> {
    let plans = agreed(directory)?.into_iter();
    let plan = plans
        .filter(|record| record.memory > 0)
        .max_by_key(|record| record.memory)?;
    let available = memory::available()?;
    let found = format!(
        "{:.1} GiB are free: a training of the plan {} takes up to about {:.1}",
        gibibytes(available),
        plan.plan.name,
        gibibytes(plan.memory)
    );
    if available >= plan.memory {
        return Some(Line::well("memory", found));
    }
    Some(Line {
        check: "memory",
        ok: false,
        found,
        hint: Some("give this machine or its container more memory, or ask for a plan with a smaller `batch_size` or `max_tokens`".to_owned()),
    })
}

/// The plans that a consent in force covers.
fn agreed(directory: &Directory) -> Option<Vec<PlanRecord>> {
    let store = Store::open(&directory.database()).ok()?;
    let now = ThisMachine.now();
    let plans = store.plans().ok()?.into_iter();
    let agreed = plans.filter(|record| {
        let consent = store.consent_in_force(&record.digest, now);
        consent.is_ok_and(|consent| consent.is_some())
    });
    Some(agreed.collect())
}

/// Of the plans agreed to the one that takes the most room: a version, the next one while it comes, the update, and
/// the state of its training.
fn largest(directory: &Directory) -> Option<(String, u64)> {
    let sizes = agreed(directory)?.into_iter().filter_map(|record| {
        let inputs = record.plan.inputs.as_ref()?;
        let texts = inputs.config.bytes.saturating_add(inputs.tokenizer.bytes);
        let versions = inputs.weight_bytes().saturating_add(inputs.weights.bytes);
        let training = record.dimension.saturating_mul(BYTES_A_WEIGHT);
        let bytes = texts.saturating_add(versions).saturating_add(training);
        Some((record.plan.name.to_string(), bytes))
    });
    sizes.max_by_key(|(_, bytes)| *bytes)
}

fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let verdict = if line.ok { "ok" } else { "FAIL" };
        let _ = writeln!(text, "{verdict:<5}{:<12}{}", line.check, line.found);
        if let Some(hint) = &line.hint {
            let _ = writeln!(text, "     hint: {hint}");
        }
    }
    text
}
