//! `consent list`, `consent grant`, `consent revoke`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_host::output::table;
use fedner_privacy::accountant::forecast_sampled;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{Plan, Privacy, Requires, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::secure::{fingerprint, is_fingerprint};
use fedner_shared::sign::PublicKey;
use fedner_shared::statement::Annotation;
use fedner_shared::time::Time;
use serde::Serialize;

use super::{Context, runtime};
use crate::cli::figures::epsilon;
use crate::config::Policy;
use crate::identity::Identity;
use crate::state::{PlanRecord, Standing, Store};
use crate::{consent, rules};

/// Decide which plans this institution takes part in
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the plans that were proposed, and what was decided
    List,
    /// Agree to a plan
    Grant {
        /// The plan's name, or the first digits of its digest
        plan: String,
        /// The example count to declare [default: `declared_examples` of client.toml]
        #[arg(long, value_name = "N")]
        examples: Option<u32>,
        /// Agree although some of the text cannot be used: it is left out of training
        #[arg(long)]
        leave_out_faults: bool,
        /// Show the consent that would be signed and sent, and agree to nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Withdraw: nothing more is trained for the plan, and nothing more leaves
    Revoke {
        /// The plan's name, or the first digits of its digest
        plan: String,
    },
}

/// A plan as people are asked about it.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) plan: String,
    pub(super) name: String,
    pub(super) run: String,
    pub(super) rounds: u32,
    pub(super) method: String,
    pub(super) unit: String,
    pub(super) labels: Vec<String>,
    pub(super) max_epsilon: Option<f64>,
    /// What taking part in all rounds would cost, in plain words.
    pub(super) cost: String,
    /// Against whom that cost holds, where noise is shared, and what it is against everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shared_noise: Option<String>,
    /// Bytes that a training takes at most, about; absent where the coordinator did not say.
    pub(super) memory: Option<u64>,
    /// What the machine must have, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requires: Option<String>,
    /// What each round begins with, and who vouches for it.
    pub(super) base: String,
    /// Who sees this institution's updates.
    pub(super) updates: String,
    /// Where updates are masked: whose are added up, by the fingerprints of their signing keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) roster: Vec<Fellow>,
    pub(super) proposed: Time,
    pub(super) consent: Standing,
    pub(super) examples: Option<u32>,
    /// Which of the labels the text is declared to annotate; absent where it annotates all.
    pub(super) annotation: Option<Annotation>,
    pub(super) expires: Option<Time>,
    /// Why it may not be agreed to here; absent where it may.
    pub(super) forbidden: Option<String>,
}

/// Another institution of a masked sum.
#[derive(Debug, Serialize)]
pub(super) struct Fellow {
    pub(super) institution: String,
    pub(super) fingerprint: String,
    /// Whether the policy has this very fingerprint.
    pub(super) known: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let directory = context.directory()?;
    let settings = directory.settings()?;
    let identity = Identity::load(&directory.identity(), settings.institution.clone())?;
    let store = Store::open(&directory.database())?;
    let policy = match &arguments.command {
        // What is granted is granted by the policy in force.
        Command::Grant { .. } => {
            let now = ThisMachine.now();
            runtime()?
                .block_on(rules::in_force(&store, &directory, now))?
                .policy
        }
        Command::List | Command::Revoke { .. } => rules::shown(&store, &directory)?.policy,
    };
    let terms = consent::Terms {
        directory: &directory,
        settings: &settings,
        policy: &policy,
    };
    let row = |record: &PlanRecord| row(&store, &identity, terms, record);
    match arguments.command {
        Command::List => {
            let plans = store.plans()?;
            let rows = plans.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
            let none =
                "no plan was proposed yet: the operator's appears once `fedner-client start` runs";
            context.output.list(&rows, none, text)?;
        }
        Command::Grant {
            plan,
            examples,
            leave_out_faults,
            dry_run,
        } => {
            let record = find(&store, &plan)?;
            let now = ThisMachine.now();
            if let Err(error) = consent::check_text(terms, &record.plan) {
                if !leave_out_faults {
                    return Err(error.into());
                }
                tracing::warn!("left out of training: {error}");
            }
            if dry_run {
                let draft = consent::draft(&store, &identity, terms, &record, examples, now)?;
                context.output.data(&draft, |draft| {
                    serde_json::to_string_pretty(draft).unwrap_or_default()
                })?;
                return Ok(ExitCode::SUCCESS);
            }
            consent::grant(&store, &identity, terms, &record, examples, now)?;
            context.output.data(&row(&record)?, |row| {
                format!(
                    "granted: {} ({}), with {} examples",
                    row.name,
                    &row.plan[..12],
                    row.examples.unwrap_or_default()
                )
            })?;
        }
        Command::Revoke { plan } => {
            let record = find(&store, &plan)?;
            if !store.revoke_consents(&record.digest, ThisMachine.now())? {
                let message = format!("no consent to {} is in force", record.plan.name);
                return Err(Refusal::new(Code::ConsentMissing, message).into());
            }
            context.output.data(&row(&record)?, |row| {
                format!("revoked: {} ({})", row.name, &row.plan[..12])
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A plan as the institution is asked about it.
pub(super) fn row(
    store: &Store,
    identity: &Identity,
    terms: consent::Terms<'_>,
    record: &PlanRecord,
) -> anyhow::Result<Row> {
    let allowed = consent::allows(terms.policy, identity, &record.plan);
    let allowed = allowed.and_then(|()| terms.settings.allow(&record.plan));
    let declared = Declared {
        examples: terms.settings.declared_examples,
        annotation: consent::annotation_of(&record.plan, terms.settings, terms.directory),
        padded: terms.policy.release_padding,
        roster: roster(record, terms.policy),
    };
    Row::of(store, record, declared, allowed.err())
}

/// The one plan of that name, or whose digest begins so.
pub(super) fn find(store: &Store, text: &str) -> anyhow::Result<PlanRecord> {
    let mut found: Vec<PlanRecord> = store
        .plans()?
        .into_iter()
        .filter(|record| {
            record.plan.name.as_str() == text || record.digest.to_string().starts_with(text)
        })
        .collect();
    match (found.pop(), found.len()) {
        (Some(record), 0) => Ok(record),
        (Some(_), more) => {
            let message = format!(
                "`{text}` means {} plans: give more digits of a digest",
                more + 1
            );
            Err(Refusal::new(Code::NothingFound, message).into())
        }
        (None, _) => {
            let message =
                format!("no plan `{text}` was proposed: see `fedner-client consent list`");
            Err(Refusal::new(Code::NothingFound, message).into())
        }
    }
}

/// What the institution says beforehand, without a look at its text.
struct Declared {
    examples: Option<u32>,
    annotation: Option<Annotation>,
    /// Whether results leave at the plan's times only.
    padded: bool,
    roster: Vec<Fellow>,
}

fn roster(record: &PlanRecord, policy: &Policy) -> Vec<Fellow> {
    let fellow = |(name, key): (&InstitutionId, &PublicKey)| {
        let known = policy.known_institutions.get(name);
        Fellow {
            institution: name.to_string(),
            fingerprint: fingerprint(key),
            known: known.is_some_and(|text| is_fingerprint(text, key)),
        }
    };
    record.roster.iter().map(fellow).collect()
}

impl Row {
    fn of(
        store: &Store,
        record: &PlanRecord,
        declared: Declared,
        forbidden: Option<Refusal>,
    ) -> anyhow::Result<Self> {
        let newest = store.consent(&record.digest)?;
        let plan = &record.plan;
        let protected = plan.privacy.sigma() > 0.0;
        Ok(Self {
            plan: record.digest.to_string(),
            name: plan.name.to_string(),
            run: record.run.to_string(),
            rounds: plan.rounds,
            method: plan.method.to_string(),
            unit: plan.privacy.unit.to_string(),
            labels: plan.labels.clone(),
            max_epsilon: protected.then_some(plan.privacy.max_epsilon),
            cost: cost(
                record,
                newest
                    .as_ref()
                    .map(|n| n.consent.examples)
                    .or(declared.examples),
                declared.padded,
            ),
            shared_noise: shared_noise(record),
            memory: (record.memory > 0).then_some(record.memory),
            requires: plan.requires.as_ref().map(Requires::in_words),
            base: base(plan),
            updates: plan.who_sees_updates(),
            roster: declared.roster,
            proposed: record.proposed,
            consent: newest.as_ref().map_or(Standing::Pending, |newest| {
                newest.standing(ThisMachine.now())
            }),
            examples: newest.as_ref().map(|newest| newest.consent.examples),
            // What was signed, or what would be.
            annotation: match &newest {
                Some(newest) => newest.consent.annotation.clone(),
                None => declared.annotation,
            },
            expires: newest.as_ref().map(|newest| newest.consent.expires),
            forbidden: forbidden.map(|refusal| refusal.message),
        })
    }
}

/// What each round begins with, and who vouches for it.
fn base(plan: &Plan) -> String {
    let Some(inputs) = &plan.inputs else {
        return format!(
            "begins with {}; the plan does not pin its files, so that they are the coordinator's word",
            plan.base
        );
    };
    let weights = inputs.weights.digest.short();
    let first = format!("begins with {} (weights {weights}, pinned)", plan.base);
    if plan.rounds <= 1 {
        return first;
    }
    format!(
        "{first}; the weights of later rounds are the coordinator's word, which \
         `fedner-coordinator replay` proves"
    )
}

/// What taking part in every round of a plan would cost, of which `units` are declared. `padded` says
/// whether results leave at the plan's times only.
fn cost(record: &PlanRecord, units: Option<u32>, padded: bool) -> String {
    let plan = &record.plan;
    let Privacy { unit, delta, .. } = plan.privacy;
    let forecast = match units {
        _ if unit == Unit::None && plan.only_evaluates() => {
            return "trains nothing; exact counts on held-out text leave, and may reveal text"
                .to_owned();
        }
        _ if unit == Unit::None => {
            return "adds no noise, so that the updates may reveal text".to_owned();
        }
        None if unit.is_sampled() => {
            return format!(
                "protects each {unit} by sampling: declare how many there are, with \
                 `declared_examples` in client.toml or --examples, to see what it costs"
            );
        }
        units => forecast_sampled(plan, record.dimension as usize, units.unwrap_or(1)),
    };
    let forecast = match forecast {
        Ok(forecast) => forecast,
        Err(error) => return format!("its cost cannot be told: {error}"),
    };
    let whose = match unit {
        Unit::Institution => "everything held here".to_owned(),
        Unit::Person | Unit::Document | Unit::Sentence | Unit::None => {
            format!("all that is about one {unit}")
        }
    };
    let time = if padded {
        ""
    } else {
        "; but the time of each result tells how long the text took, at no ε (release_padding = false)"
    };
    if plan.only_evaluates() {
        return match forecast.rho_of_counts {
            Some(_) => format!(
                "trains nothing; counts on held-out text hide {whose} up to ε = {} (δ = {delta:e}){time}",
                epsilon(forecast.epsilon_rdp)
            ),
            None => format!(
                "trains nothing; exact counts on held-out text leave, and may reveal text{time}"
            ),
        };
    }
    let first = forecast.epsilon_by_round.first().copied();
    let counts = match forecast.rho_of_counts {
        Some(_) => ", counts on held-out text among it",
        None => "",
    };
    format!(
        "hides {whose} up to ε = {} after {} rounds ({} after the first; δ = {delta:e}){counts}, by noise {:.2} \
         times as large as the signal can be{time}",
        epsilon(forecast.epsilon_rdp),
        plan.rounds,
        epsilon(first.unwrap_or_default()),
        forecast.noise_to_signal
    )
}

/// Against whom ε holds where noise is shared, and what it is against everybody.
fn shared_noise(record: &PlanRecord) -> Option<String> {
    let plan = &record.plan;
    let whom = plan.who_shares_noise()?;
    let alone = forecast_sampled(plan, record.dimension as usize, 1);
    let alone = match alone.map(|forecast| forecast.epsilon_alone) {
        Ok(alone) => epsilon(alone.unwrap_or(f64::INFINITY)),
        Err(error) => format!("not known: {error}"),
    };
    Some(format!(
        "{whom}; against everybody, by the noise added here alone, ε is {alone}"
    ))
}

fn text(rows: &[Row]) -> String {
    let lines = rows.iter().map(|row| {
        [
            row.name.clone(),
            row.plan[..12].to_owned(),
            row.consent.as_str().to_owned(),
            row.rounds.to_string(),
            row.method.clone(),
            row.unit.clone(),
            row.max_epsilon.map_or("-".to_owned(), |e| e.to_string()),
            row.labels.join(", "),
        ]
    });
    let head = [
        "PLAN", "DIGEST", "CONSENT", "ROUNDS", "METHOD", "UNIT", "EPSILON", "LABELS",
    ];
    let mut text = table(head, &[3, 6], lines);
    for row in rows {
        let _ = write!(text, "\n{}: {}", row.name, row.cost);
        let _ = write!(text, "\n{} {}", row.name, row.base);
        let _ = write!(text, "\n{}: {}", row.name, row.updates);
        if let Some(shared) = &row.shared_noise {
            let _ = write!(text, "\n{}: {shared}", row.name);
        }
        for fellow in &row.roster {
            let known = if fellow.known { ", known here" } else { "" };
            let (name, print) = (&fellow.institution, &fellow.fingerprint);
            let _ = write!(text, "\n{}: {name} signs with {print}{known}", row.name);
        }
        if let Some(memory) = row.memory {
            let gibibytes = memory as f64 / f64::from(1 << 30);
            let _ = write!(
                text,
                "\n{}: a training takes up to about {gibibytes:.1} GiB of memory",
                row.name
            );
        }
        if let Some(requires) = &row.requires {
            let _ = write!(text, "\n{}: requires {requires}", row.name);
        }
        if let Some(annotation) = &row.annotation {
            let _ = write!(text, "\n{}: the text annotates {annotation}", row.name);
        }
        if let Some(reason) = &row.forbidden {
            text.push_str("\nnot allowed: ");
            text.push_str(reason);
        }
    }
    text
}
