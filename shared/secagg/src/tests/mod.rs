//! Published vectors, sums over every set of survivors, and what masked vectors look like.

mod property;
mod uniform;
mod vectors;

use proptest::prelude::*;

use super::*;
use crate::packed::{add, buffer, pack};

fn seed(of: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        let mixed = (of + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ place as u64;
        *byte = (mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 37) as u8;
    }
    bytes
}

/// All members of one attempt.
struct Party {
    secrets: Vec<Secret>,
    roster: Roster,
    width: Width,
}

const BOUND: i64 = 1000;
const WEIGHT: u32 = 7;

impl Party {
    fn new(members: usize, salt: u64) -> Self {
        let context = Context(seed(salt));
        let secrets: Vec<Secret> = (0..members)
            .map(|member| Secret::from_bytes(seed(salt + 1 + member as u64)))
            .collect();
        let keys = secrets.iter().map(|secret| secret.public_keys(&context));
        let keys = keys.collect::<Result<_, _>>().expect("keys");
        let largest = BOUND as u128 * u128::from(WEIGHT) * members as u128;
        Self {
            secrets,
            roster: Roster::new(context, keys).expect("a roster"),
            width: Width::of_sums(largest).expect("a width"),
        }
    }

    fn masked(&self, own: usize, dealt: &[usize], values: &[i32]) -> Vec<u8> {
        let masker = Masker::new(&self.secrets[own], &self.roster, own, dealt, self.width);
        let mut bytes = Vec::new();
        let written = masker
            .expect("masks")
            .write(values, (WEIGHT, BOUND), &mut bytes);
        written.expect("memory");
        bytes
    }

    /// The answers of `answering` when `present` are in the sum.
    fn answers(&self, dealt: &[usize], present: &[usize], answering: &[usize]) -> Vec<Answer> {
        let sealed: Vec<Vec<Vec<u8>>> = (0..self.secrets.len())
            .map(|own| self.secrets[own].deal(&self.roster, own).expect("shares"))
            .collect();
        let answer = |own: &usize| {
            let mut answer = Answer {
                own_seeds: Vec::new(),
                mask_keys: Vec::new(),
            };
            for from in dealt {
                let sealed = &sealed[*from][*own];
                let held = self.secrets[*own].open(&self.roster, *own, *from, sealed);
                let held = held.expect("own shares");
                if present.contains(from) {
                    answer.own_seeds.push((*from, held.own_seed));
                } else {
                    answer.mask_keys.push((*from, held.mask_key));
                }
            }
            answer
        };
        answering.iter().map(answer).collect()
    }

    fn sum(
        &self,
        (dealt, present): (&[usize], &[usize]),
        answers: &[Answer],
        vectors: &[Vec<u8>],
    ) -> Result<Vec<i64>, Error> {
        let header: [u8; 8] = vectors[0][4..12].try_into().expect("a header");
        let dimension = u64::from_le_bytes(header) as usize;
        let opening = Opening::new(&self.roster, dealt, present, answers)?;
        let vectors = vectors.iter().map(Vec::as_slice).collect();
        let mut sum = opening.sum(vectors, dimension, self.width)?;
        let (mut all, mut sums) = (Vec::new(), Vec::new());
        while sum.left() > 0 {
            sum.next(&mut sums)?;
            all.extend_from_slice(&sums);
        }
        sum.finish()?;
        Ok(all)
    }
}

fn values(member: usize, dimension: usize) -> Vec<i32> {
    let value = |index: usize| {
        let mixed = (index * 7919 + member * 104_729 + 13) % (2 * BOUND as usize + 1);
        mixed as i32 - BOUND as i32
    };
    (0..dimension).map(value).collect()
}

fn open_sum(present: &[usize], dimension: usize) -> Vec<i64> {
    let mut sums = vec![0; dimension];
    for member in present {
        for (sum, value) in sums.iter_mut().zip(values(*member, dimension)) {
            *sum += i64::from(value) * i64::from(WEIGHT);
        }
    }
    sums
}

#[test]
fn fewer_than_three_and_more_than_a_hundred_form_no_group() {
    for members in [0, 1, 2, LARGEST_GROUP + 1] {
        assert!(matches!(Group::new(members), Err(Error::Members { found }) if found == members));
    }
    for members in SMALLEST_GROUP..=LARGEST_GROUP {
        let threshold = Group::new(members).expect("a group").threshold();
        assert!(3 * threshold > 2 * members && threshold <= members);
        assert!(3 * (threshold - 1) <= 2 * members, "the least such number");
    }
}

#[test]
fn one_key_used_twice_is_no_roster() {
    let party = Party::new(4, 1);
    let mut keys: Vec<PublicKeys> = (0..4)
        .map(|member| *party.roster.keys(member).expect("a member"))
        .collect();
    keys[3].mask = keys[0].mask;
    let context = *party.roster.context();
    assert!(matches!(
        Roster::new(context, keys.clone()),
        Err(Error::SameKey)
    ));
    keys[3].mask = keys[0].seal;
    assert!(matches!(Roster::new(context, keys), Err(Error::SameKey)));
}

#[test]
fn shares_open_for_their_holder_and_attempt_alone() {
    let party = Party::new(4, 2);
    let sealed = party.secrets[1].deal(&party.roster, 1).expect("shares");
    assert!(sealed.iter().all(|sealed| sealed.len() == SEALED_BYTES));
    // The same bytes after a restart.
    assert_eq!(
        sealed,
        party.secrets[1].deal(&party.roster, 1).expect("shares")
    );
    party.secrets[2]
        .open(&party.roster, 2, 1, &sealed[2])
        .expect("its own");
    let broken = |own: usize, from: usize, bytes: &[u8], roster: &Roster| {
        let opened = party.secrets[own].open(roster, own, from, bytes);
        assert!(matches!(opened, Err(Error::Envelope { .. })), "{opened:?}");
    };
    broken(3, 1, &sealed[2], &party.roster);
    broken(2, 0, &sealed[2], &party.roster);
    let mut changed = sealed[2].clone();
    changed[5] ^= 1;
    broken(2, 1, &changed, &party.roster);
    let keys = (0..4).map(|member| *party.roster.keys(member).expect("a member"));
    let other = Roster::new(Context(seed(99)), keys.collect()).expect("a roster");
    broken(2, 1, &sealed[2], &other);
}

#[test]
fn secrets_leave_no_trace() {
    fn zeroized<T: zeroize::ZeroizeOnDrop>() {}
    zeroized::<Secret>();
    zeroized::<Share>();
    zeroized::<SeedBytes>();
    let secret = Secret::from_bytes(seed(3));
    assert_eq!(format!("{secret:?}"), "Secret");
}

proptest! {
    #[test]
    fn packed_values_round_trip(
        bits in 2u32..=u32::from(LARGEST_WIDTH),
        values in prop::collection::vec(any::<i64>(), 1..300),
    ) {
        let largest = (1u128 << (bits - 1)) - 1;
        let width = Width::of_sums(largest).expect("a width");
        prop_assert_eq!(width.bits(), bits);
        let within: Vec<i64> = values.iter().map(|value| width.signed(*value as u64 & width.mask())).collect();
        let words: Vec<u64> = within.iter().map(|value| *value as u64).collect();
        let packed = pack(&words, width);
        prop_assert_eq!(packed.len(), width.payload_bytes(values.len()));
        let mut room = buffer(width);
        room[..packed.len()].copy_from_slice(&packed);
        let mut sums = vec![0; values.len()];
        add(&mut sums, &room, width, false);
        let read: Vec<i64> = sums.iter().map(|word| width.signed(*word)).collect();
        prop_assert_eq!(&read, &within);
        prop_assert!(read.iter().all(|value| u128::from(value.unsigned_abs()) <= largest + 1));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(matches!(Width::of_sums(1 << 55), Err(Error::Width(_))));
    assert_eq!(Width::of_sums((1 << 55) - 1).expect("fits").bits(), 56);
    let party = Party::new(3, 4);
    let masker = Masker::new(&party.secrets[0], &party.roster, 0, &[0, 1, 2], party.width);
    let too_large = masker.expect("masks").write(
        &[0, BOUND as i32 + 1],
        (WEIGHT, BOUND),
        &mut std::io::sink(),
    );
    assert!(matches!(too_large, Err(Error::Range { index: 1 })));
}

#[test]
fn damaged_files_are_told_from_whole_ones() {
    let party = Party::new(5, 5);
    let values = values(0, BLOCK + 3);
    let bytes = party.masked(0, &[0, 1, 2, 3, 4], &values);
    assert_eq!(bytes.len() as u64, party.width.bytes(values.len()));
    let check = |bytes: &[u8]| {
        let mut checker = Checker::new(values.len(), party.width);
        bytes
            .chunks(977)
            .try_for_each(|bytes| checker.push(bytes))?;
        checker.finish()
    };
    check(&bytes).expect("whole");
    assert!(matches!(
        check(&bytes[..bytes.len() - 1]),
        Err(Error::Truncated)
    ));
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(check(&longer), Err(Error::Trailing)));
    let mut other = bytes.clone();
    other[12] ^= 1;
    assert!(matches!(check(&other), Err(Error::Header { .. })));
    let mut padded = bytes;
    *padded.last_mut().expect("bytes") |= 0x80;
    let unused = !(values.len() * party.width.bits() as usize).is_multiple_of(8);
    assert!(unused, "the example has bits to spare");
    assert!(matches!(check(&padded), Err(Error::Padding)));
}
