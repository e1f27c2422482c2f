//! Model versions on the wire.

use fedner_shared::digest::{Digest, canonical_text};
use fedner_shared::score::{Counts, Scores};
use fedner_shared::version::{Pruned, Version};
use fedner_shared::view::{InstitutionScores, VersionView};

use super::audits::{audit_from_wire, audit_to_wire};
use super::{Result, digest, invalid, parsed};
use crate::v1;

/// A version from its record, and its digest.
pub fn version_from_record(record: &str) -> Result<(Digest, Version)> {
    let version: Version =
        serde_json::from_str(record).map_err(|error| invalid("record", error))?;
    Ok((version.digest(), version))
}

pub fn version_to_wire(view: &VersionView) -> v1::ModelVersion {
    v1::ModelVersion {
        digest: view.digest.as_bytes().to_vec(),
        record: canonical_text(&view.version),
        aliases: view.aliases.iter().map(ToString::to_string).collect(),
        scores: view.scores.iter().map(scores_to_wire).collect(),
        f1: view.f1,
        median_f1: view.median_f1,
        audits: view.audits.iter().map(audit_to_wire).collect(),
        pruned: view
            .pruned
            .map_or_else(String::new, |pruned| pruned.to_string()),
    }
}

pub fn version_from_wire(message: v1::ModelVersion) -> Result<VersionView> {
    let announced = digest("digest", &message.digest)?;
    let (found, version) = version_from_record(&message.record)?;
    if found != announced {
        return Err(invalid(
            "record",
            format!("expected the digest {announced}, found {found}"),
        ));
    }
    let aliases = message.aliases.iter().map(|alias| parsed("aliases", alias));
    let scores = message.scores.into_iter().map(scores_from_wire);
    let audits = message.audits.into_iter().map(audit_from_wire);
    Ok(VersionView {
        digest: found,
        version,
        aliases: aliases.collect::<Result<_>>()?,
        scores: scores.collect::<Result<_>>()?,
        f1: message.f1,
        median_f1: message.median_f1,
        audits: audits.collect::<Result<_>>()?,
        pruned: Pruned::ALL
            .into_iter()
            .find(|pruned| pruned.as_str() == message.pruned),
    })
}

fn scores_to_wire(view: &InstitutionScores) -> v1::InstitutionScores {
    let by_type = view
        .scores
        .by_type
        .iter()
        .map(|(label, counts)| v1::TypeCounts {
            label: label.clone(),
            true_positives: counts.true_positives,
            false_positives: counts.false_positives,
            false_negatives: counts.false_negatives,
        });
    v1::InstitutionScores {
        institution: view.institution.to_string(),
        by_type: by_type.collect(),
    }
}

fn scores_from_wire(message: v1::InstitutionScores) -> Result<InstitutionScores> {
    let by_type = message.by_type.into_iter().map(|counts| {
        let v1::TypeCounts {
            label,
            true_positives,
            false_positives,
            false_negatives,
        } = counts;
        (
            label,
            Counts {
                true_positives,
                false_positives,
                false_negatives,
            },
        )
    });
    Ok(InstitutionScores {
        institution: parsed("institution", &message.institution)?,
        scores: Scores {
            by_type: by_type.collect(),
        },
    })
}
