//! A report as people read it.

use std::fmt::Write as _;

use fedner_host::output::table;
use fedner_shared::audit::{AuditReport, Exposures, Outcome, Roc};

pub(super) fn render(report: &AuditReport) -> String {
    let mut text = String::new();
    if let Some(plan) = &report.plan {
        let _ = writeln!(
            text,
            "plan {} ({}): unit {}, clip {}, noise multiplier {}, {} rounds",
            plan.name,
            plan.digest.short(),
            plan.unit,
            plan.clip,
            plan.noise_multiplier,
            plan.rounds
        );
    }
    if let Some(model) = &report.model {
        let _ = writeln!(text, "model with the weights {}", model.weights.short());
    }
    if !report.parts.is_empty() {
        text.push_str(&bounds(report));
        text.push('\n');
    }
    if !report.checks.is_empty() {
        text.push_str(&checks(report));
        text.push('\n');
    }
    if let Some(roc) = &report.membership {
        text.push_str(&membership(roc));
    }
    if let Some(exposures) = &report.exposure {
        text.push_str(&exposure(exposures));
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text.push_str(match report.verdict {
        Outcome::Pass => "PASS: no attack got past what is claimed",
        Outcome::Weak => {
            "WEAK: no attack got past what is claimed, and none would have noticed a fifth less noise; give \
             more --runs"
        }
        Outcome::Fail => "FAIL: an attack got past what is claimed, so that the claim is false",
        Outcome::None => "no claim was attacked: these are figures only",
    });
    text
}

fn bounds(report: &AuditReport) -> String {
    let rows = report.parts.iter().flat_map(|part| {
        part.bounds.iter().map(|bound| {
            [
                part.name.clone(),
                part.trials.to_string(),
                format!("{:e}", bound.delta),
                format!("{:.3}", bound.epsilon_lower_bound),
                format!("{:.3}", bound.epsilon_claimed),
                part.power.map_or("-".to_owned(), |power| {
                    if power > 0.0 {
                        format!("noise x{power}")
                    } else {
                        "no loss".to_owned()
                    }
                }),
                if bound.holds() { "holds" } else { "REFUTED" }.to_owned(),
            ]
        })
    });
    let head = [
        "ATTACK", "TRIALS", "DELTA", "AT LEAST", "CLAIMED", "NOTICES", "CLAIM",
    ];
    table(head, &[1, 2, 3, 4, 5], rows)
}

fn checks(report: &AuditReport) -> String {
    let limit = |limit: Option<f64>| limit.map_or("-".to_owned(), |limit| format!("{limit:.4}"));
    let rows = report.checks.iter().map(|check| {
        [
            check.name.clone(),
            check.trials.to_string(),
            format!("{:.4}", check.found),
            limit(check.at_least),
            limit(check.at_most),
            if check.notices.is_finite() {
                format!("{:.4}", check.notices)
            } else {
                "nothing".to_owned()
            },
            if check.holds() { "holds" } else { "BROKEN" }.to_owned(),
        ]
    });
    let head = [
        "MECHANISM",
        "TRIALS",
        "FOUND",
        "AT LEAST",
        "AT MOST",
        "NOTICES",
        "CLAIM",
    ];
    table(head, &[1, 2, 3, 4, 5], rows)
}

fn membership(roc: &Roc) -> String {
    format!(
        "membership by loss, {} members and {} others: AUC {:.4} ({:.4} to {:.4}), true positives at 1 % \
         false ones {:.4} ({:.4} to {:.4})\n",
        roc.members,
        roc.others,
        roc.auc,
        roc.auc_low,
        roc.auc_high,
        roc.true_positives_at_1_percent,
        roc.true_positives_low,
        roc.true_positives_high
    )
}

fn exposure(exposures: &Exposures) -> String {
    let most = exposures
        .planted
        .first()
        .map_or(0.0, |first| (first.among as f64).log2());
    format!(
        "exposure of {} planted entities: {:.2} bits in the mean, {:.2} at most, of {most:.2} that there \
         are; text that was never seen gives 1.44 or less in the mean\n",
        exposures.planted.len(),
        exposures.mean_bits,
        exposures.largest_bits
    )
}
