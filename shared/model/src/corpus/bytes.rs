//! Bytes to text: one rule for files, folders, standard input and lines.

use super::Fault;

/// The text of a whole file or of standard input, without a byte-order mark; or the line that is no
/// text, and why.
pub fn decode(bytes: Vec<u8>) -> Result<String, (usize, Fault)> {
    if let Some(fault) = other_than_text(&bytes) {
        return Err((1, fault));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        (sound.split(|byte| *byte == b'\n').count(), Fault::NotUtf8)
    })?;
    Ok(match text.strip_prefix(MARK) {
        Some(text) => text.to_owned(),
        None => text,
    })
}

/// The byte-order mark of UTF-8.
pub(super) const MARK: char = '\u{feff}';

/// What the first bytes of a file say it is, where that is no UTF-8.
pub(super) fn other_than_text(bytes: &[u8]) -> Option<Fault> {
    let begins = |with: &[u8]| bytes.starts_with(with);
    if begins(b"\xff\xfe\0\0") || begins(b"\0\0\xfe\xff") {
        return Some(Fault::Wide { name: "UTF-32" });
    }
    if begins(b"\xff\xfe") || begins(b"\xfe\xff") {
        return Some(Fault::Wide { name: "UTF-16" });
    }
    if let Some((_, what)) = OTHERS.into_iter().find(|(mark, _)| begins(mark)) {
        return Some(Fault::Compressed { what });
    }
    // Every other byte of Latin letters is zero, on one of the two sides.
    let zero = |side: usize| {
        let pairs = bytes.chunks_exact(2).take(32);
        pairs.len() > 1
            && pairs
                .clone()
                .all(|pair| pair[side] == 0 && pair[1 - side] != 0)
    };
    (zero(0) || zero(1)).then_some(Fault::Wide {
        name: "UTF-16 without a mark",
    })
}

/// How files begin that are no text.
const OTHERS: [(&[u8], &str); 17] = [
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (
        b"PK\x03\x04",
        "a ZIP archive, as spreadsheets and documents of offices are",
    ),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"%PDF-", "a PDF"),
    (b"{\\rtf", "a rich text document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (
        b"PAR1",
        "a Parquet table (`Dataset.to_json` of Python's datasets writes JSON lines)",
    ),
    (
        b"ARROW1",
        "an Arrow table (`Dataset.to_json` of Python's datasets writes JSON lines)",
    ),
    (b"\x80\x04\x95", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (
        b"x\x9c",
        "compressed with zlib, as spaCy's DocBin is (`doc.to_json()` writes what can be read)",
    ),
    (
        b"x\xda",
        "compressed with zlib, as spaCy's DocBin is (`doc.to_json()` writes what can be read)",
    ),
    (
        b"x\x01",
        "compressed with zlib, as spaCy's DocBin is (`doc.to_json()` writes what can be read)",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf8_with_or_without_a_mark() {
        assert_eq!(
            decode(b"\xef\xbb\xbfa\r\n".to_vec()),
            Ok("a\r\n".to_owned())
        );
        assert_eq!(decode(Vec::new()), Ok(String::new()));
        for bytes in [
            &b"\xff\xfea\0"[..],
            b"\xfe\xff\0a",
            b"\xff\xfe\0\0a\0\0\0",
            b"a\0\t\0O\0\n\0",
            b"\0a\0\t\0O\0\n",
        ] {
            let (_, fault) = decode(bytes.to_vec()).expect_err("no UTF-8");
            assert_eq!(fault.code(), "utf16");
        }
        let latin = decode(b"a\nZ\xf6liakie\n".to_vec());
        assert_eq!(latin, Err((2, Fault::NotUtf8)));
        assert_eq!(decode(b"a\0b".to_vec()), Ok("a\0b".to_owned()));
        for bytes in [
            &b"\x1f\x8b\x08"[..],
            b"PK\x03\x04\x14",
            b"\xd0\xcf\x11\xe0",
            b"%PDF-1.7",
            b"PAR1\x15",
            b"x\x9c\xed",
        ] {
            let (_, fault) = decode(bytes.to_vec()).expect_err("no text");
            assert_eq!(fault.code(), "compressed");
        }
    }
}
