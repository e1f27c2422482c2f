//! The invite by which an institution enrols.

use std::fmt;
use std::path::Path;

use fedner_host::address::Addresses;
use fedner_shared::id::InstitutionId;
use fedner_shared::time::Time;
use serde::Deserialize;

use super::{Error, parse_toml};

/// What the operator hands to an institution, over a channel of their own.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    pub institution: InstitutionId,
    /// Where the coordinator answers.
    pub address: Addresses,
    /// Works once.
    pub secret: String,
    /// SHA-256 of the authority's certificate (DER).
    pub authority: [u8; 32],
    pub expires: Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    institution: InstitutionId,
    address: Addresses,
    secret: String,
    authority_sha256: String,
    expires: String,
}

impl Invite {
    /// Reads an invite; `file` is what errors call it.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Error> {
        let wire: Wire = parse_toml(file, text)?;
        let wrong = |key, found: &str, expected| Error::Value {
            file: file.to_owned(),
            key,
            found: found.to_owned(),
            expected,
        };
        let mut authority = [0u8; 32];
        hex::decode_to_slice(&wire.authority_sha256, &mut authority).map_err(|_| {
            wrong(
                "authority_sha256",
                &wire.authority_sha256,
                "64 hexadecimal digits",
            )
        })?;
        let expires: jiff::Timestamp = wire.expires.parse().map_err(|_| {
            wrong(
                "expires",
                &wire.expires,
                "an instant such as 2026-11-24T16:00:00Z",
            )
        })?;
        if wire.secret.is_empty() {
            return Err(wrong("secret", "\"\"", "the secret"));
        }
        Ok(Self {
            institution: wire.institution,
            address: wire.address,
            secret: wire.secret,
            authority,
            expires: Time::from_millis(expires.as_millisecond()),
        })
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite")
            .field("institution", &self.institution)
            .field("address", &self.address)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        format!(
            "institution = \"st-anna\"\naddress = \"localhost:7443\"\nsecret = \"hush\"\n\
             authority_sha256 = \"{}\"\nexpires = \"2026-11-24T16:00:00Z\"\n",
            "ab".repeat(32)
        )
    }

    fn parse(text: &str) -> Result<Invite, Error> {
        Invite::parse(Path::new("invite.toml"), text)
    }

    #[test]
    fn an_invite_is_read_and_hides_its_secret() {
        let invite = parse(&text()).expect("invite");
        assert_eq!(invite.authority, [0xab; 32]);
        assert_eq!(invite.expires.to_string(), "2026-11-24T16:00:00Z");
        assert!(!format!("{invite:?}").contains("hush"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, word) in [
            ("abab", "xx", "authority_sha256"),
            ("2026-11-24T16:00:00Z", "soon", "expires"),
            ("localhost:7443", "localhost", "address"),
            ("hush", "", "secret"),
            ("secret", "sekret", "sekret"),
            ("st-anna", "../x", "institution"),
        ] {
            let error = parse(&text().replacen(from, to, 1)).expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn an_invite_may_list_several_addresses() {
        let several = "[\"a.test:7443\", \"b.test:7443\"]";
        let invite = parse(&text().replacen("\"localhost:7443\"", several, 1)).expect("invite");
        assert_eq!(invite.address.to_string(), "a.test:7443, b.test:7443");
    }
}
