//! `run`: plans carried out.

use std::path::PathBuf;

use clap::Subcommand;
use fedner_host::output::{Output, or_dash, table};
use fedner_proto::v1::control_run_request::Action;
use fedner_proto::{convert, v1};
use fedner_shared::event::{Entry, Event};
use fedner_shared::figures::Figures;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::view::{Absence, Explanation, MemberView, RunView};
use futures::StreamExt;
use serde::Serialize;
use tonic::Status;

use super::failed::Failed;
use super::{connect, lists, plan, sentence};
use crate::config::Paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Sign a plan and create its run
    Create {
        /// A plan, or one that `plan sign` has signed
        plan: PathBuf,
        /// Create the run even though its noise drowns its signal
        #[arg(long)]
        force: bool,
        /// Start it at once
        #[arg(long)]
        start: bool,
    },
    /// Begin to recruit for the first round
    Start { run: String },
    /// Give out no more work and stop the clock; updates under way are still taken
    Pause { run: String },
    /// Go on where the run was paused
    Resume { run: String },
    /// Go on with a failed run from its last version, once its cause is mended
    Retry { run: String },
    /// Run the plan of a run again for more rounds, beginning with its last version
    Extend {
        run: String,
        /// How many rounds more
        #[arg(long)]
        rounds: u32,
        /// An institution that takes part from now on, beside the others; may be given again
        #[arg(long, value_name = "INSTITUTION")]
        with: Vec<InstitutionId>,
        /// Start it at once
        #[arg(long)]
        start: bool,
    },
    /// End the run; its versions stay
    Cancel { run: String },
    /// Leave a member out of one round; what it sent in that round is not counted
    Exclude {
        run: String,
        institution: InstitutionId,
        /// The round; left out, the first that it can still be left out of
        #[arg(long)]
        round: Option<u32>,
    },
    /// Take in a member that was set aside, from the next round that begins
    Readmit {
        run: String,
        institution: InstitutionId,
    },
    /// All runs
    List,
    /// One run and its institutions
    Show { run: String },
    /// Follow events as they happen, until the run ends
    Watch {
        run: String,
        /// Past events too
        #[arg(long)]
        all: bool,
    },
    /// What the run waits for, until when, and what happens then
    Explain { run: String },
}

pub(super) async fn run(command: Command, paths: &Paths, output: &Output) -> Result<(), Failed> {
    match command {
        Command::Create { plan, force, start } => create(&plan, force, start, paths, output).await,
        Command::Start { run } => control(run, Action::Start, paths, output).await,
        Command::Pause { run } => control(run, Action::Pause, paths, output).await,
        Command::Resume { run } => control(run, Action::Resume, paths, output).await,
        Command::Retry { run } => control(run, Action::Retry, paths, output).await,
        Command::Extend {
            run,
            rounds,
            with,
            start,
        } => extend(run, (rounds, with), start, paths, output).await,
        Command::Cancel { run } => control(run, Action::Cancel, paths, output).await,
        Command::Exclude {
            run,
            institution,
            round,
        } => {
            let request = v1::ExcludeMemberRequest {
                run: run.clone(),
                institution: institution.to_string(),
                round: round.unwrap_or_default(),
            };
            let answer = connect::operations(paths)
                .await?
                .exclude_member(request)
                .await?;
            let round = answer.into_inner().round;
            output.say(format!("{run}: {institution} is left out of round {round}"));
            Ok(())
        }
        Command::Readmit { run, institution } => {
            let request = v1::ReadmitMemberRequest {
                run: run.clone(),
                institution: institution.to_string(),
            };
            connect::operations(paths)
                .await?
                .readmit_member(request)
                .await?;
            output.say(format!(
                "{run}: {institution} takes part again from the next round that begins"
            ));
            Ok(())
        }
        Command::List => {
            let found = lists::runs(connect::monitoring(paths).await?).await?;
            let views = found.into_iter().map(convert::run_from_wire);
            let views: Vec<RunView> = views.collect::<Result<_, Refusal>>()?;
            output.list(
                &views,
                "there is no run yet; next: fedner-coordinator run create plan.toml --start",
                render_all,
            )?;
            Ok(())
        }
        Command::Show { run } => {
            let answer = connect::monitoring(paths)
                .await?
                .get_run(v1::GetRunRequest { run })
                .await?;
            let view = convert::run_from_wire(answer.into_inner())?;
            output.data(&view, render_one)?;
            Ok(())
        }
        Command::Watch { run, all } => watch(run, all, paths, output).await,
        Command::Explain { run } => {
            let answer = connect::monitoring(paths)
                .await?
                .explain(v1::ExplainRequest { run })
                .await?;
            let view = convert::explanation_from_wire(answer.into_inner())?;
            output.data(&view, render_explanation)?;
            Ok(())
        }
    }
}

#[derive(Serialize)]
struct Created {
    run: String,
    plan: String,
    /// Institutions that take part may be told apart from noise only if this is small.
    noise_to_signal: Option<f64>,
}

async fn create(
    path: &std::path::Path,
    force: bool,
    start: bool,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let mut operations = connect::operations(paths).await?;
    let signed = plan::signed(path, paths, &mut operations).await?;
    create_run(signed, force, start, paths, output).await
}

/// Runs the plan of an earlier run again, from the version that it ended with. Institutions agree to it
/// as to any plan.
async fn extend(
    run: String,
    (rounds, with): (u32, Vec<InstitutionId>),
    start: bool,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let mut monitoring = connect::monitoring(paths).await?;
    let request = v1::GetRunRequest { run };
    let run = monitoring.get_run(request).await?.into_inner();
    let mut plan: Plan = serde_json::from_str(&run.plan_text)
        .map_err(|error| Failed::refuse(Code::PlanInvalid, error.to_string()))?;
    let version = hex::encode(&run.version);
    let request = v1::GetModelRequest {
        version,
        ..v1::GetModelRequest::default()
    };
    let answer = monitoring.get_model(request).await?.into_inner();
    plan.base = convert::version_from_wire(answer)?.version.name;
    plan.rounds = rounds;
    plan.inputs = None;
    let known = plan.cohort.institutions.clone();
    let new = with.into_iter().filter(|name| !known.contains(name));
    plan.cohort.institutions.extend(new);
    plan.check()
        .map_err(|error| Failed::refuse(Code::PlanInvalid, error.to_string()))?;
    let mut operations = connect::operations(paths).await?;
    let signed = plan::sign_now(plan, paths, &mut operations).await?;
    create_run(signed, true, start, paths, output).await
}

async fn create_run(
    (plan, signed): (Plan, Signed),
    force: bool,
    start: bool,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let mut operations = connect::operations(paths).await?;
    let request = v1::CreateRunRequest {
        plan: Some(convert::signed_to_wire(&signed)),
        force,
    };
    let answer = operations.create_run(request).await?.into_inner();
    if start {
        let request = v1::ControlRunRequest {
            run: answer.run.clone(),
            action: Action::Start.into(),
        };
        operations.control_run(request).await?;
    }
    let run = v1::GetRunRequest {
        run: answer.run.clone(),
    };
    let view = convert::run_from_wire(
        connect::monitoring(paths)
            .await?
            .get_run(run)
            .await?
            .into_inner(),
    )?;
    let private = plan.privacy.unit != Unit::None && !plan.only_evaluates();
    let noise_to_signal = private.then(|| plan.noise_to_signal(view.dimension as usize));
    let created = Created {
        run: answer.run,
        plan: signed.digest().to_string(),
        noise_to_signal,
    };
    output.data(&created, |created| {
        format!("created run {}\nplan {}", created.run, created.plan)
    })?;
    match noise_to_signal {
        _ if plan.only_evaluates() => output.say(format!(
            "nothing is trained: {} is scored on held-out text, and only counts leave each institution",
            plan.base
        )),
        Some(ratio) => output.say(format!(
            "{} weights leave each institution a round, with noise {:.2} times the signal in the mean; each sees its ε with `fedner-client consent list`",
            view.dimension, ratio
        )),
        None => output.say(format!("{} weights leave each institution a round, without noise: no privacy is promised", view.dimension)),
    }
    if !start {
        output.say(format!(
            "next: fedner-coordinator run start {}",
            created.run
        ));
    }
    Ok(())
}

async fn control(
    run: String,
    action: Action,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let request = v1::ControlRunRequest {
        run: run.clone(),
        action: action.into(),
    };
    connect::operations(paths)
        .await?
        .control_run(request)
        .await?;
    output.say(format!(
        "{run}: {}",
        action
            .as_str_name()
            .trim_start_matches("ACTION_")
            .to_lowercase()
    ));
    Ok(())
}

/// Reconnects when the coordinator was away, and goes on after the last event seen.
async fn watch(run: String, all: bool, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let mut from = if all { 1 } else { u64::MAX };
    // A run that has ended has no new events to wait for.
    let first = connect::monitoring(paths)
        .await?
        .get_run(v1::GetRunRequest { run: run.clone() })
        .await?
        .into_inner();
    if convert::run_from_wire(first)?.state.is_end() {
        from = 1;
    }
    loop {
        let stream = match connect::monitoring(paths).await {
            Ok(mut client) => client
                .watch(v1::WatchRequest {
                    run: run.clone(),
                    from,
                })
                .await
                .map_err(Failed::from),
            Err(failed) => Err(failed),
        };
        match stream {
            Ok(stream) => {
                let mut stream = stream.into_inner().ready_chunks(SHOWN_TOGETHER);
                while let Some(messages) = stream.next().await {
                    let (entries, end) = read_events(&run, &messages)?;
                    from = entries.last().map_or(from, |entry| entry.sequence + 1);
                    output.data_of_all(&entries, render_entry)?;
                    if let Some(end) = end {
                        return end;
                    }
                }
            }
            Err(Failed::Refused(refusal)) if refusal.code == Code::Unreachable => {
                output.say("the coordinator does not answer; trying again");
            }
            Err(failed) => return Err(failed),
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// Events that have come already are shown together, so many at the most.
const SHOWN_TOGETHER: usize = 256;

/// How the command ends.
type End = Result<(), Failed>;

/// The events up to the one that ends the run, and how the command ends with it. What comes after an error of the stream
/// comes again.
fn read_events(
    run: &str,
    messages: &[Result<v1::Event, Status>],
) -> Result<(Vec<Entry>, Option<End>), Failed> {
    let mut entries = Vec::new();
    for message in messages.iter().map_while(|message| message.as_ref().ok()) {
        let entry = convert::entry_from_wire(message)?;
        let end = end_of(run, &entry.event);
        entries.push(entry);
        if end.is_some() {
            return Ok((entries, end));
        }
    }
    Ok((entries, None))
}

/// How the command ends with a run that this event ends.
fn end_of(run: &str, event: &Event) -> Option<Result<(), Failed>> {
    let refuse = |what: String| {
        Some(Err(Failed::refuse(
            Code::RunState,
            format!("run {run} {what}"),
        )))
    };
    if let Event::RunFailed { reason } = event {
        return refuse(format!("failed: {reason}"));
    }
    if matches!(event, Event::RunCancelled) {
        return refuse("was cancelled".to_owned());
    }
    matches!(event, Event::RunCompleted { .. }).then_some(Ok(()))
}

fn render_entry(entry: &Entry) -> String {
    format!("{}  {}", entry.time, sentence::of(entry))
}

fn render_all(views: &[RunView]) -> String {
    let row = |view: &RunView| {
        [
            view.run.to_string(),
            view.state.to_string(),
            format!("{}/{}", view.round, view.rounds),
            view.method.to_string(),
            view.unit.to_string(),
            view.version.short(),
            or_dash(view.next_start),
        ]
    };
    table(
        [
            "run",
            "state",
            "round",
            "method",
            "unit",
            "version",
            "next start",
        ],
        &[2],
        views.iter().map(row),
    )
}

fn render_one(view: &RunView) -> String {
    let row = |member: &MemberView| {
        [
            member.institution.to_string(),
            member.state.to_string(),
            or_dash(member.examples),
            or_dash(
                member
                    .epsilon
                    .map(|epsilon| format!("{:.2}", (epsilon * 100.0).ceil() / 100.0)),
            ),
            or_dash(member.f1.map(|f1| format!("{f1:.4}"))),
            or_dash(figure(member, |figures| Some(figures.norm))),
            or_dash(figure(member, |figures| figures.to_others)),
            or_dash(figure(member, |figures| figures.to_last_step)),
            or_dash(member.last_seen),
        ]
    };
    let mut text = format!(
        "{}\n\n{}",
        render_all(std::slice::from_ref(view)),
        table(
            [
                "institution",
                "state",
                "examples",
                "ε",
                "F1",
                "norm",
                "cos others",
                "cos last",
                "last seen",
            ],
            &[2, 3, 4, 5, 6, 7],
            view.members.iter().map(row)
        )
    );
    if let (Some(pooled), Some(median)) = (view.f1, view.median_f1) {
        text = format!("{text}\n\nF1 {pooled:.4} pooled, {median:.4} median of the institutions");
    }
    if let Some(gate) = &view.gate {
        text = format!("{text}\n\n{gate}");
    }
    for member in &view.members {
        if let Some(annotation) = &member.annotation {
            text = format!("{text}\n\n{} annotates {annotation}", member.institution);
        }
    }
    for member in &view.members {
        if let Some(aside) = &member.aside {
            text = format!("{text}\n\n{} is set aside: {aside}", member.institution);
        }
    }
    if let Some(failure) = &view.failure {
        text = format!("{text}\n\nfailed: {failure}");
    }
    text
}

/// One figure of a member's newest update that was measured.
fn figure(member: &MemberView, which: impl Fn(Figures) -> Option<f64>) -> Option<String> {
    let figure = member.figures.and_then(which)?;
    Some(format!("{figure:.3}"))
}

fn render_explanation(view: &Explanation) -> String {
    let names: Vec<String> = view.from.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        format!("{} is {}", view.run, view.state),
        format!("waits for  {}", view.awaits),
    ];
    if !names.is_empty() {
        lines.push(format!("from       {}", names.join(", ")));
    }
    if let Some(until) = view.until {
        lines.push(format!("until      {until}"));
    }
    lines.push(format!("then       {}", view.then));
    for absence in &view.absent {
        let Absence { institution, why } = absence;
        lines.push(format!("without    {institution}: {why}"));
    }
    if let Some(expected) = view.expected {
        lines.push(format!(
            "expected   {expected}, by how long everybody took before"
        ));
    }
    if let Some(finish) = view.finish {
        lines.push(format!(
            "finish     {finish}, by how long the last rounds took"
        ));
    }
    if let Some(gate) = &view.gate {
        lines.push(format!("gate       {gate}"));
    }
    lines.join("\n")
}
