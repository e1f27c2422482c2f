//! `policy.toml`: what this institution allows, whatever a plan says.

use std::collections::BTreeMap;
use std::path::Path;

use fedner_privacy::ledger::group_of;
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::{Method, Plan, Privacy, Unit, ranges};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::serde_helpers::is_default;
use fedner_shared::sign::PublicKey;
use fedner_shared::time::Time;
use serde::{Deserialize, Serialize};

use super::{Error, Hours};

/// What this institution allows.
///
/// ```
/// let policy: fedner_client::config::Policy = toml::from_str(r#"
///     consent = "auto"
///     max_epsilon_run = 4.0
/// "#).unwrap();
/// assert!(!policy.allow_no_privacy);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Whether a person grants each consent, or every plan that this policy allows has it.
    pub consent: ConsentMode,
    /// For how many days a consent holds.
    pub consent_days: u32,
    /// Whether plans with `unit = "none"` may be trained: for public text only.
    pub allow_no_privacy: bool,
    /// Whether counts on held-out text may leave: with the noise that a plan names, which is paid
    /// for like that of an update.
    pub share_evaluation: bool,
    /// Whether they may leave as they are where a plan that protects something names no noise for
    /// them. No ε covers exact counts; a receipt lists each.
    pub exact_evaluation: bool,
    /// Whether signed audit reports may leave, by the hand of a person. Their figures on the
    /// institution's own text are exact: no ε covers them, and a receipt lists each.
    pub share_audits: bool,
    /// The largest ε of one run.
    pub max_epsilon_run: f64,
    /// Whose loss `max_epsilon_total` bounds: every release is charged to this unit, whatever its plan
    /// protects, and one that cannot be is refused. Public text, with `allow_no_privacy`, is in no account.
    pub account: Unit,
    /// The largest ε of all runs together. At most 10 is what Ponomareva et al. 2023 ("How to DP-fy ML",
    /// section 5.2) call reasonable, whatever an attacker knows; beyond it they call it weak.
    pub max_epsilon_total: f64,
    /// The largest δ that a plan may count ε at, and that at which `max_epsilon_total` is counted. With a
    /// larger one the same noise has a smaller ε.
    pub max_delta: f64,
    pub methods: Vec<Method>,
    /// Entity types that may be learnt; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// With fewer sentences than this no person's consent is granted, and nothing is trained where the
    /// plan protects nothing. Where it protects something, a training that did not begin would tell.
    pub minimum_examples: u32,
    /// What plans may protect; absent: whatever `allow_no_privacy` leaves. A policy that lists `none`
    /// needs that beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Vec<Unit>>,
    /// The least number of units that a consent to a plan which samples them may declare. What was
    /// declared is public; a refusal that depended on how many there are would tell of single ones.
    pub min_units: u32,
    /// The operators' keys by which plans may be signed; absent: the one given at enrolment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operators: Option<Vec<PublicKey>>,
    /// When assignments are taken on, by the clock and time zone of this machine; absent: always. What
    /// was begun goes on to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// Whether results leave at the plan's times of release only. Without it how long a training takes
    /// tells of private text, at no ε.
    pub release_padding: bool,
    /// How many attempts of one plan may come to nothing after private text was read. Then a person
    /// must agree to the plan anew.
    pub max_not_done: u32,
    /// Whether each update waits, paid for and signed, until a person lets it go.
    pub hold: bool,
    /// How many other members of a masked sum must be known here. Without it the coordinator says who they are.
    #[serde(skip_serializing_if = "is_default")]
    pub min_known: u32,
    /// Institutions whose people have read their fingerprints out to those here.
    #[serde(skip_serializing_if = "is_default")]
    pub known_institutions: BTreeMap<InstitutionId, String>,
}

/// The stricter one comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsentMode {
    #[default]
    Ask,
    Auto,
}

/// δ bounds the chance that a unit has no protection at all; so many units may be expected to have none.
const MOST_EXPOSED: f64 = 0.1;

impl Default for Policy {
    fn default() -> Self {
        Self {
            consent: ConsentMode::Ask,
            consent_days: 90,
            allow_no_privacy: false,
            share_evaluation: false,
            exact_evaluation: false,
            share_audits: false,
            max_epsilon_run: 8.0,
            account: Unit::Person,
            max_epsilon_total: 10.0,
            max_delta: 1e-5,
            // Those that train least first.
            methods: Method::ALL.iter().rev().copied().collect(),
            labels: None,
            minimum_examples: 1,
            units: None,
            min_units: 1,
            operators: None,
            hours: None,
            release_padding: true,
            max_not_done: 3,
            hold: false,
            min_known: 0,
            known_institutions: BTreeMap::new(),
        }
    }
}

impl Policy {
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    pub(super) fn check(&self, file: &Path) -> Result<(), Error> {
        let wrong = |key, found: f64, expected| {
            Err(Error::Value {
                file: file.to_owned(),
                key,
                found: found.to_string(),
                expected,
            })
        };
        let limits = [
            ("max_epsilon_run", self.max_epsilon_run),
            ("max_epsilon_total", self.max_epsilon_total),
        ];
        for (key, found) in limits {
            if !(found.is_finite() && found > 0.0) {
                return wrong(key, found, "a positive number");
            }
        }
        if !ranges::DELTA.contains(&self.max_delta) {
            return wrong("max_delta", self.max_delta, "a number from 1e-30 to 0.5");
        }
        if self.account == Unit::None {
            return Err(Error::Value {
                file: file.to_owned(),
                key: "account",
                found: self.account.to_string(),
                expected: "person, document, sentence or institution",
            });
        }
        if !(1..=3650).contains(&self.consent_days) {
            let found = f64::from(self.consent_days);
            return wrong("consent_days", found, "1 to 3650 days");
        }
        if let Some(hours) = &self.hours
            && let Some(fault) = Hours::fault()
        {
            return Err(Error::Zone {
                file: file.to_owned(),
                hours: *hours,
                fault,
            });
        }
        if !(1..=1000).contains(&self.max_not_done) {
            let found = f64::from(self.max_not_done);
            return wrong("max_not_done", found, "1 to 1000 attempts");
        }
        Ok(())
    }

    /// Whether a plan may be trained here at all.
    pub fn allows(&self, plan: &Plan) -> Result<(), Refusal> {
        let forbid = |message: String| Err(Refusal::new(Code::PolicyForbids, message));
        let name = &plan.name;
        match plan.privacy.unit {
            Unit::None if !self.allow_no_privacy => {
                return forbid(format!(
                    "the plan {name} has unit \"none\": expected noise, as the policy has allow_no_privacy = false"
                ));
            }
            Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution
                if plan.privacy.max_epsilon > self.max_epsilon_run =>
            {
                return forbid(format!(
                    "the plan {name} allows itself ε = {}: expected at most max_epsilon_run = {}",
                    plan.privacy.max_epsilon, self.max_epsilon_run
                ));
            }
            Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution
                if plan.privacy.delta > self.max_delta =>
            {
                return forbid(format!(
                    "the plan {name} has delta = {}: expected at most max_delta = {}",
                    plan.privacy.delta, self.max_delta
                ));
            }
            Unit::Person | Unit::Document | Unit::Sentence | Unit::Institution | Unit::None => {}
        }
        let unit = plan.privacy.unit;
        if let Some(units) = self.units.as_ref().filter(|units| !units.contains(&unit)) {
            let message = format!(
                "the plan {name} protects the unit {unit}: the policy allows {}",
                listed(units)
            );
            return Err(Refusal::new(Code::UnitForbidden, message));
        }
        self.allows_charge(plan)?;
        if !plan.only_evaluates() && !self.methods.contains(&plan.method) {
            return forbid(format!(
                "the plan {name} trains with the method {}: the policy allows {}",
                plan.method,
                self.methods
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        let allowed = |label: &String| self.labels.as_ref().is_none_or(|list| list.contains(label));
        if let Some(label) = plan.labels.iter().find(|label| !allowed(label)) {
            return forbid(format!(
                "the plan {name} learns the type {label}, which the policy's labels lack"
            ));
        }
        Ok(())
    }

    /// Whether what the plan releases can be charged to the institution's account.
    fn allows_charge(&self, plan: &Plan) -> Result<(), Refusal> {
        let Privacy {
            unit,
            max_per_person,
            ..
        } = plan.privacy;
        if unit == Unit::None || group_of(unit, max_per_person, self.account).is_some() {
            return Ok(());
        }
        let (name, account) = (&plan.name, self.account);
        let cap = match (unit, account) {
            (Unit::Document | Unit::Sentence, Unit::Person) => " and has no max_per_person",
            _ => "",
        };
        let message = format!(
            "the plan {name} protects the unit {unit}{cap}: what it tells of a {account}, whose account the \
             policy keeps, has no bound"
        );
        Err(Refusal::new(Code::UnitForbidden, message))
    }

    /// Whether no more of these may be dishonest than the plan counts on, where noise is shared. Whoever is not known
    /// here may be an invention of the coordinator, that adds no noise.
    pub fn allows_sharing<'a>(
        &self,
        plan: &Plan,
        others: impl Iterator<Item = &'a InstitutionId>,
    ) -> Result<(), Refusal> {
        let Some(secure) = plan.secure_aggregation.as_ref() else {
            return Ok(());
        };
        if !plan.privacy.shares_noise() {
            return Ok(());
        }
        let unknown = others.filter(|name| !self.known_institutions.contains_key(name));
        let unknown: Vec<&str> = unknown.map(InstitutionId::as_str).collect();
        let most = secure.colluding;
        if unknown.len() <= most {
            return Ok(());
        }
        let message = format!(
            "the plan {} shares noise, and the policy's known_institutions lack {}: at most {most} of the others may be \
             unknown, its `colluding`",
            plan.name,
            unknown.join(", ")
        );
        Err(Refusal::new(Code::RosterRefused, message))
    }

    /// Whether a plan signed with this key may be trained.
    pub fn allows_operator(&self, operator: &PublicKey) -> Result<(), Refusal> {
        match &self.operators {
            Some(operators) if !operators.contains(operator) => {
                let message = format!(
                    "plans here are signed by the operator {operator}: the policy's operators are {}",
                    listed(operators)
                );
                Err(Refusal::new(Code::OperatorForbidden, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether so few units may be declared for a plan.
    pub fn allows_declared(&self, plan: &Plan, units: u32) -> Result<(), Refusal> {
        if !plan.privacy.unit.is_sampled() {
            return Ok(());
        }
        let exposed = plan.privacy.delta * f64::from(units);
        if exposed >= MOST_EXPOSED {
            let message = format!(
                "{units} are declared for the plan {}, and with delta = {} a tenth of a {} or more may be \
                 without protection: expected a delta below {:e}",
                plan.name,
                plan.privacy.delta,
                plan.privacy.unit,
                MOST_EXPOSED / f64::from(units)
            );
            return Err(Refusal::new(Code::PolicyForbids, message));
        }
        if units >= self.min_units {
            return Ok(());
        }
        let message = format!(
            "{units} are declared for the plan {}, each a {}: the policy asks for min_units = {}",
            plan.name, plan.privacy.unit, self.min_units
        );
        Err(Refusal::new(Code::TooFewUnits, message))
    }

    /// Whether an assignment may be taken on at this instant.
    pub fn allows_now(&self, now: Time) -> Result<(), Refusal> {
        match &self.hours {
            Some(hours) if !hours.are_at(now) => {
                let message = format!("it is outside of the policy's hours = \"{hours}\"");
                Err(Refusal::new(Code::OutsideHours, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether counts on held-out text may leave as the plan asks for them.
    pub fn allows_evaluation(&self, plan: &Plan) -> Result<(), Refusal> {
        let forbids = |message: String| Err(Refusal::new(Code::PolicyForbids, message));
        if !self.share_evaluation {
            return forbids("the policy has share_evaluation = false: no counts leave".to_owned());
        }
        let privacy = &plan.privacy;
        let exact = privacy.unit != Unit::None && privacy.count_noise().is_none();
        if exact && !self.exact_evaluation {
            return forbids(format!(
                "{} has no evaluation_noise, so that counts would leave without any, and the policy \
                 has exact_evaluation = false",
                plan.name
            ));
        }
        Ok(())
    }

    /// Whether audit reports may leave.
    pub fn allows_audit(&self) -> Result<(), Refusal> {
        if self.share_audits {
            return Ok(());
        }
        let message = "the policy has share_audits = false: no report of an audit leaves";
        Err(Refusal::new(Code::PolicyForbids, message))
    }
}

fn listed<T: ToString>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use fedner_shared::sign::SecretKey;

    use super::*;

    pub(crate) fn plan(unit: &str) -> Plan {
        let text = format!(
            r#"
            name = "disease-ner"
            base = "tiny@1"
            labels = ["Disease"]
            method = "head"
            rounds = 2
            [cohort]
            institutions = ["st-anna", "mercy"]
            quorum = 1
            weighting = "examples"
            [privacy]
            unit = "{unit}"
            noise_multiplier = 2.0
            "#
        );
        Plan::parse(&text).expect("plan")
    }

    #[test]
    fn what_the_policy_lacks_is_forbidden_and_named() {
        let policy = Policy::default();
        assert_eq!(policy.allows(&plan("institution")), Ok(()));
        let forbidden = |policy: &Policy, plan: &Plan, word: &str| {
            let refusal = policy.allows(plan).expect_err(word);
            assert_eq!(refusal.code, Code::PolicyForbids);
            assert!(refusal.message.contains(word), "{refusal}");
        };
        forbidden(&policy, &plan("none"), "allow_no_privacy");
        let mut greedy = plan("institution");
        greedy.privacy.max_epsilon = 9.0;
        forbidden(&policy, &greedy, "max_epsilon_run");
        // At δ = 0.5 nearly any noise has a small ε.
        let mut lax = plan("institution");
        lax.privacy.delta = 0.5;
        forbidden(&policy, &lax, "max_delta");
        let laxer = Policy {
            max_delta: 0.5,
            ..Policy::default()
        };
        assert_eq!(laxer.allows(&lax), Ok(()));
        let mut full = plan("institution");
        full.method = Method::Full;
        let heads = Policy {
            methods: vec![Method::Head],
            ..Policy::default()
        };
        forbidden(&heads, &full, "full");
        let narrow = Policy {
            labels: Some(vec!["Chemical".into()]),
            ..Policy::default()
        };
        forbidden(&narrow, &plan("institution"), "Disease");
        let open = Policy {
            allow_no_privacy: true,
            ..Policy::default()
        };
        assert_eq!(open.allows(&plan("none")), Ok(()));
        forbidden_counts(&policy, &plan("none"), "share_evaluation");
        assert!(policy.allows_audit().is_err());
        let sharing = Policy {
            share_evaluation: true,
            ..Policy::default()
        };
        assert_eq!(sharing.allows_evaluation(&plan("none")), Ok(()));
        let mut asked = plan("institution");
        forbidden_counts(&sharing, &asked, "exact_evaluation");
        asked.privacy.evaluation_noise = 5.0;
        assert_eq!(sharing.allows_evaluation(&asked), Ok(()));
        forbidden_counts(&policy, &asked, "share_evaluation");
        let exact = Policy {
            exact_evaluation: true,
            ..sharing
        };
        assert_eq!(exact.allows_evaluation(&plan("institution")), Ok(()));
    }

    fn forbidden_counts(policy: &Policy, plan: &Plan, key: &str) {
        let refusal = policy.allows_evaluation(plan).expect_err(key);
        assert_eq!(refusal.code, Code::PolicyForbids);
        assert!(refusal.message.contains(key), "{refusal}");
    }

    #[test]
    fn units_operators_and_declared_counts_have_codes_of_their_own() {
        let key = |seed: u8| SecretKey::from_seed([seed; 32]).public();
        let policy = Policy {
            units: Some(vec![Unit::Person, Unit::Document]),
            min_units: 50,
            operators: Some(vec![key(1), key(2)]),
            ..Policy::default()
        };
        let code = |refused: Result<(), Refusal>| refused.expect_err("refused").code;
        assert_eq!(policy.allows(&plan("person")), Ok(()));
        assert_eq!(code(policy.allows(&plan("sentence"))), Code::UnitForbidden);
        // By itself a policy keeps the account of a person.
        let default = Policy::default();
        let mut sentence = plan("sentence");
        let refusal = default.allows(&sentence).expect_err("no cap");
        assert_eq!(refusal.code, Code::UnitForbidden);
        assert!(refusal.message.contains("max_per_person"), "{refusal}");
        sentence.privacy.max_per_person = Some(20);
        for allowed in [&sentence, &plan("institution"), &plan("person")] {
            assert_eq!(default.allows(allowed), Ok(()));
        }
        let of_sentences = Policy {
            account: Unit::Sentence,
            ..Policy::default()
        };
        assert_eq!(of_sentences.allows(&plan("sentence")), Ok(()));
        assert_eq!(
            code(of_sentences.allows(&plan("person"))),
            Code::UnitForbidden
        );
        assert_eq!(policy.allows_operator(&key(2)), Ok(()));
        assert_eq!(
            code(policy.allows_operator(&key(3))),
            Code::OperatorForbidden
        );
        assert_eq!(policy.allows_declared(&plan("person"), 50), Ok(()));
        assert_eq!(
            code(policy.allows_declared(&plan("person"), 49)),
            Code::TooFewUnits
        );
        // With so many, δ may leave some of them without protection.
        let mut many = plan("person");
        assert_eq!(
            code(policy.allows_declared(&many, 10_000)),
            Code::PolicyForbids
        );
        many.privacy.delta = 1e-6;
        assert_eq!(policy.allows_declared(&many, 10_000), Ok(()));
        // Of the whole institution there is one.
        assert_eq!(policy.allows_declared(&plan("institution"), 1), Ok(()));
        let text = toml::to_string(&policy).expect("toml");
        assert_eq!(toml::from_str::<Policy>(&text).expect("read"), policy);
    }

    #[test]
    fn unknown_keys_and_limits_that_limit_nothing_are_errors() {
        assert!(toml::from_str::<Policy>("allow_nothing = true").is_err());
        for text in [
            "max_epsilon_run = inf",
            "max_epsilon_total = -1.0",
            "max_epsilon_run = nan",
            "max_delta = nan",
            "max_delta = 0.9",
            "consent_days = 0",
        ] {
            let policy: Policy = toml::from_str(text).expect("toml");
            assert!(policy.check(Path::new("policy.toml")).is_err(), "{text}");
        }
    }
}
