//! Where things lie in memory, and hints about it to the processor and the kernel: no program behaves otherwise for
//! them, only sooner.

use std::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
    ptr::NonNull,
    sync::Arc,
};

/// Asks for the cache line in which `place` begins, so that it is near when it is read.
#[inline]
pub(crate) fn prefetch<T>(place: &T) {
    prefetch_address(std::ptr::from_ref(place).addr());
}

/// Asks for the cache line of an address. What nobody has is not asked for.
///
/// Where the processor has no such instruction, or nobody has written it here, nothing happens.
#[inline]
pub(crate) fn prefetch_address(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        // SAFETY: a prefetch neither reads nor writes as far as the program can tell, and faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// Asks for the cache lines of the first octets: as many as an ordinary query has.
#[cfg(feature = "xdp")]
#[inline]
pub(crate) fn prefetch_octets(octets: &[u8]) {
    const LINE_OCTETS: usize = 64;
    const LINES_MAX: usize = 6;
    octets.chunks(LINE_OCTETS).take(LINES_MAX).filter_map(<[u8]>::first).for_each(prefetch);
}

/// A vector with room for `count` items, in huge pages if the kernel has any to give: of a large table that is read at
/// random places, looking up the pages would cost as much as the memory itself.
pub(crate) fn spacious<T>(count: usize) -> Vec<T> {
    let mut items = Vec::with_capacity(count);
    advise_huge_pages(items.spare_capacity_mut());
    items
}

/// The same, and the kernel gives the pages now. It clears each of them first, which takes milliseconds a huge page
/// where a hypervisor has to find the memory: whoever writes to it later does not wait.
pub(crate) fn furnished<T: Send>(count: usize) -> Vec<T> {
    let mut items = spacious(count);
    let room = items.spare_capacity_mut();
    if size_of_val(room) < WORTH_A_THREAD_OCTETS {
        fetch_pages(room);
        return items;
    }
    let (one, other) = room.split_at_mut(room.len() / 2);
    std::thread::scope(|scope| {
        let helper = std::thread::Builder::new().spawn_scoped(scope, || fetch_pages(one));
        fetch_pages(other);
        // Without a second thread the pages of one half come when they are written to.
        drop(helper);
    });
    items
}

/// One item of a vector that has an owner of its own, as a [`Box`] has, while all of them lie side by side. The memory
/// of all is given back with the last.
///
/// Boxes would be wherever the allocator puts each, and not in huge pages; to have the items in the vector of their
/// owners would part what those others have that is looked at far more often.
pub(crate) struct Parcel<T> {
    item: NonNull<T>,
    _all: Arc<Vec<UnsafeCell<T>>>,
}

// SAFETY: a parcel is the only way to its item, as a box is, so it may be sent if the item may. The vector that all
// parcels share is only there to be dropped by the last of them, wherever that is: it drops items that may be sent.
unsafe impl<T: Send> Send for Parcel<T> {}

// SAFETY: a shared parcel gives nothing but a shared item.
unsafe impl<T: Sync> Sync for Parcel<T> {}

/// Gives each of these items to an owner of its own.
pub(crate) fn parcels<T>(items: Vec<T>) -> impl Iterator<Item = Parcel<T>> {
    let items: Vec<UnsafeCell<T>> = in_cells(items);
    let all = Arc::new(items);
    (0..all.len()).filter_map(move |number| {
        let item = NonNull::new(all.get(number)?.get())?;
        Some(Parcel { item, _all: Arc::clone(&all) })
    })
}

/// The same vector; its items are neither copied nor moved.
fn in_cells<T>(items: Vec<T>) -> Vec<UnsafeCell<T>> {
    let mut items = std::mem::ManuallyDrop::new(items);
    let (first, count, capacity) = (items.as_mut_ptr(), items.len(), items.capacity());
    // SAFETY: `UnsafeCell<T>` has the layout of `T`, and the vector that these are the parts of is not used again.
    unsafe { Vec::from_raw_parts(first.cast(), count, capacity) }
}

impl<T> Parcel<T> {
    /// Where the item is, for hints.
    pub(crate) fn address(&self) -> usize {
        self.item.as_ptr().addr()
    }
}

impl<T> Deref for Parcel<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the vector lives as long as this parcel, and its items stay where they are: nobody can change it.
        // `parcels` made one parcel for each item, and whoever borrows that changeably has it alone.
        unsafe { self.item.as_ref() }
    }
}

impl<T> DerefMut for Parcel<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `self` is borrowed by nobody else.
        unsafe { self.item.as_mut() }
    }
}

/// Of what is larger, two threads fetch the pages.
const WORTH_A_THREAD_OCTETS: usize = 32 << 20;

/// What is smaller gets no huge page.
const HUGE_PAGE_OCTETS: usize = 2 << 20;

fn advise_huge_pages<T>(room: &mut [MaybeUninit<T>]) {
    advise(room, HUGE_PAGE_OCTETS, libc::MADV_HUGEPAGE);
}

fn fetch_pages<T>(room: &mut [MaybeUninit<T>]) {
    advise(room, 0, libc::MADV_POPULATE_WRITE);
}

/// Tells the kernel something about the pages that are wholly in this room, if they have so many octets.
fn advise<T>(room: &mut [MaybeUninit<T>], octets_min: usize, advice: libc::c_int) {
    const PAGE_OCTETS: usize = 4096;
    let first = room.as_mut_ptr().cast::<u8>();
    let before = first.align_offset(PAGE_OCTETS);
    let Some(octets) = size_of_val(room).checked_sub(before) else { return };
    let octets = octets - octets % PAGE_OCTETS;
    if octets < octets_min.max(PAGE_OCTETS) {
        return;
    }
    // SAFETY: these are whole pages within memory that is borrowed here, and neither advice that is given above changes
    // anything of what is in them. That it is not taken, since the kernel is too old or has no memory, is no error.
    unsafe { libc::madvise(first.wrapping_add(before).cast(), octets, advice) };
}

/// Gives memory back to the system that was used and is free again. Takes a few milliseconds.
///
/// The allocator keeps such memory for what may come. After a start nothing as large comes any more.
pub(crate) fn give_back() {
    // The allocator of the program; the tests may have another, and then it has nothing.
    #[cfg(not(miri))]
    {
        use mimalloc as _;

        unsafe extern "C" {
            /// <https://microsoft.github.io/mimalloc/group__extended.html>
            fn mi_collect(force: bool);
        }
        // SAFETY: any thread may call it at any time; memory in use stays where it is.
        unsafe { mi_collect(true) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_change_nothing() {
        let mut items = spacious::<u64>(1 << 20);
        items.extend(0..1 << 20);
        prefetch(&items[77]);
        prefetch_address(usize::MAX / 2);
        assert!(items.capacity() >= 1 << 20 && items.iter().copied().eq(0..1 << 20));
        assert!(spacious::<u64>(0).is_empty());
    }

    #[test]
    fn parcels_are_owned_apart_and_dropped_once() {
        let counted = Arc::new(());
        let items = (0..5).map(|number| (number, Arc::clone(&counted))).collect();
        let mut all: Vec<_> = parcels::<(u32, Arc<()>)>(items).collect();
        let apart = all[1].address() - all[0].address();
        assert_eq!(apart, size_of::<(u32, Arc<()>)>());
        let last = all.pop().unwrap();
        // Each is changed by a thread of its own.
        std::thread::scope(|scope| {
            for parcel in &mut all {
                scope.spawn(|| parcel.0 += 10);
            }
        });
        assert!(all.iter().map(|parcel| parcel.0).eq(10..14));
        drop(all);
        assert_eq!((last.0, Arc::strong_count(&counted)), (4, 6), "all live as long as the last");
        drop(last);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn furnished_room_is_there_and_empty() {
        for count in [0, 1, 100_000, WORTH_A_THREAD_OCTETS / 4] {
            let mut items = furnished::<u64>(count);
            assert!(items.is_empty() && items.capacity() >= count);
            items.extend((0..count as u64).rev());
            assert!(items.iter().rev().copied().eq(0..count as u64));
        }
    }
}
