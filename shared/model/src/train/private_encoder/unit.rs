//! How the sentences of a unit are taken through the model.

use crate::train::examples::Example;

/// Rows of activations, one a sub-token or padding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A unit of so many is one task of one thread, beside others; its large weights' gradients
    /// are left as factors. Larger ones go one after another, on all threads.
    pub(super) beside: usize,
    /// A pass has so many, or one sentence.
    pub(super) pass: usize,
    /// Units whose gradients are kept at a time have so many together, or are one.
    pub(super) group: usize,
}

/// A unit in a step.
#[derive(Debug)]
pub(super) struct Unit {
    /// The examples of each of its passes, as indices.
    pub(super) passes: Vec<Vec<usize>>,
    /// Rows in all.
    pub(super) rows: usize,
}

impl Unit {
    /// Sentences of about the same length share a pass, so that little of it is padding.
    pub(super) fn new(all: &[Example], mut own: Vec<usize>, limits: Limits) -> Self {
        let length = |example: usize| all[example].encoded.ids.len();
        own.sort_by_key(|example| length(*example));
        let mut unit = Self {
            passes: Vec::new(),
            rows: 0,
        };
        for example in own {
            match unit.passes.last_mut() {
                // It is the longest so far.
                Some(pass) if (pass.len() + 1) * length(example) <= limits.pass => {
                    pass.push(example);
                }
                Some(_) | None => unit.passes.push(vec![example]),
            }
        }
        let longest = |pass: &Vec<usize>| pass.last().map_or(0, |last| length(*last));
        unit.rows = unit.passes.iter().map(|p| p.len() * longest(p)).sum();
        unit
    }

    pub(super) fn examples(&self) -> impl Iterator<Item = usize> {
        self.passes.iter().flatten().copied()
    }

    /// Whether it is one task beside others.
    pub(super) fn is_small(&self, limits: Limits) -> bool {
        self.passes.len() == 1 && self.rows <= limits.beside
    }
}

/// Units in groups whose gradients are kept at a time.
pub(super) fn groups(units: Vec<Unit>, limits: Limits) -> Vec<Vec<Unit>> {
    let (mut groups, mut rows) = (Vec::<Vec<Unit>>::new(), 0);
    for unit in units {
        rows += unit.rows;
        match groups.last_mut() {
            Some(group) if rows <= limits.group => group.push(unit),
            Some(_) | None => {
                rows = unit.rows;
                groups.push(vec![unit]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoded;

    fn example(length: usize) -> Example {
        Example {
            sentence: 0,
            encoded: Encoded {
                ids: vec![0; length],
                ..Encoded::default()
            },
            targets: vec![0],
        }
    }

    const LIMITS: Limits = Limits {
        beside: 20,
        pass: 30,
        group: 50,
    };

    #[test]
    fn a_pass_keeps_within_its_rows_and_has_every_sentence() {
        let all: Vec<Example> = [12, 5, 40, 6, 5].into_iter().map(example).collect();
        let unit = Unit::new(&all, vec![0, 1, 2, 3, 4], LIMITS);
        // Three of 6, with the padding; 4 of 12 would be 48.
        assert_eq!(unit.passes, [vec![1, 4, 3], vec![0], vec![2]]);
        assert_eq!(unit.rows, 18 + 12 + 40);
        assert!(!unit.is_small(LIMITS));
        assert!(Unit::new(&all, vec![1, 3, 4], LIMITS).is_small(LIMITS));
        assert!(!Unit::new(&all, vec![2], LIMITS).is_small(LIMITS));
    }

    #[test]
    fn groups_keep_within_their_rows_and_have_every_unit() {
        let all: Vec<Example> = [20, 20, 20, 60, 10].into_iter().map(example).collect();
        let units = (0..5)
            .map(|own| Unit::new(&all, vec![own], LIMITS))
            .collect();
        let groups = groups(units, LIMITS);
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
    }
}
