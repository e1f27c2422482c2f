//! Published test vectors.

use crate::envelope::seal_as;
use crate::keys::{agreed, hkdf, public_key};
use crate::shamir::{recover, split};
use crate::stream::MaskStream;
use crate::{Error, Group, Share};

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let bytes = hex::decode(text).expect("hexadecimal digits");
    bytes.try_into().expect("the length")
}

/// RFC 7748, section 6.1.
#[test]
fn x25519_agrees_with_rfc_7748() {
    let alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let alice_public = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob_public = bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let shared: [u8; 32] =
        bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(public_key(&alice).expect("a key"), alice_public);
    assert_eq!(public_key(&bob).expect("a key"), bob_public);
    assert_eq!(*agreed(&alice, &bob_public).expect("agreed"), shared);
    assert_eq!(*agreed(&bob, &alice_public).expect("agreed"), shared);
}

/// RFC 7748, section 5.2: the first two vectors.
#[test]
fn x25519_multiplies_as_in_rfc_7748() {
    for (scalar, point, product) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        let found = agreed(&bytes(scalar), &bytes(point)).expect("agreed");
        assert_eq!(*found, bytes::<32>(product));
    }
}

/// RFC 7748, section 6.1: a point of small order leads to zeros, whoever multiplies it.
#[test]
fn points_of_small_order_agree_on_nothing() {
    let secret = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        assert!(agreed(&secret, &bytes(point)).is_none(), "{point}");
    }
}

/// RFC 5869, appendix A.1 and A.2.
#[test]
fn hkdf_derives_as_in_rfc_5869() {
    let mut out = [0; 42];
    let salt: [u8; 13] = bytes("000102030405060708090a0b0c");
    let info: [u8; 10] = bytes("f0f1f2f3f4f5f6f7f8f9");
    // In two pieces, which are the same as one.
    hkdf(&[0x0b; 22], &salt, &[&info[..4], &info[4..]], &mut out).expect("derived");
    let expected =
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(hex::encode(out), expected);

    let range = |from: u8| (from..from.saturating_add(80)).collect::<Vec<u8>>();
    let info: Vec<u8> = (0xb0..=0xff).collect();
    let mut out = [0; 82];
    hkdf(&range(0), &range(0x60), &[&info], &mut out).expect("derived");
    let expected = "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87";
    assert_eq!(hex::encode(out), expected);
}

/// NIST SP 800-38A, F.5.5 (CTR-AES256.Encrypt).
#[test]
fn masks_are_the_key_stream_of_sp_800_38a() {
    let key = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let counter = u128::from_be_bytes(bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"));
    let plain: [u8; 64] = bytes(concat!(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
    ));
    let sealed: [u8; 64] = bytes(concat!(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5",
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
    ));
    let stream = MaskStream::new(&key).expect("a key");
    let mut mask = [0; 64];
    stream.fill_from(counter, &mut mask).expect("a mask");
    for (mask, plain) in mask.iter_mut().zip(plain) {
        *mask ^= plain;
    }
    assert_eq!(mask, sealed);
    // Begun further on, it goes on the same.
    let mut later = [0; 32];
    stream.fill_from(counter + 2, &mut later).expect("a mask");
    for (later, plain) in later.iter_mut().zip(&plain[32..]) {
        *later ^= plain;
    }
    assert_eq!(later, sealed[32..]);
}

/// RFC 8439, section 2.8.2.
#[test]
fn shares_are_sealed_as_in_rfc_8439() {
    let key: Vec<u8> = (0x80..0xa0).collect();
    let nonce = bytes("070000004041424344454647");
    let associated: [u8; 12] = bytes("50515253c0c1c2c3c4c5c6c7");
    let mut plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.".to_vec();
    let key = key.try_into().expect("32 bytes");
    let sealed = seal_as(&key, nonce, &associated, &mut plain).expect("sealed");
    let expected = concat!(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6",
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36",
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc",
        "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
    );
    assert_eq!(hex::encode(sealed), expected);
}

/// Over GF(2^8) with x^8 + x^4 + x^3 + x^2 + 1, bit by bit.
fn product(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        let carry = a & 0x80 != 0;
        a <<= 1;
        if carry {
            a ^= 0x1d;
        }
        b >>= 1;
    }
    product
}

fn inverse(a: u8) -> u8 {
    (1..=255).find(|b| product(a, *b) == 1).expect("a ≠ 0")
}

#[test]
fn shares_are_values_of_one_polynomial_of_degree_below_the_threshold() {
    let group = Group::new(7).expect("a group");
    let secret = bytes("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
    let shares = split(&secret, group, &[5; 32]).expect("shares");
    let threshold = group.threshold();
    assert_eq!((shares.len(), threshold), (7, 5));
    // Any five of them lead to the secret, by products and inverses computed another way.
    let interpolated = |of: &[&Share], at: u8, place: usize| {
        let x = |share: &Share| share.as_bytes()[0];
        of.iter().fold(0, |sum, one| {
            let others = of.iter().filter(|other| x(other) != x(one));
            let term = others.fold(one.as_bytes()[place + 1], |term, other| {
                let factor = product(x(other) ^ at, inverse(x(other) ^ x(one)));
                product(term, factor)
            });
            sum ^ term
        })
    };
    for skipped in 0..7 {
        let of: Vec<&Share> = (0..5).map(|place| &shares[(skipped + place) % 7]).collect();
        assert_eq!(*recover(0, group, &of).expect("enough"), secret);
        for (place, byte) in secret.iter().enumerate() {
            assert_eq!(interpolated(&of, 0, place), *byte);
        }
        // And to the other shares.
        let other = &shares[(skipped + 6) % 7];
        assert_eq!(
            interpolated(&of, other.as_bytes()[0], 3),
            other.as_bytes()[4]
        );
    }
}

#[test]
fn too_few_repeated_or_foreign_shares_make_no_secret() {
    let group = Group::new(4).expect("a group");
    let shares = split(&[7; 32], group, &[8; 32]).expect("shares");
    let of = |places: &[usize]| {
        let shares: Vec<&Share> = places.iter().map(|place| &shares[*place]).collect();
        recover(2, group, &shares)
    };
    assert_eq!(*of(&[0, 1, 3]).expect("three of four"), [7; 32]);
    assert!(matches!(
        of(&[0, 1]),
        Err(Error::Shares {
            member: 2,
            found: 2,
            threshold: 3
        })
    ));
    assert!(matches!(of(&[0, 1, 1]), Err(Error::Share(_))));
    let share = shares[1].as_bytes();
    assert!(Share::from_bytes(1, share).is_ok());
    assert!(Share::from_bytes(2, share).is_err(), "another member's");
    assert!(Share::from_bytes(1, &share[..32]).is_err(), "too short");
    // The value at 0 is the secret: blahaj would take it for a share.
    let mut at_zero = *share;
    at_zero[0] = 0;
    assert!(Share::from_bytes(0, &at_zero).is_err());
    // A share of another dealing makes another secret, which the announcement tells.
    let others = split(&[7; 32], group, &[9; 32]).expect("shares");
    let mixed = recover(2, group, &[&shares[0], &shares[1], &others[2]]).expect("three");
    assert_ne!(*mixed, [7; 32]);
}
