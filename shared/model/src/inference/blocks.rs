//! The rows of a batch in pieces, of which a thread takes one after another.

use std::ops::Range;

/// Rows of a block: enough that a weight is used often while it is in the processor's cache, few enough
/// that what becomes of them stays there too.
pub(super) const ROWS: usize = 96;

/// Rows of one sentence that ask, and those that they attend to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// Counted from the block's first.
    pub(super) asking: Range<usize>,
    /// Counted from the batch's first.
    pub(super) attended: Range<usize>,
}

/// Some rows that ask, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) rows: usize,
    pub(super) spans: Vec<Span>,
}

/// The blocks of a batch of sentences, of which each is told by the rows that it has, and by how many
/// of them ask.
pub(super) fn blocks(sentences: impl Iterator<Item = (usize, usize)>) -> Vec<Block> {
    let (mut blocks, mut block) = (Vec::new(), Block::default());
    let mut first = 0;
    for (rows, mut asking) in sentences {
        let attended = first..first + rows;
        first += rows;
        while asking > 0 {
            let taken = asking.min(ROWS - block.rows);
            block.spans.push(Span {
                asking: block.rows..block.rows + taken,
                attended: attended.clone(),
            });
            block.rows += taken;
            asking -= taken;
            if block.rows == ROWS {
                blocks.push(std::mem::take(&mut block));
            }
        }
    }
    if block.rows > 0 {
        blocks.push(block);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_block_and_attends_to_its_own_sentence() {
        let sentences = [(3, 3), (200, 200), (0, 0), (5, 2), (90, 90)];
        let blocks = blocks(sentences.into_iter());
        let rows: Vec<usize> = blocks.iter().map(|block| block.rows).collect();
        assert_eq!(rows, [96, 96, 96, 7]);
        let spans = blocks.iter().flat_map(|block| &block.spans);
        let told: Vec<(usize, Range<usize>)> = spans
            .map(|span| (span.asking.len(), span.attended.clone()))
            .collect();
        let long = 3..203;
        let last = 208..298;
        assert_eq!(
            told,
            [
                (3, 0..3),
                (93, long.clone()),
                (96, long.clone()),
                (11, long),
                (2, 203..208),
                (83, last.clone()),
                (7, last),
            ]
        );
    }
}
