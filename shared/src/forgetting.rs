//! What later training made of what a model had learnt.
//!
//! A run is a step of continual learning. R\[i\]\[j\] is the F1 of the version that step i ended with, on the
//! types and institutions of step j (Lopez-Paz and Ranzato 2017, section 3). From it follow the average
//! F1, the backward transfer (the same, section 3) and forgetting (Chaudhry et al. 2018, section 3).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{InstitutionId, RunId, VersionName};
use crate::score::Counts;
use crate::version::Origin;
use crate::view::VersionView;

/// What is known of a run besides its versions.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Types of its base, and what its plan calls them.
    pub rename: BTreeMap<String, String>,
    /// The standard deviation of the noise in each of its counts; 0 where they are exact.
    pub sigma: f64,
}

/// A step: the last version of a run that was scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learnt {
    pub run: RunId,
    pub version: VersionName,
    /// The types that were new, by their latest names; where none was, all of them.
    pub types: Vec<String>,
    /// Whose text the step was scored on.
    pub institutions: Vec<InstitutionId>,
}

/// F1, and the standard deviation that the noise of the counts gives it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub f1: f64,
    pub deviation: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forgetting {
    /// Oldest first.
    pub steps: Vec<Learnt>,
    /// R, `[steps, steps]`. `None` where the version of the row knows no type of the column's step, or none
    /// of its institutions scored it.
    pub matrix: Vec<Vec<Option<Figure>>>,
    /// The mean of the last row.
    pub average: Option<f64>,
    /// The mean over earlier steps of what the last version has there above the step's own: below 0 where
    /// it lost.
    pub backward_transfer: Option<f64>,
    /// The mean over earlier steps of how far the last version is below the best one there, at least 0.
    pub forgetting: Option<f64>,
}

impl Forgetting {
    /// Of the ancestors of a version and itself, oldest first; `None` where fewer than two runs of them
    /// were scored.
    pub fn of_lineage(line: &[VersionView], about: impl Fn(&RunId) -> About) -> Option<Self> {
        let mut last: Vec<(&RunId, &VersionView)> = Vec::new();
        for view in line.iter().filter(|view| !view.scores.is_empty()) {
            let Origin::Round(round) = &view.version.origin else {
                continue;
            };
            match last.last_mut() {
                Some((run, known)) if **run == round.run => *known = view,
                Some(_) | None => last.push((&round.run, view)),
            }
        }
        if last.len() < 2 {
            return None;
        }
        let abouts: Vec<About> = last.iter().map(|(run, _)| about(run)).collect();
        // By the names that the last run gives them.
        let latest = |step: usize, label: &String| {
            let later = abouts.iter().skip(step + 1);
            later.fold(label.clone(), |name, about| {
                about.rename.get(&name).cloned().unwrap_or(name)
            })
        };
        let mut known = BTreeSet::new();
        let mut steps: Vec<Learnt> = Vec::new();
        for (step, (run, view)) in last.iter().enumerate() {
            let own: Vec<String> = view
                .version
                .labels
                .iter()
                .map(|l| latest(step, l))
                .collect();
            let new: Vec<String> = own
                .iter()
                .filter(|l| !known.contains(*l))
                .cloned()
                .collect();
            known.extend(own.iter().cloned());
            steps.push(Learnt {
                run: (*run).clone(),
                version: view.version.name.clone(),
                types: if new.is_empty() { own } else { new },
                institutions: view
                    .scores
                    .iter()
                    .map(|own| own.institution.clone())
                    .collect(),
            });
        }
        let row = |step: usize| {
            let view = last[step].1;
            let on =
                |of: &Learnt| figure(view, of, abouts[step].sigma, |label| latest(step, label));
            steps.iter().map(on).collect()
        };
        let matrix: Vec<Vec<Option<Figure>>> = (0..steps.len()).map(row).collect();
        Some(Self::summed_up(steps, matrix))
    }

    fn summed_up(steps: Vec<Learnt>, matrix: Vec<Vec<Option<Figure>>>) -> Self {
        let f1 = |i: usize, j: usize| matrix[i][j].map(|figure| figure.f1);
        let end = steps.len() - 1;
        let mean = |values: Vec<f64>| {
            let count = values.len();
            (count > 0).then(|| values.iter().sum::<f64>() / count as f64)
        };
        let transfer = |j: usize| Some(f1(end, j)? - f1(j, j)?);
        let lost = |j: usize| {
            let best = (j..=end).filter_map(|i| f1(i, j)).reduce(f64::max)?;
            Some(best - f1(end, j)?)
        };
        Self {
            average: mean((0..=end).filter_map(|j| f1(end, j)).collect()),
            backward_transfer: mean((0..end).filter_map(transfer).collect()),
            forgetting: mean((0..end).filter_map(lost).collect()),
            steps,
            matrix,
        }
    }
}

/// What a version scores on the types and institutions of a step.
fn figure(
    view: &VersionView,
    of: &Learnt,
    sigma: f64,
    latest: impl Fn(&String) -> String,
) -> Option<Figure> {
    let (mut sum, mut cells) = (Counts::default(), 0u32);
    let own = view.scores.iter();
    for scores in own.filter(|own| of.institutions.contains(&own.institution)) {
        for (label, counts) in &scores.scores.by_type {
            if of.types.contains(&latest(label)) {
                sum.add(*counts);
                cells += 1;
            }
        }
    }
    let deviation = sum.f1_deviation(sigma * f64::from(cells).sqrt());
    (cells > 0).then(|| Figure {
        f1: sum.f1(),
        deviation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::plan::Method;
    use crate::score::Scores;
    use crate::time::Time;
    use crate::version::{Round, Version};
    use crate::view::InstitutionScores;

    /// An institution, and of each type what was found, imagined and missed.
    type Scored<'a> = (&'a str, &'a [(&'a str, [u64; 3])]);

    fn view(run: &str, number: u32, scores: &[Scored<'_>]) -> VersionView {
        let digest = Digest::of(b"file");
        let mut labels: Vec<String> = Vec::new();
        for (label, _) in scores.iter().flat_map(|(_, by_type)| *by_type) {
            if !labels.iter().any(|known| known == label) {
                labels.push((*label).to_owned());
            }
        }
        let round = Round {
            run: run.parse().expect("run"),
            plan: digest,
            method: Method::Head,
            round: number,
            attempt: 1,
            manifest: digest,
            rule: crate::plan::Rule::default(),
            moments: None,
            unmasking: None,
            participants: Vec::new(),
            sealed: Vec::new(),
        };
        let version = Version {
            name: format!("p@{number}").parse().expect("name"),
            parent: None,
            origin: Origin::Round(round),
            labels,
            weights: digest,
            frozen: None,
            config: digest,
            tokenizer: digest,
            created: Time::from_millis(0),
        };
        let counted = |[tp, fp, missed]: [u64; 3]| Counts {
            true_positives: tp,
            false_positives: fp,
            false_negatives: missed,
        };
        let of = |by_type: &[(&str, [u64; 3])]| Scores {
            by_type: by_type
                .iter()
                .map(|(label, counts)| ((*label).to_owned(), counted(*counts)))
                .collect(),
        };
        VersionView {
            digest: version.digest(),
            version,
            aliases: Vec::new(),
            scores: scores
                .iter()
                .map(|(name, by_type)| InstitutionScores {
                    institution: name.parse().expect("name"),
                    scores: of(by_type),
                })
                .collect(),
            f1: None,
            median_f1: None,
            audits: Vec::new(),
            pruned: None,
        }
    }

    #[test]
    fn what_was_lost_is_the_matrix_of_steps_by_hand() {
        let line = [
            view("one", 1, &[("anna", &[("Drug", [1, 0, 1])])]),
            // Only the last version of a run counts.
            view("one", 2, &[("anna", &[("Drug", [3, 1, 1])])]),
            view(
                "two",
                3,
                &[
                    ("anna", &[("Medication", [1, 1, 1]), ("Dose", [0, 0, 4])]),
                    ("bert", &[("Medication", [9, 0, 0]), ("Dose", [2, 0, 2])]),
                ],
            ),
            view(
                "three",
                4,
                &[
                    ("anna", &[("Medication", [2, 0, 2]), ("Dose", [2, 0, 2])]),
                    ("bert", &[("Medication", [9, 0, 0]), ("Dose", [1, 0, 3])]),
                ],
            ),
        ];
        let about = |run: &RunId| About {
            rename: match run.as_str() {
                "two" => [("Drug".to_owned(), "Medication".to_owned())].into(),
                _ => BTreeMap::new(),
            },
            sigma: 0.0,
        };
        let found = Forgetting::of_lineage(&line, about).expect("steps");
        let types: Vec<_> = found
            .steps
            .iter()
            .map(|step| step.types.join(" "))
            .collect();
        assert_eq!(types, ["Medication", "Dose", "Medication Dose"]);
        let close = |found: Option<f64>, expected: f64| {
            assert!(
                (found.expect("figure") - expected).abs() < 1e-12,
                "{found:?} {expected}"
            );
        };
        let f1 = |i: usize, j: usize| found.matrix[i][j].map(|figure| figure.f1);
        close(f1(0, 0), 6.0 / 8.0);
        // The first step's institution alone, under the new name.
        close(f1(1, 0), 2.0 / 4.0);
        close(f1(2, 0), 4.0 / 6.0);
        assert_eq!(f1(0, 1), None);
        close(f1(1, 1), 4.0 / 10.0);
        close(f1(2, 1), 6.0 / 11.0);
        let all = 28.0 / 35.0;
        close(f1(2, 2), all);
        close(found.average, (4.0 / 6.0 + 6.0 / 11.0 + all) / 3.0);
        let (drug, dose) = (4.0 / 6.0 - 0.75, 6.0 / 11.0 - 0.4);
        close(found.backward_transfer, f64::midpoint(drug, dose));
        close(found.forgetting, f64::midpoint(-drug, 0.0));
        assert!(Forgetting::of_lineage(&line[..2], about).is_none());
    }

    #[test]
    fn noise_widens_a_figure() {
        let counts = Counts {
            true_positives: 300,
            false_positives: 100,
            false_negatives: 100,
        };
        assert!(counts.f1_deviation(0.0).abs() < f64::EPSILON);
        // By differences: each count moved by itself.
        let moved = |tp: u64, fp: u64, missed: u64| {
            let other = Counts {
                true_positives: 300 + tp,
                false_positives: 100 + fp,
                false_negatives: 100 + missed,
            };
            other.f1() - counts.f1()
        };
        let by_hand = [moved(1, 0, 0), moved(0, 1, 0), moved(0, 0, 1)];
        let by_hand = by_hand.iter().map(|d| d * d).sum::<f64>().sqrt() * 10.0;
        let found = counts.f1_deviation(10.0);
        assert!((found / by_hand - 1.0).abs() < 0.01, "{found} {by_hand}");
    }
}
