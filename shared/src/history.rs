//! The coordinator's events as a Merkle tree, so that a member can check that its history only grows.
//!
//! Hashes, roots and proofs are those of RFC 9162 (Certificate Transparency), sections 2.1.1 to 2.1.4, with BLAKE3
//! in place of SHA-256. A proof says nothing of the events themselves, which are not every member's business.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::event::Entry;
use crate::id::InstitutionId;
use crate::sign::{PublicKey, Statement};
use crate::time::Time;

/// The longest proof: two digests for each level of a tree of 2^64 events.
pub const LONGEST_PROOF: usize = 128;

/// How far the history goes, as the coordinator says and signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The number of events.
    pub size: u64,
    pub root: Digest,
    /// By which this is signed. A member keeps the first that it is shown.
    pub key: PublicKey,
    pub at: Time,
}

impl Statement for Head {
    const KIND: &'static str = "history-head";
}

/// A member was shown that history, and signs it for the coordinator to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub institution: InstitutionId,
    pub size: u64,
    pub root: Digest,
    pub at: Time,
}

impl Statement for Seen {
    const KIND: &'static str = "history-seen";
}

/// What a coordinator hands out of its history, for a member to compare with its own copies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    pub institution: InstitutionId,
    /// Of all entries, in their order.
    pub digests: Vec<Digest>,
    /// The entries that are about the institution.
    pub entries: Vec<Entry>,
}

/// The digests of all perfect subtrees, by height.
#[derive(Debug, Clone, Default)]
pub struct Tree(Vec<Vec<Digest>>);

fn leaf(entry: Digest) -> Digest {
    hash(&[&[0], entry.as_bytes()])
}

fn node(left: Digest, right: Digest) -> Digest {
    hash(&[&[1], left.as_bytes(), right.as_bytes()])
}

fn hash(parts: &[&[u8]]) -> Digest {
    Digest::of(&parts.concat())
}

/// The largest power of two below `size`, which is 2 or more.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

impl FromIterator<Digest> for Tree {
    fn from_iter<T: IntoIterator<Item = Digest>>(entries: T) -> Self {
        let mut tree = Self::default();
        for entry in entries {
            tree.push(entry);
        }
        tree
    }
}

impl Tree {
    pub fn size(&self) -> u64 {
        self.0.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Adds the digest of the next entry.
    pub fn push(&mut self, entry: Digest) {
        let mut digest = leaf(entry);
        for height in 0.. {
            if self.0.len() == height {
                self.0.push(Vec::new());
            }
            let row = &mut self.0[height];
            row.push(digest);
            if row.len() % 2 == 1 {
                return;
            }
            digest = node(row[row.len() - 2], digest);
        }
    }

    /// The root of the first `size` entries; `None` where there are fewer.
    pub fn root(&self, size: u64) -> Option<Digest> {
        match size {
            0 => Some(hash(&[])),
            _ if size > self.size() => None,
            _ => Some(self.range(0, size)),
        }
    }

    /// The root of `size` entries from `from` on, which is a multiple of a power of two that is no less.
    fn range(&self, from: u64, size: u64) -> Digest {
        if size.is_power_of_two() {
            let height = size.trailing_zeros();
            return self.0[height as usize][(from >> height) as usize];
        }
        let left = split(size);
        node(self.range(from, left), self.range(from + left, size - left))
    }

    /// That the first `size` entries begin with the first `earlier`.
    pub fn consistency(&self, earlier: u64, size: u64) -> Option<Vec<Digest>> {
        if earlier > size || size > self.size() {
            return None;
        }
        let mut proof = Vec::new();
        if earlier > 0 && earlier < size {
            self.prove(earlier, 0, size, true, &mut proof);
        }
        Some(proof)
    }

    /// SUBPROOF of RFC 9162, section 2.1.4.1.
    fn prove(&self, earlier: u64, from: u64, size: u64, known: bool, proof: &mut Vec<Digest>) {
        if earlier == size {
            if !known {
                proof.push(self.range(from, size));
            }
            return;
        }
        let left = split(size);
        if earlier <= left {
            self.prove(earlier, from, left, known, proof);
            proof.push(self.range(from + left, size - left));
        } else {
            self.prove(earlier - left, from + left, size - left, false, proof);
            proof.push(self.range(from, left));
        }
    }
}

/// Whether the proof shows that the history of `later` begins with that of `earlier` (RFC 9162, section 2.1.4.2).
pub fn extends(earlier: (u64, Digest), later: (u64, Digest), proof: &[Digest]) -> bool {
    let ((first, first_root), (second, second_root)) = (earlier, later);
    if first > second || proof.len() > LONGEST_PROOF {
        return false;
    }
    if first == second {
        return proof.is_empty() && first_root == second_root;
    }
    if first == 0 {
        return proof.is_empty();
    }
    let mut path = proof.iter().copied();
    let start = if first.is_power_of_two() {
        Some(first_root)
    } else {
        path.next()
    };
    let Some(start) = start else {
        return false;
    };
    let (mut fn_, mut sn) = (first - 1, second - 1);
    while fn_ & 1 == 1 {
        fn_ >>= 1;
        sn >>= 1;
    }
    let (mut old, mut new) = (start, start);
    for sibling in path {
        if sn == 0 {
            return false;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            old = node(sibling, old);
            new = node(sibling, new);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            new = node(new, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    sn == 0 && old == first_root && new == second_root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(size: u64, fork: Option<u64>) -> Tree {
        let mut tree = Tree::default();
        for number in 0..size {
            let text = match fork {
                Some(at) if number >= at => format!("other {number}"),
                Some(_) | None => number.to_string(),
            };
            tree.push(Digest::of(text.as_bytes()));
        }
        tree
    }

    /// The root as section 2.1.1 defines it.
    fn naive(entries: &[Digest]) -> Digest {
        match entries {
            [] => hash(&[]),
            [one] => leaf(*one),
            _ => {
                let (left, right) = entries.split_at(split(entries.len() as u64) as usize);
                node(naive(left), naive(right))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        let entries: Vec<Digest> = (0..70)
            .map(|n: u64| Digest::of(n.to_string().as_bytes()))
            .collect();
        let tree = tree(70, None);
        for size in 0..=70 {
            assert_eq!(
                tree.root(size as u64),
                Some(naive(&entries[..size])),
                "{size}"
            );
        }
        assert_eq!(tree.root(71), None);
    }

    #[test]
    fn a_history_that_grew_is_told_from_one_that_was_changed() {
        let size = 40;
        let honest = tree(size, None);
        for first in 0..=size {
            let earlier = (first, honest.root(first).expect("root"));
            for second in first..=size {
                let later = (second, honest.root(second).expect("root"));
                let proof = honest.consistency(first, second).expect("proof");
                assert!(extends(earlier, later, &proof), "{first} to {second}");
                // Another history, whose own proof is right for itself.
                for fork in [0, first / 2, first.saturating_sub(1)] {
                    let forged = tree(size, Some(fork));
                    let later = (second, forged.root(second).expect("root"));
                    let proof = forged.consistency(first, second).expect("proof");
                    let hidden = first > 0 && extends(earlier, later, &proof);
                    assert!(!hidden, "{first} to {second}, forked at {fork}");
                }
                for wrong in 0..proof.len() {
                    let mut proof = proof.clone();
                    proof[wrong] = Digest::of(b"wrong");
                    assert!(!extends(earlier, later, &proof));
                    proof.truncate(wrong);
                    assert!(!extends(earlier, later, &proof));
                }
                assert!(
                    second == first || !extends(later, earlier, &proof),
                    "shorter"
                );
            }
        }
    }

    #[test]
    fn a_head_reads_back() {
        let key = crate::sign::SecretKey::from_seed([1; 32]);
        let head = Head {
            size: 3,
            root: Digest::of(b"root"),
            key: key.public(),
            at: Time::from_millis(5),
        };
        let signed = crate::sign::Signed::new(&head, &key);
        assert_eq!(signed.verify::<Head>(&key.public()).expect("signed"), head);
    }
}
