//! Hints to the processor about memory: no program behaves otherwise for them, only sooner.

/// Asks for the cache line in which `place` begins, so that it is near when it is read.
///
/// Where the processor has no such instruction, or nobody has written it here, nothing happens.
#[inline]
pub(crate) fn prefetch<T: ?Sized>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        // SAFETY: a prefetch neither reads nor writes as far as the program can tell, and faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}
