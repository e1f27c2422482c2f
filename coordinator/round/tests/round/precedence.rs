//! Several runs that want one institution.

use fedner_round::{Run, TaskKind};

use crate::driver::{Driver, NAMES, id, plan};

fn recruited(name: &str, priority: u32) -> Driver {
    let mut own = plan(1, 3);
    own.name = name.parse().expect("name");
    own.priority = priority;
    let mut driver = Driver::recruited(own);
    driver.run.id = format!("{name}.1").parse().expect("id");
    driver
}

fn next(runs: &[&Driver], institution: &str) -> Option<String> {
    let runs = runs.iter().map(|driver| &driver.run);
    let next = Run::next_of(runs, &id(institution));
    next.map(|run| run.plan.name.to_string())
}

#[test]
fn what_is_begun_comes_first_then_what_matters_more_then_what_is_older() {
    let (old, mut same) = (recruited("old", 0), recruited("same", 0));
    let mut urgent = recruited("urgent", 5);
    assert_eq!(next(&[&old, &same], "anna").as_deref(), Some("old"));
    let first = next(&[&old, &same, &urgent], "anna");
    assert_eq!(first.as_deref(), Some("urgent"));
    // Nobody is called away from what it has begun.
    assert_eq!(same.take("anna"), Some(TaskKind::Train));
    let begun = next(&[&old, &same, &urgent], "anna");
    assert_eq!(begun.as_deref(), Some("same"));
    let other = next(&[&old, &same, &urgent], "bert");
    assert_eq!(other.as_deref(), Some("urgent"));
    // Who has sent its part to the urgent one goes on with the others.
    urgent.take("bert");
    urgent.upload("bert").expect("an update");
    let after = next(&[&old, &same, &urgent], "bert");
    assert_eq!(after.as_deref(), Some("old"));
    assert_eq!(next(&[], "anna"), None);
}

#[test]
fn it_is_told_which_run_has_an_awaited_institution_first() {
    let (old, mut same, urgent) = (
        recruited("old", 0),
        recruited("same", 0),
        recruited("urgent", 5),
    );
    let absent = |driver: &Driver, others: &[&Driver]| -> Vec<String> {
        let runs = others.iter().map(|driver| &driver.run);
        let absent = driver.run.elsewhere(runs).into_iter();
        absent
            .map(|absence| format!("{}: {}", absence.institution, absence.why))
            .collect()
    };
    assert_eq!(absent(&old, &[&old, &same]), Vec::<String>::new());
    let told = absent(&same, &[&old, &same]);
    assert_eq!(told.len(), NAMES.len(), "{told:?}");
    assert_eq!(told[0], "anna: it works on old.1 first");
    let told = absent(&old, &[&old, &same, &urgent]);
    assert!(told[0].ends_with("(priority 5) first"), "{told:?}");
    // What it has begun keeps it, and who has sent its part is awaited no more.
    same.take("anna");
    same.upload("anna").expect("an update");
    let told = absent(&same, &[&old, &same]);
    assert_eq!(told.len(), NAMES.len() - 1, "{told:?}");
}

#[test]
fn a_plan_without_a_priority_says_nothing_of_it() {
    let json = fedner_shared::digest::canonical_text(&plan(1, 3));
    assert!(!json.contains("priority"), "{json}");
    let mut urgent = plan(1, 3);
    urgent.priority = 101;
    assert!(urgent.check().is_err());
}
