//! What members who lie can do to a published model.

use fedner_shared::plan::Plan;
use proptest::prelude::*;

use super::*;

const MEMBERS: usize = 10;
const LARGEST: i32 = BOUND as i32;

/// Updates of honest members: a common direction and what their text adds to it.
pub(super) fn honest(count: usize, d: usize) -> Vec<(u32, Vec<i32>)> {
    let common = update(99, d);
    let member = |k: usize| {
        let own = update(k as u64, d);
        let values = common.iter().zip(&own);
        let values = values.map(|(common, own)| common / 16 + own / 32);
        (1, values.collect())
    };
    (0..count).map(member).collect()
}

/// What one hostile member may send where the range of values is all that is checked.
pub(super) fn attacks(honest: &[(u32, Vec<i32>)]) -> Vec<(&'static str, Vec<i32>)> {
    let d = honest[0].1.len();
    let sum = |j: usize| honest.iter().map(|(_, x)| x[j]).sum::<i32>();
    let times = |factor: i32| -> Vec<i32> {
        let value = |j| (factor * sum(j)).clamp(-LARGEST, LARGEST);
        (0..d).map(value).collect()
    };
    let replacing = times(-40);
    vec![
        ("the bound everywhere", vec![LARGEST; d]),
        ("the sign flipped, and longer", times(-11)),
        (
            "replacement",
            replacing.iter().map(|x| x - x.signum() * 9).collect(),
        ),
    ]
}

/// How far, at most, a weight lies beyond those that honest members alone would give it.
fn beyond(setting: &Setting, rule: Rule, all: &[(u32, Vec<i32>)], honest: usize) -> f64 {
    let after = change(setting, &run_by(rule, setting, all).0);
    let outside = after.iter().enumerate().map(|(j, after)| {
        let values = all[..honest].iter().map(|(_, x)| f64::from(x[j]));
        let ends = values.fold((f64::MAX, f64::MIN), |(a, b), x| (a.min(x), b.max(x)));
        (ends.0 - after).max(after - ends.1)
    });
    outside.fold(f64::MIN, f64::max)
}

/// What float32 of the weights cannot tell apart, in grid steps.
const ROUNDING: f64 = 0.1;

#[test]
fn one_of_ten_cannot_move_the_head_beyond_the_honest_by_default_and_can_by_fedavg() {
    let setting = setting(Method::Head);
    let members = honest(MEMBERS - 1, setting.manifest.dimension());
    let names: Vec<String> = (0..MEMBERS).map(|k| format!("i{k}")).collect();
    let plan = Plan::parse(&format!(
        "name = \"n\"\nbase = \"b@1\"\nlabels = [\"A\"]\nmethod = \"head\"\nrounds = 1\n\
         [cohort]\ninstitutions = {names:?}\nquorum = 1\n[privacy]\nunit = \"none\"\n",
    ));
    let by_default = plan.expect("a plan that leaves out all it can").rule();
    for (name, values) in attacks(&members) {
        let mut all = members.clone();
        all.push((1, values));
        let moved = |rule| beyond(&setting, rule, &all, members.len());
        for rule in [by_default, Rule::TrimmedMean { trim: 0.2 }, Rule::Median] {
            assert!(moved(rule) < ROUNDING, "{name}, {rule}: {}", moved(rule));
        }
        // They are attacks: the mean follows them far.
        let mean = moved(Rule::FedAvg);
        assert!(mean > 1000.0, "{name}: {mean}");
    }
}

#[test]
fn the_norm_clipped_mean_is_moved_by_no_more_than_a_share_of_a_usual_norm() {
    let setting = setting(Method::Head);
    let members = honest(MEMBERS - 1, setting.manifest.dimension());
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let of = |x: &[i32]| norm(&x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
    let longest = members.iter().map(|(_, x)| of(x)).fold(0.0, f64::max);
    let nothing = vec![0; setting.manifest.dimension()];
    for (name, values) in attacks(&members) {
        let moved = |rule| {
            let with = |values: &Vec<i32>| {
                let mut all = members.clone();
                all.push((1, values.clone()));
                change(&setting, &run_by(rule, &setting, &all).0)
            };
            let (hostile, silent) = (with(&values), with(&nothing));
            let apart = hostile.iter().zip(&silent).map(|(a, b)| a - b);
            norm(&apart.collect::<Vec<_>>())
        };
        // A member who sends nothing lowers the median by a place: honest norms either way.
        let share = 2.0 * longest / MEMBERS as f64 + ROUNDING;
        let clipped = moved(Rule::NormClippedMean { factor: 1.0 });
        assert!(clipped < share, "{name}: {clipped} of {share}");
        assert!(moved(Rule::FedAvg) > share, "{name}");
    }
}

/// Who declares a million examples beside others' 1,500, and flips the sign.
#[test]
fn a_million_examples_turn_no_mean_around_once_the_share_is_capped() {
    let setting = setting(Method::Head);
    let d = setting.manifest.dimension();
    let mut all = honest(MEMBERS - 1, d);
    let direction: Vec<f64> = (0..d)
        .map(|j| all.iter().map(|(_, x)| f64::from(x[j])).sum())
        .collect();
    let flipped = all[0].1.iter().map(|x| -x).collect();
    let mut declared = vec![1500; MEMBERS - 1];
    declared.push(1_000_000);
    all.push((1, flipped));
    let along = |weights: &[u32]| {
        let weighed = all.iter().zip(weights);
        let weighed: Vec<(u32, Vec<i32>)> = weighed.map(|((_, x), w)| (*w, x.clone())).collect();
        let step = change(&setting, &run(&setting, &weighed).0);
        step.iter().zip(&direction).map(|(a, b)| a * b).sum::<f64>()
    };
    // Twice an equal share, as a plan without `max_share` has it.
    let capped = fedner_round::capped(&declared, 2.0 / MEMBERS as f64);
    assert!(along(&capped) > 0.0);
    // It is an attack: with the weights as they were declared the mean goes the other way.
    assert!(along(&declared) < 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// As long as no more lie than are left out at either end, each weight lies among the honest
    /// values, whatever the liars send (Yin et al. 2018, section 4).
    #[test]
    fn as_many_as_are_trimmed_decide_nothing(
        seed in 0u64..1000,
        liars in 1usize..=4,
        masks in prop::collection::vec(-LARGEST..=LARGEST, 4),
    ) {
        let setting = setting(Method::Head);
        let d = setting.manifest.dimension();
        let mut all = honest(MEMBERS - liars, d);
        for mask in &masks[..liars] {
            let values = update(seed, d).into_iter().map(|x| (x ^ mask).clamp(-LARGEST, LARGEST));
            all.push((1, values.collect()));
        }
        let moved = |rule| beyond(&setting, rule, &all, MEMBERS - liars);
        let rule = Rule::TrimmedMean { trim: liars as f64 / MEMBERS as f64 };
        prop_assert!(moved(rule) < ROUNDING);
        prop_assert!(moved(Rule::Median) < ROUNDING);
    }
}
