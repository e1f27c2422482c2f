//! The words beside a word, which a head may read too.

use fedner_shared::bert::HeadShape;

/// Appends to `rows` those of a sentence's words, each `width` wide, with the rows of their neighbours
/// side by side; zeros beyond the sentence's ends.
pub(crate) fn append(shape: &HeadShape, own: &[f32], width: usize, rows: &mut Vec<f32>) {
    let (nothing, count) = (vec![0.0; width], own.len() / width);
    for word in 0..count {
        for place in shape.neighbours(word, count) {
            let row = place.map(|place| &own[place * width..(place + 1) * width]);
            rows.extend_from_slice(row.unwrap_or(&nothing));
        }
    }
}
