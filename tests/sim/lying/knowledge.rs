//! What a coordinator, and those who side with it, can compute from all messages that they have seen.
//!
//! A vector is y = x + PRG(s) ± Σ PRG(k). s is known from t shares of a seed, k from t shares of a mask key at either
//! end, and from an end that is the coordinator's own. Each unknown k joins the two vectors that it is in, since it is
//! gone only in their sum. So what can be computed are the sums over parts that are joined, where every s is known and
//! no k leads elsewhere; and differences of two vectors under the same masks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::threshold;
use fedner_shared::secure::{SecureKeys, SecureShares, SecureUnmasking, Told};
use fedner_shared::sign::Signed;

/// The public mask key of a member's attempt, which stands for its secrets.
type Key = Vec<u8>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Seed,
    MaskKey,
}

/// What is known of one member's shares in one roster.
#[derive(Debug, Default)]
struct Dealing {
    threshold: usize,
    holders: BTreeMap<Kind, BTreeSet<InstitutionId>>,
}

impl Dealing {
    fn learn(&mut self, kind: Kind, holder: &InstitutionId) {
        self.holders.entry(kind).or_default().insert(holder.clone());
    }
}

/// A masked update, as its sender saw its attempt.
#[derive(Debug)]
struct Vector {
    sender: InstitutionId,
    key: Key,
    peers: BTreeSet<Key>,
    blob: Digest,
}

/// All that honest members have said, and what it amounts to.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// Keys of honest members; all others are the coordinator's own.
    honest: BTreeSet<Key>,
    dealings: BTreeMap<(Key, Digest), Dealing>,
    vectors: Vec<Vector>,
}

/// The keys that a member was shown.
fn keys(told: &Told) -> Result<BTreeMap<InstitutionId, Key>> {
    let each = told.keys.iter().map(|signed| {
        let said: SecureKeys = signed.peek()?;
        Ok((said.institution, said.mask.0))
    });
    each.collect()
}

impl Knowledge {
    pub(crate) fn hear_keys(&mut self, signed: &Signed) -> Result<()> {
        let said: SecureKeys = signed.peek()?;
        self.honest.insert(said.mask.0);
        Ok(())
    }

    /// Shares that were dealt to `own`, the coordinator's members of the roster, can be opened.
    pub(crate) fn hear_shares(
        &mut self,
        told: &Told,
        signed: &Signed,
        own: &[InstitutionId],
    ) -> Result<()> {
        let said: SecureShares = signed.peek()?;
        let Some(key) = keys(told)?.remove(&said.institution) else {
            return Ok(());
        };
        let dealing = self.dealings.entry((key, said.roster)).or_default();
        dealing.threshold = threshold(said.sealed.len());
        for holder in own.iter().filter(|name| said.sealed.contains_key(*name)) {
            dealing.learn(Kind::Seed, holder);
            dealing.learn(Kind::MaskKey, holder);
        }
        Ok(())
    }

    pub(crate) fn hear_vector(
        &mut self,
        told: &Told,
        sender: &InstitutionId,
        blob: Digest,
    ) -> Result<()> {
        let mut keys = keys(told)?;
        let mut peers = BTreeSet::new();
        for signed in &told.shares {
            let said: SecureShares = signed.peek()?;
            peers.extend(keys.get(&said.institution).cloned());
        }
        let Some(key) = keys.remove(sender) else {
            return Ok(());
        };
        peers.remove(&key);
        self.vectors.push(Vector {
            sender: sender.clone(),
            key,
            peers,
            blob,
        });
        Ok(())
    }

    pub(crate) fn hear_unmasking(&mut self, told: &Told, signed: &Signed) -> Result<()> {
        let said: SecureUnmasking = signed.peek()?;
        let keys = keys(told)?;
        let of = |kind: Kind| move |name| (kind, name);
        let seeds = said.own_seeds.keys().map(of(Kind::Seed));
        let masks = said.mask_keys.keys().map(of(Kind::MaskKey));
        for (kind, name) in seeds.chain(masks) {
            let key = keys.get(name).cloned().unwrap_or_default();
            let dealing = self.dealings.entry((key, said.roster)).or_default();
            dealing.threshold = threshold(keys.len());
            dealing.learn(kind, &said.institution);
        }
        Ok(())
    }

    fn knows(&self, kind: Kind, key: &Key) -> bool {
        let enough = |dealing: &Dealing| {
            let holders = dealing.holders.get(&kind);
            holders.is_some_and(|holders| holders.len() >= dealing.threshold)
        };
        let mut dealings = self.dealings.iter().filter(|((of, _), _)| of == key);
        !self.honest.contains(key) || dealings.any(|(_, dealing)| enough(dealing))
    }

    /// With whom a vector has a mask that is not known.
    fn joined<'a>(&'a self, vector: &'a Vector) -> impl Iterator<Item = &'a Key> {
        let own = self.knows(Kind::MaskKey, &vector.key);
        let peers = vector.peers.iter();
        peers.filter(move |peer| !own && !self.knows(Kind::MaskKey, peer))
    }

    /// Whose vectors the sums are over that can be computed.
    pub(crate) fn sums(&self) -> Vec<BTreeSet<InstitutionId>> {
        let mut seen = BTreeSet::new();
        let mut sums = Vec::new();
        for first in 0..self.vectors.len() {
            if seen.contains(&first) {
                continue;
            }
            let (mut part, mut hidden) = (vec![first], false);
            seen.insert(first);
            let mut next = 0;
            while let Some(place) = part.get(next).copied() {
                next += 1;
                let vector = &self.vectors[place];
                hidden |= !self.knows(Kind::Seed, &vector.key);
                for peer in self.joined(vector) {
                    let both =
                        |other: &Vector| other.key == *peer && other.peers.contains(&vector.key);
                    let Some(other) = self.vectors.iter().position(both) else {
                        hidden = true;
                        continue;
                    };
                    if seen.insert(other) {
                        part.push(other);
                    }
                }
            }
            if !hidden {
                let senders = part.iter().map(|place| self.vectors[*place].sender.clone());
                sums.push(senders.collect());
            }
        }
        sums
    }

    /// A single update that can be computed, or a sum over fewer than `least` honest members.
    pub(crate) fn violation(&self, least: usize) -> Option<String> {
        for (place, vector) in self.vectors.iter().enumerate() {
            let mut later = self.vectors[place + 1..].iter();
            if later.any(|other| other.key == vector.key && other.blob != vector.blob) {
                return Some(format!("{} has two vectors under one mask", vector.sender));
            }
        }
        let sums = self.sums();
        let small = sums.iter().find(|sum| sum.len() < least);
        small.map(|sum| format!("a sum over {sum:?}, of {least} at the least, is open"))
    }
}
