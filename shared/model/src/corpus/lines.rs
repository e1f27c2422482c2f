//! The lines of a file, one at a time.

use std::io::{self, BufRead, Read};

use super::{Fault, bytes};

/// Longer lines are refused, so that a file without line ends does not fill the memory.
const LONGEST: usize = 16 << 20;

/// The largest file that is read as a whole.
const LARGEST: usize = 1 << 30;

/// Reads lines that end in LF or CRLF, after a UTF-8 byte-order mark where there is one.
#[derive(Debug)]
pub(super) struct Lines<R> {
    inner: R,
    number: usize,
    buffer: Vec<u8>,
    /// Nothing after this point can be read as text.
    broken: bool,
}

/// A line, or why it is none, and its number counted from 1.
pub(super) type Line<'a> = (usize, Result<&'a str, Fault>);

/// A text of several lines, or the line that is no text, and why.
pub(super) type Whole = Result<String, (usize, Fault)>;

impl<R: BufRead> Lines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            number: 0,
            buffer: Vec::new(),
            broken: false,
        }
    }

    /// The next line; `None` after the last.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let most = LONGEST as u64 + 1;
        if self.broken
            || (&mut self.inner)
                .take(most)
                .read_until(b'\n', &mut self.buffer)?
                == 0
        {
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.len() > LONGEST && self.buffer.last() != Some(&b'\n') {
            self.skip_line()?;
            return Ok(Some((
                self.number,
                Err(Fault::LineTooLong { most: LONGEST }),
            )));
        }
        let mut line = self.buffer.as_slice();
        if self.number == 1 {
            if let Some(fault) = bytes::other_than_text(line) {
                self.broken = true;
                return Ok(Some((1, Err(fault))));
            }
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|_| Fault::NotUtf8);
        Ok(Some((self.number, line)))
    }

    /// The line read last and everything after it, as one text.
    pub(super) fn rest(&mut self) -> io::Result<Whole> {
        let mut all = std::mem::take(&mut self.buffer);
        let most = (LARGEST + 1).saturating_sub(all.len()) as u64;
        (&mut self.inner).take(most).read_to_end(&mut all)?;
        self.broken = true;
        if all.len() > LARGEST {
            let fault = Fault::LineTooLong { most: LARGEST };
            return Ok(Err((self.number, fault)));
        }
        let first = self.number;
        Ok(bytes::decode(all).map_err(|(line, fault)| (first + line - 1, fault)))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let available = self.inner.fill_buf()?;
            let end = available.iter().position(|byte| *byte == b'\n');
            let (used, done) = match end {
                Some(position) => (position + 1, true),
                None => (available.len(), available.is_empty()),
            };
            self.inner.consume(used);
            if done {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<(usize, Result<String, Fault>)> {
        let mut lines = Lines::new(bytes);
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next().expect("memory") {
            found.push((number, line.map(str::to_owned)));
        }
        found
    }

    #[test]
    fn ends_and_marks_are_taken_off() {
        let text = |line: &str| Ok(line.to_owned());
        let expected = [(1, text("a")), (2, text("")), (3, text("b"))];
        assert_eq!(all(b"a\n\nb"), expected);
        assert_eq!(all(b"\xef\xbb\xbfa\r\n\r\nb\r\n"), expected);
        assert_eq!(all(b""), []);
        assert_eq!(all(b"a\xff\nb"), [(1, Err(Fault::NotUtf8)), (2, text("b"))]);
        assert_eq!(
            all(b"\xff\xfea\0\n\0b\0"),
            [(1, Err(Fault::Wide { name: "UTF-16" }))]
        );
    }

    #[test]
    fn a_line_without_end_is_passed_over() {
        let mut bytes = vec![b'x'; 2 * LONGEST];
        bytes.extend_from_slice(b"\nb\n");
        let fault = Fault::LineTooLong { most: LONGEST };
        assert_eq!(all(&bytes), [(1, Err(fault)), (2, Ok("b".to_owned()))]);
    }
}
