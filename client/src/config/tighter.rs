//! What of a changed policy holds at once, and what waits for a person's word.

use std::collections::BTreeMap;

use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Unit;

use super::Policy;

/// What a changed file makes of the policy in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Tightened {
    /// The policy in force with every key of the file that allows no more.
    pub policy: Policy,
    /// The keys in which the file allows more; they stay as they were.
    pub looser: Vec<&'static str>,
}

impl Policy {
    /// Takes over what `file` forbids, and nothing that it allows.
    ///
    /// So a file that was half written loosens nothing. `hours` say when, not what: they are taken as
    /// they stand in the file.
    #[must_use]
    pub fn tightened_by(&self, file: &Self) -> Tightened {
        let mut keys = Keys::default();
        let policy = Self {
            consent: keys.least("consent", self.consent, file.consent),
            consent_days: keys.least("consent_days", self.consent_days, file.consent_days),
            allow_no_privacy: keys.least(
                "allow_no_privacy",
                self.allow_no_privacy,
                file.allow_no_privacy,
            ),
            share_evaluation: keys.least(
                "share_evaluation",
                self.share_evaluation,
                file.share_evaluation,
            ),
            exact_evaluation: keys.least(
                "exact_evaluation",
                self.exact_evaluation,
                file.exact_evaluation,
            ),
            share_audits: keys.least("share_audits", self.share_audits, file.share_audits),
            max_epsilon_run: keys.least(
                "max_epsilon_run",
                self.max_epsilon_run,
                file.max_epsilon_run,
            ),
            account: keys.account(self.account, file.account),
            max_epsilon_total: keys.least(
                "max_epsilon_total",
                self.max_epsilon_total,
                file.max_epsilon_total,
            ),
            max_delta: keys.least("max_delta", self.max_delta, file.max_delta),
            methods: keys
                .common("methods", Some(&self.methods), Some(&file.methods))
                .unwrap_or_default(),
            labels: keys.common("labels", self.labels.as_ref(), file.labels.as_ref()),
            minimum_examples: keys.most(
                "minimum_examples",
                self.minimum_examples,
                file.minimum_examples,
            ),
            units: keys.common("units", self.units.as_ref(), file.units.as_ref()),
            min_units: keys.most("min_units", self.min_units, file.min_units),
            operators: keys.common(
                "operators",
                self.operators.as_ref(),
                file.operators.as_ref(),
            ),
            hours: file.hours,
            release_padding: keys.most(
                "release_padding",
                self.release_padding,
                file.release_padding,
            ),
            max_not_done: keys.least("max_not_done", self.max_not_done, file.max_not_done),
            hold: keys.most("hold", self.hold, file.hold),
            min_known: keys.most("min_known", self.min_known, file.min_known),
            known_institutions: keys.known(&self.known_institutions, &file.known_institutions),
        };
        Tightened {
            policy,
            looser: keys.0,
        }
    }
}

type Known = BTreeMap<InstitutionId, String>;

/// The keys in which the file allows more.
#[derive(Default)]
struct Keys(Vec<&'static str>);

impl Keys {
    fn least<T: PartialOrd>(&mut self, key: &'static str, ours: T, file: T) -> T {
        if file <= ours {
            return file;
        }
        self.0.push(key);
        ours
    }

    fn most<T: PartialOrd>(&mut self, key: &'static str, ours: T, file: T) -> T {
        if file >= ours {
            return file;
        }
        self.0.push(key);
        ours
    }

    /// A person's account bounds every other one; between others a person decides.
    fn account(&mut self, ours: Unit, file: Unit) -> Unit {
        if file == ours || file == Unit::Person {
            return file;
        }
        self.0.push("account");
        ours
    }

    /// Whom the file knows more, or by another fingerprint, a person decides on.
    fn known(&mut self, ours: &Known, file: &Known) -> Known {
        let same = |(name, text): &(&InstitutionId, &String)| ours.get(*name) == Some(text);
        if !file.iter().all(|entry| same(&entry)) {
            self.0.push("known_institutions");
        }
        let kept = file.iter().filter(same);
        kept.map(|(name, text)| (name.clone(), text.clone()))
            .collect()
    }

    /// Absent means anything.
    fn common<T: PartialEq + Clone>(
        &mut self,
        key: &'static str,
        ours: Option<&Vec<T>>,
        file: Option<&Vec<T>>,
    ) -> Option<Vec<T>> {
        match (ours, file) {
            (None, file) => file.cloned(),
            (Some(ours), None) => {
                self.0.push(key);
                Some(ours.clone())
            }
            (Some(ours), Some(file)) => {
                if file.iter().any(|item| !ours.contains(item)) {
                    self.0.push(key);
                }
                let both = file.iter().filter(|item| ours.contains(item));
                Some(both.cloned().collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::plan::Method;

    use super::*;
    use crate::config::ConsentMode;

    fn strict() -> Policy {
        let text = "methods = [\"head\"]\nlabels = [\"Disease\"]\nunits = [\"person\"]\n\
                    hours = \"20:00-06:00\"\nhold = true\nmin_units = 50\nmax_epsilon_run = 2.0";
        toml::from_str(text).expect("policy")
    }

    #[test]
    fn a_file_that_was_cut_short_loosens_nothing() {
        let ours = strict();
        let found = ours.tightened_by(&Policy::default());
        assert_eq!(found.policy.hours, None, "hours are the file's own");
        let same_but_hours = Policy {
            hours: ours.hours,
            ..found.policy
        };
        assert_eq!(same_but_hours, ours);
        let looser = [
            "max_epsilon_run",
            "methods",
            "labels",
            "units",
            "min_units",
            "hold",
        ];
        assert_eq!(found.looser, looser);
    }

    #[test]
    fn what_a_file_forbids_holds_beside_what_it_would_allow() {
        let file = Policy {
            consent: ConsentMode::Auto,
            max_epsilon_run: 4.0,
            methods: vec![Method::Head],
            units: Some(vec![Unit::Person]),
            ..Policy::default()
        };
        let found = Policy::default().tightened_by(&file);
        assert_eq!(found.looser, ["consent"]);
        let expected = Policy {
            consent: ConsentMode::Ask,
            ..file.clone()
        };
        assert_eq!(found.policy, expected);
        // Lists that overlap have what both have.
        let other = Policy {
            methods: vec![Method::Full, Method::Head],
            ..file.clone()
        };
        let found = file.tightened_by(&other);
        assert_eq!(found.policy.methods, [Method::Head]);
        assert_eq!(found.looser, ["methods"]);
        assert_eq!(file.tightened_by(&file).policy, file);
    }
}
