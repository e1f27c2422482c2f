use std::collections::BTreeMap;

use super::*;

pub(crate) const EXAMPLE: &str = r#"
name = "disease-ner"
base = "minilm@1"
labels = ["Disease"]
method = "full"
rounds = 5
seed = 7

[training]
local_epochs = 1
batch_size = 16
learning_rate = 1e-4
max_tokens = 256
device = "auto"

[cohort]
institutions = ["st-anna", "mercy", "north"]
quorum = 2
recruit_timeout_s = 600
train_timeout_s = 3600
weighting = "examples"

[privacy]
unit = "institution"
clip = 1.0
noise_multiplier = 1.0
delta = 1e-5
max_epsilon = 8.0
"#;

#[test]
fn the_documented_example_reads_and_its_digest_is_that_of_its_meaning() {
    let plan = Plan::parse(EXAMPLE).expect("example");
    let spaced =
        Plan::parse(&EXAMPLE.replace("rounds = 5", "rounds    =   5 # five")).expect("same");
    assert_eq!(plan.digest(), spaced.digest());
    let other = Plan::parse(&EXAMPLE.replace("rounds = 5", "rounds = 6")).expect("other");
    assert_ne!(plan.digest(), other.digest());
}

#[test]
fn wrong_values_name_their_key() {
    let cases = [
        ("rounds = 5", "rounds = 10001", "rounds"),
        ("quorum = 2", "quorum = 4", "cohort.quorum"),
        ("quorum = 2", "quorum = 0", "cohort.quorum"),
        ("\"mercy\"", "\"st-anna\"", "cohort.institutions"),
        ("[\"Disease\"]", "[\"B-Disease\"]", "labels"),
        ("[\"Disease\"]", "[]", "labels"),
        ("[\"Disease\"]", "[\"A\", \"A\"]", "labels"),
        (
            "learning_rate = 1e-4",
            "learning_rate = nan",
            "training.learning_rate",
        ),
        (
            "learning_rate = 1e-4",
            "learning_rate = -1.0",
            "training.learning_rate",
        ),
        (
            "learning_rate = 1e-4",
            "head_learning_rate = 0.0",
            "training.head_learning_rate",
        ),
        ("clip = 1.0", "clip = 0.0", "privacy.clip"),
        (
            "noise_multiplier = 1.0",
            "noise_multiplier = 0.0",
            "privacy.noise_multiplier",
        ),
        ("delta = 1e-5", "delta = 0.0", "privacy.delta"),
        (
            "max_epsilon = 8.0",
            "max_epsilon = inf",
            "privacy.max_epsilon",
        ),
    ];
    for (from, to, key) in cases {
        assert!(EXAMPLE.contains(from), "{from}");
        let error = Plan::parse(&EXAMPLE.replace(from, to)).expect_err(to);
        assert!(
            matches!(error, Error::Value { key: k, .. } if k == key),
            "{to}: {error}"
        );
    }
}

#[test]
fn options_of_another_method_name_their_key() {
    let lora = "[lora]\nrank = 4\n[cohort]";
    let cases = [
        ("full", lora, "lora"),
        ("head", lora, "lora"),
        ("lora", "[lora]\nrank = 0\n[cohort]", "lora.rank"),
        ("lora", "[lora]\nalpha = 0.0\n[cohort]", "lora.alpha"),
        ("lora", "[lora]\ntargets = []\n[cohort]", "lora.targets"),
        (
            "ffa-lora",
            "[lora]\ntargets = [\"key\", \"key\"]\n[cohort]",
            "lora.targets",
        ),
    ];
    let with = |method: &str, tables: &str| {
        let text = EXAMPLE.replace("\"full\"", &format!("\"{method}\""));
        Plan::parse(&text.replace("[cohort]", tables))
    };
    for (method, tables, key) in cases {
        let error = with(method, tables).expect_err(tables);
        assert!(
            matches!(error, Error::Value { key: k, .. } if k == key),
            "{tables}: {error}"
        );
    }
    let frozen = [
        ("lora", "freeze_embeddings = true"),
        ("head", "freeze_layers = 2"),
        ("head", "head_learning_rate = 0.3"),
        ("head", "head_layers = [4, 2]"),
        ("head", "head_layers = [2, 2]"),
        ("head", "head_context = 9"),
        ("head", "precision = \"mixed\""),
        ("full", "head_crf = true\nfocal_gamma = 2.0"),
        (
            "full",
            "head_crf = true\n[training.class_weights]\nDisease = 2.0",
        ),
    ];
    for (method, line) in frozen {
        let text = EXAMPLE
            .replace("\"full\"", &format!("\"{method}\""))
            .replace("[cohort]", &format!("{line}\n[cohort]"));
        let error = Plan::parse(&text).expect_err(line);
        assert!(matches!(error, Error::Value { .. }), "{line}: {error}");
    }
    let trainable = with("lora", lora).expect("lora").trainable();
    assert_eq!((trainable.lora.rank, trainable.method), (4, Method::Lora));
}

#[test]
fn unknown_keys_and_unknown_words_are_errors() {
    for (from, to) in [
        ("seed = 7", "seeed = 7"),
        ("batch_size = 16", "batchsize = 16"),
        ("quorum = 2", "quorum = 2\nquorate = 3"),
        ("method = \"full\"", "method = \"fulll\""),
        ("unit = \"institution\"", "unit = \"galaxy\""),
    ] {
        let error = Plan::parse(&EXAMPLE.replace(from, to)).expect_err(to);
        assert!(matches!(error, Error::Syntax(_)), "{to}: {error}");
    }
}

/// Signed as JSON it would have `null` for the number, and nobody could read it again.
#[test]
fn a_number_without_an_end_is_refused_where_it_does_nothing_too() {
    for (from, to) in [
        ("clip = 1.0", "clip = nan"),
        ("delta = 1e-5", "delta = -inf"),
        ("noise_multiplier = 1.0", "noise_multiplier = inf"),
    ] {
        let text = EXAMPLE.replace("unit = \"institution\"", "unit = \"none\"");
        assert!(text.contains(from), "{from}");
        let error = Plan::parse(&text.replace(from, to))
            .expect_err(to)
            .to_string();
        assert!(error.contains("a finite number"), "{error}");
    }
}

#[test]
fn without_noise_the_grid_is_finer_and_the_bound_has_no_noise_in_it() {
    let text = EXAMPLE.replace("unit = \"institution\"", "unit = \"none\"");
    let plan = Plan::parse(&text).expect("plan");
    assert_eq!(plan.privacy.update_noise_multiplier().to_bits(), 0);
    assert_eq!(plan.privacy.value_bound(), (1 << 24) + 2);
    assert!((plan.privacy.grid().gamma() - 64.0 / f64::from(1 << 24)).abs() < f64::EPSILON);
}

#[test]
fn clipping_is_chosen_only_where_gradients_are_clipped() {
    let automatic = EXAMPLE.replace("clip = 1.0", "clip = 1.0\nclipping = \"automatic\"");
    assert_ne!(automatic, EXAMPLE);
    let error = Plan::parse(&automatic).expect_err("an update is clipped");
    assert!(error.to_string().contains("privacy.clipping"), "{error}");
    let sampled = |text: &str| text.replace("unit = \"institution\"", "unit = \"person\"");
    let plan = Plan::parse(&sampled(&automatic)).expect("plan");
    assert_eq!(plan.privacy.clipping, Clipping::Automatic);
    // A plan that does not choose has the digest it had before there was a choice.
    let plain = Plan::parse(&sampled(EXAMPLE)).expect("plan");
    assert_ne!(plan.digest(), plain.digest());
    let json = crate::digest::canonical_json(&plain);
    let json = String::from_utf8(json).expect("UTF-8");
    assert!(!json.contains("clipping"), "{json}");
}

#[test]
fn every_method_trains_sampled_units_in_batches_taken_together() {
    let documented = EXAMPLE.replace("unit = \"institution\"", "unit = \"person\"");
    for method in Method::ALL {
        let text = documented.replace("method = \"full\"", &format!("method = \"{method}\""));
        let plan = Plan::parse(&text).expect("a plan of the method");
        assert!(plan.sampling(1000).is_some());
        let mut accumulating = plan;
        accumulating.training.gradient_accumulation = 2;
        let error = accumulating.check().expect_err("accumulating").to_string();
        assert!(error.contains("training.gradient_accumulation"), "{error}");
        accumulating.training.gradient_accumulation = 1;
        accumulating.training.batch_size = 32_769;
        let error = accumulating.check().expect_err("too large").to_string();
        assert!(error.contains("training.batch_size"), "{error}");
    }
}

#[test]
fn sampled_units_have_defaults_of_their_own() {
    let short = |method: &str, unit: &str| {
        let text = format!(
            "name = \"n\"\nbase = \"b@1\"\nlabels = [\"A\"]\nmethod = \"{method}\"\nrounds = 1\n\
             [cohort]\ninstitutions = [\"i\"]\nquorum = 1\n\
             [privacy]\nunit = \"{unit}\"\nnoise_multiplier = 1.0\n"
        );
        Plan::parse(&text).expect("a short plan")
    };
    for (method, batch_size, learning_rate) in [
        ("head", 1024, 0.3),
        ("ffa-lora", 256, 5e-3),
        ("lora", 1024, 1e-3),
        ("full", 256, 1e-3),
        ("bitfit", 256, 5e-3),
    ] {
        let expected = Training {
            batch_size,
            learning_rate,
            warmup: 0.0,
            weight_decay: 0.0,
            head_iob2: true,
            head_learning_rate: (method != "head").then_some(0.3),
            class_weights: BTreeMap::from([("O".to_owned(), 0.25)]),
            ..Training::default()
        };
        for (unit, clip) in [("person", 0.01), ("document", 0.03), ("sentence", 0.03)] {
            let plan = short(method, unit);
            assert_eq!((plan.training, plan.privacy.clip), (expected.clone(), clip));
        }
        let plan = short(method, "institution");
        assert_eq!(
            (plan.training, plan.privacy.clip),
            (Training::default(), 1.0)
        );
    }
}

#[test]
fn what_a_plan_says_is_not_filled_in() {
    let text = EXAMPLE
        .replace("unit = \"institution\"", "unit = \"person\"")
        .replace(
            "[training]",
            "[training]\nwarmup = 0.1\nweight_decay = 0.01\nhead_iob2 = false\nclass_weights = {}\n\
             head_learning_rate = 1e-3",
        );
    let plan = Plan::parse(&text).expect("a plan");
    let defaults = Training {
        head_learning_rate: Some(1e-3),
        ..Training::default()
    };
    assert_eq!((plan.training, plan.privacy.clip), (defaults, 1.0));
}

#[test]
fn numbers_of_a_guarantee_are_within_their_ranges() {
    let with = |key: &str, found: &str| {
        let text = EXAMPLE.replace("[privacy]", &format!("[privacy]\n{key} = {found}"));
        Plan::parse(&text)
    };
    for found in ["0.0", "0.01", "10000.0"] {
        assert!(with("evaluation_noise", found).is_ok(), "{found}");
    }
    for found in [
        "1e-160", "1e-100", "0.0099", "10001.0", "-0.1", "nan", "inf",
    ] {
        let error = with("evaluation_noise", found)
            .expect_err(found)
            .to_string();
        assert!(error.contains("privacy.evaluation_noise"), "{error}");
    }
    for (found, allowed) in [
        ("1e-30", true),
        ("0.5", true),
        ("1e-299", false),
        ("0.6", false),
    ] {
        let mut plan = with("evaluation_noise", "0.0").expect("a plan");
        plan.privacy.delta = found.parse().expect("number");
        assert_eq!(plan.check().is_ok(), allowed, "{found}");
    }
    let capped = |unit: &str| {
        let text = EXAMPLE.replace(
            "unit = \"institution\"",
            &format!("unit = \"{unit}\"\nmax_per_person = 20"),
        );
        Plan::parse(&text)
    };
    for unit in ["document", "sentence"] {
        assert_eq!(
            capped(unit).expect("a plan").privacy.max_per_person,
            Some(20)
        );
    }
    for unit in ["person", "institution", "none"] {
        let error = capped(unit).expect_err(unit).to_string();
        assert!(error.contains("max_per_person"), "{error}");
    }
    // Plans of before keep their digests.
    let json = serde_json::to_string(&with("evaluation_noise", "0.0").expect("a plan"));
    assert!(!json.expect("json").contains("max_per_person"));
}

#[test]
fn weights_are_equal_capped_or_the_operators_own() {
    let with = |keys: &str| Plan::parse(&EXAMPLE.replace("weighting = \"examples\"", keys));
    let anna = "st-anna".parse().expect("name");
    let equal = with("").expect("plan");
    assert_eq!((equal.weight(&anna, 500), equal.largest_weight()), (1, 1));
    assert_eq!(equal.cohort.largest_share(), None);
    let declared = with("weighting = \"examples\"").expect("plan");
    assert_eq!(declared.weight(&anna, 500), 500);
    let share = declared.cohort.largest_share().expect("a share");
    assert!((share - 2.0 / 3.0).abs() < 1e-12);
    let own = "weighting = \"plan\"\nweights = { st-anna = 3, mercy = 2, north = 1 }";
    let own = with(own).expect("plan");
    assert_eq!((own.weight(&anna, 500), own.largest_weight()), (3, 3));
    assert_eq!(own.cohort.largest_share(), None);
    for (keys, key) in [
        ("weighting = \"plan\"", "cohort.weights"),
        (
            "weighting = \"plan\"\nweights = { st-anna = 3, mercy = 2 }",
            "cohort.weights",
        ),
        (
            "weighting = \"plan\"\nweights = { st-anna = 3, mercy = 2, north = 0 }",
            "cohort.weights",
        ),
        (
            "weights = { st-anna = 3, mercy = 2, north = 1 }",
            "cohort.weights",
        ),
        ("max_share = 0.5", "cohort.max_share"),
        (
            "weighting = \"examples\"\nmax_share = 0.0",
            "cohort.max_share",
        ),
        (
            "weighting = \"examples\"\nmax_share = 1.5",
            "cohort.max_share",
        ),
    ] {
        let error = with(keys).expect_err(keys);
        assert!(
            matches!(error, Error::Value { key: k, .. } if k == key),
            "{keys}: {error}"
        );
    }
    // Plans of before say their weighting, and keep their digests.
    let json = serde_json::to_string(&declared).expect("json");
    assert!(json.contains("\"weighting\":\"examples\""), "{json}");
    for key in ["max_share", "\"weights\"", "max_update_norm"] {
        assert!(!json.contains(key), "{json}");
    }
}
