// SPDX-License-Identifier: GPL-2.0

//! Memory of many ranges that a mapping can own.

use super::CpuPhys;
use crate::{
    page::{
        AsPageIter,
        PAGE_SIZE, //
    },
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    }, //
};

/// Memory of many ranges that an [`SgMapping`](super::SgMapping) can own.
///
/// Implemented by [`VVec<T>`] (its elements, not its spare capacity) and by `KVec<PageBytes>`.
///
/// # Safety
///
/// As long as the value is only moved:
///
/// - [`ranges`](Self::ranges) returns the same ranges each time, before and after the move;
/// - the memory in them stays allocated, also after the value was forgotten;
/// - it is read and written only through a borrow of the value.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{PageBytes, SgMemory};
///
/// let mut pages = KVec::new();
/// for _ in 0..3 {
///     pages.push(PageBytes::zeroed(GFP_KERNEL)?, GFP_KERNEL)?;
/// }
/// assert_eq!(pages.extent().0, 3);
/// assert_eq!(pages.ranges().count(), 3);
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not memory of many ranges that a DMA mapping can own",
    note = "use a `VVec` of elements that are `AsBytes + FromBytes`, or a `KVec` of `PageBytes`"
)]
pub unsafe trait SgMemory {
    /// Returns the number of ranges, and the length of all in bytes.
    fn extent(&self) -> (usize, usize);

    /// Returns the ranges, in the order of the segments.
    fn ranges(&mut self) -> impl Iterator<Item = Result<CpuPhys>>;
}

// SAFETY: A `VVec` owns pages that are replaced only in a call on the vector, and freed with it; a
// forgotten vector leaks them. The number of elements changes only in a call on the vector. `T` is
// accessed only through the vector, as it has no interior mutability.
unsafe impl<T: AsBytes + FromBytes> SgMemory for VVec<T> {
    #[inline]
    fn extent(&self) -> (usize, usize) {
        let size = size_of_val(&**self);

        // The allocation starts at a page.
        (size.div_ceil(PAGE_SIZE), size)
    }

    fn ranges(&mut self) -> impl Iterator<Item = Result<CpuPhys>> {
        let mut remaining = size_of_val(&**self);

        self.page_iter().map_while(move |page| {
            let len = remaining.min(PAGE_SIZE);

            // A sync flushes the linear-map alias of a page; the elements are at another address.
            if cfg!(CONFIG_ARCH_HAS_CPU_CACHE_ALIASING) {
                return Some(Err(EOPNOTSUPP));
            }
            remaining -= len;
            (len != 0).then(|| CpuPhys::from_page(&page, 0, len))
        })
    }
}
