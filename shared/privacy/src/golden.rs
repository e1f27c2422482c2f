//! Reference values of other implementations, from `golden/privacy.json` of the design, which
//! stands beside the repository and not in it. Each test that reads it has constants of its own.

use std::path::Path;

use serde_json::Value;

/// The cases under `key`; none where the file is not there.
pub(crate) fn array(key: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/privacy.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        skipped(key);
        return Vec::new();
    };
    let golden: Value = serde_json::from_str(&text).expect("golden/privacy.json is JSON");
    let cases = golden[key].as_array().expect(key).clone();
    assert!(!cases.is_empty(), "{key} has no cases");
    cases
}

#[allow(
    clippy::print_stderr,
    reason = "a test that compares less than it could must say so"
)]
fn skipped(key: &str) {
    eprintln!("skipped: there is no golden/privacy.json to compare {key} with");
}

pub(crate) fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().expect(key)
}

/// Within `tolerance`, absolutely or relatively, whichever is larger.
#[track_caller]
pub(crate) fn assert_near(found: f64, expected: f64, tolerance: f64) {
    let allowed = tolerance * expected.abs().max(1.0);
    assert!(
        (found - expected).abs() <= allowed,
        "found {found}, expected {expected}"
    );
}
