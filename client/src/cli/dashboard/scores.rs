//! Scores on the institution's own held-out text, from the receipts of its counts.

use std::collections::BTreeMap;

use fedner_page::chart::{Chart, Curve, Point};
use fedner_shared::statement::EvaluationReceipt;
use maud::{Markup, html};

use super::look::Look;
use crate::state::ReceiptKind;

/// Runs that are shown.
const RUNS: usize = 5;

pub(super) fn chart(look: &Look) -> Markup {
    let mut runs: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    let counts = look
        .receipts
        .iter()
        .rev()
        .filter(|receipt| receipt.kind == ReceiptKind::Evaluation);
    for receipt in counts {
        if let Ok(evaluation) = receipt.signed.peek::<EvaluationReceipt>() {
            let points = runs.entry(evaluation.run.to_string()).or_default();
            points.push(Point {
                x: f64::from(evaluation.round),
                y: evaluation.scores.total().f1(),
                error: None,
            });
        }
    }
    let curves = runs.into_iter().rev().take(RUNS).enumerate();
    let curves = curves.map(|(colour, (name, points))| Curve {
        name,
        colour,
        points,
        faint: false,
    });
    let chart = Chart {
        label: "F1 on the institution's own held-out text by round",
        curves: curves.collect(),
        at_least: (0.0, 0.2),
        limit: None,
        band: Vec::new(),
        format: |value| format!("{value:.2}"),
        x_name: "round",
    };
    chart.draw().unwrap_or_else(|| html! {
        p.muted { "No counts have left yet. Without a connection: " code { "fedner-client evaluate" } }
    })
}
