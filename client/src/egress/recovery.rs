//! Books that were lost: the least that must have been spent, from what the coordinator keeps.
//!
//! The coordinator's word is all that is left. Its receipts say what was released; what was paid for and never
//! announced is in none of them. So the rebuilt ledger says no less than the receipts do, and may say less than
//! was spent.

use std::collections::BTreeSet;

use fedner_privacy::ledger::{Cost, Debit, Entry, Kind, Ledger};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::statement::{EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;

use super::budget::{check_not_behind, debit, spent};
use crate::state::{self, Store};
use crate::transport::KeptReceipt;

/// Debits that are added for what one receipt says was spent before it.
const MOST_MISSING: usize = 10_000;
/// Figures of an older version may be rounded otherwise.
const SAME: f64 = 1.0 - 1e-9;

/// What the ledger lacks.
#[derive(Debug, Default)]
pub struct Rebuilt {
    pub entries: Vec<Entry>,
    /// Entries of the lost ledger, as receipts named them: what they paid for is accounted now.
    pub heads: BTreeSet<Digest>,
    /// Debits of which no receipt tells by itself.
    pub without_receipt: usize,
}

/// Refuses to go on with a ledger that lacks what the coordinator's receipts name, unless a person has had it
/// rebuilt from them.
pub fn check_heads(store: &Store, heads: &[Digest]) -> Result<Result<(), Refusal>, state::Error> {
    let (ledger, recovered) = (store.ledger()?, store.recovered()?);
    let mut heads = heads.iter().filter(|head| !recovered.contains(head));
    Ok(heads.try_for_each(|head| check_not_behind(&ledger, head)))
}

/// One receipt that costs something.
struct Spent {
    head: Digest,
    plan: Plan,
    debit: Debit,
    epsilon_after: Option<f64>,
}

/// What a ledger must gain to say as much as the receipts do, and as the heads that the coordinator names.
/// `known` are entries of a lost ledger that were accounted for before.
pub fn rebuild(
    (ledger, known): (&Ledger, &BTreeSet<Digest>),
    institution: &InstitutionId,
    kept: &[KeptReceipt],
    heads: &[Digest],
    now: Time,
) -> Result<Rebuilt, Refusal> {
    let is_new = |head: &Digest| !ledger.contains(head) && !known.contains(head);
    let mut book = ledger.clone();
    let mut rebuilt = Rebuilt::default();
    let mut all = Vec::new();
    for receipt in kept {
        all.extend(read(institution, receipt)?);
    }
    for receipt in &all {
        if is_new(&receipt.head) && rebuilt.heads.insert(receipt.head) {
            rebuilt.add(&mut book, receipt.debit.clone(), now)?;
        }
    }
    // What was paid for, and came to nothing that the coordinator keeps.
    for receipt in &all {
        let Some(after) = receipt.epsilon_after else {
            continue;
        };
        for _ in 0..MOST_MISSING {
            let known = spent(&book, institution, &receipt.plan);
            if known.is_none_or(|known| known >= after * SAME) {
                break;
            }
            rebuilt.without_receipt += 1;
            rebuilt.add(&mut book, receipt.debit.clone(), now)?;
        }
    }
    for head in heads {
        if !is_new(head) || !rebuilt.heads.insert(*head) {
            continue;
        }
        let rho = |debit: &Debit| debit.cost.rho().unwrap_or(f64::INFINITY);
        let costliest = all.iter().map(|receipt| &receipt.debit);
        let costliest = costliest.max_by(|a, b| rho(a).total_cmp(&rho(b)));
        let Some(costliest) = costliest else {
            let message = format!(
                "the coordinator has seen an announcement that names ledger entry {}, and keeps no receipt by \
                 which its cost could be told",
                head.short()
            );
            return Err(Refusal::new(Code::LedgerBehind, message));
        };
        rebuilt.without_receipt += 1;
        rebuilt.add(&mut book, costliest.clone(), now)?;
    }
    Ok(rebuilt)
}

impl Rebuilt {
    /// A debit, and that it paid for what has left: nothing else can be released by it.
    fn add(&mut self, book: &mut Ledger, debit: Debit, now: Time) -> Result<(), Refusal> {
        let wrong = |error: &dyn std::fmt::Display| {
            let message = format!("what the coordinator keeps cannot be accounted: {error}");
            Refusal::new(Code::LedgerInvalid, message)
        };
        let entry = book.propose(now, debit, f64::INFINITY, None);
        let entry = entry.map_err(|error| wrong(&error))?;
        book.append(entry.clone()).map_err(|error| wrong(&error))?;
        let confirmed = book.confirm(now, &entry.digest());
        self.entries.push(entry);
        if let Some(entry) = confirmed {
            book.append(entry.clone()).map_err(|error| wrong(&error))?;
            self.entries.push(entry);
        }
        Ok(())
    }
}

/// What a receipt cost; nothing where its counts were exact.
fn read(institution: &InstitutionId, kept: &KeptReceipt) -> Result<Option<Spent>, Refusal> {
    let unreadable = |error: fedner_shared::sign::Error| {
        let message = format!("the coordinator keeps what is no receipt or no plan: {error}");
        Refusal::new(Code::SignatureInvalid, message)
    };
    let plan: Plan = kept.plan.peek().map_err(unreadable)?;
    let digest = kept.plan.digest();
    let (author, of, place, head, kind, epsilon_after) = if kept.evaluation {
        let said: EvaluationReceipt = peek(&kept.receipt).map_err(unreadable)?;
        let Some(noise) = said.noise else {
            return Ok(None);
        };
        let (head, after) = (noise.ledger_head, Some(noise.epsilon_after));
        let place = (said.run, said.round, 1);
        (
            said.institution,
            said.plan,
            place,
            Some(head),
            Kind::Evaluation,
            after,
        )
    } else {
        let said: UpdateReceipt = peek(&kept.receipt).map_err(unreadable)?;
        let place = (said.run, said.round, said.attempt);
        let (head, after) = (said.ledger_head, said.epsilon_after);
        (
            said.institution,
            said.plan,
            place,
            head,
            Kind::Update,
            after,
        )
    };
    if author != *institution || of != digest {
        let message = format!("the coordinator shows a receipt of {author} for another plan");
        return Err(Refusal::new(Code::SignatureInvalid, message));
    }
    let Some(head) = head else {
        return Ok(None);
    };
    let counts = plan.privacy.count_noise().filter(|_| kept.evaluation);
    let cost = if let Some(noise) = counts {
        Cost::of_counts(noise)
    } else {
        let dimension = usize::try_from(kept.dimension).unwrap_or(usize::MAX);
        Cost::of_update(&plan, kept.units.max(1), dimension)
    };
    let debit = debit(institution, (&plan, digest), place, (kind, cost));
    Ok(Some(Spent {
        head,
        plan,
        debit,
        epsilon_after,
    }))
}

fn peek<S: fedner_shared::sign::Statement>(
    signed: &Signed,
) -> Result<S, fedner_shared::sign::Error> {
    signed.peek()
}

#[cfg(test)]
mod tests {
    use fedner_shared::sign::SecretKey;

    use super::*;

    const NOW: Time = Time::from_millis(1_000);
    const DIMENSION: usize = 100;

    fn anna() -> InstitutionId {
        "anna".parse().expect("name")
    }

    fn plan() -> Plan {
        let text = r#"
            name = "notes"
            base = "base@1"
            labels = ["Disease"]
            method = "head"
            rounds = 3
            [cohort]
            institutions = ["anna"]
            quorum = 1
            [privacy]
            unit = "institution"
            noise_multiplier = 1.0
            max_epsilon = 1000.0
        "#;
        Plan::parse(text).expect("a plan")
    }

    /// The books that are lost: debits of these rounds and attempts.
    fn lost(places: &[(u32, u32)]) -> (Ledger, Vec<Entry>) {
        let (plan, mut ledger, mut entries) = (plan(), Ledger::default(), Vec::new());
        for (round, attempt) in places {
            let cost = Cost::of_update(&plan, 50, DIMENSION);
            let place = ("notes.1".parse().expect("run"), *round, *attempt);
            let debit = debit(&anna(), (&plan, plan.digest()), place, (Kind::Update, cost));
            let entry = ledger.propose(NOW, debit, f64::INFINITY, None);
            let entry = entry.expect("allowed");
            ledger.append(entry.clone()).expect("appended");
            entries.push(entry);
        }
        (ledger, entries)
    }

    /// What the coordinator keeps of it.
    fn kept(entry: &Entry, author: &InstitutionId) -> KeptReceipt {
        let file = Digest::of(b"file");
        let said = UpdateReceipt {
            run: entry.debit.run.clone(),
            plan: entry.debit.plan,
            round: entry.debit.round,
            attempt: entry.debit.attempt,
            institution: author.clone(),
            base: file,
            manifest: file,
            weight: 50,
            blob: file,
            bytes: 1,
            masked: None,
            sigma: 1.0,
            epsilon_after: Some(entry.epsilon_after),
            epsilon_alone: None,
            ledger_head: Some(entry.digest()),
            at: NOW,
        };
        let key = SecretKey::from_seed([1; 32]);
        KeptReceipt {
            receipt: Signed::new(&said, &key),
            evaluation: false,
            plan: Signed::new(&plan(), &key),
            dimension: DIMENSION as u64,
            units: 50,
        }
    }

    fn rebuilt(kept: &[KeptReceipt], heads: &[Digest]) -> Result<(Rebuilt, f64), Refusal> {
        let (empty, none) = (Ledger::default(), BTreeSet::new());
        let rebuilt = rebuild((&empty, &none), &anna(), kept, heads, NOW)?;
        let book = Ledger::replay(rebuilt.entries.clone()).expect("a sound chain");
        let spent = spent(&book, &anna(), &plan()).expect("noise");
        Ok((rebuilt, spent))
    }

    #[test]
    fn the_books_say_no_less_than_the_receipts_and_what_they_say_was_spent_before() {
        // The first attempt was paid for and came to nothing.
        let (ledger, entries) = lost(&[(1, 1), (1, 2), (2, 1)]);
        let before = spent(&ledger, &anna(), &plan()).expect("noise");
        let receipts: Vec<_> = entries[1..]
            .iter()
            .map(|entry| kept(entry, &anna()))
            .collect();
        let head = entries[2].digest();
        let (found, after) = rebuilt(&receipts, &[head]).expect("rebuilt");
        assert!(after >= before * SAME, "{after}: {before} was spent");
        assert_eq!((found.without_receipt, found.entries.len()), (1, 6));
        // What was announced and refused has a head and no receipt.
        let (found, more) = rebuilt(&receipts, &[head, Digest::of(b"refused")]).expect("rebuilt");
        assert!(more > after && found.without_receipt == 2, "{found:?}");
        // Nothing is added twice.
        let book = Ledger::replay(found.entries).expect("a sound chain");
        let again = rebuild((&book, &found.heads), &anna(), &receipts, &[head], NOW);
        assert!(again.expect("nothing").entries.is_empty());
    }

    #[test]
    fn what_is_not_ones_own_or_cannot_be_told_is_refused() {
        let (_, entries) = lost(&[(1, 1)]);
        let other = kept(&entries[0], &"bert".parse().expect("name"));
        let refusal = rebuilt(&[other], &[]).expect_err("another's");
        assert_eq!(refusal.code, Code::SignatureInvalid);
        let refusal = rebuilt(&[], &[Digest::of(b"head")]).expect_err("no cost is known");
        assert_eq!(refusal.code, Code::LedgerBehind);
    }
}
