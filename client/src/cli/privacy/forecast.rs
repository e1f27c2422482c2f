//! `privacy forecast`.

use std::path::PathBuf;
use std::process::ExitCode;

use fedner_privacy::accountant::{Forecast, MAX_NOISE_TO_SIGNAL, forecast, solve_noise_multiplier};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint;
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use serde::Serialize;

use crate::cli::Context;
use crate::cli::output::{epsilon, table};
use crate::cli::train::read_plan;
use crate::training::read_file;

/// Say what a plan would cost, before anything runs
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The plan
    #[arg(long, value_name = "PLAN.toml")]
    plan: PathBuf,
    /// Units each institution holds; means nothing for the unit `institution`, which is one
    #[arg(long, value_name = "N")]
    units: Option<u64>,
    /// Institutions whose updates are averaged [default: the plan's]
    #[arg(long, value_name = "M")]
    institutions: Option<usize>,
    /// Instead of the plan's noise
    #[arg(long, value_name = "Z", conflicts_with = "target_epsilon")]
    noise_multiplier: Option<f64>,
    /// Instead of the plan's rounds
    #[arg(long, value_name = "T", visible_alias = "rounds")]
    steps: Option<u32>,
    /// Part of the units in a step; only 1 for the unit `institution`, which takes part as a whole
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
    #[serde(flatten)]
    forecast: Forecast,
}

/// bert-base-uncased.
const BERT_BASE: &str = r#"{"model_type":"bert","vocab_size":30522,"hidden_size":768,
    "num_hidden_layers":12,"num_attention_heads":12,"intermediate_size":3072,
    "max_position_embeddings":512}"#;

pub(super) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut plan = read_plan(&arguments.plan)?;
    check_sampling(&plan, arguments)?;
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
        let privacy = &plan.privacy;
        plan.privacy.noise_multiplier =
            solve_noise_multiplier(target, privacy.delta, plan.rounds, dimension, privacy.clip)?;
    }
    let institutions = arguments
        .institutions
        .unwrap_or(plan.cohort.institutions.len());
    let forecast = forecast(&plan, dimension, institutions)?;
    let report = Report {
        plan: plan.name.to_string(),
        method: plan.method.to_string(),
        institutions,
        dimension_from,
        noise_multiplier: plan.privacy.noise(),
        clip: plan.privacy.clip,
        max_epsilon: plan.privacy.max_epsilon,
        within_max_epsilon: forecast.epsilon_rdp <= plan.privacy.max_epsilon,
        too_noisy: forecast.noise_to_signal > MAX_NOISE_TO_SIGNAL,
        forecast,
    };
    context.output.data(&report, text)?;
    Ok(ExitCode::SUCCESS)
}

fn check_sampling(plan: &Plan, arguments: &Arguments) -> Result<(), Refusal> {
    let wrong = |message: String| Err(Refusal::new(Code::PlanInvalid, message));
    let unit = plan.privacy.unit;
    match arguments.sampling_rate {
        Some(rate) if (rate - 1.0).abs() > f64::EPSILON => wrong(format!(
            "--sampling-rate is {rate}: expected 1, as the unit {unit} is not sampled"
        )),
        Some(_) | None => match arguments.units {
            Some(units) if unit == Unit::Institution && units == 0 => {
                wrong("--units is 0: expected at least 1".to_owned())
            }
            Some(_) | None => Ok(()),
        },
    }
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
            let config = read_file(&directory.join("config.json"))?;
            Ok((of(&String::from_utf8_lossy(&config))?, "model"))
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
    let mut text = format!(
        "plan             {}\nunit             {}\nmethod           {}, {} trainable weights{source}\n\
         noise multiplier {:.6}\ninstitutions     {}\nrounds           {}\ndelta            {:e}\n\
         epsilon          {} in all by zCDP, the figure of the hard stop; the plan allows {}\n\
         epsilon (GDP)    {} in all, in closed form for fixed settings\n\
         noise to signal  {:.2}",
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
        epsilon(forecast.epsilon_gdp),
        forecast.noise_to_signal,
    );
    if report.too_noisy {
        text.push_str(": more noise than signal; a coordinator refuses the plan unless forced");
    }
    if forecast.unit == Unit::None {
        return text;
    }
    let rows = forecast
        .epsilon_by_round
        .iter()
        .enumerate()
        .map(|(index, value)| [(index + 1).to_string(), epsilon(*value)]);
    format!("{text}\n\n{}", table(["ROUND", "EPSILON"], &[0, 1], rows))
}
