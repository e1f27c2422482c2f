//! Bytes to text: one rule for files, folders, standard input and lines.

use super::Fault;

/// The text of a whole file or of standard input, without a byte-order mark.
pub fn decode(bytes: Vec<u8>) -> Result<String, Fault> {
    if let Some(fault) = other_than_text(&bytes) {
        return Err(fault);
    }
    let text = String::from_utf8(bytes).map_err(|_| Fault::NotUtf8)?;
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
    if begins(b"\xff\xfe") || begins(b"\xfe\xff") {
        return Some(Fault::Utf16);
    }
    if begins(b"\x1f\x8b") {
        return Some(Fault::Compressed { what: "gzip" });
    }
    if begins(b"PK\x03\x04") {
        return Some(Fault::Compressed {
            what: "a ZIP archive, as spreadsheets are",
        });
    }
    begins(b"\xd0\xcf\x11\xe0").then_some(Fault::Compressed {
        what: "an old office document",
    })
}

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
        assert_eq!(decode(b"\xff\xfea\0".to_vec()), Err(Fault::Utf16));
        assert_eq!(decode(b"Z\xf6liakie".to_vec()), Err(Fault::NotUtf8));
        for bytes in [&b"\x1f\x8b\x08"[..], b"PK\x03\x04\x14", b"\xd0\xcf\x11\xe0"] {
            let fault = decode(bytes.to_vec()).expect_err("no text");
            assert_eq!(fault.code(), "compressed");
        }
    }
}
