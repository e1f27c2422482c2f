//! The masked sum is the open one, for every set that is large enough, and nothing for any other.

use super::*;

/// All subsets of the members.
fn subsets(members: usize) -> impl Iterator<Item = Vec<usize>> {
    (0u32..1 << members).map(move |bits| {
        let within = |member: &usize| bits >> member & 1 == 1;
        (0..members).filter(within).collect()
    })
}

#[test]
fn every_set_of_survivors_of_three_to_five_gives_the_open_sum_or_an_error() {
    let dimension = 37;
    for members in 3..=5 {
        let party = Party::new(members, 10 * members as u64);
        let threshold = party.roster.group().threshold();
        for dealt in subsets(members).filter(|dealt| dealt.len() >= threshold) {
            let masked: Vec<Vec<u8>> = (0..members)
                .map(|own| {
                    if dealt.contains(&own) {
                        return party.masked(own, &dealt, &values(own, dimension));
                    }
                    Vec::new()
                })
                .collect();
            let within =
                |set: &Vec<usize>| !set.is_empty() && set.iter().all(|m| dealt.contains(m));
            for present in subsets(members).filter(within) {
                let vectors: Vec<Vec<u8>> = present.iter().map(|m| masked[*m].clone()).collect();
                // Everybody who sent a vector answers, or one fewer than needed.
                for answering in [&present[..], &present[..present.len().min(threshold - 1)]] {
                    let answers = party.answers(&dealt, &present, answering);
                    let found = party.sum((&dealt, &present), &answers, &vectors);
                    if present.len() < threshold || answering.len() < threshold {
                        let too_few =
                            matches!(found, Err(Error::TooFew { .. } | Error::Shares { .. }));
                        assert!(too_few, "{dealt:?} {present:?} {answering:?}: {found:?}");
                    } else {
                        let found = found.expect("enough");
                        assert_eq!(
                            found,
                            open_sum(&present, dimension),
                            "{dealt:?} {present:?}"
                        );
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_survivors_of_up_to_forty_give_the_open_sum_to_the_last_bit(
        members in 3usize..=40,
        salt in 1000u64..1_000_000,
        before in any::<u64>(),
        after in any::<u64>(),
        silent in any::<u64>(),
        dimension in prop_oneof![1usize..200, BLOCK - 2..BLOCK + 3],
    ) {
        let party = Party::new(members, salt);
        let threshold = party.roster.group().threshold();
        // Some are lost before their vector, some do not answer; sometimes too many.
        let chosen = |from: &[usize], bits: u64| -> Vec<usize> {
            let thrice = bits & bits.rotate_right(21);
            from.iter().copied().filter(|m| thrice >> m & 1 == 0).collect()
        };
        let all: Vec<usize> = (0..members).collect();
        let mut dealt = chosen(&all, before);
        if dealt.len() < threshold {
            dealt.clone_from(&all);
        }
        let present = chosen(&dealt, after);
        let answering = chosen(&present, silent);
        let vectors: Vec<Vec<u8>> = present
            .iter()
            .map(|own| party.masked(*own, &dealt, &values(*own, dimension)))
            .collect();
        prop_assume!(!vectors.is_empty());
        let answers = party.answers(&dealt, &present, &answering);
        let found = party.sum((&dealt, &present), &answers, &vectors);
        if present.len() < threshold || answering.len() < threshold {
            prop_assert!(matches!(found, Err(Error::TooFew { .. } | Error::Shares { .. })), "{:?}", found);
        } else {
            prop_assert_eq!(found.expect("enough"), open_sum(&present, dimension));
        }
    }
}

#[test]
fn the_shares_of_t_holders_give_the_secrets_of_the_sum_and_no_others() {
    let party = Party::new(4, 77);
    let all = [0, 1, 2, 3];
    let vectors: Vec<Vec<u8>> = [0, 1, 2]
        .map(|own| party.masked(own, &all, &values(own, 9)))
        .to_vec();
    // Answers for another set of survivors do not open this one.
    let answers = party.answers(&all, &all, &[0, 1, 2]);
    let found = party.sum((&all, &[0, 1, 2]), &answers, &vectors);
    assert!(
        matches!(found, Err(Error::Shares { member: 3, .. })),
        "{found:?}"
    );
    // Both kinds of share of one member are refused.
    let mut both = party.answers(&all, &[0, 1, 2], &[0, 1, 2]);
    let lost = both[0].mask_keys.clone();
    both[0].own_seeds.extend(lost);
    let found = party.sum((&all, &[0, 1, 2]), &both, &vectors);
    assert!(matches!(found, Err(Error::Both { member: 3 })), "{found:?}");
    // A share that was changed leads to another secret, which is noticed.
    let mut wrong = party.answers(&all, &[0, 1, 2], &[0, 1, 2]);
    let mut bytes = *wrong[1].own_seeds[2].1.as_bytes();
    bytes[20] ^= 1;
    wrong[1].own_seeds[2].1 = Share::from_bytes(1, &bytes).expect("a share");
    let found = party.sum((&all, &[0, 1, 2]), &wrong, &vectors);
    assert!(
        matches!(found, Err(Error::Secret { member: 2 })),
        "{found:?}"
    );
}

#[test]
fn a_vector_that_is_not_of_the_sum_leaves_it_masked() {
    let party = Party::new(4, 78);
    let all = [0, 1, 2, 3];
    let dimension = 500;
    let vectors: Vec<Vec<u8>> = all
        .map(|own| party.masked(own, &all, &values(own, dimension)))
        .to_vec();
    let answers = party.answers(&all, &all, &all);
    let right = party.sum((&all, &all), &answers, &vectors).expect("all");
    assert_eq!(right, open_sum(&all, dimension));
    // The masks of another attempt do not cancel.
    let other = Party::new(4, 79);
    let mut mixed = vectors;
    mixed[2] = other.masked(2, &all, &values(2, dimension));
    let found = party.sum((&all, &all), &answers, &mixed).expect("read");
    let same = found.iter().zip(&right).filter(|(a, b)| a == b).count();
    assert!(same < 5, "{same} of {dimension} values are right");
}
