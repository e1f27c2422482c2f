//! Scripts that put no blanks between words.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// How words of a script are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// By blanks, which are gone already.
    Blanks,
    /// Each character is a word.
    Characters,
    /// By the word boundaries of Unicode.
    Boundaries,
}

/// The character ranges are those of the blocks in Unicode's `Blocks.txt`.
fn cut_of(c: char) -> Cut {
    match u32::from(c) {
        // The ideographs that BERT's basic tokeniser sets apart (Devlin et al. 2019,
        // `_is_chinese_char`), with the newer extensions.
        0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF
        | 0x2_0000..=0x2_A6DF
        | 0x2_A700..=0x2_EE5F
        | 0x2_F800..=0x2_FA1F
        | 0x3_0000..=0x3_23AF => Cut::Characters,
        // Thai, Lao, Myanmar, Khmer, Tai Le, New Tai Lue, Khmer symbols, Tai Tham, the marks and
        // kana of Japanese, Myanmar extensions, Tai Viet, half-width kana, kana supplements.
        0x0E00..=0x0EFF
        | 0x1000..=0x109F
        | 0x1780..=0x17FF
        | 0x1950..=0x19FF
        | 0x1A20..=0x1AAF
        | 0x3005..=0x3007
        | 0x3021..=0x3029
        | 0x3031..=0x3035
        | 0x3041..=0x30FF
        | 0x31F0..=0x31FF
        | 0xA9E0..=0xA9FF
        | 0xAA60..=0xAADF
        | 0xFF66..=0xFF9F
        | 0x1_AFF0..=0x1_B16F => Cut::Boundaries,
        _ => Cut::Blanks,
    }
}

/// Whether a text has a character of such a script.
pub(super) fn has_any(text: &str) -> bool {
    !text.is_ascii() && text.chars().any(|c| cut_of(c) != Cut::Blanks)
}

/// The words of a piece without white space and punctuation, as ranges of bytes. No grapheme cluster
/// is divided.
pub(super) fn cut(piece: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    // The run of clusters of one kind that is open.
    let mut run: Option<(Cut, Range<usize>)> = None;
    for (at, cluster) in piece.grapheme_indices(true) {
        let cut = cluster.chars().next().map_or(Cut::Blanks, cut_of);
        let end = at + cluster.len();
        match &mut run {
            Some((open, range)) if *open == cut && cut != Cut::Characters => range.end = end,
            _ => {
                if let Some((open, range)) = run.replace((cut, at..end)) {
                    close(piece, open, range, &mut words);
                }
            }
        }
    }
    if let Some((open, range)) = run {
        close(piece, open, range, &mut words);
    }
    words
}

fn close(piece: &str, cut: Cut, range: Range<usize>, words: &mut Vec<Range<usize>>) {
    if cut != Cut::Boundaries {
        words.push(range);
        return;
    }
    let start = range.start;
    let bounds = piece[range].split_word_bound_indices();
    words.extend(bounds.map(|(at, word)| start + at..start + at + word.len()));
}
