//! `privacy forecast`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use fedner_host::output::table;
use fedner_model::device::Device;
use fedner_privacy::accountant::{
    self, Accountant, Forecast, forecast, forecast_sampled, least_noise, noise_multiplier,
    solve_noise_multiplier,
};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint;
use fedner_shared::plan::ranges::LARGEST_NOISE_TO_SIGNAL;
use fedner_shared::plan::{Plan, Privacy, Sampling, Unit, ranges};
use fedner_shared::refusal::{Code, Refusal};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::figures::epsilon;
use crate::cli::train::read_plan;

/// Say what a plan would cost, before anything runs
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The plan
    #[arg(long, value_name = "PLAN.toml")]
    plan: PathBuf,
    /// Persons, documents or sentences that an institution declares; means nothing for the unit
    /// `institution`, which is one
    #[arg(long, value_name = "N")]
    units: Option<u32>,
    /// Institutions whose updates are averaged [default: the plan's]
    #[arg(long, value_name = "M")]
    institutions: Option<usize>,
    /// Instead of the plan's noise
    #[arg(long, value_name = "Z", conflicts_with = "target_epsilon")]
    noise_multiplier: Option<f64>,
    /// Instead of the plan's rounds
    #[arg(long, value_name = "T", visible_alias = "rounds")]
    steps: Option<u32>,
    /// Part of the units in a step: the plan's batch over the units where they are sampled, and 1 for
    /// the unit `institution`, which takes part as a whole; anything else is refused
    #[arg(long, value_name = "Q")]
    sampling_rate: Option<f64>,
    /// Instead of the plan's δ
    #[arg(long, value_name = "DELTA")]
    delta: Option<f64>,
    /// Solve for the noise that keeps ε within this
    #[arg(long, value_name = "EPSILON")]
    target_epsilon: Option<f64>,
    /// Number of trainable weights
    #[arg(long, value_name = "D", conflicts_with = "model")]
    dimension: Option<usize>,
    /// Hugging Face directory whose weights are counted [default: BERT-base is assumed]
    #[arg(long, value_name = "HF_DIR")]
    model: Option<PathBuf>,
    /// The device that would train sampled units: what their guarantee rests on there
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
}

#[derive(Debug, Serialize)]
struct Report {
    plan: String,
    method: String,
    institutions: usize,
    /// `given`, `model`, or `assumed` (BERT-base).
    dimension_from: &'static str,
    noise_multiplier: f64,
    clip: f64,
    max_epsilon: f64,
    /// Whether every round fits the plan's own limit.
    within_max_epsilon: bool,
    /// Whether a coordinator refuses the plan, unless forced, as its noise drowns its signal.
    too_noisy: bool,
    /// Who sees an institution's updates.
    updates: String,
    /// Against whom ε holds, where noise is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_noise: Option<String>,
    /// What the guarantee of sampled units rests on, on the device that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_guarantee: Option<String>,
    #[serde(flatten)]
    forecast: Forecast,
}

/// bert-base-uncased.
const BERT_BASE: &str = r#"{"model_type":"bert","vocab_size":30522,"hidden_size":768,
    "num_hidden_layers":12,"num_attention_heads":12,"intermediate_size":3072,
    "max_position_embeddings":512}"#;

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut plan = read_plan(&arguments.plan)?;
    if let Some(rounds) = arguments.steps {
        plan.rounds = rounds;
    }
    if let Some(delta) = arguments.delta {
        plan.privacy.delta = delta;
    }
    if let Some(noise) = arguments.noise_multiplier {
        plan.privacy.noise_multiplier = noise;
    }
    let (dimension, dimension_from) = dimension(&plan, arguments)?;
    if let Some(target) = arguments.target_epsilon {
        plan.privacy.noise_multiplier = solve(&plan, dimension, arguments.units, target)?;
    }
    check_sampling(&plan, arguments)?;
    let institutions = arguments
        .institutions
        .unwrap_or(plan.cohort.institutions.len());
    let forecast = match arguments.units {
        Some(units) if plan.privacy.unit.is_sampled() => forecast_sampled(&plan, dimension, units)?,
        Some(_) | None => forecast(&plan, dimension, institutions)?,
    };
    let report = Report {
        plan: plan.name.to_string(),
        method: plan.method.to_string(),
        institutions,
        dimension_from,
        noise_multiplier: whole_noise(&plan.privacy),
        clip: plan.privacy.clip,
        max_epsilon: plan.privacy.max_epsilon,
        within_max_epsilon: forecast.epsilon_rdp <= plan.privacy.max_epsilon,
        too_noisy: forecast.noise_to_signal > LARGEST_NOISE_TO_SIGNAL,
        updates: plan.who_sees_updates(),
        shared_noise: plan.who_shares_noise(),
        device_guarantee: device_guarantee(&plan, &arguments.device)?,
        forecast,
    };
    context.output.data(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

/// z, whatever the noise is divided among.
fn whole_noise(privacy: &Privacy) -> f64 {
    match privacy.unit {
        Unit::None => 0.0,
        Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution => {
            privacy.noise_multiplier
        }
    }
}

/// The noise multiplier that keeps the plan's ε within `target`, by the figure of the hard stop.
fn solve(
    plan: &Plan,
    dimension: usize,
    units: Option<u32>,
    target: f64,
) -> Result<f64, accountant::Error> {
    let privacy = &plan.privacy;
    if let Some(Sampling { rate, steps }) = plan.sampling(units.unwrap_or(1)) {
        let steps = steps * u64::from(plan.rounds);
        // The ledger's bound for noise on integers lies a little above that for real numbers.
        let noise = noise_multiplier(Accountant::Pld, rate, steps, target, privacy.delta)?;
        return within(plan, noise, target, |plan| {
            forecast_sampled(plan, dimension, units.unwrap_or(1))
        });
    }
    let (rounds, clip) = (plan.rounds, privacy.clip);
    let noise = solve_noise_multiplier(target, privacy.delta, rounds, dimension, clip)?;
    within(plan, noise, target, |plan| {
        forecast(plan, dimension, plan.cohort.institutions.len())
    })
}

/// The least noise from `noise` on, to a part in a thousand, with which the whole plan stays within
/// `target`: counts on held-out text cost too.
fn within(
    plan: &Plan,
    noise: f64,
    target: f64,
    forecast: impl Fn(&Plan) -> Result<Forecast, accountant::Error>,
) -> Result<f64, accountant::Error> {
    let mut plan = plan.clone();
    let is_enough = |noise| {
        plan.privacy.noise_multiplier = noise;
        Ok::<_, accountant::Error>(forecast(&plan)?.epsilon_rdp <= target)
    };
    least_noise(noise.min(LARGEST)..=LARGEST, 1e-3, is_enough)?.ok_or(
        accountant::Error::Unreachable {
            target_epsilon: target,
            largest: LARGEST,
        },
    )
}

/// With more noise than this there is no plan.
const LARGEST: f64 = *ranges::NOISE_MULTIPLIER.end();

fn check_sampling(plan: &Plan, arguments: &Arguments) -> Result<(), Refusal> {
    let wrong = |message: String| Err(Refusal::new(Code::PlanInvalid, message));
    let unit = plan.privacy.unit;
    if arguments.units == Some(0) && unit != Unit::None {
        return wrong("--units is 0: expected at least 1".to_owned());
    }
    if unit.is_sampled() && arguments.units.is_none() {
        return wrong(format!(
            "the plan samples units, here each {unit}: expected --units, of which a step takes the \
             plan's batch of {}",
            plan.training.batch_size
        ));
    }
    let expected = arguments.units.and_then(|units| plan.sampling(units));
    let expected = expected.map_or(1.0, |sampling| sampling.rate);
    match arguments.sampling_rate {
        Some(rate) if (rate - expected).abs() > 1e-9 => wrong(format!(
            "--sampling-rate is {rate}: the plan and --units give {expected}"
        )),
        Some(_) | None => Ok(()),
    }
}

fn device_guarantee(plan: &Plan, device: &str) -> Result<Option<String>, Refusal> {
    let parsed = device.parse::<Device>();
    let parsed = parsed.map_err(|error| Refusal::new(Code::DeviceUnknown, error.to_string()))?;
    let sampled = plan.privacy.unit.is_sampled();
    Ok(sampled.then(|| format!("{device}: {}", parsed.guarantee())))
}

fn dimension(plan: &Plan, arguments: &Arguments) -> anyhow::Result<(usize, &'static str)> {
    if let Some(dimension) = arguments.dimension {
        return Ok((dimension, "given"));
    }
    let of = |json: &str| -> Result<usize, checkpoint::Error> {
        let config = BertConfig::parse(json)?;
        let manifest = config.manifest(&plan.trainable(), plan.tags().len());
        Ok(manifest.dimension())
    };
    match &arguments.model {
        None => Ok((of(BERT_BASE)?, "assumed")),
        Some(directory) => {
            let config = checkpoint::directory::config(directory);
            Ok((of(&config.map_err(checkpoint::Error::from)?)?, "model"))
        }
    }
}

fn text(report: &Report) -> String {
    let forecast = &report.forecast;
    let source = match report.dimension_from {
        "assumed" => " (of BERT-base, which is assumed; give --model or --dimension)",
        "model" => " (of the model)",
        _ => "",
    };
    let (by, tighter) = match &forecast.sampled {
        Some(sampled) => (
            if forecast.rho_of_counts.is_some() {
                "Rényi divergence"
            } else {
                "loss distributions of the discrete noise"
            },
            format!(
                "epsilon (PLD)    {} in all, for fixed settings\n\
                 steps            {} a round, with a part of {:.4} of {} units each",
                epsilon(sampled.epsilon_pld),
                sampled.steps_a_round,
                sampled.rate,
                sampled.units
            ),
        ),
        None => (
            "zCDP",
            format!(
                "epsilon (GDP)    {} in all, in closed form for fixed settings",
                epsilon(forecast.epsilon_gdp)
            ),
        ),
    };
    let mut text = format!(
        "plan             {}\nunit             {}\nmethod           {}, {} trainable weights{source}\n\
         noise multiplier {:.6}\ninstitutions     {}\nrounds           {}\ndelta            {:e}\n\
         epsilon          {} in all by {by}, the figure of the hard stop; the plan allows {}\n\
         {tighter}\nnoise to signal  {:.2}",
        report.plan,
        forecast.unit,
        report.method,
        forecast.dimension,
        report.noise_multiplier,
        report.institutions,
        forecast.rounds,
        forecast.delta,
        epsilon(forecast.epsilon_rdp),
        report.max_epsilon,
        forecast.noise_to_signal,
    );
    if report.too_noisy {
        text.push_str(": more noise than signal; a coordinator refuses the plan unless forced");
    }
    let _ = write!(text, "\nupdates          {}", report.updates);
    if let (Some(shared), Some(alone)) = (&report.shared_noise, forecast.epsilon_alone) {
        let alone = epsilon(alone);
        let _ = write!(
            text,
            "\nshared noise     {shared}\n                 against everybody, by its own noise alone, ε is {alone}"
        );
    }
    if forecast.unit == Unit::None {
        return text;
    }
    text.push_str(match forecast.rho_of_counts {
        Some(_) => {
            "\ncounts           on held-out text have noise; one release a round is in every ε here"
        }
        None => {
            "\ncounts           on held-out text have no noise: they leave only where a policy has \
             exact_evaluation"
        }
    });
    let device = report.device_guarantee.as_ref();
    let device = device.map_or(String::new(), |guarantee| {
        format!("\ndevice           {guarantee}")
    });
    let rows = forecast
        .epsilon_by_round
        .iter()
        .enumerate()
        .map(|(index, value)| [(index + 1).to_string(), epsilon(*value)]);
    format!(
        "{text}{device}\n\n{}",
        table(["ROUND", "EPSILON"], &[0, 1], rows)
    )
}
