//! Numbers of words, one sentence after another.

use fedner_shared::bert::HeadShape;

/// Those of `values`, of which every word has `width`, that are of each sentence. `counts` says how many
/// words each has.
pub(crate) fn by_sentence<T>(
    counts: impl Iterator<Item = usize>,
    mut values: &[T],
    width: usize,
) -> impl Iterator<Item = &[T]> {
    counts.map(move |words| {
        let (own, others) = values.split_at(words * width);
        values = others;
        own
    })
}

/// Appends to `rows` those of a sentence's words, each `width` wide, with the rows of their neighbours
/// side by side; zeros beyond the sentence's ends.
pub(crate) fn append_with_neighbours(
    shape: &HeadShape,
    own: &[f32],
    width: usize,
    rows: &mut Vec<f32>,
) {
    let (nothing, count) = (vec![0.0; width], own.len() / width);
    for word in 0..count {
        for place in shape.neighbours(word, count) {
            let row = place.map(|place| &own[place * width..(place + 1) * width]);
            rows.extend_from_slice(row.unwrap_or(&nothing));
        }
    }
}
