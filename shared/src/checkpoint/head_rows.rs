//! A head for other tags: its rows go where their names are.

use super::Checkpoint;
use crate::bert::HeadShape;
use crate::scheme::HeadTags;

/// Which tags of a new head have the weights of an old one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptRows {
    pub kept: Vec<String>,
    /// Begun anew.
    pub new: Vec<String>,
    /// Tags of the old head that the new one lacks.
    pub lost: Vec<String>,
}

impl Checkpoint {
    /// The same encoder with a head for the IOB2 tags `to`. A tag that the old head has under `from`
    /// keeps its weights. A new one begins as `O`, less likely by far. All new tags together get at most
    /// a thousandth of the probability of `O`. So a word's probability of an old tag falls by no larger
    /// part. Without `O` under `from` new tags begin from `seed`. `None` where no row could be kept: there is no
    /// head, it has another shape, or none of its tags is wanted.
    pub fn with_head_of(
        &self,
        from: &[String],
        to: &[String],
        shape: &HeadShape,
        seed: u64,
    ) -> Option<(Self, KeptRows)> {
        if self.tags() != Some(from.len()) || !self.config.head.weighs_as(shape) {
            return None;
        }
        let head = HeadTags::read(from).ok()?;
        let row_of = |tag: &String| {
            let wanted = head.counterpart(tag);
            from.iter().position(|found| *found == wanted)
        };
        let mut kept = KeptRows::default();
        let rows: Vec<Option<usize>> = to.iter().map(row_of).collect();
        for (tag, row) in to.iter().zip(&rows) {
            let list = if row.is_some() {
                &mut kept.kept
            } else {
                &mut kept.new
            };
            list.push(tag.clone());
        }
        if kept.kept.iter().all(|tag| tag == "O") {
            return None;
        }
        let used = |index: &usize| rows.contains(&Some(*index));
        let unused = (0..from.len()).filter(|index| !used(index));
        kept.lost = unused.map(|index| from[index].clone()).collect();
        let outside = row_of(&"O".to_owned());
        // What the row of each tag is copied from.
        let sources: Vec<Option<usize>> = rows.iter().map(|row| row.or(outside)).collect();
        let mut with_head = self.clone().with_new_head(to.len(), seed);
        for name in self
            .config
            .head_tensors(to.len())
            .into_iter()
            .map(|spec| spec.name)
        {
            let old = self.tensor(&name).ok()?;
            let (_, new) = with_head.tensors.get_mut(&name)?;
            if name == TRANSITIONS {
                copy_transitions(old, new, &sources, from.len());
            } else {
                copy_rows(old, new, &sources, from.len());
            }
        }
        if outside.is_some() && !kept.new.is_empty() {
            let (_, bias) = with_head.tensors.get_mut("classifier.bias")?;
            let lower = (kept.new.len() as f64 / NEW_SHARE).ln() as f32;
            let new = bias.iter_mut().zip(&rows).filter(|(_, row)| row.is_none());
            new.for_each(|(bias, _)| *bias -= lower);
        }
        Some((with_head, kept))
    }
}

/// The part of the probability of `O` that all new tags have together.
const NEW_SHARE: f64 = 1e-3;

const TRANSITIONS: &str = "crf.transitions";

/// Row by row; a tag without a source keeps what it has.
fn copy_rows(old: &[f32], new: &mut [f32], sources: &[Option<usize>], tags: usize) {
    let width = old.len() / tags;
    for (new, source) in new.chunks_exact_mut(width).zip(sources) {
        if let Some(row) = source {
            new.copy_from_slice(&old[row * width..(row + 1) * width]);
        }
    }
}

/// From tag to tag.
fn copy_transitions(old: &[f32], new: &mut [f32], sources: &[Option<usize>], tags: usize) {
    for (row, before) in new.chunks_exact_mut(sources.len()).zip(sources) {
        for (value, after) in row.iter_mut().zip(sources) {
            if let (Some(before), Some(after)) = (before, after) {
                *value = old[before * tags + after];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::*;

    fn tags(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn rows_go_where_their_names_are() {
        let from = tags("O B-A I-A B-B I-B");
        let to = tags("O B-B I-B B-C I-C");
        let old = tiny().with_new_head(from.len(), 3);
        let shape = HeadShape::default();
        let (new, kept) = old.with_head_of(&from, &to, &shape, 4).expect("rows");
        assert_eq!(kept.kept, tags("O B-B I-B"));
        assert_eq!((kept.new, kept.lost), (tags("B-C I-C"), tags("B-A I-A")));
        let row = |checkpoint: &Checkpoint, row: usize| {
            let weight = checkpoint.tensor("classifier.weight").expect("head");
            let bias = checkpoint.tensor("classifier.bias").expect("head");
            (weight[4 * row..4 * (row + 1)].to_vec(), bias[row].to_bits())
        };
        assert_eq!(row(&new, 1), row(&old, 3));
        assert_eq!(row(&new, 0), row(&old, 0));
        // New tags begin as `O`, with a thousandth of its probability together.
        assert_eq!(row(&new, 3).0, row(&old, 0).0);
        let bias = |row: (Vec<f32>, u32)| f64::from(f32::from_bits(row.1));
        let share = 2.0 * (bias(row(&new, 3)) - bias(row(&old, 0))).exp();
        assert!((share - NEW_SHARE).abs() < 1e-5, "{share}");
        let same = old.with_head_of(&from, &from, &shape, 4).expect("rows").0;
        assert_eq!(same, old);
    }

    #[test]
    fn plain_tags_begin_and_go_on_with_the_same_row() {
        let from = tags("O A");
        let old = tiny().with_new_head(2, 3);
        let (new, kept) = old
            .with_head_of(&from, &tags("O B-A I-A"), &HeadShape::default(), 4)
            .expect("rows");
        assert!(kept.new.is_empty());
        let weight = new.tensor("classifier.weight").expect("head");
        assert_eq!(weight[4..8], weight[8..12]);
    }

    #[test]
    fn without_a_common_type_nothing_is_kept() {
        let from = tags("O B-A I-A");
        let shape = HeadShape::default();
        let old = tiny().with_new_head(3, 3);
        assert!(
            old.with_head_of(&from, &tags("O B-Z I-Z"), &shape, 4)
                .is_none()
        );
        assert!(tiny().with_head_of(&from, &from, &shape, 4).is_none());
        let named = tags("LABEL_0 LABEL_1 LABEL_2");
        assert!(old.with_head_of(&named, &from, &shape, 4).is_none());
    }
}
