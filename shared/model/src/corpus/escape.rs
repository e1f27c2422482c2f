//! Words in columns: what would end a column or a line is written as a picture of it.
//!
//! Words of JSON lines may hold tabs and line ends. Columns hold the pictures that Unicode has for
//! such characters instead, and the reader turns them back.

use std::borrow::Cow;

/// Stands before a character that is meant as it is.
const ESCAPE: char = '␛';

/// A character that a column cannot hold at any place, and its picture.
const PICTURES: [(char, char); 4] = [('\t', '␉'), ('\n', '␊'), ('\r', '␍'), (' ', '␠')];

fn picture(c: char) -> Option<char> {
    let found = PICTURES.iter().find(|(plain, _)| *plain == c);
    found.map(|(_, picture)| *picture)
}

fn is_picture(c: char) -> bool {
    c == ESCAPE || PICTURES.iter().any(|(_, picture)| *picture == c)
}

/// The word as a column holds it. Most words stay as they are.
pub fn escaped(word: &str) -> Cow<'_, str> {
    let special = word == "-DOCSTART-" || word.starts_with('\u{feff}');
    let plain = |c: char| picture(c).is_none() && !is_picture(c);
    if !special && word.chars().all(plain) {
        return word.into();
    }
    let mut text = String::with_capacity(word.len() + 4);
    if special {
        text.push(ESCAPE);
    }
    for c in word.chars() {
        if is_picture(c) {
            text.push(ESCAPE);
        }
        text.push(picture(c).unwrap_or(c));
    }
    text.into()
}

/// The word of a column.
pub(super) fn unescaped(column: &str) -> Cow<'_, str> {
    if !column.chars().any(is_picture) {
        return column.into();
    }
    let mut word = String::with_capacity(column.len());
    let mut characters = column.chars();
    while let Some(c) = characters.next() {
        let plain = PICTURES.iter().find(|(_, picture)| *picture == c);
        match plain {
            Some((plain, _)) => word.push(*plain),
            None if c == ESCAPE => word.push(characters.next().unwrap_or(ESCAPE)),
            None => word.push(c),
        }
    }
    word.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_without_blanks_stay_as_they_are() {
        for word in ["a", "1\\/2", "\u{a0}", "#", "é", "-DOCSTART"] {
            assert!(matches!(escaped(word), Cow::Borrowed(same) if same == word));
        }
        assert_eq!(escaped("a\tb\n"), "a␉b␊");
        assert_eq!(escaped("␉"), "␛␉");
        assert_eq!(escaped("-DOCSTART-"), "␛-DOCSTART-");
    }

    proptest! {
        #[test]
        fn every_word_comes_back(word in "[\\t\\n\\r ␉␊␍␠␛ab\\PC]{1,8}") {
            let column = escaped(&word).into_owned();
            let broken = |c: char| matches!(c, '\t' | '\n' | '\r' | ' ');
            prop_assert!(!column.contains(broken));
            prop_assert_eq!(unescaped(&column).into_owned(), word);
        }
    }
}
