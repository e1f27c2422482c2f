//! Reference values of other implementations. Each test that reads them has constants of its own too.

use serde_json::Value;

const FIGURES: &str = include_str!("../../../tests/fixtures/privacy.json");

/// The cases under `key`.
pub(crate) fn array(key: &str) -> Vec<Value> {
    let golden: Value = serde_json::from_str(FIGURES).expect("privacy.json is JSON");
    let cases = golden[key].as_array().expect(key).clone();
    assert!(!cases.is_empty(), "{key} has no cases");
    cases
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
