//! Crash points: the places where a program may die that must lose nothing there.
//!
//! A build with debug assertions reads two variables, which tests set:
//!
//! | variable | does |
//! |---|---|
//! | `FEDNER_CRASH_AT=POINT:N` | aborts the process when it reaches the point the N-th time |
//! | `FEDNER_PANIC_AT=POINT:N` | panics there instead |
//! | `FEDNER_CRASH_LOG=FILE` | appends the name of every point reached |
//!
//! In a release build nothing is read and nothing happens.

/// Marks a place in the code; `place` and `name` together name it.
#[cfg(debug_assertions)]
pub fn point(place: &str, name: &str) {
    armed::reach(&format!("{place} {name}"));
}

/// Marks a place in the code; `place` and `name` together name it.
#[cfg(not(debug_assertions))]
#[inline]
pub fn point(_place: &str, _name: &str) {}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Fuse {
        point: String,
        left: AtomicU64,
        panics: bool,
    }

    fn fuse() -> Option<&'static Fuse> {
        static FUSE: OnceLock<Option<Fuse>> = OnceLock::new();
        let read = || {
            let (text, panics) = match std::env::var("FEDNER_CRASH_AT") {
                Ok(text) => (text, false),
                Err(_) => (std::env::var("FEDNER_PANIC_AT").ok()?, true),
            };
            let (point, count) = text.rsplit_once(':')?;
            Some(Fuse {
                point: point.to_owned(),
                left: AtomicU64::new(count.parse().ok()?),
                panics,
            })
        };
        FUSE.get_or_init(read).as_ref()
    }

    pub(super) fn reach(point: &str) {
        if let Some(path) = std::env::var_os("FEDNER_CRASH_LOG") {
            let file = OpenOptions::new().create(true).append(true).open(path);
            // A point that cannot be noted is one the test will miss.
            let _ = file.and_then(|mut file| writeln!(file, "{point}"));
        }
        let Some(fuse) = fuse().filter(|fuse| fuse.point == point) else {
            return;
        };
        if fuse.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            assert!(!fuse.panics, "a test asked for a panic at `{point}`");
            std::process::abort();
        }
    }
}
