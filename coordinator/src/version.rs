//! Which client's version is asked for.

use fedner_shared::refusal::{Code, Refusal};

/// `NUMBER.NUMBER.NUMBER`.
pub type Version = [u64; 3];

/// Reads `1.2.3`; what comes after a `-` or `+` does not count.
pub fn parse(text: &str) -> Option<Version> {
    let text = text.split(['-', '+']).next().unwrap_or(text);
    let mut numbers = text.split('.').map(str::parse);
    let version = [
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
    ];
    numbers.next().is_none().then_some(version)
}

/// Refuses a client that is older, or does not say what it is.
pub fn require(software: &str, least: &Version) -> Result<(), Refusal> {
    let found = software.strip_prefix("fedner-client/").and_then(parse);
    if found.is_some_and(|found| found >= *least) {
        return Ok(());
    }
    let [major, minor, patch] = least;
    let message = format!(
        "the client is `{software}`: the coordinator expects fedner-client {major}.{minor}.{patch} or newer"
    );
    Err(Refusal::new(Code::ClientTooOld, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_clients_and_those_that_do_not_say_are_refused() {
        let least = parse("1.10.0").expect("version");
        for good in ["1.10.0", "1.10.1-rc1", "2.0.0+build"] {
            require(&format!("fedner-client/{good}"), &least).expect(good);
        }
        for bad in ["fedner-client/1.9.9", "fedner-client/x", "", "2.0.0"] {
            let refusal = require(bad, &least).expect_err(bad);
            assert_eq!(refusal.code, Code::ClientTooOld);
        }
        for bad in ["1.2", "1.2.3.4", "a.b.c", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
