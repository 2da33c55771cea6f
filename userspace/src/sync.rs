//! The one place that chooses between the real atomics and loom's, which explore every interleaving.

#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
};

/// Stands between accesses that are sequentially consistent, for loom, which takes those for `AcqRel` and knows only
/// fences as more. Nothing otherwise.
#[inline]
pub(crate) fn model_fence() {
    #[cfg(feature = "loom")]
    fence(Ordering::SeqCst);
}
