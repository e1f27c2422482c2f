//! Everything secret of one member in one attempt, and what it tells of it.

use std::fmt;

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Error, Group};

/// Thirty-two bytes that nobody else may know.
pub type SeedBytes = Zeroizing<[u8; 32]>;

/// The digest of all that names an attempt: run, plan, round, attempt and base version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context(pub [u8; 32]);

/// What a member tells everybody before an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKeys {
    /// X25519; masks between two members follow from it.
    pub mask: [u8; 32],
    /// X25519; shares are sealed with what follows from it.
    pub seal: [u8; 32],
    /// By which its own seed is known once it is put together.
    pub commitment: [u8; 32],
}

/// The seed of one member's attempt. All else that is secret follows from it, so that a program which is killed goes on
/// with the same bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// From 32 bytes that a cryptographic generator drew for this attempt alone.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For a file or a table that its owner alone can read.
    pub fn to_bytes(&self) -> SeedBytes {
        Zeroizing::new(self.0)
    }

    pub(crate) fn derive(&self, context: &Context, label: &str) -> Result<SeedBytes, Error> {
        expand(&self.0, context, &[label.as_bytes()])
    }

    pub(crate) fn mask_key(&self, context: &Context) -> Result<SeedBytes, Error> {
        self.derive(context, "mask key")
    }

    pub(crate) fn seal_key(&self, context: &Context) -> Result<SeedBytes, Error> {
        self.derive(context, "seal key")
    }

    pub(crate) fn own_seed(&self, context: &Context) -> Result<SeedBytes, Error> {
        self.derive(context, "own seed")
    }

    /// What is told of it in this attempt.
    pub fn public_keys(&self, context: &Context) -> Result<PublicKeys, Error> {
        Ok(PublicKeys {
            mask: public_key(&*self.mask_key(context)?)?,
            seal: public_key(&*self.seal_key(context)?)?,
            commitment: commitment(&*self.own_seed(context)?, context)?,
        })
    }
}

/// The members of an attempt in an order that all share, by what each told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    context: Context,
    group: Group,
    members: Vec<PublicKeys>,
}

impl Roster {
    /// No two of them may have one key: whoever repeats another's would share its masks.
    pub fn new(context: Context, members: Vec<PublicKeys>) -> Result<Self, Error> {
        let group = Group::new(members.len())?;
        let keys = members.iter().flat_map(|keys| [keys.mask, keys.seal]);
        let mut all: Vec<[u8; 32]> = keys.collect();
        all.sort_unstable();
        if all.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::SameKey);
        }
        Ok(Self {
            context,
            group,
            members,
        })
    }

    pub const fn context(&self) -> &Context {
        &self.context
    }

    pub const fn group(&self) -> Group {
        self.group
    }

    pub fn keys(&self, member: usize) -> Result<&PublicKeys, Error> {
        Ok(&self.members[self.group.place(member)?])
    }

    /// The seed of the mask between the holder of `mask_key` and that member.
    pub(crate) fn pair_seed(&self, mask_key: &[u8; 32], with: usize) -> Result<SeedBytes, Error> {
        let peer = self.keys(with)?;
        let shared = agreed(mask_key, &peer.mask).ok_or(Error::Agreement { member: with })?;
        expand(&shared, &self.context, &[b"mask of two"])
    }

    /// The key of what `from` seals for `to`, for either of them.
    pub(crate) fn envelope_key(
        &self,
        seal_key: &[u8; 32],
        peer: usize,
        (from, to): (usize, usize),
    ) -> Result<SeedBytes, Error> {
        let public = self.keys(peer)?.seal;
        let shared = agreed(seal_key, &public).ok_or(Error::Agreement { member: peer })?;
        let (from, to) = (self.keys(from)?, self.keys(to)?);
        expand(
            &shared,
            &self.context,
            &[b"sealed shares", &from.seal, &to.seal],
        )
    }
}

/// Whether anything can be agreed on with that key: with a point of small order nothing can.
pub fn is_usable(public: &[u8]) -> bool {
    let public = public.try_into();
    public.is_ok_and(|public| agreed(&[0x40; 32], public).is_some())
}

/// By which a seed is known again, and nothing else of it.
pub(crate) fn commitment(seed: &[u8; 32], context: &Context) -> Result<[u8; 32], Error> {
    Ok(*expand(seed, context, &[b"commitment"])?)
}

pub(crate) fn public_key(secret: &[u8; 32]) -> Result<[u8; 32], Error> {
    let failed = || Error::Primitive("the public key of a secret one");
    let key = PrivateKey::from_private_key(&X25519, secret).map_err(|_| failed())?;
    let public = key.compute_public_key().map_err(|_| failed())?;
    public.as_ref().try_into().map_err(|_| failed())
}

/// What both hold in common; nothing for a point of small order.
pub(crate) fn agreed(secret: &[u8; 32], public: &[u8; 32]) -> Option<SeedBytes> {
    let key = PrivateKey::from_private_key(&X25519, secret).ok()?;
    let peer = UnparsedPublicKey::new(&X25519, public);
    agree(&key, peer, (), |shared| {
        shared.try_into().map(Zeroizing::new).map_err(|_| ())
    })
    .ok()
}

fn expand(secret: &[u8; 32], context: &Context, info: &[&[u8]]) -> Result<SeedBytes, Error> {
    let mut out = Zeroizing::new([0; 32]);
    let labelled: Vec<&[u8]> = [b"fedner secure aggregation 1: ".as_slice()]
        .into_iter()
        .chain(info.iter().copied())
        .collect();
    hkdf(secret, &context.0, &labelled, &mut *out)?;
    Ok(out)
}

/// HKDF-SHA-256 (RFC 5869).
pub(crate) fn hkdf(
    secret: &[u8],
    salt: &[u8],
    info: &[&[u8]],
    out: &mut [u8],
) -> Result<(), Error> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let failed = |_| Error::Primitive("HKDF");
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    let expanded = key.expand(info, Length(out.len())).map_err(failed)?;
    expanded.fill(out).map_err(failed)
}
