//! Files that people edit beside a running program.

use std::path::PathBuf;
use std::time::Duration;

use super::Error;

/// Between two looks at a changed file.
const BETWEEN: Duration = Duration::from_millis(200);
/// A file that is still another one after so many looks is being written without end.
const LOOKS: u32 = 25;

/// What `read` finds at two looks in a row. What is `known` needs one only.
///
/// Editors and configuration management empty a file, or move it away, and write it again. Whatever
/// stood in it between is nobody's word.
pub async fn settled<T: PartialEq>(
    file: PathBuf,
    known: Option<&T>,
    read: impl Fn() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut seen = read()?;
    if known == Some(&seen) {
        return Ok(seen);
    }
    for _ in 0..LOOKS {
        tokio::time::sleep(BETWEEN).await;
        let again = read()?;
        if again == seen {
            return Ok(again);
        }
        seen = again;
    }
    Err(Error::Changing { file })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_when_two_looks_agree_and_what_is_known_at_once() {
        let found = [1, 2, 3, 3, 4];
        let looks = Cell::new(0);
        let read = || {
            let look = looks.get();
            looks.set(look + 1);
            Ok(found[look])
        };
        let file = PathBuf::from("policy.toml");
        let known = settled(file.clone(), Some(&1), read).await.expect("known");
        assert_eq!((known, looks.get()), (1, 1));
        let changed = settled(file.clone(), Some(&1), read).await.expect("same");
        assert_eq!((changed, looks.get()), (3, 4));
        let restless = settled(file, None, || {
            looks.set(looks.get() + 1);
            Ok(looks.get())
        });
        assert!(matches!(restless.await, Err(Error::Changing { .. })));
    }
}
