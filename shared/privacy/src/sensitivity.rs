//! How large a released integer vector can be before noise.

use fedner_shared::plan::Grid;

/// Δ̃², the largest squared L2 norm of a clipped update after rounding to the grid: see
/// [`Grid::squared_sensitivity`].
pub fn squared_bound(grid: Grid, dimension: usize) -> u128 {
    grid.squared_sensitivity(dimension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{array, assert_near, number};

    #[test]
    fn agrees_with_the_reference_values() {
        for case in array("sum_of_discrete_gaussians") {
            // β = 0 stands for the first term alone, which holds for every rounding.
            if number(&case, "beta") > 0.0 {
                let grid = Grid {
                    clip: number(&case, "clip"),
                    exponent: -number(&case, "grid_exponent") as u32,
                };
                let bound = squared_bound(grid, number(&case, "dimension") as usize);
                let relative = (bound as f64).sqrt() / grid.steps();
                assert_near(relative, number(&case, "rounded_sensitivity"), 1e-9);
            }
        }
    }

    #[test]
    fn is_the_smaller_term_rounded_down() {
        let grid = |exponent| Grid {
            clip: 1.0,
            exponent,
        };
        // K = 1024, d = 262144: 1048576 + 65536 + 1024 + 256.
        assert_eq!(squared_bound(grid(10), 262_144), 1_115_392);
        // K = 1, d = 1: min{4, 1 + 1/4 + 1 + 1/2}, rounded down.
        assert_eq!(squared_bound(grid(0), 1), 2);
        assert_eq!(squared_bound(grid(18), 0), 1 << 36);
    }
}
