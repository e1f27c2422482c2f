//! Messages that are not right, each in one way, by somebody who has a site's keys.

use std::collections::BTreeMap;
use std::time::Duration;

use fedner_round::Run;
use fedner_secagg::{SEALED_BYTES, SHARE_BYTES};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::score::{Counts, Scores};
use fedner_shared::secure::{
    Hex, SecureKeys, SecureSet, SecureShares, SecureStep, SecureUnmasking,
};
use fedner_shared::sign::{SecretKey, Signed};
use fedner_shared::statement::{Consent, EvaluationReceipt, UpdateReceipt};
use fedner_shared::time::Time;
use fedner_shared::update::encode;

use crate::op::Forgery;
use crate::outsider::{Call, Message};
use crate::plans::{LABEL, SITES, declared_examples, site_key};

/// A forged message about `run`, and what it would leave behind if it were taken.
pub(crate) fn forge(
    run: &Run,
    site: usize,
    forgery: Forgery,
    now: Time,
    salt: u64,
) -> (Message, Vec<Digest>) {
    let forger = Forger {
        run,
        site,
        now,
        salt,
    };
    let (call, traces) = forger.call(forgery);
    let caller = if forgery == Forgery::Viewer {
        "viewer"
    } else {
        SITES[site]
    };
    let message = Message {
        what: format!("{forgery:?} of {}", SITES[site]),
        caller: caller.to_owned(),
        call,
        forged: Some(run.id.clone()),
    };
    (message, traces)
}

/// Two consents, each of them right.
pub(crate) fn two_consents(run: &Run, site: usize, now: Time, salt: u64) -> Message {
    let consent = |salt| {
        let forger = Forger {
            run,
            site,
            now,
            salt,
        };
        forger.signed_consent(declared_examples(site), site)
    };
    Message {
        what: format!("two consents of {}", SITES[site]),
        caller: SITES[site].to_owned(),
        call: Call::CheckIn(vec![consent(salt), consent(salt + 1_000_000)]),
        forged: None,
    }
}

/// Forgeries are of the first institutions.
const FEW: usize = 4;

struct Forger<'a> {
    run: &'a Run,
    site: usize,
    now: Time,
    /// Makes each forgery another one.
    salt: u64,
}

impl Forger<'_> {
    fn call(&self, forgery: Forgery) -> (Call, Vec<Digest>) {
        let nonsense = Digest::of(format!("nonsense {}", self.salt).as_bytes());
        match forgery {
            Forgery::Base => self.receipt(|receipt| receipt.base = nonsense),
            Forgery::Manifest => self.receipt(|receipt| receipt.manifest = nonsense),
            Forgery::Weight => self.receipt(|receipt| receipt.weight += 1),
            Forgery::Round => self.receipt(|receipt| receipt.round += 100),
            Forgery::Plan => self.receipt(|receipt| receipt.plan = nonsense),
            Forgery::Run => {
                self.receipt(|receipt| receipt.run = "other.1".parse().expect("a name"))
            }
            Forgery::ForeignKey => self.update(self.honest(), |_| (), &site_key(50)),
            Forgery::OtherAuthor => {
                let other = (self.site + 1) % FEW;
                self.receipt(|receipt| receipt.institution = SITES[other].parse().expect("a name"))
            }
            Forgery::Garbage => self.bytes(format!("garbage {}", self.salt).into_bytes()),
            Forgery::OutOfRange => {
                let beyond = self.run.plan.privacy.value_bound() + 1;
                let mut values = self.values(self.run.dimension as usize);
                values[0] = i32::try_from(beyond).unwrap_or(i32::MAX);
                self.bytes(encoded(&values))
            }
            Forgery::TooFar => {
                let largest = self.run.plan.privacy.value_bound() as i32;
                let mut values = vec![largest; self.run.dimension as usize];
                values[0] -= (self.salt % 1000) as i32;
                self.bytes(encoded(&values))
            }
            Forgery::Dimension => {
                self.bytes(encoded(&self.values(self.run.dimension as usize + 1)))
            }
            Forgery::OtherBytes => {
                let (call, traces) = self.receipt(|receipt| receipt.blob = nonsense);
                (call, [traces, vec![nonsense]].concat())
            }
            Forgery::TooLong => self.receipt(|receipt| receipt.bytes -= 1),
            Forgery::EvaluationLabel => self.evaluation(|receipt| {
                receipt
                    .scores
                    .by_type
                    .insert("Secret".to_owned(), Counts::default());
            }),
            Forgery::EvaluationVersion => self.evaluation(|receipt| receipt.version = nonsense),
            Forgery::EvaluationPlan => self.evaluation(|receipt| receipt.plan = nonsense),
            Forgery::EvaluationRange => self.evaluation(|receipt| {
                let beyond = [u64::MAX, 1 << 63, 1_000_000_000_000_000];
                let beyond = beyond[self.salt as usize % beyond.len()];
                let counts = receipt.scores.by_type.entry(LABEL.to_owned()).or_default();
                counts.true_positives = beyond;
            }),
            Forgery::ConsentZero => self.consent(0, self.site),
            Forgery::ConsentAuthor => self.consent(7, (self.site + 1) % FEW),
            Forgery::StaleDecline => {
                let (run, round) = (self.run.id.to_string(), self.run.plan.rounds + 100);
                (Call::Decline { run, round }, Vec::new())
            }
            Forgery::Download => (Call::Download(nonsense), Vec::new()),
            Forgery::Viewer => (Call::CheckIn(Vec::new()), Vec::new()),
            Forgery::SecureKeys
            | Forgery::SecureShares
            | Forgery::SecureSet
            | Forgery::SecureUnmasking => self.step(forgery, nonsense),
        }
    }

    /// A statement of the attempt under way that fits nothing.
    fn step(&self, forgery: Forgery, nonsense: Digest) -> (Call, Vec<Digest>) {
        let (of, key) = (self.run.attempt_id(), &site_key(self.site));
        let institution: InstitutionId = SITES[self.site].parse().expect("a name");
        let members = vec![institution.clone()];
        let shares = || BTreeMap::from([(institution.clone(), Hex(vec![1; SHARE_BYTES]))]);
        let sealed = BTreeMap::from([(institution.clone(), Hex(vec![1; SEALED_BYTES]))]);
        let (roster, dealt) = (nonsense, nonsense);
        let (own_seeds, mask_keys) = (shares(), shares());
        let [mask, seal, commitment] = [0, 1, 2].map(|byte| Hex(vec![byte; 32]));
        #[expect(clippy::wildcard_enum_match_arm, reason = "the last of four")]
        let (step, signed) = match forgery {
            Forgery::SecureKeys => {
                let keys = SecureKeys {
                    of,
                    institution,
                    mask,
                    seal,
                    commitment,
                };
                (SecureStep::Keys, Signed::new(&keys, key))
            }
            Forgery::SecureShares => {
                let shares = SecureShares {
                    of,
                    institution,
                    roster,
                    sealed,
                };
                (SecureStep::Shares, Signed::new(&shares, key))
            }
            Forgery::SecureSet => {
                let set = SecureSet {
                    of,
                    institution,
                    roster,
                    dealt,
                    members,
                };
                (SecureStep::Consistency, Signed::new(&set, key))
            }
            _ => {
                let said = SecureUnmasking {
                    of,
                    institution,
                    roster,
                    dealt,
                    own_seeds,
                    mask_keys,
                };
                (SecureStep::Unmasking, Signed::new(&said, key))
            }
        };
        let trace = signed.digest();
        (Call::Step(step, signed), vec![trace])
    }

    fn values(&self, dimension: usize) -> Vec<i32> {
        let spread = |index: usize| ((index as u64 * 31 + self.salt) % 1000) as i32 - 500;
        (0..dimension).map(spread).collect()
    }

    /// An update that nobody trained and nobody paid for.
    fn honest(&self) -> Vec<u8> {
        encoded(&self.values(self.run.dimension as usize))
    }

    fn receipt(&self, edit: impl FnOnce(&mut UpdateReceipt)) -> (Call, Vec<Digest>) {
        self.update(self.honest(), edit, &site_key(self.site))
    }

    fn bytes(&self, bytes: Vec<u8>) -> (Call, Vec<Digest>) {
        self.update(bytes, |_| (), &site_key(self.site))
    }

    fn update(
        &self,
        bytes: Vec<u8>,
        edit: impl FnOnce(&mut UpdateReceipt),
        key: &SecretKey,
    ) -> (Call, Vec<Digest>) {
        let run = self.run;
        let blob = Digest::of(&bytes);
        let name = SITES[self.site].parse().expect("a name");
        let granted = run
            .members
            .get(&name)
            .and_then(|member| member.consent.as_ref());
        let mut receipt = UpdateReceipt {
            run: run.id.clone(),
            plan: run.plan_digest,
            round: run.round,
            attempt: run.attempt,
            base: run.version,
            manifest: run.manifest,
            weight: run
                .plan
                .weight(&name, granted.map_or(1, |granted| granted.examples)),
            institution: name,
            blob,
            bytes: bytes.len() as u64,
            masked: None,
            sigma: 1.0,
            epsilon_after: Some(0.1),
            epsilon_alone: None,
            ledger_head: None,
            at: self.now,
        };
        edit(&mut receipt);
        let receipt = Signed::new(&receipt, key);
        let traces = vec![blob, receipt.digest()];
        (Call::Upload { receipt, bytes }, traces)
    }

    fn evaluation(&self, edit: impl FnOnce(&mut EvaluationReceipt)) -> (Call, Vec<Digest>) {
        let counts = Counts {
            true_positives: self.salt,
            false_positives: 0,
            false_negatives: 0,
        };
        let mut receipt = EvaluationReceipt {
            run: self.run.id.clone(),
            plan: self.run.plan_digest,
            round: self.run.round,
            institution: SITES[self.site].parse().expect("a name"),
            version: self.run.version,
            scores: Scores {
                by_type: [(LABEL.to_owned(), counts)].into(),
            },
            noise: None,
            at: self.now,
        };
        edit(&mut receipt);
        let receipt = Signed::new(&receipt, &site_key(self.site));
        let trace = receipt.digest();
        (Call::Evaluation(receipt), vec![trace])
    }

    fn consent(&self, examples: u32, author: usize) -> (Call, Vec<Digest>) {
        let consent = self.signed_consent(examples, author);
        let trace = consent.digest();
        (Call::CheckIn(vec![consent]), vec![trace])
    }

    fn signed_consent(&self, examples: u32, author: usize) -> Signed {
        let consent = Consent {
            plan: self.run.plan_digest,
            institution: SITES[author].parse().expect("a name"),
            examples,
            held_out: None,
            annotation: None,
            policy: Digest::of(&self.salt.to_le_bytes()),
            at: self.now,
            expires: self.now + Duration::from_hours(24),
        };
        Signed::new(&consent, &site_key(self.site))
    }
}

fn encoded(values: &[i32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(values, &mut bytes).expect("memory takes it");
    bytes
}
