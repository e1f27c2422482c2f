//! How figures are shown.

/// An ε as people read it: rounded up.
pub(super) fn epsilon(epsilon: f64) -> String {
    if epsilon.is_finite() {
        format!("{:.3}", (epsilon * 1000.0).ceil() / 1000.0)
    } else {
        "none (no noise)".to_owned()
    }
}
