//! Sentences longer than the model's window, in several that overlap.

use std::ops::Range;

use super::Encoded;

/// Cuts a sentence of `prefix` special tokens before its words and `suffix` after them into
/// windows of at most `limit` sub-tokens, as short of them as it is.
///
/// The windows overlap by about a quarter. Of those that have a word's first sub-token, the one with the
/// larger distance to its nearer end tags it. So it has an eighth of the window as context on both sides
/// where the sentence has as much.
pub(super) fn cut(whole: Encoded, limit: usize, prefix: usize, suffix: usize) -> Vec<Encoded> {
    if whole.ids.len() <= limit {
        return vec![whole];
    }
    let Encoded { ids, first } = whole;
    let (before, after) = (&ids[..prefix], &ids[ids.len() - suffix..]);
    let body = &ids[prefix..ids.len() - suffix];
    let starts: Vec<usize> = first.iter().flatten().map(|f| f - prefix).collect();
    let ranges = ranges(body.len(), limit - prefix - suffix, &starts);
    let mut windows = Vec::with_capacity(ranges.len());
    let (mut word, mut window) = (0, 0);
    for (index, range) in ranges.iter().enumerate() {
        let mut own = Vec::new();
        while let Some(position) = first.get(word) {
            if let Some(position) = position {
                window = owner(&ranges, window, position - prefix);
            }
            if window > index {
                break;
            }
            own.push(position.map(|position| position - range.start));
            word += 1;
        }
        // A window inside one long word has no word to tag.
        if own.is_empty() {
            continue;
        }
        windows.push(Encoded {
            ids: [before, &body[range.clone()], after].concat(),
            first: own,
        });
    }
    windows
}

/// Windows over `length` sub-tokens of at most `capacity`, from word to word where a word is not
/// too long for that. `starts` are the words' first sub-tokens.
fn ranges(length: usize, capacity: usize, starts: &[usize]) -> Vec<Range<usize>> {
    let at_least = |place: usize| {
        let next = starts.partition_point(|start| *start < place);
        starts.get(next).copied().unwrap_or(length)
    };
    let at_most = |place: usize| {
        let after = starts.partition_point(|start| *start <= place);
        after.checked_sub(1).map_or(0, |index| starts[index])
    };
    let (overlap, shortest) = (capacity / 4, capacity / 2);
    let mut ranges = Vec::new();
    let mut start = 0;
    while length - start > capacity {
        let most = start + capacity;
        let end = Some(at_most(most)).filter(|end| *end > start + shortest);
        let end = end.unwrap_or(most);
        ranges.push(start..end);
        let earliest = (end - overlap).max(start + 1);
        start = Some(at_least(earliest))
            .filter(|start| *start <= end)
            .unwrap_or(earliest);
    }
    ranges.push(start.min(at_least(length - capacity))..length);
    ranges
}

/// The window, of `from` and those after it, in which `position` is furthest from both ends.
fn owner(ranges: &[Range<usize>], from: usize, position: usize) -> usize {
    let context = |range: &Range<usize>| {
        (range.contains(&position)).then(|| (position - range.start).min(range.end - 1 - position))
    };
    let ended = ranges[from..]
        .iter()
        .take_while(|range| range.end <= position);
    let mut best = from + ended.count();
    while let Some(next) = ranges.get(best + 1)
        && context(next) > context(&ranges[best])
    {
        best += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: u32 = 1_000_000;
    const SUFFIX: u32 = 2_000_000;

    /// A sentence whose word pieces are all different.
    fn sentence(lengths: &[usize]) -> Encoded {
        let mut ids = vec![PREFIX];
        let mut first = Vec::new();
        for length in lengths {
            first.push((*length > 0).then_some(ids.len()));
            ids.extend((0..*length).map(|_| 0));
        }
        for (index, id) in ids.iter_mut().enumerate().skip(1) {
            *id = index as u32;
        }
        ids.push(SUFFIX);
        Encoded { ids, first }
    }

    proptest! {
        #[test]
        fn every_word_is_tagged_once_and_every_sub_token_is_read(
            lengths in prop::collection::vec(0usize..9, 0..120),
            giant in 0usize..60,
            limit in 3usize..40,
        ) {
            let mut lengths = lengths;
            lengths.push(giant);
            lengths.extend([1, 2, 1]);
            let whole = sentence(&lengths);
            let windows = cut(whole.clone(), limit, 1, 1);
            let mut tagged = Vec::new();
            for window in &windows {
                prop_assert!(window.ids.len() <= limit);
                prop_assert_eq!(window.ids[0], PREFIX);
                prop_assert_eq!(window.ids.last(), Some(&SUFFIX));
                let body = &window.ids[1..window.ids.len() - 1];
                prop_assert!(body.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                tagged.extend(window.first.iter().map(|first| first.map(|f| window.ids[f] as usize)));
            }
            prop_assert_eq!(&tagged, &whole.first);
            // A long word may pass the last window that tags a word, and nothing else may.
            let firsts = whole.first.iter().flatten().map(|first| *first as u32);
            for first in firsts {
                prop_assert!(windows.iter().any(|window| window.ids.contains(&first)));
            }
        }

        #[test]
        fn words_have_context_on_both_sides(words in 1usize..400, limit in 18usize..66) {
            let whole = sentence(&vec![1; words]);
            let capacity = limit - 2;
            let least = capacity / 8;
            for window in cut(whole, limit, 1, 1) {
                for position in window.first.iter().flatten() {
                    let id = window.ids[*position] as usize;
                    let (left, right) = (position - 1, window.ids.len() - 2 - position);
                    prop_assert!(left >= least.min(id - 1), "{left} before {id}");
                    // One less where the overlap is odd.
                    prop_assert!(right + 1 >= least.min(words - id), "{right} after {id}");
                }
            }
        }
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let whole = sentence(&[1, 2, 3]);
        assert_eq!(cut(whole.clone(), 8, 1, 1), vec![whole.clone()]);
        assert_eq!(cut(whole, 7, 1, 1).len(), 2);
        let empty = sentence(&[]);
        assert_eq!(cut(empty.clone(), 3, 1, 1), vec![empty]);
    }

    #[test]
    fn windows_go_from_word_to_word() {
        let starts: Vec<usize> = (0..40).step_by(4).collect();
        assert_eq!(ranges(40, 16, &starts), [0..16, 12..28, 24..40]);
        assert_eq!(ranges(40, 18, &starts), [0..16, 12..28, 24..40]);
        // One word of forty pieces.
        assert_eq!(ranges(40, 16, &[0]), [0..16, 12..28, 24..40]);
    }
}
