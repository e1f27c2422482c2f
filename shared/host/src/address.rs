//! Where a program listens, as people write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Each address that is silent costs a wait.
const MOST: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not an address: expected HOST:PORT")]
    Form(String),
    #[error("expected at least one address")]
    None,
    #[error("{0} addresses: expected at most {MOST}")]
    Many(usize),
    #[error("the address {0} is listed twice")]
    Twice(Address),
}

/// `HOST:PORT`; brackets stand around an IPv6 host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Form(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(wrong)?;
        if host.is_empty() || host.chars().any(|c| c.is_whitespace() || "[]".contains(c)) {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where one server answers: at least one address, in the order in which they are tried. A file has one as a
/// string, and several as a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Addresses(Vec<Address>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "HOST:PORT, or a list of them")]
enum Written {
    One(String),
    Several(Vec<String>),
}

impl Addresses {
    pub fn new(addresses: Vec<Address>) -> Result<Self, Error> {
        let known = |(place, address)| addresses[..place].contains(address);
        if let Some((_, twice)) = addresses.iter().enumerate().find(|one| known(*one)) {
            return Err(Error::Twice(twice.clone()));
        }
        match addresses.len() {
            0 => Err(Error::None),
            1..=MOST => Ok(Self(addresses)),
            many => Err(Error::Many(many)),
        }
    }

    /// Reads each of them.
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        let read = texts.into_iter().map(|text| text.as_ref().parse());
        Self::new(read.collect::<Result<_, _>>()?)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Address> {
        self.0.iter()
    }

    /// The one that is tried first.
    pub fn first(&self) -> &Address {
        &self.0[0]
    }

    pub fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    /// Begins with the next one from now on.
    pub fn turned(&mut self) {
        self.0.rotate_left(1);
    }
}

impl FromStr for Addresses {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse([text])
    }
}

impl<'a> IntoIterator for &'a Addresses {
    type Item = &'a Address;
    type IntoIter = std::slice::Iter<'a, Address>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, address) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

impl TryFrom<Written> for Addresses {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self, Error> {
        match written {
            Written::One(text) => Self::parse([text]),
            Written::Several(texts) => Self::parse(texts),
        }
    }
}

impl From<Addresses> for Written {
    fn from(addresses: Addresses) -> Self {
        if addresses.is_one() {
            return Self::One(addresses.first().to_string());
        }
        Self::Several(addresses.iter().map(ToString::to_string).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address, Error> {
        text.parse()
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, host) in [("a.example:7443", "a.example"), ("[::1]:7443", "::1")] {
            let read = address(text).expect(text);
            assert_eq!((read.host.as_str(), read.port), (host, 7443));
            assert_eq!(read.to_string(), text);
        }
        for bad in [
            "a.example",
            ":1",
            "a:0",
            "a:x",
            "a:70000",
            "a b:1",
            "[::1:1",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_has_one_as_a_string_and_several_as_a_list() {
        for text in [r#""a:1""#, r#"["a:1","[::1]:2"]"#] {
            let read: Addresses = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&read).expect("written"), text);
        }
        for bad in [
            "[]".to_owned(),
            r#"["a:1","a:1"]"#.to_owned(),
            r#"["a"]"#.to_owned(),
            "7".to_owned(),
            serde_json::to_string(&(1..=17).map(|n| format!("a:{n}")).collect::<Vec<_>>())
                .expect("written"),
        ] {
            assert!(serde_json::from_str::<Addresses>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_turn_goes_round() {
        let mut addresses = Addresses::parse(["a:1", "b:2"]).expect("two");
        addresses.turned();
        assert_eq!(addresses.to_string(), "b:2, a:1");
        addresses.turned();
        assert_eq!(addresses.first().to_string(), "a:1");
    }
}
