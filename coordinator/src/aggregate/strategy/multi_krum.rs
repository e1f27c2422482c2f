//! The weighted mean of the updates that lie closest to others: Multi-Krum of Blanchard, El Mhamdi,
//! Guerraoui and Stainer 2017, section 4.

use fedner_shared::plan::left_out;

use super::fedavg::WeightedSum;
use super::{Combination, Member, Reads, Strategy};

#[derive(Debug)]
pub(super) struct MultiKrum {
    pub(super) trim: f64,
}

impl Strategy for MultiKrum {
    fn reads(&self) -> Reads {
        Reads::Distances
    }

    /// Leaves out f updates, those with the largest sums of squared distances to their n − f − 2
    /// closest ones. Whoever is as far as the last one kept is kept too, so that order decides nothing.
    fn combination(&self, members: &[Member]) -> Box<dyn Combination> {
        let (n, f) = (members.len(), left_out(self.trim, members.len()));
        let closest = n.saturating_sub(f + 2).max(1);
        let scores: Vec<u128> = members.iter().map(|m| score(m, closest)).collect();
        let mut sorted = scores.clone();
        sorted.sort_unstable();
        let farthest = sorted.get((n - f).saturating_sub(1)).copied();
        let kept = |score: &u128| farthest.is_none_or(|farthest| *score <= farthest);
        let weights = members.iter().zip(&scores);
        let weights = weights.map(|(member, score)| if kept(score) { member.weight } else { 0 });
        Box::new(WeightedSum(weights.collect()))
    }
}

/// The sum of the smallest squared distances to others. The member's own, which is 0, is among them.
fn score(member: &Member, closest: usize) -> u128 {
    let mut distances = member.squared_distances.clone();
    distances.sort_unstable();
    distances.iter().take(closest + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members on a line.
    fn members(places: &[i64]) -> Vec<Member> {
        let squared = |a: i64, b: i64| u128::from(a.abs_diff(b)).pow(2);
        let member = |place: &i64| Member {
            weight: 1,
            squared_norm: 0,
            squared_distances: places.iter().map(|other| squared(*place, *other)).collect(),
        };
        places.iter().map(member).collect()
    }

    fn kept(places: &[i64], trim: f64) -> u64 {
        MultiKrum { trim }
            .combination(&members(places))
            .divisor(&|_| true)
    }

    #[test]
    fn the_farthest_are_left_out_and_the_last_place_is_shared() {
        assert_eq!(kept(&[1, 2, 3, 4, 5, 6, 7, 8, 30, 900], 0.2), 8);
        assert_eq!(kept(&[1, 2, 3, 4, 900], 0.2), 4);
        assert_eq!(kept(&[1, 2, 900], 0.2), 2);
        assert_eq!(kept(&[1, 2], 0.2), 2);
        assert_eq!(kept(&[1], 0.2), 1);
        assert_eq!(kept(&[1, 2, 3, 4, 900], 0.0), 5);
        // All alike: none is farther than another.
        assert_eq!(kept(&[7; 10], 0.2), 10);
    }
}
