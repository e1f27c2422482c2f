//! The curves of a run: scores by version, overall, by type and by institution; ε and bytes by round.

use std::collections::BTreeMap;

use fedner_page::chart::{COLOURS, Chart, Curve, Point, bars};
use fedner_page::layout::card;
use fedner_page::words;
use fedner_shared::id::InstitutionId;
use fedner_shared::score::Counts;
use fedner_shared::view::RunView;
use maud::{Markup, html};

use super::history::RunHistory;
use super::world::{Version, World};

/// Of a normal distribution, so many standard deviations hold 95 in 100.
const NINETY_FIVE: f64 = 1.96;
/// With more institutions than this, only what is apart has a curve of its own.
const SINGLY: usize = COLOURS - 1;
const LOWEST: usize = 4;

pub(super) fn cards(world: &World, run: &RunView) -> Markup {
    let versions = of_run(world, run);
    let noise = world.count_noise(&run.run);
    let history = world.history.run(&run.run);
    let nothing = || html! { p.muted { "Nothing was scored yet. Institutions share counts if their policy has " code { "share_evaluation" } "." } };
    let noised = if noise > 0.0 {
        "bars: 95 % interval of the noise"
    } else {
        "counts are exact"
    };
    html! {
        div.grid {
            (card("f1", "F1 by round", html! { (noised) }, overall(&versions, noise).unwrap_or_else(nothing)))
            (card("types", "F1 by type", html! { "pooled" }, by_type(&versions, noise).unwrap_or_else(nothing)))
            (card("by-institution", "F1 by institution", html! { "on its own text" },
                history.and_then(by_institution).unwrap_or_else(nothing)))
            (card("epsilon", "ε by round", html! { "the more, the less is hidden" }, history.and_then(|history| epsilon(world, run, history))
                .unwrap_or_else(|| html! { p.muted { "No update with noise was sent yet." } })))
            (card("seconds", "Time by round", html! { "of the last attempt" }, history.and_then(seconds)
                .unwrap_or_else(|| html! { p.muted { "No round is over yet." } })))
            (card("bytes", "Bytes by round", html! { "updates received" }, history.and_then(bytes)
                .unwrap_or_else(|| html! { p.muted { "No update was sent yet." } })))
        }
    }
}

/// The versions that rounds of the run published, by round.
fn of_run<'a>(world: &'a World, run: &RunView) -> Vec<(u32, &'a Version)> {
    let mut found: Vec<(u32, &Version)> = world
        .versions
        .values()
        .filter_map(|version| {
            let (of, round) = version.run.as_ref()?;
            (*of == run.run).then_some((*round, version))
        })
        .collect();
    found.sort_by_key(|(round, _)| *round);
    found
}

/// Half of the 95 % interval of F1 = 2t / (2t + f + m), to first order, where each of the three counts has
/// independent noise of the standard deviation `sigma`.
fn error(counts: &Counts, sigma: f64) -> Option<f64> {
    let found = counts.true_positives as f64;
    let wrong = counts.false_positives as f64 + counts.false_negatives as f64;
    let whole = 2.0 * found + wrong;
    if sigma <= 0.0 || whole <= 0.0 {
        return None;
    }
    let slope = (4.0 * wrong * wrong + 8.0 * found * found).sqrt() / (whole * whole);
    Some((NINETY_FIVE * sigma * slope).min(1.0))
}

fn total(version: &Version) -> Counts {
    let mut total = Counts::default();
    for (_, counts) in &version.by_type {
        total.add(*counts);
    }
    total
}

fn overall(versions: &[(u32, &Version)], noise: f64) -> Option<Markup> {
    let pooled = versions.iter().filter_map(|(round, version)| {
        let parts = (version.scored * version.by_type.len()).max(1) as f64;
        Some(Point {
            x: f64::from(*round),
            y: version.f1?,
            error: error(&total(version), noise * parts.sqrt()),
        })
    });
    let median = versions.iter().filter_map(|(round, version)| {
        Some(Point {
            x: f64::from(*round),
            y: version.median_f1?,
            error: None,
        })
    });
    let curve = |name: &str, colour, points| Curve {
        name: name.to_owned(),
        colour,
        points,
        faint: false,
    };
    scores(
        "F1 of each round's version, pooled and median of the institutions",
        vec![
            curve("pooled", 0, pooled.collect()),
            curve("median of institutions", 1, median.collect()),
        ],
        Vec::new(),
    )
}

fn by_type(versions: &[(u32, &Version)], noise: f64) -> Option<Markup> {
    let mut curves: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for (round, version) in versions {
        for (label, counts) in &version.by_type {
            if counts.support() + counts.predicted() > 0 {
                curves.entry(label).or_default().push(Point {
                    x: f64::from(*round),
                    y: counts.f1(),
                    error: error(counts, noise * (version.scored.max(1) as f64).sqrt()),
                });
            }
        }
    }
    let curves = curves.into_iter().enumerate();
    let curves = curves.map(|(colour, (name, points))| Curve {
        name: name.to_owned(),
        colour,
        points,
        faint: false,
    });
    scores(
        "F1 of each entity type by round",
        curves.collect(),
        Vec::new(),
    )
}

fn by_institution(history: &RunHistory) -> Option<Markup> {
    let newest = history.rounds.values().rev();
    let mut newest = newest.filter(|round| round.parts.values().any(|part| part.f1.is_some()));
    let mut last: Vec<(&InstitutionId, f32)> = newest
        .next()?
        .parts
        .iter()
        .filter_map(|(name, part)| Some((name, part.f1?)))
        .collect();
    let few = last.len() <= SINGLY;
    if !few {
        // Who may need help.
        last.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        last.truncate(LOWEST);
    }
    let curves = last.into_iter().enumerate().map(|(colour, (name, _))| {
        let points = history.rounds.iter().filter_map(|(number, round)| {
            Some(Point {
                x: f64::from(*number),
                y: f64::from(round.parts.get(name)?.f1?),
                error: None,
            })
        });
        Curve {
            name: if few {
                name.to_string()
            } else {
                format!("{name} (among the lowest)")
            },
            colour,
            points: points.collect(),
            faint: false,
        }
    });
    let band = if few {
        Vec::new()
    } else {
        middle_half(history)
    };
    scores("F1 of each institution by round", curves.collect(), band)
}

/// By round, between which values half of the institutions lie.
fn middle_half(history: &RunHistory) -> Vec<(f64, f64, f64)> {
    let quarters = history.rounds.iter().filter_map(|(number, round)| {
        let mut all: Vec<f32> = round.parts.values().filter_map(|part| part.f1).collect();
        all.sort_unstable_by(f32::total_cmp);
        let (lower, upper) = (all.get(all.len() / 4)?, all.get(all.len() * 3 / 4)?);
        Some((f64::from(*number), f64::from(*lower), f64::from(*upper)))
    });
    quarters.collect()
}

fn scores(label: &str, curves: Vec<Curve>, band: Vec<(f64, f64, f64)>) -> Option<Markup> {
    let chart = Chart {
        label,
        curves,
        at_least: (0.0, 0.2),
        limit: None,
        band,
        format: |value| format!("{value:.2}"),
        x_name: "round",
    };
    chart.draw()
}

fn epsilon(world: &World, run: &RunView, history: &RunHistory) -> Option<Markup> {
    let (mut largest, mut smallest) = (Vec::new(), Vec::new());
    for (number, round) in &history.rounds {
        let spent = round.parts.values().filter_map(|part| part.epsilon);
        let spent: Vec<f64> = spent.map(f64::from).collect();
        let point = |y: Option<f64>| {
            y.map(|y| Point {
                x: f64::from(*number),
                y,
                error: None,
            })
        };
        largest.extend(point(spent.iter().copied().reduce(f64::max)));
        smallest.extend(point(spent.iter().copied().reduce(f64::min)));
    }
    let limit = world
        .plans
        .get(&run.run)
        .map(|plan| plan.privacy.max_epsilon);
    let highest = largest.iter().map(|point| point.y).reduce(f64::max)?;
    // A limit far away would press the curve flat.
    let near = limit.filter(|limit| *limit < highest * 6.0);
    let apart = largest != smallest;
    let curve = |name: &str, colour, points| Curve {
        name: name.to_owned(),
        colour,
        points,
        faint: false,
    };
    let mut curves = vec![curve(
        if apart { "largest" } else { "each institution" },
        2,
        largest,
    )];
    if apart {
        curves.push(curve("smallest", 1, smallest));
    }
    let chart = Chart {
        label: "ε that the run has cost after each round",
        curves,
        at_least: (0.0, 0.0),
        limit: near.map(|limit| (limit, format!("the plan's limit, {limit}"))),
        band: Vec::new(),
        format: |value| format!("{value:.2}"),
        x_name: "round",
    };
    chart.draw()
}

fn seconds(history: &RunHistory) -> Option<Markup> {
    let over = history.rounds.iter().filter_map(|(number, round)| {
        let end = round.finished.or(round.closed)?;
        Some((*number, end.since(round.began?).as_secs_f64()))
    });
    let values: Vec<(u32, f64)> = over.collect();
    bars("how long each round took", &values, |seconds| {
        words::span(std::time::Duration::from_secs_f64(seconds)).replace(' ', "")
    })
}

fn bytes(history: &RunHistory) -> Option<Markup> {
    let rounds = history.rounds.iter();
    let values: Vec<(u32, f64)> = rounds
        .map(|(number, round)| (*number, round.bytes as f64))
        .collect();
    if values.iter().all(|(_, value)| *value == 0.0) {
        return None;
    }
    bars(
        "bytes of updates received in each round",
        &values,
        |value| words::bytes(value as u64).replace(' ', ""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_widens_and_counts_narrow_the_interval() {
        let counts = |scale: u64| Counts {
            true_positives: 80 * scale,
            false_positives: 10 * scale,
            false_negatives: 30 * scale,
        };
        assert_eq!(error(&counts(1), 0.0), None);
        assert_eq!(error(&Counts::default(), 1.0), None);
        let (few, many) = (error(&counts(1), 3.0), error(&counts(10), 3.0));
        assert!(few > many && many > Some(0.0));
        // Against differences of F1 itself.
        let f1 = |t: f64, f: f64, m: f64| 2.0 * t / (2.0 * t + f + m);
        let (t, f, m, h) = (80.0, 10.0, 30.0, 1e-4);
        let slope = |a: f64, b: f64| (a - b) / (2.0 * h);
        let by = [
            slope(f1(t + h, f, m), f1(t - h, f, m)),
            slope(f1(t, f + h, m), f1(t, f - h, m)),
            slope(f1(t, f, m + h), f1(t, f, m - h)),
        ];
        let length = by.iter().map(|part| part * part).sum::<f64>().sqrt();
        let expected = NINETY_FIVE * 3.0 * length;
        assert!((few.expect("an interval") - expected).abs() < 1e-6);
    }
}
