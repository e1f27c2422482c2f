//! Loops compiled for the vector instructions that the processor has.
#![allow(
    clippy::inline_always,
    reason = "only what is inlined is compiled for these instructions"
)]

use pulp::{Arch, NullaryFnOnce};

struct Work<F>(F);

impl<R, F: FnMut() -> R> NullaryFnOnce for Work<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}

/// Runs `work` with the widest vector instructions that the processor has. Only what is inlined is
/// compiled for them: mark the closure, and what it calls, `#[inline(always)]`.
///
/// `work` is `FnMut` for that reason too. A closure that is called as an `FnOnce` is called through
/// a function of its own, which is compiled for the oldest processor.
#[inline(always)]
pub fn vectorized<R>(work: impl FnMut() -> R) -> R {
    Arch::new().dispatch(Work(work))
}
