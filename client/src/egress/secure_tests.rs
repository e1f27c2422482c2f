//! A coordinator that lies to one institution in the steps of a secure aggregation. The other members side with it.

use std::collections::{BTreeMap, BTreeSet};

use fedner_secagg::{Members, Secret};
use fedner_shared::id::InstitutionId;
use fedner_shared::secure::{
    AttemptId, SecureKeys, SecureSet, SecureShares, SecureStep, SecureUnmasking, Signers, Told,
    fingerprint,
};
use fedner_shared::sign::SecretKey;

use super::*;
use crate::state::tests::Place;

const OWN: &str = "st-anna";
const OTHERS: [&str; 3] = ["mercy", "north", "south"];

fn name(text: &str) -> InstitutionId {
    text.parse().expect("name")
}

fn key_of(name: &str) -> SecretKey {
    match name {
        OWN => SecretKey::from_seed([1; 32]),
        other => SecretKey::from_seed([other.as_bytes()[0]; 32]),
    }
}

fn secret_of(name: &str, attempt: u32) -> Secret {
    Secret::from_bytes([name.as_bytes()[0] ^ attempt as u8; 32])
}

/// The institution under test and what the coordinator holds of it.
struct Lied {
    place: Place,
    plan: Plan,
    policy: Policy,
}

/// What was said in an attempt, as an honest coordinator would hand it out.
#[derive(Clone)]
struct World {
    task: Task,
    told: Told,
}

impl Lied {
    fn new() -> Self {
        let mut plan = plan("institution");
        plan.cohort.institutions = [OWN].iter().chain(&OTHERS).map(|n| name(n)).collect();
        plan.cohort.quorum = 3;
        plan.cohort.weighting = fedner_shared::plan::Weighting::Equal;
        plan.rounds = 5;
        let secure = "colluding = 0\nstep_timeout_s = 60";
        plan.secure_aggregation = Some(toml::from_str(secure).expect("a table"));
        plan.check().expect("a plan");
        Self {
            place: Place::new(),
            plan,
            policy: Policy::default(),
        }
    }

    fn gate(&self) -> Gate {
        let blobs = Blobs::open(self.place.path().join("blobs")).expect("blobs");
        Gate::new(self.place.open(), blobs, Arc::new(identity()))
    }

    fn task(&self, attempt: u32) -> Task {
        Task {
            kind: Kind::Train,
            run: "run-1".parse().expect("name"),
            plan: self.plan.digest(),
            round: 1,
            attempt,
            version: Digest::of(b"version"),
            record: "{}".into(),
            manifest: manifest().digest(),
        }
    }

    fn ask(&self, task: &Task, step: SecureStep, told: &Told) -> Result<Signed, Error> {
        let request = StepRequest {
            task,
            plan: &self.plan,
            policy: &self.policy,
            step,
            told,
            secret: [77; 32],
        };
        // As after a restart.
        let released = self.gate().take_step(&request)?;
        assert_eq!(released.step(), step);
        Ok(released.statement().clone())
    }

    fn refused(&self, task: &Task, step: SecureStep, told: &Told) -> Code {
        match self.ask(task, step, told) {
            Err(Error::Refused(refusal)) => refusal.code,
            other => panic!("{step} was answered: {other:?}"),
        }
    }

    fn signers() -> Signers {
        let all = [OWN].into_iter().chain(OTHERS);
        all.map(|one| (name(one), key_of(one).public())).collect()
    }

    /// Everybody has sent keys.
    fn with_keys(&self, attempt: u32) -> World {
        let task = self.task(attempt);
        let of = attempt_id(&task, u64::from(attempt));
        let mut told = Told {
            number: u64::from(attempt),
            signers: Self::signers(),
            ..Told::default()
        };
        told.keys = vec![self.ask(&task, SecureStep::Keys, &told).expect("keys")];
        told.keys
            .extend(OTHERS.map(|other| keys_of(other, &of, attempt)));
        World { task, told }
    }

    /// Everybody has dealt shares.
    fn with_shares(&self, attempt: u32) -> World {
        let mut world = self.with_keys(attempt);
        let told = &world.told;
        let own = self.ask(&world.task, SecureStep::Shares, told);
        world.told.shares = vec![own.expect("shares")];
        let others = OTHERS.map(|other| world.shares_of(other, attempt));
        world.told.shares.extend(others);
        world
    }

    /// This institution's update is under its masks.
    fn masked(&self, attempt: u32) -> World {
        let world = self.with_shares(attempt);
        let (gate, World { task, told }) = (self.gate(), &world);
        gate.agree_on_masks(task, &self.plan, &self.policy, Some(told))
            .expect("agreed");
        let masks = gate.masks(task, &self.plan).expect("masks");
        let mut attempt = masks.expect("the plan masks").attempt;
        attempt.said = attempt.said.mask(Digest::of(b"vector")).expect("one");
        self.place
            .open()
            .save_secure_attempt(&attempt)
            .expect("saved");
        world
    }
}

fn keys_of(other: &str, of: &AttemptId, attempt: u32) -> Signed {
    let keys = secret_of(other, attempt).keys_of(of, &name(other));
    Signed::new(&keys.expect("keys"), &key_of(other))
}

impl World {
    fn of(&self) -> AttemptId {
        attempt_id(&self.task, self.told.number)
    }

    fn members(&self) -> Members {
        Members::new(&self.of(), &self.told.signers, &self.told.keys).expect("members")
    }

    fn shares_of(&self, other: &str, attempt: u32) -> Signed {
        let shares = self
            .members()
            .deal(&secret_of(other, attempt), &name(other));
        Signed::new(&shares.expect("shares"), &key_of(other))
    }

    /// The coordinator names this set, and these members sign it.
    fn naming(&self, set: &[&str], signed_by: &[&str]) -> Told {
        let dealt = self.members().dealt(&self.told.shares).expect("dealt");
        let mut members: Vec<InstitutionId> = set.iter().map(|one| name(one)).collect();
        members.sort();
        let sign = |who: &&str| {
            let set = SecureSet {
                of: self.of(),
                institution: name(who),
                roster: dealt.members().digest(),
                dealt: dealt.digest(),
                members: members.clone(),
            };
            Signed::new(&set, &key_of(who))
        };
        Told {
            sets: signed_by.iter().map(sign).collect(),
            members: members.clone(),
            ..self.told.clone()
        }
    }
}

const ALL: [&str; 4] = [OWN, "mercy", "north", "south"];
const WITHOUT_MERCY: [&str; 3] = [OWN, "north", "south"];

#[test]
fn an_honest_attempt_is_answered_and_again_with_the_same_bytes() {
    let lied = Lied::new();
    let world = lied.masked(1);
    let task = &world.task;
    let keys = lied
        .ask(task, SecureStep::Keys, &world.told)
        .expect("again");
    assert_eq!(keys, world.told.keys[0]);
    let shares = lied
        .ask(task, SecureStep::Shares, &world.told)
        .expect("again");
    assert_eq!(shares, world.told.shares[0]);
    let told = world.naming(&WITHOUT_MERCY, &WITHOUT_MERCY);
    let set = lied
        .ask(task, SecureStep::Consistency, &told)
        .expect("a set");
    assert_eq!(set, told.sets[0]);
    let first = lied.ask(task, SecureStep::Unmasking, &told).expect("told");
    let again = lied.ask(task, SecureStep::Unmasking, &told).expect("told");
    assert_eq!(first, again);
    let said: SecureUnmasking = first.peek().expect("readable");
    assert!(said.own_seeds.keys().eq(&told.members));
    assert!(said.mask_keys.keys().eq([&name("mercy")]));
}

#[test]
fn both_kinds_of_share_of_one_member_are_never_told() {
    for first in [&ALL[..], &WITHOUT_MERCY] {
        let lied = Lied::new();
        let world = lied.masked(1);
        let mut told: BTreeMap<InstitutionId, BTreeSet<&str>> = BTreeMap::new();
        // Whichever set comes first, each with the signatures of all that it names, were they stolen.
        let others: [&[&str]; 4] = [first, &ALL, &WITHOUT_MERCY, &[OWN, "mercy", "south"]];
        for (place, set) in others.into_iter().enumerate() {
            let named = world.naming(set, set);
            for step in [SecureStep::Consistency, SecureStep::Unmasking] {
                let Ok(answer) = lied.ask(&world.task, step, &named) else {
                    assert!(set != first, "{step} of {place}");
                    continue;
                };
                assert_eq!(set, first, "{step} of {place}");
                if step == SecureStep::Unmasking {
                    let said: SecureUnmasking = answer.peek().expect("readable");
                    for (kind, all) in [("seed", said.own_seeds), ("key", said.mask_keys)] {
                        for member in all.into_keys() {
                            told.entry(member).or_default().insert(kind);
                        }
                    }
                }
            }
        }
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told.values().all(|kinds| kinds.len() == 1), "{told:?}");
    }
}

#[test]
fn a_set_without_enough_signatures_members_or_this_institution_is_not_unmasked() {
    let lied = Lied::new();
    let world = lied.masked(1);
    let refused = |told: &Told| {
        let code = lied.refused(&world.task, SecureStep::Unmasking, told);
        assert_eq!(code, Code::SecureStep);
    };
    refused(&world.naming(&ALL, &["mercy", "north"]));
    refused(&world.naming(&[OWN, "mercy"], &OTHERS));
    refused(&world.naming(&OTHERS, &OTHERS));
    // Signatures over another set than the one named.
    let mut mixed = world.naming(&ALL, &OTHERS);
    mixed.members = world.naming(&WITHOUT_MERCY, &[]).members;
    refused(&mixed);
    // Of another attempt.
    let mut replayed = world.naming(&ALL, &OTHERS);
    let other = AttemptId {
        attempt: 2,
        ..world.of()
    };
    for (signed, who) in replayed.sets.iter_mut().zip(OTHERS) {
        let mut set: SecureSet = signed.peek().expect("readable");
        set.of = other.clone();
        *signed = Signed::new(&set, &key_of(who));
    }
    let code = lied.refused(&world.task, SecureStep::Unmasking, &replayed);
    assert_eq!(code, Code::SignatureInvalid);
    // Nothing that was refused was taken for the one answer.
    let honest = world.naming(&ALL, &ALL);
    lied.ask(&world.task, SecureStep::Unmasking, &honest)
        .expect("told");
}

#[test]
fn another_roster_is_not_dealt_to() {
    let lied = Lied::new();
    let world = lied.with_keys(1);
    lied.ask(&world.task, SecureStep::Shares, &world.told)
        .expect("dealt");
    let of = world.of();
    let refused = |told: &Told| lied.refused(&world.task, SecureStep::Shares, told);
    // Other keys of one member.
    let mut other = world.told.clone();
    other.keys[1] = keys_of("mercy", &of, 9);
    assert_eq!(refused(&other), Code::SecureStep);
    // One member fewer.
    let mut fewer = world.told.clone();
    fewer.keys.pop();
    fewer.signers.remove(&name("south"));
    assert_eq!(refused(&fewer), Code::SecureStep);
    // Keys that this institution did not send, which nobody else can sign.
    let mut forged = world.told.clone();
    let keys: SecureKeys = forged.keys[1].peek().expect("readable");
    let keys = SecureKeys {
        institution: name(OWN),
        ..keys
    };
    forged.keys[0] = Signed::new(&keys, &key_of("mercy"));
    assert_eq!(refused(&forged), Code::SignatureInvalid);
    // A replay of an earlier attempt's keys.
    let mut replayed = world.told.clone();
    let earlier = AttemptId { attempt: 3, ..of };
    replayed.keys[1] = keys_of("mercy", &earlier, 1);
    assert_eq!(refused(&replayed), Code::SignatureInvalid);
}

#[test]
fn a_roster_with_a_wrong_key_a_stranger_or_too_few_known_gets_no_keys() {
    let mut lied = Lied::new();
    let task = lied.task(1);
    let told = |signers: Signers| Told {
        number: 1,
        signers,
        ..Told::default()
    };
    let refused = |lied: &Lied, signers: Signers| {
        let code = lied.refused(&task, SecureStep::Keys, &told(signers));
        assert_eq!(code, Code::RosterRefused);
    };
    let mut wrong = Lied::signers();
    wrong.insert(name(OWN), key_of("mercy").public());
    refused(&lied, wrong);
    let mut stranger = Lied::signers();
    stranger.insert(name("invented"), key_of("x").public());
    refused(&lied, stranger);
    lied.policy.min_known = 1;
    refused(&lied, Lied::signers());
    let known = fingerprint(&key_of("mercy").public());
    lied.policy.known_institutions.insert(name("mercy"), known);
    let mut other = Lied::signers();
    other.insert(name("mercy"), key_of("x").public());
    refused(&lied, other);
    lied.ask(&task, SecureStep::Keys, &told(Lied::signers()))
        .expect("keys");
}

/// Three that collude can open what is dealt to a roster of four.
#[test]
fn no_shares_are_dealt_to_a_roster_below_the_quorum() {
    let mut lied = Lied::new();
    lied.plan.cohort.quorum = 4;
    let mut world = lied.with_keys(1);
    world.told.signers.remove(&name("mercy"));
    world.told.keys.remove(1);
    let code = lied.refused(&world.task, SecureStep::Shares, &world.told);
    assert_eq!(code, Code::SecureStep);
    let world = lied.with_keys(1);
    lied.ask(&world.task, SecureStep::Shares, &world.told)
        .expect("shares");
}

#[test]
fn known_members_count_in_the_set_that_is_unmasked() {
    let mut lied = Lied::new();
    let known = fingerprint(&key_of("mercy").public());
    lied.policy.known_institutions.insert(name("mercy"), known);
    lied.policy.min_known = 1;
    let world = lied.masked(1);
    let without = world.naming(&WITHOUT_MERCY, &OTHERS);
    let code = lied.refused(&world.task, SecureStep::Consistency, &without);
    assert_eq!(code, Code::RosterRefused);
}

#[test]
fn attempts_do_not_come_back_and_masks_are_used_once() {
    let lied = Lied::new();
    let world = lied.masked(2);
    let of_first = Told {
        number: 1,
        signers: Lied::signers(),
        ..Told::default()
    };
    let code = lied.refused(&lied.task(1), SecureStep::Keys, &of_first);
    assert_eq!(code, Code::SecureStep);
    // A second update of the same attempt.
    let again = lied.gate().masks(&world.task, &lied.plan);
    assert!(matches!(again, Err(Error::Refused(refusal)) if refusal.code == Code::SecureStep));
    // With other dealers the masks would be others.
    let mut fewer = world.told.clone();
    fewer.shares.pop();
    let agreed = lied
        .gate()
        .agree_on_masks(&world.task, &lied.plan, &lied.policy, Some(&fewer));
    assert!(matches!(agreed, Err(Error::Refused(_))), "{agreed:?}");
    // The next attempt has other keys.
    let next = lied.with_keys(3);
    let keys = |signed: &Signed| signed.peek::<SecureKeys>().expect("readable").mask;
    assert_ne!(keys(&next.told.keys[0]), keys(&world.told.keys[0]));
    // And the last one is unmasked no more.
    let late = world.naming(&ALL, &ALL);
    let code = lied.refused(&world.task, SecureStep::Unmasking, &late);
    assert_eq!(code, Code::SecureStep);
}

#[test]
fn shares_that_cannot_be_opened_are_noticed_before_text_is_read() {
    let lied = Lied::new();
    let mut world = lied.with_shares(1);
    let mut shares: SecureShares = world.told.shares[1].peek().expect("readable");
    if let Some(sealed) = shares.sealed.get_mut(&name(OWN)) {
        sealed.0[3] ^= 1;
    }
    world.told.shares[1] = Signed::new(&shares, &key_of("mercy"));
    let agreed =
        lied.gate()
            .agree_on_masks(&world.task, &lied.plan, &lied.policy, Some(&world.told));
    assert!(matches!(agreed, Err(Error::Refused(_))), "{agreed:?}");
}

/// Members that nobody here knows may be inventions that add no noise.
#[test]
fn noise_is_shared_with_known_members_only() {
    let mut lied = Lied::new();
    if let Some(secure) = &mut lied.plan.secure_aggregation {
        secure.colluding = 1;
    }
    lied.plan.privacy.noise_shares = 2;
    lied.plan.check().expect("a plan");
    let know = |lied: &mut Lied, other: &str| {
        let known = fingerprint(&key_of(other).public());
        lied.policy.known_institutions.insert(name(other), known);
    };
    let told = Told {
        number: 1,
        signers: Lied::signers(),
        ..Told::default()
    };
    let allowed = |lied: &Lied| crate::consent::allows(&lied.policy, &identity(), &lied.plan);
    know(&mut lied, "mercy");
    let code = lied.refused(&lied.task(1), SecureStep::Keys, &told);
    assert_eq!(code, Code::RosterRefused);
    let refusal = allowed(&lied).expect_err("two are unknown");
    assert_eq!(refusal.code, Code::RosterRefused);
    assert!(refusal.message.contains("north, south"), "{refusal}");
    // Without shared noise it is each policy's own affair.
    lied.plan.privacy.noise_shares = 1;
    allowed(&lied).expect("the noise is its own");
    lied.plan.privacy.noise_shares = 2;
    // As many unknown ones as may collude.
    know(&mut lied, "north");
    allowed(&lied).expect("one is unknown");
    lied.ask(&lied.task(1), SecureStep::Keys, &told)
        .expect("keys");
    // Under the name of a known one.
    let mut other = Lied::signers();
    other.insert(name("mercy"), key_of("x").public());
    let told = Told {
        signers: other,
        ..told
    };
    let code = lied.refused(&lied.task(1), SecureStep::Keys, &told);
    assert_eq!(code, Code::RosterRefused);
}

/// The steps of an attempt ask again: a policy may have changed, and a roster does.
#[test]
fn masks_are_made_with_known_members_only() {
    let mut lied = Lied::new();
    if let Some(secure) = &mut lied.plan.secure_aggregation {
        secure.colluding = 1;
    }
    lied.plan.privacy.noise_shares = 2;
    for other in OTHERS {
        let known = fingerprint(&key_of(other).public());
        lied.policy.known_institutions.insert(name(other), known);
    }
    let world = lied.with_shares(1);
    let (gate, plan) = (lied.gate(), &lied.plan);
    let agree = |policy: &Policy| gate.agree_on_masks(&world.task, plan, policy, Some(&world.told));
    let agreed = agree(&Policy::default());
    assert!(
        matches!(&agreed, Err(Error::Refused(refusal)) if refusal.code == Code::RosterRefused),
        "{agreed:?}"
    );
    agree(&lied.policy).expect("all are known");
}
