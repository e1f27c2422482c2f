//! `model compare`: two versions by type and by institution.

use fedner_host::output::{Output, or_dash, table};
use fedner_proto::{convert, v1};
use fedner_shared::id::InstitutionId;
use fedner_shared::score::{Counts, Scores};
use fedner_shared::view::VersionView;
use serde::Serialize;

use crate::cli::connect;
use crate::cli::failed::Failed;
use crate::config::Paths;

/// Two versions to compare
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// NAME@NUMBER, an alias, or a digest
    a: String,
    b: String,
}

/// F1 of both, and how much the second has gained; absent where one of them was not scored so.
#[derive(Debug, Serialize)]
struct Sides {
    a: Option<f64>,
    b: Option<f64>,
    gain: Option<f64>,
}

impl Sides {
    fn new(a: Option<f64>, b: Option<f64>) -> Self {
        let gain = a.zip(b).map(|(a, b)| b - a);
        Self { a, b, gain }
    }
}

#[derive(Debug, Serialize)]
struct OfType {
    label: String,
    #[serde(flatten)]
    sides: Sides,
    /// Those that counted the type for both versions: F1 rests on their text alone.
    rests_on: Vec<InstitutionId>,
}

#[derive(Debug, Serialize)]
struct OfInstitution {
    institution: InstitutionId,
    #[serde(flatten)]
    sides: Sides,
}

#[derive(Debug, Serialize)]
struct Comparison {
    a: String,
    b: String,
    /// Over the types and institutions that counted for both.
    pooled: Sides,
    types: Vec<OfType>,
    institutions: Vec<OfInstitution>,
}

pub(super) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let mut monitoring = connect::monitoring(paths).await?;
    let mut views = Vec::new();
    for version in [arguments.a, arguments.b] {
        let request = v1::GetModelRequest {
            version,
            ..v1::GetModelRequest::default()
        };
        let answer = monitoring.get_model(request).await?.into_inner();
        views.push(convert::version_from_wire(answer)?);
    }
    if let [a, b] = views.as_slice() {
        output.data(&Comparison::new(a, b), render)?;
    }
    Ok(())
}

/// The F1 of counts; `None` where there is nothing that could be right or wrong.
fn f1(counts: Counts) -> Option<f64> {
    (counts.support() + counts.predicted() > 0).then(|| counts.f1())
}

fn of<'a>(view: &'a VersionView, institution: &InstitutionId) -> Option<&'a Scores> {
    let found = view
        .scores
        .iter()
        .find(|own| own.institution == *institution);
    found.map(|own| &own.scores)
}

impl Comparison {
    fn new(a: &VersionView, b: &VersionView) -> Self {
        let mut institutions: Vec<&InstitutionId> = [a, b]
            .iter()
            .flat_map(|view| view.scores.iter().map(|own| &own.institution))
            .collect();
        institutions.sort();
        institutions.dedup();
        let both: Vec<(&InstitutionId, &Scores, &Scores)> = institutions
            .iter()
            .filter_map(|name| Some((*name, of(a, name)?, of(b, name)?)))
            .collect();
        let mut labels = a.version.labels.clone();
        let new = b
            .version
            .labels
            .iter()
            .filter(|label| !labels.contains(label));
        labels.extend(new.cloned().collect::<Vec<_>>());
        let (mut all_a, mut all_b) = (Counts::default(), Counts::default());
        let mut types = Vec::new();
        for label in labels {
            let counted = |scores: &Scores| scores.by_type.contains_key(&label);
            let own: Vec<_> = both
                .iter()
                .filter(|(_, a, b)| counted(a) || counted(b))
                .collect();
            let (mut of_a, mut of_b) = (Counts::default(), Counts::default());
            for (_, in_a, in_b) in &own {
                of_a.add(in_a.of(&label));
                of_b.add(in_b.of(&label));
            }
            let known = |view: &VersionView, counts| {
                let knows = view.version.labels.contains(&label);
                f1(counts).filter(|_| knows)
            };
            let sides = Sides::new(known(a, of_a), known(b, of_b));
            if sides.gain.is_some() {
                all_a.add(of_a);
                all_b.add(of_b);
            }
            types.push(OfType {
                label,
                sides,
                rests_on: own.iter().map(|(name, ..)| (*name).clone()).collect(),
            });
        }
        let institutions = institutions.into_iter().map(|name| OfInstitution {
            institution: name.clone(),
            sides: Sides::new(
                of(a, name).and_then(|scores| f1(scores.total())),
                of(b, name).and_then(|scores| f1(scores.total())),
            ),
        });
        Self {
            a: a.version.name.to_string(),
            b: b.version.name.to_string(),
            pooled: Sides::new(f1(all_a), f1(all_b)),
            types,
            institutions: institutions.collect(),
        }
    }
}

fn cells(sides: &Sides) -> [String; 3] {
    let number = |value: Option<f64>| or_dash(value.map(|value| format!("{value:.4}")));
    let gain = or_dash(sides.gain.map(|gain| format!("{gain:+.4}")));
    [number(sides.a), number(sides.b), gain]
}

fn render(comparison: &Comparison) -> String {
    let (a, b) = (comparison.a.as_str(), comparison.b.as_str());
    let types = comparison.types.iter().map(|of| {
        let [in_a, in_b, gain] = cells(&of.sides);
        let names: Vec<String> = of.rests_on.iter().map(ToString::to_string).collect();
        [of.label.clone(), in_a, in_b, gain, names.join(" ")]
    });
    let all = cells(&comparison.pooled);
    let [in_a, in_b, gain] = all;
    let all = ["all".to_owned(), in_a, in_b, gain, String::new()];
    let by_type = table(
        ["type", a, b, "gain", "rests on"],
        &[1, 2, 3],
        types.chain([all]),
    );
    let institutions = comparison.institutions.iter().map(|of| {
        let [in_a, in_b, gain] = cells(&of.sides);
        [of.institution.to_string(), in_a, in_b, gain]
    });
    let by_institution = table(["institution", a, b, "gain"], &[1, 2, 3], institutions);
    format!("{by_type}\n\n{by_institution}")
}

#[cfg(test)]
mod tests {
    use fedner_shared::digest::Digest;
    use fedner_shared::time::Time;
    use fedner_shared::version::{Origin, Version};
    use fedner_shared::view::InstitutionScores;

    use super::*;

    /// An institution, and of each type what was found, imagined and missed.
    type Scored<'a> = (&'a str, &'a [(&'a str, [u64; 3])]);

    fn view(number: u32, labels: &[&str], scores: &[Scored<'_>]) -> VersionView {
        let digest = Digest::of(b"file");
        let version = Version {
            name: format!("p@{number}").parse().expect("name"),
            parent: None,
            origin: Origin::Import,
            labels: labels.iter().map(ToString::to_string).collect(),
            weights: digest,
            frozen: None,
            config: digest,
            tokenizer: digest,
            created: Time::from_millis(0),
        };
        let scores = scores.iter().map(|(name, by_type)| InstitutionScores {
            institution: name.parse().expect("name"),
            scores: Scores {
                by_type: by_type
                    .iter()
                    .map(|(label, [tp, fp, missed])| {
                        let counts = Counts {
                            true_positives: *tp,
                            false_positives: *fp,
                            false_negatives: *missed,
                        };
                        ((*label).to_owned(), counts)
                    })
                    .collect(),
            },
        });
        VersionView {
            digest: version.digest(),
            version,
            aliases: Vec::new(),
            scores: scores.collect(),
            f1: None,
            median_f1: None,
            audits: Vec::new(),
            pruned: None,
        }
    }

    #[test]
    fn versions_are_compared_on_what_counted_for_both() {
        let a = view(
            1,
            &["Drug"],
            &[
                ("anna", &[("Drug", [1, 1, 1])]),
                ("gone", &[("Drug", [0, 9, 9])]),
            ],
        );
        let b = view(
            2,
            &["Drug", "Gene"],
            &[
                ("anna", &[("Drug", [2, 0, 0]), ("Gene", [1, 0, 1])]),
                ("new", &[("Gene", [0, 0, 5])]),
            ],
        );
        let found = Comparison::new(&a, &b);
        let [drug, gene] = found.types.as_slice() else {
            panic!("two types")
        };
        // Who left and who came change nothing about the gain.
        assert_eq!((drug.sides.a, drug.sides.b), (Some(0.5), Some(1.0)));
        assert_eq!(drug.rests_on, ["anna".parse().expect("name")]);
        // The first version knows no genes: nothing was gained or lost.
        assert_eq!((gene.sides.a, gene.sides.gain), (None, None));
        assert_eq!((found.pooled.a, found.pooled.b), (Some(0.5), Some(1.0)));
        let names: Vec<_> = found
            .institutions
            .iter()
            .map(|own| own.institution.as_str())
            .collect();
        assert_eq!(names, ["anna", "gone", "new"]);
        assert!(found.institutions[1].sides.gain.is_none());
        let text = render(&found);
        assert!(
            text.contains("+0.5000") && text.contains("rests on"),
            "{text}"
        );
    }
}
