//! `model show`: a version, what was learnt about it, and what is left of what its ancestors had learnt.

use std::collections::BTreeMap;

use fedner_host::output::{Output, or_dash, table, table_of};
use fedner_proto::{convert, v1};
use fedner_shared::audit::Verdict;
use fedner_shared::forgetting::{About, Figure, Forgetting};
use fedner_shared::id::RunId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::view::{AuditView, VersionView};
use serde::Serialize;

use super::{origin, round_up};
use crate::cli::failed::Failed;
use crate::cli::{connect, lists};
use crate::config::Paths;

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    view: VersionView,
    /// Of a version with ancestors of other runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    forgetting: Option<Forgetting>,
}

pub(super) async fn run(version: String, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let mut monitoring = connect::monitoring(paths).await?;
    let request = v1::GetModelRequest {
        version: version.clone(),
        ..v1::GetModelRequest::default()
    };
    let view = convert::version_from_wire(monitoring.get_model(request).await?.into_inner())?;
    let line = lists::lineage(monitoring.clone(), version).await?;
    let line = line.into_iter().map(convert::version_from_wire);
    let mut line: Vec<VersionView> = line.collect::<Result<_, Refusal>>()?;
    line.reverse();
    let mut abouts = BTreeMap::new();
    for round in line.iter().filter_map(|view| view.version.round()) {
        if !abouts.contains_key(&round.run) {
            let run = round.run.to_string();
            let answer = monitoring.get_run(v1::GetRunRequest { run }).await?;
            let plan: Plan = serde_json::from_str(&answer.into_inner().plan_text)
                .map_err(|error| Failed::refuse(Code::PlanInvalid, error.to_string()))?;
            abouts.insert(round.run.clone(), about(&plan));
        }
    }
    let known = |run: &RunId| abouts.get(run).cloned().unwrap_or_default();
    let forgetting = Forgetting::of_lineage(&line, known);
    output.data(&Shown { view, forgetting }, render)?;
    Ok(())
}

fn about(plan: &Plan) -> About {
    About {
        rename: plan.rename.clone(),
        sigma: plan.privacy.count_noise().map_or(0.0, |noise| noise.sigma),
    }
}

fn render(shown: &Shown) -> String {
    let view = &shown.view;
    let version = &view.version;
    let mut lines = vec![
        format!("version    {}", version.name),
        format!("digest     {}", view.digest),
        format!("origin     {}", origin(&version.origin)),
        format!("parent     {}", or_dash(version.parent)),
        format!("labels     {}", version.labels.join(" ")),
        format!("weights    {}", version.weights),
        format!("frozen     {}", or_dash(version.frozen)),
        format!("config     {}", version.config),
        format!("tokenizer  {}", version.tokenizer),
        format!("created    {}", version.created),
        format!(
            "aliases    {}",
            view.aliases
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        ),
        format!(
            "F1         {} pooled: all counts added up, so that who counts more weighs more",
            or_dash(view.f1.map(|f1| format!("{f1:.4}")))
        ),
        format!(
            "           {} median of {} institutions, each weighing the same",
            or_dash(view.median_f1.map(|f1| format!("{f1:.4}"))),
            view.scores.len()
        ),
    ];
    if let Some(pruned) = view.pruned {
        lines.push(format!("pruned     {pruned}: kept no more, on purpose"));
    }
    if let Some(round) = version.round() {
        lines.push(format!("plan       {}", round.plan));
        let scores = |name| {
            view.scores
                .iter()
                .find(|s| s.institution == name)
                .map(|s| format!("{:.4}", s.scores.total().f1()))
        };
        let rows = round.participants.iter().map(|p| {
            [
                p.institution.to_string(),
                p.weight.to_string(),
                or_dash(p.epsilon.map(round_up)),
                or_dash(scores(p.institution.clone())),
                p.update.short(),
                p.receipt.short(),
            ]
        });
        lines.push(String::new());
        lines.push(table(
            ["institution", "weight", "ε", "F1", "update", "receipt"],
            &[1, 2, 3],
            rows,
        ));
    }
    if !view.scores.is_empty() {
        lines.push(String::new());
        lines.push(evaluations(view));
    }
    if !view.audits.is_empty() {
        lines.push(String::new());
        lines.push(audits(&view.audits));
    }
    if let Some(forgetting) = &shown.forgetting {
        lines.push(String::new());
        lines.extend(learnt(forgetting));
    }
    lines.join("\n")
}

/// R, a row for each step, and what follows from it.
fn learnt(found: &Forgetting) -> Vec<String> {
    let figure = |figure: Option<Figure>| {
        figure.map(|Figure { f1, deviation }| {
            if deviation > 0.0 {
                format!("{f1:.4} ± {deviation:.4}")
            } else {
                format!("{f1:.4}")
            }
        })
    };
    let rows = found.steps.iter().zip(&found.matrix).map(|(step, row)| {
        let first = [step.version.to_string(), step.types.join(" ")];
        let row = row.iter().map(|one| or_dash(figure(*one)));
        first.into_iter().chain(row).collect::<Vec<String>>()
    });
    let on = found
        .steps
        .iter()
        .map(|step| format!("on {}", step.version));
    let head: Vec<String> = ["step", "its types"]
        .map(str::to_owned)
        .into_iter()
        .chain(on)
        .collect();
    let right: Vec<usize> = (2..head.len()).collect();
    let number = |value: Option<f64>| or_dash(value.map(|value| format!("{value:+.4}")));
    vec![
        table_of(head, &right, rows),
        String::new(),
        format!(
            "average F1         {}",
            or_dash(found.average.map(|f1| format!("{f1:.4}")))
        ),
        format!(
            "backward transfer  {} on earlier steps since they ended",
            number(found.backward_transfer)
        ),
        format!(
            "forgetting         {} below the best on earlier steps",
            number(found.forgetting)
        ),
    ]
}

/// A row for each institution that shared its counts.
fn evaluations(view: &VersionView) -> String {
    let rows = view.scores.iter().map(|shared| {
        let total = shared.scores.total();
        [
            shared.institution.to_string(),
            format!("{:.4}", total.f1()),
            total.true_positives.to_string(),
            total.false_negatives.to_string(),
            total.false_positives.to_string(),
        ]
    });
    table(
        ["evaluated by", "F1", "found", "missed", "imagined"],
        &[1, 2, 3, 4],
        rows,
    )
}

/// A row for each bound, and one for a report without any.
fn audits(views: &[AuditView]) -> String {
    let rows = views.iter().flat_map(|view| {
        let bounds = view.parts.iter().flat_map(|part| {
            let of_part = |bound| (part.name.as_str(), bound);
            part.bounds.iter().map(of_part)
        });
        let rows: Vec<_> = bounds.map(|found| audit_row(view, Some(found))).collect();
        if rows.is_empty() {
            vec![audit_row(view, None)]
        } else {
            rows
        }
    });
    let head = [
        "audit by", "at", "verdict", "attack", "δ", "at least", "claimed", "claim",
    ];
    table(head, &[4, 5, 6], rows)
}

fn audit_row(view: &AuditView, found: Option<(&str, &Verdict)>) -> [String; 8] {
    let bound = found.map(|(_, bound)| bound);
    let claim = |bound: &Verdict| if bound.holds() { "holds" } else { "REFUTED" };
    [
        view.institution.to_string(),
        view.at.to_string(),
        view.verdict.to_string(),
        or_dash(found.map(|(attack, _)| attack)),
        or_dash(bound.map(|bound| format!("{:e}", bound.delta))),
        or_dash(bound.map(|bound| format!("{:.3}", bound.epsilon_lower_bound))),
        or_dash(bound.map(|bound| format!("{:.3}", bound.epsilon_claimed))),
        or_dash(bound.map(claim)),
    ]
}
