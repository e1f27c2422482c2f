//! The model card of a version.

use fedner_shared::checkpoint::ModelCard;
use fedner_shared::score::Scores;
use fedner_shared::version::Origin;
use fedner_shared::view::VersionView;

use super::round_up;

/// What is known of a version. It names institutions as `model show` does.
pub(super) fn from_view(view: &VersionView, in_transformers: bool) -> ModelCard {
    let version = &view.version;
    let mut training = vec![
        format!("version {}, digest {}", version.name, view.digest),
        format!("origin: {}", super::origin(&version.origin)),
    ];
    if let Some(parent) = version.parent {
        training.push(format!("parent version: {parent}"));
    }
    let mut privacy = Vec::new();
    if let Some(round) = version.round() {
        training.push(format!("plan {}", round.plan));
        training.push(format!(
            "the round's updates: {}",
            round
                .participants
                .iter()
                .map(|part| format!("{} (weight {})", part.institution, part.weight))
                .collect::<Vec<_>>()
                .join(", ")
        ));
        for part in &round.participants {
            if let Some(epsilon) = part.epsilon {
                privacy.push(format!(
                    "{} has spent ε = {} of its ledger on the run; the plan names unit and δ",
                    part.institution,
                    round_up(epsilon)
                ));
            }
        }
    }
    if privacy.is_empty() && matches!(version.origin, Origin::Round(_)) {
        privacy.push("no ε covers the text that it was trained on".to_owned());
    }
    let mut all = Scores::default();
    for shared in &view.scores {
        all.merge(&shared.scores);
    }
    let scores = (!view.scores.is_empty()).then(|| {
        let whose = format!("the held-out text of {} institutions", view.scores.len());
        (whose, all)
    });
    let audits = view
        .audits
        .iter()
        .map(|audit| format!("{} on {}: {}", audit.institution, audit.at, audit.verdict));
    ModelCard {
        name: version.name.to_string(),
        base: None,
        labels: version.labels.clone(),
        in_transformers,
        onnx: None,
        scores,
        training,
        privacy,
        audits: audits.collect(),
    }
}
