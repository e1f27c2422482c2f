//! What the institution agrees to: a signed statement for each plan, within its policy.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use fedner_model::{Sentence, corpus};
use fedner_shared::plan::{Plan, Unit, Weighting};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::statement::{Annotation, Consent};
use fedner_shared::time::Time;

use crate::config::{Directory, Policy, Settings};
use crate::identity::Identity;
use crate::state::{self, Forms, PlanRecord, Store};
use crate::training;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Corpus(#[from] corpus::Error),
    #[error(transparent)]
    State(#[from] state::Error),
}

impl Error {
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Corpus(error) => {
                let code = training::code_of_corpus(error);
                Some(Refusal::new(code, error.to_string()))
            }
            Self::State(error) => error.refusal(),
        }
    }
}

const DAY: Duration = Duration::from_hours(24);

/// By what a consent is given.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    pub directory: &'a Directory,
    pub settings: &'a Settings,
    pub policy: &'a Policy,
}

/// Signs and keeps a consent, if the policy allows the plan; see [`draft`].
pub fn grant(
    store: &Store,
    identity: &Identity,
    terms: Terms<'_>,
    record: &PlanRecord,
    examples: Option<u32>,
    now: Time,
) -> Result<Consent, Error> {
    let consent = draft(store, identity, terms, record, examples, now)?;
    store.save_forms(&forms(terms.settings, terms.directory))?;
    let signed = Signed::new(&consent, &identity.signing);
    store.add_consent(&consent, &signed)?;
    Ok(consent)
}

/// The consent that would be signed and sent.
///
/// `examples` is the count to declare; without it, that of the configuration, that of an earlier
/// consent to the same plan, or, where the plan protects nothing anyway, that of the data.
pub fn draft(
    store: &Store,
    identity: &Identity,
    terms: Terms<'_>,
    record: &PlanRecord,
    examples: Option<u32>,
    now: Time,
) -> Result<Consent, Error> {
    let Terms {
        directory,
        settings,
        policy,
    } = terms;
    allows(policy, identity, &record.plan)?;
    settings.allow(&record.plan)?;
    if record.plan.only_evaluates() {
        allows_evaluation(policy, settings, &record.plan)?;
    }
    let earlier = store.consent(&record.digest)?;
    let examples = match examples.or(earlier.map(|record| record.consent.examples)) {
        Some(examples) => examples,
        None => examples_of(&record.plan, settings, directory)?,
    };
    check_examples(examples, &record.plan)?;
    policy.allows_declared(&record.plan, examples)?;
    let held_out = held_out_of(&record.plan, policy, settings, directory)?;
    Ok(Consent {
        plan: record.digest,
        institution: identity.institution.clone(),
        examples,
        held_out,
        annotation: annotation_of(&record.plan, settings, directory),
        policy: policy.digest(),
        at: now,
        expires: now + DAY * policy.consent_days,
    })
}

/// Which of the plan's types the files to train on are declared to annotate; `None` for all.
pub fn annotation_of(
    plan: &Plan,
    settings: &Settings,
    directory: &Directory,
) -> Option<Annotation> {
    let annotated = directory.annotated(settings);
    let files = settings.data.iter().map(|file| directory.resolve(file));
    let declared = files.map(|file| annotated.among(&plan.labels, &file));
    let declared: Vec<Vec<&String>> = declared.collect();
    let with = |label: &&String| declared.iter().filter(|own| own.contains(label)).count();
    let of = |wanted: &dyn Fn(usize) -> bool| -> Vec<String> {
        let labels = plan.labels.iter().filter(|label| wanted(with(label)));
        labels.cloned().collect()
    };
    let types = of(&|count| count == declared.len());
    let in_part = of(&|count| count > 0 && count < declared.len());
    (types.len() < plan.labels.len()).then_some(Annotation { types, in_part })
}

/// Whether the files are still declared to annotate what the consent says.
pub fn check_annotation(
    consent: &Consent,
    plan: &Plan,
    settings: &Settings,
    directory: &Directory,
) -> Result<(), Refusal> {
    if annotation_of(plan, settings, directory) == consent.annotation {
        return Ok(());
    }
    let message = format!(
        "client.toml declares other annotated types than the consent to the plan {}",
        plan.name
    );
    Err(Refusal::new(Code::AnnotationUndeclared, message))
}

/// Refuses types that nothing is declared of and that no file has: whether they never occur or are not
/// annotated, the people here know.
fn check_declared(plan: &Plan, sentences: &[Sentence], settings: &Settings) -> Result<(), Refusal> {
    if settings.annotated_types.is_some() || !settings.annotated_types_of.is_empty() {
        return Ok(());
    }
    let tags = sentences.iter().flat_map(|sentence| &sentence.tags);
    let found: BTreeSet<&str> = tags
        .filter_map(|tag| Some(tag.split_once('-')?.1))
        .collect();
    let absent = plan
        .labels
        .iter()
        .filter(|label| !found.contains(label.as_str()));
    let absent: Vec<&str> = absent.map(String::as_str).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the data has no entity of the types {}, which the plan {} asks for: say whether it annotates them",
        absent.join(", "),
        plan.name
    );
    Err(Refusal::new(Code::AnnotationUndeclared, message))
}

/// Looks at the text that a plan would be trained or evaluated on, for the people who are asked to agree: later it
/// is not told what is wrong with it. Nothing of it is part of the consent.
pub fn check_text(terms: Terms<'_>, plan: &Plan) -> Result<(), Error> {
    let Terms {
        directory,
        settings,
        policy,
    } = terms;
    let (files, least) = if plan.only_evaluates() {
        (&settings.held_out, 1)
    } else {
        (&settings.data, policy.minimum_examples.max(1) as usize)
    };
    let paths: Vec<PathBuf> = files.iter().map(|p| directory.resolve(p)).collect();
    let read = training::read_corpora(&paths, &plan.labels, directory.reader(settings));
    let sentences = read.map_err(|error| {
        let unnamed = || Refusal::new(Code::CorpusInvalid, error.to_string());
        error.refusal().unwrap_or_else(unnamed)
    })?;
    if sentences.len() < least {
        let message = format!(
            "the text has {} sentences: the policy asks for {least}",
            sentences.len(),
        );
        return Err(Refusal::new(Code::CorpusEmpty, message).into());
    }
    check_declared(plan, &sentences, settings)?;
    if plan.privacy.unit.is_sampled()
        && let Err(error) = fedner_model::count_units(plan.privacy.unit, &sentences)
    {
        return Err(Refusal::new(Code::CorpusInvalid, error.to_string()).into());
    }
    Ok(())
}

/// The forms of the files that can be read. They are found out now, when the institution agrees, and
/// not at each training: there one person's text, were it the first of a file, would decide how the
/// text of others is read.
fn forms(settings: &Settings, directory: &Directory) -> Forms {
    let mut forms = Forms {
        reading: settings.reading.clone(),
        ..Forms::default()
    };
    for file in settings.data.iter().chain(&settings.held_out) {
        let file = directory.resolve(file);
        let mut reader = directory.reader(settings);
        if let Ok(summary) = reader.stream(&file, &mut |_| {}) {
            forms.files.insert(file, summary.shape());
        }
    }
    forms
}

/// Whether the plan names this institution, and its policy allows the plan and who signed it.
pub fn allows(policy: &Policy, identity: &Identity, plan: &Plan) -> Result<(), Refusal> {
    let institution = &identity.institution;
    if !plan.cohort.institutions.contains(institution) {
        let message = format!("the plan {} does not name {institution}", plan.name);
        return Err(Refusal::new(Code::NotInCohort, message));
    }
    policy.allows_operator(&identity.operator)?;
    policy.allows(plan)?;
    let others = plan.cohort.institutions.iter();
    policy.allows_sharing(plan, others.filter(|name| *name != institution))?;
    if plan.only_evaluates() {
        policy.allows_evaluation(plan)?;
    }
    Ok(())
}

/// Whether counts on held-out text may leave, and there is such text.
pub fn allows_evaluation(policy: &Policy, settings: &Settings, plan: &Plan) -> Result<(), Refusal> {
    policy.allows_evaluation(plan)?;
    if settings.held_out.is_empty() {
        let message = "client.toml has no `held_out`: there is nothing to evaluate on";
        return Err(Refusal::new(Code::PolicyForbids, message));
    }
    Ok(())
}

/// The example count to declare, of held-out text where nothing is trained. What is taken from the data is data itself, so that it is taken
/// only where nothing is protected.
fn examples_of(plan: &Plan, settings: &Settings, directory: &Directory) -> Result<u32, Error> {
    let (held_out, files) = if plan.only_evaluates() {
        (settings.declared_held_out, &settings.held_out)
    } else {
        (None, &settings.data)
    };
    if let Some(declared) = held_out.or(settings.declared_examples) {
        return Ok(declared);
    }
    match (plan.privacy.unit, plan.cohort.weighting) {
        (unit @ (Unit::Person | Unit::Document | Unit::Sentence), _) => {
            let message = format!(
                "the plan {} samples units, here each {unit}: expected how many there are about, as \
                 `declared_examples` in client.toml or --examples; the number is public, and decides \
                 how often each is sampled",
                plan.name
            );
            Err(Refusal::new(Code::ExamplesOutOfRange, message).into())
        }
        (Unit::Institution | Unit::None, Weighting::Equal | Weighting::Plan) => Ok(1),
        (Unit::None, Weighting::Examples) => count(files, settings, directory),
        (Unit::Institution, Weighting::Examples) => {
            let message = format!(
                "the plan {} weighs by examples: expected `declared_examples` in client.toml or \
                 --examples, as a count taken from the data would itself tell something about it",
                plan.name
            );
            Err(Refusal::new(Code::ExamplesOutOfRange, message).into())
        }
    }
}

/// The number of held-out sentences to declare: that of the configuration, or that of the data where
/// the plan protects nothing and counts may leave. What is taken from the data is data itself.
fn held_out_of(
    plan: &Plan,
    policy: &Policy,
    settings: &Settings,
    directory: &Directory,
) -> Result<Option<u32>, Error> {
    let most = plan.cohort.max_examples;
    if let Some(declared) = settings.declared_held_out {
        if declared > most {
            let message =
                format!("declared_held_out is {declared}: the plan expects at most {most}");
            return Err(Refusal::new(Code::ExamplesOutOfRange, message).into());
        }
        return Ok(Some(declared));
    }
    let open = plan.privacy.unit == Unit::None && policy.allows_evaluation(plan).is_ok();
    if !open || settings.held_out.is_empty() {
        return Ok(None);
    }
    let counted = count(&settings.held_out, settings, directory)?;
    Ok(Some(counted.clamp(1, most)))
}

fn count(files: &[PathBuf], settings: &Settings, directory: &Directory) -> Result<u32, Error> {
    let paths: Vec<PathBuf> = files.iter().map(|p| directory.resolve(p)).collect();
    let (mut reader, mut sentences) = (directory.reader(settings), 0);
    for path in &paths {
        sentences += reader.corpus(path)?.sentences.len();
    }
    Ok(u32::try_from(sentences).unwrap_or(u32::MAX))
}

fn check_examples(examples: u32, plan: &Plan) -> Result<(), Refusal> {
    let most = plan.cohort.max_examples;
    if (1..=most).contains(&examples) {
        return Ok(());
    }
    let message = format!("{examples} examples are declared: expected 1 to {most}");
    Err(Refusal::new(Code::ExamplesOutOfRange, message))
}

#[cfg(test)]
mod tests {
    use fedner_shared::sign::SecretKey;

    use super::*;
    use crate::config::policy::tests::plan;
    use crate::egress::tests::identity;
    use crate::state::Standing;
    use crate::state::tests::Place;

    const NOW: Time = Time::from_millis(1_000);

    struct Bench {
        place: Place,
        record: PlanRecord,
    }

    impl Bench {
        fn new(plan: Plan, settings: &str, policy: &str) -> Self {
            let place = Place::new();
            let base = "institution = \"st-anna\"\ncoordinator = \"h:1\"\n";
            let write = |name: &str, text: &str| {
                std::fs::write(place.path().join(name), text).expect("written");
            };
            write("client.toml", &format!("{base}{settings}"));
            write("policy.toml", &format!("hold = false\n{policy}"));
            write("train.conll", "a O\n\nb B-Disease\n\nc O\n");
            let record = PlanRecord {
                digest: plan.digest(),
                run: "run-1".parse().expect("name"),
                signed: Signed::new(&plan, &SecretKey::from_seed([2; 32])),
                plan,
                dimension: 15,
                memory: 0,
                roster: fedner_shared::secure::Signers::new(),
                proposed: NOW,
            };
            place.open().add_plan(&record).expect("plan");
            Self { place, record }
        }

        fn grant(&self, examples: Option<u32>) -> Result<Consent, Error> {
            let directory = Directory::new(Some(self.place.path().to_owned())).expect("directory");
            let store = self.place.open();
            let terms = Terms {
                directory: &directory,
                settings: &directory.settings().expect("settings"),
                policy: &directory.policy().expect("policy"),
            };
            grant(&store, &identity(), terms, &self.record, examples, NOW)
        }

        fn check_text(&self) -> Result<(), Error> {
            let directory = Directory::new(Some(self.place.path().to_owned())).expect("directory");
            let terms = Terms {
                directory: &directory,
                settings: &directory.settings().expect("settings"),
                policy: &directory.policy().expect("policy"),
            };
            check_text(terms, &self.record.plan)
        }

        fn code(&self, examples: Option<u32>) -> Code {
            let error = self.grant(examples).expect_err("refused");
            error.refusal().expect("refusal").code
        }
    }

    #[test]
    fn a_count_is_taken_from_the_data_only_where_nothing_is_protected() {
        let data = "data = [\"train.conll\"]";
        let protected = Bench::new(plan("institution"), data, "");
        assert_eq!(protected.code(None), Code::ExamplesOutOfRange);
        assert_eq!(protected.grant(Some(9)).expect("given").examples, 9);
        assert_eq!(protected.grant(None).expect("as before").examples, 9);
        let declared = format!("{data}\ndeclared_examples = 40");
        let declared = Bench::new(plan("institution"), &declared, "");
        assert_eq!(declared.grant(None).expect("declared").examples, 40);
        let open = Bench::new(plan("none"), data, "allow_no_privacy = true");
        assert_eq!(open.grant(None).expect("counted").examples, 3);
        let mut equal = plan("institution");
        equal.cohort.weighting = Weighting::Equal;
        let equal = Bench::new(equal, data, "");
        assert_eq!(equal.grant(None).expect("equal").examples, 1);
    }

    #[test]
    fn held_out_text_is_counted_only_where_nothing_is_protected() {
        let files = "held_out = [\"train.conll\"]";
        let declared = |text: &str, policy: &str, plan: Plan| {
            let settings = format!("{files}\n{text}");
            let bench = Bench::new(plan, &settings, policy);
            bench.grant(Some(9)).map(|consent| consent.held_out)
        };
        let open = "allow_no_privacy = true\nshare_evaluation = true";
        assert_eq!(declared("", open, plan("none")).expect("counted"), Some(3));
        let silent = "allow_no_privacy = true";
        assert_eq!(declared("", silent, plan("none")).expect("none"), None);
        let shares = "share_evaluation = true";
        let protected = || plan("institution");
        assert_eq!(declared("", shares, protected()).expect("none"), None);
        // Exact counts may leave by a receipt; how much text there is may not, without one.
        let exact = "share_evaluation = true\nexact_evaluation = true";
        assert_eq!(declared("", exact, protected()).expect("none"), None);
        let said = declared("declared_held_out = 40", shares, protected());
        assert_eq!(said.expect("declared"), Some(40));
        let much = declared("declared_held_out = 2000000", shares, protected());
        let refusal = much.expect_err("too many").refusal().expect("refusal");
        assert_eq!(refusal.code, Code::ExamplesOutOfRange);
    }

    fn of_two_types() -> Plan {
        let mut two = plan("none");
        two.labels = ["Disease", "Gene"].map(str::to_owned).to_vec();
        two
    }

    #[test]
    fn a_type_that_no_file_has_must_be_declared_absent_or_unannotated() {
        let bench = |settings: &str| {
            let data = format!("data = [\"train.conll\"]\n{settings}");
            Bench::new(of_two_types(), &data, "allow_no_privacy = true")
        };
        let code = |settings: &str| {
            let outcome = bench(settings).check_text();
            outcome.map_err(|error| error.refusal().map(|refusal| refusal.code))
        };
        assert_eq!(code(""), Err(Some(Code::AnnotationUndeclared)));
        assert_eq!(code("annotated_types = [\"Disease\"]"), Ok(()));
        assert_eq!(code("annotated_types = [\"Disease\", \"Gene\"]"), Ok(()));
        // The text has a disease.
        let contradicted = code("annotated_types = [\"Gene\"]");
        assert_eq!(contradicted, Err(Some(Code::LabelsMismatch)));
        let said = bench("annotated_types = [\"Gene\"]")
            .check_text()
            .expect_err("contradicted");
        assert!(said.to_string().contains("train.conll, line 3"), "{said}");
    }

    #[test]
    fn what_the_text_annotates_is_signed_with_the_consent() {
        let files = "data = [\"train.conll\", \"more.conll\"]\n";
        let signed = |settings: &str| {
            let settings = format!("{files}{settings}");
            let bench = Bench::new(of_two_types(), &settings, "allow_no_privacy = true");
            std::fs::write(bench.place.path().join("more.conll"), "d O\n").expect("written");
            bench.grant(Some(3)).expect("granted").annotation
        };
        let of = |types: &[&str], in_part: &[&str]| {
            let list = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
            Some(Annotation {
                types: list(types),
                in_part: list(in_part),
            })
        };
        assert_eq!(signed(""), None);
        assert_eq!(
            signed("annotated_types = [\"Gene\", \"Disease\", \"Drug\"]"),
            None
        );
        let one = "annotated_types = [\"Disease\"]\n";
        assert_eq!(signed(one), of(&["Disease"], &[]));
        let by_file = format!("{one}[annotated_types_of]\n\"more.conll\" = [\"Gene\"]");
        assert_eq!(signed(&by_file), of(&[], &["Disease", "Gene"]));
        let both = "[annotated_types_of]\n\"more.conll\" = [\"Gene\"]";
        assert_eq!(signed(both), of(&["Gene"], &["Disease"]));
    }

    #[test]
    fn another_declaration_than_the_consents_is_not_trained_on() {
        let data = "data = [\"train.conll\"]\nannotated_types = [\"Disease\"]";
        let bench = Bench::new(of_two_types(), data, "allow_no_privacy = true");
        let consent = bench.grant(Some(3)).expect("granted");
        let directory = Directory::new(Some(bench.place.path().to_owned())).expect("directory");
        let check = |settings: &Settings| {
            check_annotation(&consent, &bench.record.plan, settings, &directory)
                .map_err(|refusal| refusal.code)
        };
        let mut settings = directory.settings().expect("settings");
        assert_eq!(check(&settings), Ok(()));
        settings.annotated_types = None;
        assert_eq!(check(&settings), Err(Code::AnnotationUndeclared));
    }

    #[test]
    fn what_policy_or_plan_exclude_gets_no_consent() {
        assert_eq!(
            Bench::new(plan("none"), "", "").code(Some(1)),
            Code::PolicyForbids
        );
        let mut elsewhere = plan("institution");
        elsewhere.cohort.institutions = vec!["mercy".parse().expect("name")];
        let elsewhere = Bench::new(elsewhere, "", "");
        assert_eq!(elsewhere.code(Some(1)), Code::NotInCohort);
        let bench = Bench::new(plan("institution"), "", "");
        assert_eq!(bench.code(Some(0)), Code::ExamplesOutOfRange);
        assert_eq!(bench.code(Some(2_000_000)), Code::ExamplesOutOfRange);
    }

    #[test]
    fn too_few_units_and_another_operator_get_no_consent() {
        let few = Bench::new(plan("person"), "", "min_units = 20");
        assert_eq!(few.code(Some(19)), Code::TooFewUnits);
        assert_eq!(few.grant(Some(20)).expect("enough").examples, 20);
        let other = SecretKey::from_seed([9; 32]).public();
        let policy = format!("operators = [\"{other}\"]");
        let elsewhere = Bench::new(plan("institution"), "", &policy);
        assert_eq!(elsewhere.code(Some(5)), Code::OperatorForbidden);
    }

    #[test]
    fn a_consent_is_signed_and_ends_by_time_or_by_revocation() {
        let bench = Bench::new(plan("institution"), "", "consent_days = 2");
        let consent = bench.grant(Some(5)).expect("granted");
        let store = bench.place.open();
        let record = store
            .consent(&bench.record.digest)
            .expect("store")
            .expect("kept");
        let key = identity().signing.public();
        assert_eq!(
            record.signed.verify::<Consent>(&key).expect("signed"),
            consent
        );
        assert_eq!(record.standing(NOW), Standing::Granted);
        assert_eq!(record.standing(NOW + DAY * 2), Standing::Expired);
        assert_eq!(store.consents_in_force(NOW).expect("store").len(), 1);
        assert!(
            store
                .revoke_consents(&bench.record.digest, NOW)
                .expect("store")
        );
        assert!(store.consents_in_force(NOW).expect("store").is_empty());
        bench.grant(None).expect("granted again");
        assert_eq!(store.consents_in_force(NOW).expect("store").len(), 1);
    }
}
