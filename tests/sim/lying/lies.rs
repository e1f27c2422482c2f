//! What the coordinator says to whom.

use anyhow::Result;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::threshold;
use fedner_shared::secure::{SecureSet, SecureStep, Told};
use fedner_shared::sign::Signed;
use rand::RngExt;

use super::liar::{Liar, author};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// None: some members are lost, before or after their update.
    Nothing,
    /// Members are shown rosters of other members.
    SplitRoster,
    /// Members are the coordinator's own, under the names of others.
    Invented,
    /// Some are told that a member was lost, and others that it was not.
    SplitSet,
    /// Unmasking is asked for twice, with and without a member.
    TwoSets,
    /// A roster has fewer members than the quorum.
    SmallRoster,
    /// A set has fewer members than the threshold, or than the quorum.
    SmallSet,
    /// Statements of an earlier attempt are shown in a later one, and the other way round.
    Replay,
    /// A member that sides with the coordinator gets other keys once shares are dealt.
    OtherKeys,
    /// Signatures of some members are shown as those of others, or of other statements.
    OtherSignatures,
    /// An update is asked for again under another roster, or with other dealers.
    OtherRoster,
    /// The plan's run begins its attempts anew.
    OldAttempt,
    /// Some are told that the plan has ended, and are asked in the same attempt again.
    Ended,
    /// Statements are mixed at random.
    Mixed,
}

impl Lie {
    pub(crate) const ALL: [Self; 14] = [
        Self::Nothing,
        Self::SplitRoster,
        Self::Invented,
        Self::SplitSet,
        Self::TwoSets,
        Self::SmallRoster,
        Self::SmallSet,
        Self::Replay,
        Self::OtherKeys,
        Self::OtherSignatures,
        Self::OtherRoster,
        Self::OldAttempt,
        Self::Ended,
        Self::Mixed,
    ];
}

type Names = Vec<InstitutionId>;

fn without(names: &[InstitutionId], gone: &InstitutionId) -> Names {
    names.iter().filter(|name| *name != gone).cloned().collect()
}

/// The roster of these members of another one.
fn restricted(told: &Told, to: &[InstitutionId]) -> Result<Told> {
    let mut told = told.clone();
    told.signers.retain(|name, _| to.contains(name));
    let mut keys = Vec::new();
    for signed in told.keys {
        if to.contains(&author(&signed, SecureStep::Keys)?) {
            keys.push(signed);
        }
    }
    Ok(Told { keys, ..told })
}

/// Tells it, and then tries whatever else there is.
pub(crate) fn tell(liar: &mut Liar, lie: Lie) -> Result<()> {
    let victim = liar.victim();
    match lie {
        Lie::Nothing => return nothing(liar),
        Lie::SplitRoster => split_roster(liar, &victim)?,
        Lie::Invented => invented(liar, &victim)?,
        Lie::SplitSet => sets(liar, &victim, true)?,
        Lie::TwoSets => sets(liar, &victim, false)?,
        Lie::SmallRoster => small_roster(liar, &victim)?,
        Lie::SmallSet => small_set(liar, &victim)?,
        Lie::Replay => replay(liar, &victim)?,
        Lie::OtherKeys => other_keys(liar, &victim)?,
        Lie::OtherSignatures => other_signatures(liar, &victim)?,
        Lie::OtherRoster => other_roster(liar, &victim)?,
        Lie::OldAttempt => old_attempt(liar, &victim)?,
        Lie::Ended => ended(liar, &victim)?,
        Lie::Mixed => mixed(liar, 24)?,
    }
    mixed(liar, 8)
}

/// All keys of an attempt.
fn begun(liar: &mut Liar, number: u64) -> Result<Told> {
    let (all, siding) = (liar.all(), liar.siding());
    let told = liar.roster(number, &all, &siding);
    liar.keys(told)
}

/// An attempt in which everybody's update is under masks.
fn masked(liar: &mut Liar, number: u64) -> Result<Told> {
    let mut told = begun(liar, number)?;
    let all = liar.all();
    liar.deal(&mut told, &all)?;
    liar.send(&told, &all)?;
    Ok(told)
}

fn nothing(liar: &mut Liar) -> Result<()> {
    let (all, quorum) = (liar.all(), liar.cohort.quorum);
    let mut told = begun(liar, 1)?;
    liar.deal(&mut told, &all)?;
    let present = liar.some(&all, quorum);
    liar.send(&told, &present)?;
    let told = liar.name_set(&told, &present, &present)?;
    liar.restart();
    liar.unmask(&told, &present)
}

fn split_roster(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let base = begun(liar, 1)?;
    let others = without(&all, victim);
    let mut views = Vec::new();
    for _ in 0..2 {
        let mut names = liar.some(&others, 2);
        names.push(victim.clone());
        names.sort();
        let mut told = restricted(&base, &names)?;
        liar.deal(&mut told, &names)?;
        views.push((told, names));
    }
    for (told, names) in &views {
        liar.send(told, names)?;
    }
    for (place, (told, names)) in views.into_iter().enumerate() {
        let set = if place == 0 {
            names.clone()
        } else {
            without(&names, victim)
        };
        let told = liar.name_set(&told, &set, &names)?;
        liar.restart();
        liar.unmask(&told, &names)?;
    }
    Ok(())
}

fn invented(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let others = without(&all, victim);
    let mut own = liar.some(&others, others.len().saturating_sub(1));
    own.extend(liar.siding());
    let told = liar.roster(1, &all, &own);
    let mut told = liar.keys(told)?;
    liar.deal(&mut told, &all)?;
    liar.send(&told, &all)?;
    let told = liar.name_set(&told, &all, &all)?;
    liar.unmask(&told, &all)
}

/// With and without a member: to different members, or to all of them.
fn sets(liar: &mut Liar, victim: &InstitutionId, split: bool) -> Result<()> {
    let all = liar.all();
    let told = masked(liar, 1)?;
    let fewer = without(&all, victim);
    let (first, second) = if split {
        let first = liar.some(&all, 1);
        let second = all.iter().filter(|name| !first.contains(name)).cloned();
        let second = second.collect();
        (first, second)
    } else {
        (all.clone(), all.clone())
    };
    let with = liar.name_set(&told, &all, &first)?;
    let lost = liar.name_set(&told, &fewer, &second)?;
    liar.unmask(&with, &first)?;
    liar.restart();
    let lost_again = liar.name_set(&told, &fewer, &second)?;
    liar.unmask(&lost, &second)?;
    liar.unmask(&lost_again, &all)?;
    liar.unmask(&with, &all)
}

fn small_roster(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let base = begun(liar, 1)?;
    let mut names = liar.siding();
    names.push(victim.clone());
    for name in &all {
        if names.len() < 3 && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names.sort();
    let mut told = restricted(&base, &names)?;
    liar.deal(&mut told, &names)?;
    liar.send(&told, &names)?;
    let told = liar.name_set(&told, &names, &names)?;
    liar.unmask(&told, &names)
}

fn small_set(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let told = masked(liar, 1)?;
    let mut set = liar.siding();
    set.push(victim.clone());
    if liar.rng.random() {
        let others = all.iter().filter(|name| !set.contains(name)).cloned();
        let others: Names = others.collect();
        let missing = threshold(all.len()).saturating_sub(set.len());
        set.extend(others.into_iter().take(missing));
    }
    set.sort();
    let told = liar.name_set(&told, &set, &all)?;
    liar.unmask(&told, &all)
}

fn replay(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let fewer = without(&all, victim);
    let first = masked(liar, 1)?;
    let first = liar.name_set(&first, &all, &all)?;
    let second = masked(liar, 2)?;
    let old_shares = Told {
        shares: first.shares.clone(),
        ..second.clone()
    };
    let old_keys = Told {
        keys: first.keys.clone(),
        ..second.clone()
    };
    let old_sets = Told {
        sets: first.sets.clone(),
        members: all.clone(),
        ..second.clone()
    };
    let other_number = Told {
        number: 2,
        ..first.clone()
    };
    for told in [&old_shares, &old_keys, &old_sets, &other_number, &first] {
        liar.send(told, &all)?;
        let named = liar.name_set(told, &fewer, &all)?;
        liar.unmask(&named, &all)?;
        liar.unmask(told, &all)?;
    }
    let second = liar.name_set(&second, &fewer, &fewer)?;
    liar.unmask(&second, &fewer)
}

fn other_keys(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let mut told = begun(liar, 1)?;
    liar.deal(&mut told, &all)?;
    let mut other = told.clone();
    for name in liar.siding() {
        let place = told
            .keys
            .iter()
            .position(|signed| author(signed, SecureStep::Keys).is_ok_and(|author| author == name));
        if let Some(place) = place {
            other.keys[place] = liar.own_keys(&told, &name, 1)?;
        }
    }
    let mixed = other.clone();
    other.shares = Vec::new();
    liar.deal(&mut other, &all)?;
    let some = liar.some(&all, 1);
    for view in [&other, &mixed] {
        liar.send(view, &some)?;
    }
    liar.send(&told, &all)?;
    unmask_each(
        liar,
        &[&other, &mixed, &told],
        [&all, &without(&all, victim)],
    )
}

/// Everybody is asked to unmask each of the sets in each of the views.
fn unmask_each(liar: &mut Liar, views: &[&Told], sets: [&Names; 2]) -> Result<()> {
    let all = liar.all();
    for view in views {
        for set in sets {
            let named = liar.name_set(view, set, &all)?;
            liar.unmask(&named, &all)?;
        }
    }
    Ok(())
}

fn other_signatures(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let told = masked(liar, 1)?;
    let right = liar.name_set(&told, &all, &all)?;
    let fewer = without(&all, victim);
    let named = Told {
        members: fewer.clone(),
        ..right.clone()
    };
    // What they signed of one set stands under another one, and under each other's names.
    let mut forged = Vec::new();
    for (place, signed) in right.sets.iter().enumerate() {
        let mut said: SecureSet = signed.peek()?;
        said.members.clone_from(&fewer);
        let body = fedner_shared::digest::canonical_text(&said);
        forged.push(Signed {
            body,
            ..signed.clone()
        });
        let next = &right.sets[(place + 1) % right.sets.len()];
        forged.push(Signed {
            body: next.body.clone(),
            ..signed.clone()
        });
    }
    for sets in [forged, right.sets.clone(), Vec::new()] {
        let shown = Told {
            sets,
            ..named.clone()
        };
        liar.unmask(&shown, &all)?;
    }
    liar.unmask(&right, &all)
}

fn other_roster(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let told = masked(liar, 1)?;
    let others = without(&all, victim);
    for _ in 0..3 {
        let mut names = liar.some(&others, 2);
        names.push(victim.clone());
        names.sort();
        let mut roster = restricted(&told, &names)?;
        roster.shares = Vec::new();
        liar.deal(&mut roster, &names)?;
        let dealers = liar.some(&others, 1);
        let mut shares = Vec::new();
        for signed in &told.shares {
            let author = author(signed, SecureStep::Shares)?;
            if author == *victim || dealers.contains(&author) {
                shares.push(signed.clone());
            }
        }
        let fewer_dealers = Told {
            shares,
            ..told.clone()
        };
        for view in [&roster, &fewer_dealers, &told] {
            liar.send(view, std::slice::from_ref(victim))?;
        }
        let named = liar.name_set(&fewer_dealers, &dealers, &all)?;
        liar.unmask(&named, &all)?;
    }
    let told = liar.name_set(&told, &all, &all)?;
    liar.unmask(&told, &all)
}

fn old_attempt(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let second = masked(liar, 2)?;
    let first = masked(liar, 1)?;
    let again = begun(liar, 2)?;
    unmask_each(
        liar,
        &[&first, &again, &second],
        [&without(&all, victim), &all],
    )
}

fn ended(liar: &mut Liar, victim: &InstitutionId) -> Result<()> {
    let all = liar.all();
    let before = masked(liar, 1)?;
    let mut forgetful = liar.some(&all, 1);
    forgetful.push(victim.clone());
    liar.end(&forgetful)?;
    let after = masked(liar, 1)?;
    unmask_each(liar, &[&before, &after], [&without(&all, victim), &all])
}

/// Whatever was said stands beside anything else.
fn mixed(liar: &mut Liar, questions: usize) -> Result<()> {
    let (all, siding) = (liar.all(), liar.siding());
    for _ in 0..questions {
        let names = liar.some(&all, 3);
        let own = if liar.rng.random_bool(0.1) {
            liar.some(&all, 0)
        } else {
            Vec::new()
        };
        let own: Names = siding.iter().chain(&own).cloned().collect();
        let number = liar.rng.random_range(1..=3);
        let mut told = liar.roster(number, &names, &own);
        let missing = liar.rng.random_range(0..3);
        for (step, signed) in liar.pool.clone() {
            if liar.rng.random_range(0..10) < missing || !names.contains(&author(&signed, step)?) {
                continue;
            }
            match step {
                SecureStep::Keys => told.keys.push(signed),
                SecureStep::Shares => told.shares.push(signed),
                SecureStep::Consistency => told.sets.push(signed),
                SecureStep::Unmasking => {}
            }
        }
        for name in &own {
            if names.contains(name) {
                told.keys.push(liar.own_keys(&told, name, 0)?);
            }
        }
        told.shares
            .extend(liar.own_shares(&told, 0).unwrap_or_default());
        told.members = liar.some(&names, 1);
        told.sets.extend(liar.own_sets(&told).unwrap_or_default());
        let asked = liar.victim();
        let step = SecureStep::ALL[liar.rng.random_range(0..4)];
        if liar.rng.random_bool(0.2) {
            liar.train(&asked, &told)?;
        } else {
            liar.ask(&asked, step, &told)?;
        }
    }
    Ok(())
}
