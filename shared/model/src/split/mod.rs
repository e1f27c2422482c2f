//! Plain text to words and sentences: one segmentation for training, evaluation and prediction.
//!
//! It sees the text alone. Words stand between white space and around punctuation, as BERT's own
//! pre-tokeniser has them. CJK characters stand apart, as BERT's normaliser sets them. Scripts without
//! blanks between words are cut by the word boundaries of Unicode (UAX #29).

mod scripts;
mod sentences;

use std::ops::Range;

use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::Error;

pub(crate) use self::sentences::sentences;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    /// Where it stands, in bytes.
    pub(crate) bytes: Range<usize>,
    /// Where it stands, in characters (Unicode scalar values).
    pub(crate) characters: Range<usize>,
}

/// The words of a text.
pub(crate) fn words(text: &str) -> Result<Vec<Word>, Error> {
    let mut words = Vec::new();
    // Characters before the byte `counted`.
    let (mut characters, mut counted) = (0, 0);
    for chunk in chunks(text) {
        characters += text[counted..chunk.start].chars().count();
        counted = chunk.start;
        for piece in pieces(&text[chunk.clone()])? {
            let bytes = chunk.start + piece.start..chunk.start + piece.end;
            let from = characters + text[counted..bytes.start].chars().count();
            characters = from + text[bytes.clone()].chars().count();
            counted = bytes.end;
            words.push(Word {
                text: text[bytes.clone()].to_owned(),
                bytes,
                characters: from..characters,
            });
        }
    }
    Ok(words)
}

/// What stands between white space.
fn chunks(text: &str) -> impl Iterator<Item = Range<usize>> {
    let start = text.as_ptr() as usize;
    text.split_whitespace().map(move |chunk| {
        let from = chunk.as_ptr() as usize - start;
        from..from + chunk.len()
    })
}

/// The words of a chunk without white space, as ranges of bytes.
fn pieces(chunk: &str) -> Result<Vec<Range<usize>>, Error> {
    let punctuated = punctuated(chunk)?;
    if !scripts::has_any(chunk) {
        return Ok(punctuated);
    }
    let cut = |piece: Range<usize>| {
        let words = scripts::cut(&chunk[piece.clone()]).into_iter();
        words.map(move |word| piece.start + word.start..piece.start + word.end)
    };
    Ok(punctuated.into_iter().flat_map(cut).collect())
}

/// The pieces of a chunk without white space, as ranges of bytes.
fn punctuated(chunk: &str) -> Result<Vec<Range<usize>>, Error> {
    // The pre-tokeniser keeps an alignment for every character: most chunks do without.
    if chunk.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(vec![Range {
            start: 0,
            end: chunk.len(),
        }]);
    }
    let mut split = PreTokenizedString::from(chunk);
    BertPreTokenizer
        .pre_tokenize(&mut split)
        .map_err(|error| Error::Encode {
            words: chunk.chars().take(80).collect(),
            reason: error.to_string(),
        })?;
    let pieces = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
    Ok(pieces
        .into_iter()
        .map(|(_, (from, to), _)| from..to)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_sentences_keep_their_places() {
        let text = "Früh: Zöliakie (type-2). Then\u{a0}e.g. flu!\nEnd";
        let words = words(text).expect("words");
        let texts: Vec<&str> = words.iter().map(|w| w.text.as_str()).collect();
        let expected = "Früh : Zöliakie ( type - 2 ) . Then e . g . flu ! End";
        assert_eq!(texts.join(" "), expected);
        let characters: Vec<char> = text.chars().collect();
        for word in &words {
            assert_eq!(
                characters[word.characters.clone()]
                    .iter()
                    .collect::<String>(),
                word.text
            );
            assert_eq!(&text[word.bytes.clone()], word.text);
        }
        assert_eq!(sentences(text, &words), [0..9, 9..16, 16..17]);
        assert_eq!(super::words("").expect("none"), []);
    }

    #[test]
    fn scripts_without_blanks_are_cut() {
        let found = |text: &str| {
            let words = words(text).expect("words").into_iter();
            words.map(|word| word.text).collect::<Vec<_>>().join(" ")
        };
        for (text, expected) in [
            ("王小明去北京看病。", "王 小 明 去 北 京 看 病 。"),
            ("田中は東京にいる。", "田 中 は 東 京 に い る 。"),
            ("インフルエンザの患者", "インフルエンザ の 患 者"),
            ("COVID病毒19型", "COVID 病 毒 19 型"),
            ("서울에서 만난", "서울에서 만난"),
            ("สวัสดี", "ส วั ส ดี"),
            ("e\u{301}tat ɡ", "e\u{301}tat ɡ"),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn words_are_those_of_the_pre_tokeniser(text in "[^\\p{Han}\\p{Hiragana}\\p{Katakana}\\p{Thai}\\p{Lao}\\p{Khmer}\\p{Myanmar}\\p{Bopomofo}]*") {
            proptest::prop_assume!(!scripts::has_any(&text));
            let mut split = PreTokenizedString::from(text.as_str());
            BertPreTokenizer.pre_tokenize(&mut split).expect("split");
            let expected: Vec<(String, usize, usize)> = split
                .get_splits(OffsetReferential::Original, OffsetType::Char)
                .into_iter()
                .map(|(word, (from, to), _)| (word.to_owned(), from, to))
                .collect();
            let found: Vec<(String, usize, usize)> = words(&text)
                .expect("words")
                .into_iter()
                .map(|word| (word.text, word.characters.start, word.characters.end))
                .collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
