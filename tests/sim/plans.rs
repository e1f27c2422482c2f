//! The plans and policies of simulated federations.

use std::fs;
use std::path::Path;

use anyhow::Result;
use fedner_shared::plan::{KnownTypes, OptimizerName, Plan, Strategy};
use fedner_shared::secure::fingerprint;
use fedner_shared::sign::SecretKey;

use crate::op::Setting;

/// The institutions; a scenario takes the first few of them.
pub(crate) const SITES: [&str; 20] = [
    "anna", "bert", "cora", "dora", "emil", "fred", "gina", "hugo", "inga", "jan", "karl", "lena",
    "mona", "nils", "olga", "paul", "rosa", "sven", "tina", "udo",
];
pub(crate) const LABEL: &str = "Disease";
/// An encoder, and a model that knows [`LABEL`].
pub(crate) const BARE: &str = "base";
pub(crate) const KNOWING: &str = "known";
/// A type that the text has nothing of.
const OTHER: &str = "Drug";

/// ε of one round at the noise of these plans lies between this and its double.
const ONE_UPDATE: f64 = 6.5;
const PLENTY: f64 = 1e6;

/// What an institution signs with, by its number.
pub(crate) fn site_key(site: usize) -> SecretKey {
    SecretKey::from_seed([100 + site as u8; 32])
}

pub(crate) fn declared_examples(site: usize) -> u32 {
    100 * (site as u32 + 1)
}

/// The policy of an institution, by its number.
pub(crate) fn write_policy(directory: &Path, setting: &Setting, site: usize) -> Result<()> {
    let shares = !(setting.shy && site + 1 == setting.sites);
    let poor = setting.poor && site == 0;
    let total = if poor { ONE_UPDATE } else { PLENTY };
    let known = |site: usize| {
        let name = SITES[site];
        format!("{name} = {:?}", fingerprint(&site_key(site).public()))
    };
    let known: Vec<String> = (0..setting.sites).map(known).collect();
    let known = known.join(", ");
    let account = if setting.together {
        "account = \"sentence\"\n"
    } else {
        ""
    };
    let policy = format!(
        "{account}known_institutions = {{ {known} }}\nconsent = \"auto\"\nallow_no_privacy = true\nshare_evaluation = {shares}\nexact_evaluation = true\n\
         max_epsilon_run = {PLENTY:?}\nmax_epsilon_total = {total:?}\n"
    );
    fs::write(directory.join("policy.toml"), policy)?;
    if setting.partial && site == 1 {
        let file = directory.join("client.toml");
        let settings = fs::read_to_string(&file)?;
        fs::write(file, format!("annotated_types = [\"{OTHER}\"]\n{settings}"))?;
        for text in ["train.conll", "held.conll"] {
            let file = directory.join(text);
            let tagged = fs::read_to_string(&file)?;
            fs::write(file, tagged.replace("B-Disease", "O"))?;
        }
    }
    Ok(())
}

/// Plans that begin with everything that plans here begin with.
pub(crate) fn plans() -> Result<Vec<Plan>> {
    let known = [KnownTypes::Train, KnownTypes::Freeze, KnownTypes::Distil].map(Some);
    let mut plans = Vec::new();
    for grows in [None].into_iter().chain(known) {
        plans.push(plan(&one_site(grows), 1)?);
    }
    plans.push(plan(&one_site(None), 0)?);
    Ok(plans)
}

/// With number 0 it is of a run that only evaluates.
fn one_site(grows: Option<KnownTypes>) -> Setting {
    Setting {
        noise: false,
        grows,
        evaluates: true,
        ..Setting::plain(1, 1, 1)
    }
}

/// The plan of a setting's run with that number.
pub(crate) fn plan(setting: &Setting, number: usize) -> Result<Plan> {
    let institutions = &SITES[..setting.sites];
    if setting.evaluates && number == 0 {
        return evaluation(setting);
    }
    let weighting = match (number % 2, setting.secure) {
        (0, _) => "equal",
        (_, false) => "examples",
        (_, true) => "plan",
    };
    let together = setting.takes_steps(number);
    let unit = match (setting.noise, together) {
        (false, _) => "none",
        (true, false) => "institution",
        (true, true) => "sentence",
    };
    let weights = match weighting {
        "plan" => {
            let each = institutions.iter().zip(1..);
            let each: Vec<String> = each
                .map(|(name, weight)| format!("{name} = {weight}"))
                .collect();
            format!("weights = {{ {} }}", each.join(", "))
        }
        _ => String::new(),
    };
    // Noise is shared where everybody's weight is the same.
    let (masks, shares) = match (setting.secure, setting.noise && weighting == "equal") {
        (false, _) => ("", ""),
        (true, false) => ("[secure_aggregation]\n step_timeout_s = 10", ""),
        (true, true) => (
            "[secure_aggregation]\n step_timeout_s = 10",
            "noise_shares = 2",
        ),
    };
    let Setting {
        quorum,
        rounds,
        strategy,
        optimizer,
        guarded,
        scheduled,
        ..
    } = setting;
    let optimizer = optimizer.filter(|_| !together);
    let optimizer = match optimizer.map(OptimizerName::as_str) {
        Some(name) => format!("[server_optimizer]\n name = \"{name}\""),
        None => String::new(),
    };
    // Declared weights are for rules that weigh.
    let strategy = match weighting {
        "equal" => *strategy,
        _ if strategy.is_weighted() => *strategy,
        _ => Strategy::FedAvg,
    };
    let rows = if setting.partial && !together && strategy == Strategy::FedAvg {
        "rows = \"annotated\""
    } else {
        ""
    };
    // What the trainer counts gets worse by the round, so that a run with a gate always goes back. Without one, every
    // other version is not evaluated.
    let (gate, evaluate_every) = match number % 2 {
        0 if !together => (
            "[gate]\n min_institutions = 1\n on_regression = \"roll-back\"",
            1,
        ),
        _ => ("", 2),
    };
    let guard = if *guarded {
        "[guard]\n min_cosine = 0.0\n max_norm_ratio = 4.0\n rounds = 2"
    } else {
        ""
    };
    let schedule = if *scheduled {
        "[schedule]\n times = \"* * * * *\""
    } else {
        ""
    };
    // Of all that the institutions declare, whoever comes.
    let units: u32 = (0..setting.sites).map(declared_examples).sum();
    let (step, shares) = if together {
        (
            "[training]\n batch_size = 20\n local_epochs = 1\n weight_decay = 0.0",
            format!("cohort_units = {units}"),
        )
    } else {
        ("", shares.to_owned())
    };
    let (base, known) = match setting.grows {
        None => (BARE, ""),
        Some(KnownTypes::Train) => (KNOWING, ""),
        Some(KnownTypes::Freeze) => (KNOWING, "known_types = \"freeze\""),
        Some(KnownTypes::Distil) => (KNOWING, "known_types = \"distil\""),
    };
    let text = format!(
        r#"
        name = "sim{number}"
        base = "{base}@1"
        labels = ["{LABEL}", "{OTHER}"]
        {known}
        method = "head"
        rounds = {rounds}
        [cohort]
        institutions = {institutions:?}
        quorum = {quorum}
        recruit_timeout_s = 30
        train_timeout_s = 40
        evaluate_timeout_s = 20
        evaluate_every = {evaluate_every}
        away_after_s = 12
        max_attempts = 3
        weighting = "{weighting}"
        {weights}
        [aggregation]
        strategy = "{strategy}"
        {rows}
        [privacy]
        unit = "{unit}"
        noise_multiplier = 1.0
        {shares}
        max_epsilon = 1000.0
        {masks}
        {step}
        {gate}
        {guard}
        {optimizer}
        {schedule}
        "#
    );
    Ok(Plan::parse(&text)?)
}

impl Setting {
    /// Whether each round of that run is a step that all take together. Such runs have equal weights and no gate.
    fn takes_steps(&self, number: usize) -> bool {
        let plain = self.grows != Some(KnownTypes::Distil) && number.is_multiple_of(2);
        self.together && self.secure && self.noise && plain
    }
}

/// The plan of a run that scores a model twice, or once where nobody waits for a time.
fn evaluation(setting: &Setting) -> Result<Plan> {
    let institutions = &SITES[..setting.sites];
    let Setting { quorum, .. } = setting;
    let schedule = if setting.scheduled {
        "[schedule]\n times = \"* * * * *\"\n evaluations = 2"
    } else {
        ""
    };
    let text = format!(
        r#"
        name = "scores"
        base = "{KNOWING}@1"
        labels = ["{LABEL}"]
        method = "head"
        rounds = 0
        [cohort]
        institutions = {institutions:?}
        quorum = {quorum}
        recruit_timeout_s = 30
        train_timeout_s = 40
        evaluate_timeout_s = 20
        away_after_s = 12
        max_attempts = 3
        [privacy]
        unit = "none"
        {schedule}
        "#
    );
    Ok(Plan::parse(&text)?)
}
