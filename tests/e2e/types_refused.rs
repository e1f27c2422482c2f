//! Plans about entity types, gates and schedules that cannot be meant: each is refused with a code and a hint before
//! anything runs.

use std::fs;

use anyhow::{Context, Result};

use crate::annotation::grown_base;
use crate::setting::{NO_NOISE, Setting, plan, refused};

/// A plan of the base `known@1` with something wrong in it.
struct Case {
    what: &'static str,
    /// What of a good plan becomes what.
    edits: &'static [(&'static str, &'static str)],
    /// What the refusal names.
    said: [&'static str; 2],
}

const CASES: [Case; 20] = [
    Case {
        what: "a type is renamed onto itself",
        edits: &[("labels = ", "rename = { Drug = \"Drug\" }\nlabels = ")],
        said: ["plan-invalid", "another name"],
    },
    Case {
        what: "a type is renamed onto two",
        edits: &[(
            "labels = ",
            "rename = { Chem = \"Drug\", Chem = \"Date\" }\nlabels = ",
        )],
        said: ["plan-invalid", "duplicate"],
    },
    Case {
        what: "two types are renamed onto one",
        edits: &[(
            "labels = ",
            "rename = { Chem = \"Drug\", Medicine = \"Drug\" }\nlabels = ",
        )],
        said: ["plan-invalid", "not two"],
    },
    Case {
        what: "renames go round",
        edits: &[(
            "labels = ",
            "rename = { Drug = \"Date\", Date = \"Drug\" }\nlabels = ",
        )],
        said: ["plan-invalid", "rename"],
    },
    Case {
        what: "a type is renamed that the base lacks",
        edits: &[(
            "labels = ",
            "drop = [\"Animal\"]\nrename = { Chem = \"Drug\" }\nlabels = ",
        )],
        said: ["labels-mismatch", "Chem"],
    },
    Case {
        what: "nothing is said of a type that the base has",
        edits: &[],
        said: ["labels-mismatch", "Animal"],
    },
    Case {
        what: "a dropped type has a weight still",
        edits: &[("[training]", "[training]\nclass_weights = { Animal = 2.0 }")],
        said: ["plan-invalid", "class_weights"],
    },
    Case {
        what: "known types are to be asked of a CRF",
        edits: &[
            ("[training]", "[training]\nhead_crf = true\n"),
            ("labels = ", "known_types = \"distil\"\nlabels = "),
        ],
        said: ["plan-invalid", "known_types"],
    },
    Case {
        what: "rows of a base without a head are to be frozen",
        edits: &[
            ("labels = ", "known_types = \"freeze\"\nlabels = "),
            ("known@1", "base@1"),
        ],
        said: ["plan-invalid", "known_types"],
    },
    Case {
        what: "a base without a head is to be distilled",
        edits: &[
            ("labels = ", "known_types = \"distil\"\nlabels = "),
            ("known@1", "base@1"),
        ],
        said: ["plan-invalid", "known_types"],
    },
    Case {
        what: "a gate asks for a gain that there is not",
        edits: &[("[privacy]", "[gate]\nmin_gain = 1.5\n[privacy]")],
        said: ["plan-invalid", "gate.min_gain"],
    },
    Case {
        what: "a gate asks for all that F1 can be",
        edits: &[("[privacy]", "[gate]\nmin_gain = 1.0\n[privacy]")],
        said: ["plan-invalid", "gate.min_gain"],
    },
    Case {
        what: "a gate asks for more institutions than the plan has",
        edits: &[("[privacy]", "[gate]\nmin_institutions = 3\n[privacy]")],
        said: ["plan-invalid", "gate.min_institutions"],
    },
    Case {
        what: "a gate is asked of a run that publishes nothing",
        edits: &[
            ("rounds = 2", "rounds = 0"),
            ("[privacy]", "[gate]\nmin_institutions = 1\n[privacy]"),
        ],
        said: ["plan-invalid", "rounds = 0"],
    },
    Case {
        what: "a bare encoder is scored",
        edits: &[("rounds = 2", "rounds = 0"), ("known@1", "base@1")],
        said: ["labels-mismatch", "base@1"],
    },
    Case {
        what: "a day that never comes",
        edits: &[("[privacy]", "[schedule]\ntimes = \"0 2 30 2 *\"\n[privacy]")],
        said: ["plan-invalid", "schedule.times"],
    },
    Case {
        what: "a year that has passed",
        edits: &[(
            "[privacy]",
            "[schedule]\ntimes = \"0 2 1 1 * 2020\"\n[privacy]",
        )],
        said: ["plan-invalid", "schedule.times"],
    },
    Case {
        what: "a time zone that no place has",
        edits: &[(
            "[privacy]",
            "[schedule]\ntimes = \"0 2 1 * *\"\nzone = \"Mars/Base\"\n[privacy]",
        )],
        said: ["plan-invalid", "schedule.zone"],
    },
    Case {
        what: "an institution is named twice",
        edits: &[("[\"i0\", \"i1\"]", "[\"i0\", \"i0\"]")],
        said: ["plan-invalid", "cohort.institutions"],
    },
    Case {
        what: "rows are means over those who annotate them, by a rule that does not weigh",
        edits: &[(
            "[privacy]",
            "[aggregation]\nstrategy = \"median\"\nrows = \"annotated\"\n[privacy]",
        )],
        said: ["plan-invalid", "aggregation.rows"],
    },
];

#[test]
fn what_cannot_be_meant_is_refused_before_anything_runs() -> Result<()> {
    let setting = Setting::with_model()?;
    let known = ["Person", "Date", "Animal"].map(str::to_owned);
    grown_base(&setting, &known)?;
    let good = plan(2, 2, 2, "head", "", NO_NOISE).replace("base@1", "known@1");
    let good = good.replace("weighting = \"examples\"", "");
    let path = setting.path("plan.toml");
    let create = |text: &str| {
        fs::write(&path, text)?;
        let create = ["run", "create", path.to_str().context("path")?, "--force"];
        setting.cluster.coordinator_command(&create)
    };
    for Case { what, edits, said } in CASES {
        let mut text = good.clone();
        for (from, to) in edits {
            assert!(text.contains(from), "{what}: no {from}");
            text = text.replace(from, to);
        }
        let found = refused(create(&text)?)?;
        let names = said.iter().all(|word| found.contains(word));
        assert!(names, "{what}: expected {said:?} in {found}");
    }
    let runs = setting.cluster.coordinate(&["run", "list"])?;
    assert_eq!(runs.as_array().map(Vec::len), Some(0), "{runs}");
    // The same plan without a fault.
    let said = good.replace("labels = ", "drop = [\"Animal\"]\nlabels = ");
    fedner_tests::process::run(create(&said)?)?;
    Ok(())
}
