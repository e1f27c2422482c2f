//! Whether a version is published: the plan's gate, from the counts that evaluation brought.

use fedner_shared::event::{Event, Judgement};
use fedner_shared::plan::{Gate, Score};
use fedner_shared::score::{Counts, Scores, median, pooled_and_median};

use crate::member::{Member, Work};
use crate::members::Members;
use crate::run::Run;
use crate::standing::Verdict;
use crate::step::StepBuilder;

/// An outcome before it is written down.
struct Found {
    judgement: Judgement,
    reason: String,
    gain: Option<f64>,
}

/// One institution's counts of the champion, and of the version in question.
type Pair<'a> = (&'a Scores, &'a Scores);

/// Judges the version that the members have evaluated against the champion.
///
/// Only who evaluated both is compared with itself, since institutions differ far more in how hard
/// their text is than one round differs from the next. The first version that enough have evaluated
/// passes: there is nothing to compare it with.
fn judge(gate: &Gate, labels: &[String], members: &Members) -> Found {
    let evaluated = || members.values().filter_map(|m| Some((m, counted(m)?)));
    let least = gate.min_institutions;
    let unjudged = |reason: String| Found {
        judgement: Judgement::Unjudged,
        reason,
        gain: None,
    };
    let present = evaluated().count();
    if present < least {
        return unjudged(format!(
            "{present} institutions evaluated it: expected at least {least}"
        ));
    }
    if members.values().all(|member| member.champion.is_none()) {
        return Found {
            judgement: Judgement::Passed,
            reason: format!("{present} institutions evaluated it, and no version before it"),
            gain: None,
        };
    }
    let pairs: Vec<Pair<'_>> = evaluated()
        .filter_map(|(member, now)| Some((member.champion.as_ref()?, now)))
        .collect();
    if pairs.len() < least {
        return unjudged(format!(
            "{} institutions evaluated both it and the champion: expected at least {least}",
            pairs.len()
        ));
    }
    let gain = gain(gate.score, &pairs, Scores::total);
    let figure = |gain: Option<f64>| gain.map_or("none".to_owned(), |gain| format!("{gain:+.4}"));
    let of = match gate.score {
        Score::Median => "median",
        Score::Pooled => "pooled",
    };
    let failed = |reason: String| Found {
        judgement: Judgement::Regressed,
        reason,
        gain,
    };
    if gain.is_some_and(|gain| gain < gate.min_gain) {
        return failed(format!(
            "the {of} gain of F1 over {} institutions is {}: expected at least {:+.4} (min_gain)",
            pairs.len(),
            figure(gain),
            gate.min_gain
        ));
    }
    for label in labels {
        let Some(most) = gate.max_type_loss else {
            break;
        };
        let has = |scores: &Scores| scores.of(label).support() > 0;
        let of_type = pairs.iter().filter(|(before, now)| has(before) && has(now));
        let of_type: Vec<Pair<'_>> = of_type.copied().collect();
        if of_type.len() < least {
            continue;
        }
        let gain = self::gain(gate.score, &of_type, |scores| scores.of(label));
        if gain.is_some_and(|gain| gain < -most) {
            return failed(format!(
                "the {of} gain of F1 on {label} over {} institutions is {}: expected at least {:+.4} (max_type_loss)",
                of_type.len(),
                figure(gain),
                -most
            ));
        }
    }
    Found {
        judgement: Judgement::Passed,
        reason: format!(
            "the {of} gain of F1 over {} institutions is {}",
            pairs.len(),
            figure(gain)
        ),
        gain,
    }
}

/// What it counted; nothing where its text annotates no type of the plan.
fn counted(member: &Member) -> Option<&Scores> {
    match &member.work {
        Work::Evaluated { scores } if !scores.is_empty() => Some(scores),
        Work::Evaluated { .. }
        | Work::None
        | Work::Assigned
        | Work::Working
        | Work::Uploaded { .. }
        | Work::PutOff { .. }
        | Work::Declined { .. } => None,
    }
}

fn gain(score: Score, pairs: &[Pair<'_>], of: impl Fn(&Scores) -> Counts) -> Option<f64> {
    match score {
        Score::Median => median(
            pairs
                .iter()
                .map(|(before, now)| of(now).f1() - of(before).f1()),
        ),
        Score::Pooled => {
            let (mut before, mut now) = (Counts::default(), Counts::default());
            for (earlier, later) in pairs {
                before.add(of(earlier));
                now.add(of(later));
            }
            Some(now.f1() - before.f1())
        }
    }
}

impl StepBuilder {
    /// Keeps what was counted, says the figures, and lets the gate decide what goes on.
    pub(crate) fn finish_evaluation(&mut self) {
        let known = |m: &Member| m.scores.is_some() || counted(m).is_some();
        self.run
            .members
            .change(known, |_, member| member.scores = counted(member).cloned());
        let (round, figures) = (self.run.round, self.run.figures());
        self.events.push(Event::RoundFinished {
            round,
            f1: figures.map(|(pooled, _)| pooled),
            median_f1: figures.map(|(_, median)| median),
        });
        let run = &mut self.run;
        let (Some(gate), Some(standing)) = (&run.plan.gate, &mut run.standing) else {
            return;
        };
        let Found {
            judgement,
            reason,
            gain,
        } = judge(gate, &run.plan.labels, &run.members);
        let version = run.version;
        match judgement {
            Judgement::Passed => {
                (standing.champion, standing.round) = (version, round);
                let known = |m: &Member| m.scores.is_some() || m.champion.is_some();
                run.members.change(known, |_, member| {
                    member.champion.clone_from(&member.scores);
                });
            }
            Judgement::Regressed if gate.rolls_back(judgement) => {
                run.version = standing.champion;
            }
            Judgement::Regressed | Judgement::Unjudged => {}
        }
        standing.last = Some(Verdict {
            round,
            version,
            judgement,
            reason: reason.clone(),
        });
        self.events.push(Event::Judged {
            round,
            version,
            judgement,
            reason,
            gain,
            champion: standing.champion,
        });
    }
}

impl Run {
    /// F1 of the newest version that was evaluated: of all counts added up, and the median of the
    /// institutions' own.
    pub(crate) fn figures(&self) -> Option<(f64, f64)> {
        pooled_and_median(self.members.values().filter_map(|m| m.scores.as_ref()))
    }

    /// What the gate said of the newest version, in words.
    pub(crate) fn gate_words(&self) -> Option<String> {
        let (gate, standing) = (self.plan.gate.as_ref()?, self.standing.as_ref()?);
        let (words, last) = (standing.words()?, standing.last.as_ref()?);
        if gate.rolls_back(last.judgement) {
            return Some(format!("{words}, and training went on from there"));
        }
        Some(words)
    }

    /// What is wrong with the gate's part of the run.
    pub(crate) fn gate_violation(&self) -> Option<&'static str> {
        use crate::phase::Phase;
        let (Some(gate), Some(standing)) = (&self.plan.gate, &self.standing) else {
            let both = self.plan.gate.is_none() && self.standing.is_none();
            return (!both).then_some("it has a standing and no gate, or a gate and no standing");
        };
        if standing.round > self.round {
            return Some("a version of a later round has passed the gate");
        }
        let last = standing.last.as_ref()?;
        if (last.judgement == Judgement::Passed) != (last.version == standing.champion) {
            return Some("the champion is not the last version that passed");
        }
        let goes_on = matches!(
            self.phase,
            Phase::Recruiting { .. }
                | Phase::Collecting { .. }
                | Phase::Agreeing { .. }
                | Phase::Aggregating
                | Phase::Completed
        );
        let rolled_back = gate.rolls_back(last.judgement);
        if goes_on && rolled_back && self.version != standing.champion {
            return Some("it goes on from a version that failed at the gate");
        }
        if goes_on && !rolled_back && self.version != last.version {
            return Some("it goes on from another version than the newest without a reason");
        }
        None
    }
}
