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

/// Memory of many ranges that a [`VecMapping`](super::VecMapping) can own.
///
/// Implemented by [`VVec<T>`] (its elements, not its spare capacity), whose pages lie anywhere, and
/// by `KVec<PageBytes>`, which is a list of pages.
///
/// # Safety
///
/// As long as nothing but a move happens to the value:
///
/// - [`ranges`](Self::ranges) gives the same ranges each time, before and after the move;
/// - the memory in them is allocated, also after the value has been forgotten;
/// - nobody reads or writes it who does not borrow the value.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{PageBytes, VecMemory};
///
/// let mut pages = KVec::new();
/// for _ in 0..3 {
///     pages.push(PageBytes::zeroed(GFP_KERNEL)?, GFP_KERNEL)?;
/// }
/// assert_eq!(pages.ranges().count(), 3);
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not memory of many ranges that a DMA mapping can own",
    note = "use a `VVec` of elements that are `AsBytes + FromBytes`, or a `KVec` of `PageBytes`"
)]
pub unsafe trait VecMemory {
    /// The ranges, in the order in which the device finds them.
    fn ranges(&mut self) -> impl Iterator<Item = Result<CpuPhys>>;
}

// SAFETY: A `VVec` owns pages that change or are freed only in a call on the vector, or with it; a
// forgotten vector leaks them. So do its elements, of which there are as many as the vector's
// length. `T` shares no byte of itself, as it has no interior mutability.
unsafe impl<T: AsBytes + FromBytes> VecMemory for VVec<T> {
    fn ranges(&mut self) -> impl Iterator<Item = Result<CpuPhys>> {
        let mut left = size_of_val(&**self);

        self.page_iter().map_while(move |page| {
            let len = left.min(PAGE_SIZE);

            // Syncing a page is for one of its addresses. The elements have another.
            if cfg!(CONFIG_ARCH_HAS_CPU_CACHE_ALIASING) {
                return Some(Err(EOPNOTSUPP));
            }
            left -= len;
            (len != 0).then(|| CpuPhys::from_page(&page, 0, len))
        })
    }
}
