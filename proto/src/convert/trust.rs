//! What members are told to trust.

use fedner_shared::keys::Trust;

use super::{Result, invalid, signed, signed_to_wire};
use crate::v1;

/// Authorities that may be trusted at the same time.
const AUTHORITIES: usize = 4;
/// Keys that gave way to another, all of them since the coordinator was created.
const SUCCESSIONS: usize = 1024;

pub fn trust_to_wire(trust: &Trust) -> v1::Trust {
    v1::Trust {
        authorities: trust.authorities.clone(),
        successions: trust.successions.iter().map(signed_to_wire).collect(),
    }
}

/// Neither certificates nor signatures are verified yet.
pub fn trust(message: v1::Trust) -> Result<Trust> {
    let v1::Trust {
        authorities,
        successions,
    } = message;
    if !(1..=AUTHORITIES).contains(&authorities.len()) {
        let found = authorities.len();
        let message = format!("expected 1 to {AUTHORITIES} authorities, found {found}");
        return Err(invalid("authorities", message));
    }
    if successions.len() > SUCCESSIONS {
        let found = successions.len();
        let message = format!("expected at most {SUCCESSIONS}, found {found}");
        return Err(invalid("successions", message));
    }
    let successions = successions
        .into_iter()
        .map(|succession| signed("successions", Some(succession)));
    Ok(Trust {
        authorities,
        successions: successions.collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_is_bounded() {
        let told = |authorities: usize| Trust {
            authorities: vec!["pem".to_owned(); authorities],
            successions: Vec::new(),
        };
        assert_eq!(trust(trust_to_wire(&told(2))).expect("read"), told(2));
        for wrong in [0, 5] {
            assert!(trust(trust_to_wire(&told(wrong))).is_err(), "{wrong}");
        }
        let mut many = trust_to_wire(&told(1));
        many.successions = vec![v1::Signed::default(); SUCCESSIONS + 1];
        assert!(trust(many).is_err());
    }
}
