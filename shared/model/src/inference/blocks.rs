//! The rows of a batch in pieces, of which a thread takes one after another.

use std::ops::Range;

/// The most rows of a block: enough that a weight is used often while it is in the processor's cache, few
/// enough that what becomes of them stays there too.
const MOST: usize = 96;
/// The fewest, so that not every thread reads all weights for next to nothing.
const FEWEST: usize = 12;

/// How many rows a block has where there are so many in all: each of the threads gets as many blocks.
pub(super) fn size(rows: usize, threads: usize) -> usize {
    let each = rows.div_ceil(MOST * threads).max(1);
    rows.div_ceil(each * threads).clamp(FEWEST, MOST)
}

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

/// The blocks of a batch of sentences, of which each is told by the rows that it has, and by how many of
/// them ask.
pub(super) fn blocks(sentences: &[(usize, usize)], threads: usize) -> Vec<Block> {
    let size = size(sentences.iter().map(|(_, asking)| asking).sum(), threads);
    let (mut blocks, mut block) = (Vec::new(), Block::default());
    let mut first = 0;
    for (rows, asking) in sentences {
        let mut asking = *asking;
        let attended = first..first + rows;
        first += rows;
        while asking > 0 {
            let taken = asking.min(size - block.rows);
            block.spans.push(Span {
                asking: block.rows..block.rows + taken,
                attended: attended.clone(),
            });
            block.rows += taken;
            asking -= taken;
            if block.rows == size {
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
    fn threads_get_blocks_of_about_the_same_size() {
        for (rows, threads, expected) in [
            (0, 2, 12),
            (20, 16, 12),
            (100, 2, 50),
            (200, 2, 50),
            (192, 2, 96),
            (2048, 2, 94),
            (2048, 16, 64),
        ] {
            assert_eq!(
                size(rows, threads),
                expected,
                "{rows} rows, {threads} threads"
            );
        }
    }

    #[test]
    fn every_row_is_in_one_block_and_attends_to_its_own_sentence() {
        let sentences = [(3, 3), (200, 200), (0, 0), (5, 2), (90, 90)];
        let blocks = blocks(&sentences, 1);
        let rows: Vec<usize> = blocks.iter().map(|block| block.rows).collect();
        assert_eq!(rows, [74, 74, 74, 73]);
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
                (71, long.clone()),
                (74, long.clone()),
                (55, long),
                (2, 203..208),
                (17, last.clone()),
                (73, last),
            ]
        );
    }
}
