//! Monitoring views on the wire.

use std::str::FromStr;

use fedner_shared::digest::canonical_text;
use fedner_shared::event::Entry;
use fedner_shared::figures::Figures;
use fedner_shared::plan::{Method, Unit};
use fedner_shared::statement::Annotation;
use fedner_shared::time::Time;
use fedner_shared::view::{Absence, Explanation, InstitutionView, MemberView, RunView};

use super::{Result, digest, invalid, parsed, shown, time};
use crate::v1;

pub fn run_to_wire(view: &RunView) -> v1::Run {
    v1::Run {
        run: view.run.to_string(),
        name: view.name.to_string(),
        plan: view.plan.as_bytes().to_vec(),
        state: view.state.to_string(),
        round: view.round,
        rounds: view.rounds,
        attempt: view.attempt,
        method: view.method.to_string(),
        unit: view.unit.to_string(),
        labels: view.labels.clone(),
        version: view.version.as_bytes().to_vec(),
        failure: view.failure.clone().unwrap_or_default(),
        next_start_ms: view.next_start.map(Time::as_millis),
        members: view.members.iter().map(member_to_wire).collect(),
        dimension: view.dimension,
        f1: view.f1,
        median_f1: view.median_f1,
        champion: view
            .champion
            .map_or_else(Vec::new, |version| version.as_bytes().to_vec()),
        gate: view.gate.clone().unwrap_or_default(),
        plan_text: String::new(),
    }
}

pub fn run_from_wire(message: v1::Run) -> Result<RunView> {
    Ok(RunView {
        run: parsed("run", &message.run)?,
        name: parsed("name", &message.name)?,
        plan: digest("plan", &message.plan)?,
        state: parsed("state", &message.state)?,
        round: message.round,
        rounds: message.rounds,
        attempt: message.attempt,
        method: Method::from_str(&message.method).map_err(|error| invalid("method", error))?,
        unit: Unit::from_str(&message.unit).map_err(|error| invalid("unit", error))?,
        labels: message.labels,
        version: digest("version", &message.version)?,
        failure: (!message.failure.is_empty()).then_some(shown(message.failure)),
        next_start: message.next_start_ms.map(Time::from_millis),
        members: message
            .members
            .into_iter()
            .map(member_from_wire)
            .collect::<Result<_>>()?,
        dimension: message.dimension,
        f1: message.f1,
        median_f1: message.median_f1,
        champion: if message.champion.is_empty() {
            None
        } else {
            Some(digest("champion", &message.champion)?)
        },
        gate: (!message.gate.is_empty()).then_some(shown(message.gate)),
    })
}

fn member_to_wire(view: &MemberView) -> v1::Member {
    v1::Member {
        institution: view.institution.to_string(),
        state: view.state.to_string(),
        examples: view.examples,
        epsilon: view.epsilon,
        last_seen_ms: view.last_seen.map(Time::as_millis),
        f1: view.f1,
        update_norm: view.figures.map(|figures| figures.norm),
        cosine_to_others: view.figures.and_then(|figures| figures.to_others),
        cosine_to_last_step: view.figures.and_then(|figures| figures.to_last_step),
        aside: view.aside.clone().unwrap_or_default(),
        refused: view.refused.clone().unwrap_or_default(),
        annotation: view.annotation.clone().map(|own| v1::Annotation {
            types: own.types,
            in_part: own.in_part,
        }),
    }
}

fn member_from_wire(message: v1::Member) -> Result<MemberView> {
    Ok(MemberView {
        institution: parsed("institution", &message.institution)?,
        state: parsed("state", &message.state)?,
        examples: message.examples,
        annotation: message.annotation.map(|own| Annotation {
            types: own.types.into_iter().map(shown).collect(),
            in_part: own.in_part.into_iter().map(shown).collect(),
        }),
        epsilon: message.epsilon,
        last_seen: message.last_seen_ms.map(time),
        f1: message.f1,
        figures: message.update_norm.map(|norm| Figures {
            norm,
            to_others: message.cosine_to_others,
            to_last_step: message.cosine_to_last_step,
        }),
        aside: (!message.aside.is_empty()).then_some(message.aside),
        refused: (!message.refused.is_empty()).then_some(shown(message.refused)),
    })
}

pub fn institution_to_wire(view: &InstitutionView) -> v1::Institution {
    v1::Institution {
        institution: view.institution.to_string(),
        state: view.state.to_string(),
        enrolled_ms: view.enrolled.as_millis(),
        certificate_expires_ms: view.certificate_expires.as_millis(),
        last_seen_ms: view.last_seen.map(Time::as_millis),
        software: view.software.clone().unwrap_or_default(),
        not_before_ms: view.not_before.map(Time::as_millis),
        not_before_code: view.not_before_code.clone().unwrap_or_default(),
        twice: view.twice,
    }
}

pub fn institution_from_wire(message: v1::Institution) -> Result<InstitutionView> {
    Ok(InstitutionView {
        institution: parsed("institution", &message.institution)?,
        state: parsed("state", &message.state)?,
        enrolled: time(message.enrolled_ms),
        certificate_expires: time(message.certificate_expires_ms),
        last_seen: message.last_seen_ms.map(time),
        software: (!message.software.is_empty()).then(|| shown(message.software)),
        not_before: message.not_before_ms.map(time),
        not_before_code: (!message.not_before_code.is_empty())
            .then(|| shown(message.not_before_code)),
        twice: message.twice,
    })
}

pub fn entry_to_wire(entry: &Entry) -> v1::Event {
    v1::Event {
        sequence: entry.sequence,
        time_ms: entry.time.as_millis(),
        run: entry
            .run
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        kind: entry.event.kind(),
        entry: canonical_text(entry),
    }
}

pub fn entry_from_wire(message: &v1::Event) -> Result<Entry> {
    serde_json::from_str(&message.entry).map_err(|error| invalid("entry", error))
}

pub fn explanation_to_wire(view: &Explanation) -> v1::ExplainResponse {
    v1::ExplainResponse {
        run: view.run.to_string(),
        state: view.state.to_string(),
        awaits: view.awaits.clone(),
        from: view.from.iter().map(ToString::to_string).collect(),
        until_ms: view.until.map(Time::as_millis),
        then: view.then.clone(),
        expected_ms: view.expected.map(Time::as_millis),
        finish_ms: view.finish.map(Time::as_millis),
        gate: view.gate.clone().unwrap_or_default(),
        absent: view.absent.iter().map(absence_to_wire).collect(),
    }
}

fn absence_to_wire(view: &Absence) -> v1::Absence {
    v1::Absence {
        institution: view.institution.to_string(),
        why: view.why.clone(),
    }
}

fn absence_from_wire(message: v1::Absence) -> Result<Absence> {
    Ok(Absence {
        institution: parsed("institution", &message.institution)?,
        why: shown(message.why),
    })
}

pub fn explanation_from_wire(message: v1::ExplainResponse) -> Result<Explanation> {
    let from = message.from.iter().map(|name| parsed("from", name));
    let absent = message.absent.into_iter().map(absence_from_wire);
    Ok(Explanation {
        run: parsed("run", &message.run)?,
        state: parsed("state", &message.state)?,
        awaits: shown(message.awaits),
        from: from.collect::<Result<_>>()?,
        until: message.until_ms.map(time),
        then: shown(message.then),
        expected: message.expected_ms.map(time),
        finish: message.finish_ms.map(time),
        gate: (!message.gate.is_empty()).then_some(shown(message.gate)),
        absent: absent.collect::<Result<_>>()?,
    })
}
