// SPDX-License-Identifier: GPL-2.0

//! One page as memory that a mapping can own.

use super::{
    Cpu,
    CpuGuard,
    CpuPhys,
    Direction,
    Memory,
    VecMapping,
    VecMemory, //
};
use crate::{
    alloc::{
        flags::__GFP_ZERO,
        AllocError,
        Flags, //
    },
    bindings,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use core::{
    ops::{
        Deref,
        DerefMut, //
    },
    slice, //
};

/// One page, whose bytes are initialised and belong to this value alone.
///
/// A [`Page`] promises neither, and so is no [`Memory`]: it may have been allocated without zeroing
/// it, and anyone with a reference can show it to user space.
///
/// # Invariants
///
/// The page has an address in the kernel's linear map, all its bytes are initialised, and nobody
/// else reads or writes them.
///
/// # Examples
///
/// ```
/// use kernel::{
///     dma::phys::{Cpu, Mapping, PageBytes, ToDevice},
///     page::PAGE_SIZE, //
/// };
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
///
/// let mut page = PageBytes::zeroed(GFP_KERNEL)?;
/// page[0] = 1;
///
/// # let owner = TestDevice::new(c"rust_phys_doc_page", DmaMask::new::<64>())?;
/// # let dev = owner.device();
/// let map = Mapping::<Cpu<_>, ToDevice>::new(dev, page)?;
/// assert_eq!(map.size(), PAGE_SIZE);
///
/// let page = map.unmap();
/// assert_eq!(page[..2], [1, 0]);
/// # Ok::<(), Error>(())
/// ```
pub struct PageBytes(Page);

impl PageBytes {
    /// Allocates a page of zeroes.
    ///
    /// # Errors
    ///
    /// [`AllocError`] where there is no page to be had.
    #[inline]
    pub fn zeroed(flags: Flags) -> Result<Self, AllocError> {
        // INVARIANT: Without high memory each page is in the linear map. This one is new, and was
        // zeroed by the page allocator.
        Page::alloc_page(flags | __GFP_ZERO).map(Self)
    }

    /// Takes over a page that was made elsewhere.
    ///
    /// # Safety
    ///
    /// All bytes of `page` are initialised. Until the returned value is dropped nobody else, user
    /// space and devices included, reads or writes them.
    #[inline]
    pub unsafe fn from_page(page: Page) -> Self {
        // INVARIANT: Without high memory each page is in the linear map. The rest is promised by
        // the caller.
        Self(page)
    }

    #[inline]
    fn as_mut_ptr(&self) -> *mut u8 {
        // SAFETY: By the type invariant of `Page`, the pointer is to a valid page.
        unsafe { bindings::lowmem_page_address(self.0.as_ptr()) }.cast()
    }
}

impl Deref for PageBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariant there are `PAGE_SIZE` initialised bytes at this address,
        // and nobody writes them who does not borrow `self` mutably.
        unsafe { slice::from_raw_parts(self.as_mut_ptr(), PAGE_SIZE) }
    }
}

impl DerefMut for PageBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: By the type invariant there are `PAGE_SIZE` initialised bytes at this address,
        // and nobody reads or writes them who does not borrow `self`.
        unsafe { slice::from_raw_parts_mut(self.as_mut_ptr(), PAGE_SIZE) }
    }
}

// SAFETY: The address is that of the page, wherever the `PageBytes` is, and the size that of any
// page. The page is freed when the `PageBytes` is dropped, and leaks when it is forgotten. By the
// type invariant nobody else reads or writes it.
unsafe impl Memory for PageBytes {
    #[inline]
    fn range(&mut self) -> Result<CpuPhys> {
        // SAFETY: By the type invariant it is a page in the linear map.
        unsafe { CpuPhys::from_linear(&mut **self) }
    }
}

// SAFETY: A `KVec` owns its elements, which change only in a call on the vector. The address of a
// page is the same wherever its `PageBytes` is; it is freed with that, and leaks when the vector is
// forgotten. By the type invariant nobody else reads or writes it.
unsafe impl VecMemory for KVec<PageBytes> {
    fn ranges(&mut self) -> impl Iterator<Item = Result<CpuPhys>> {
        self.iter_mut().map(Memory::range)
    }
}

impl<D: Direction> VecMapping<'_, Cpu<KVec<PageBytes>>, D> {
    /// Takes one page from the device, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`ERANGE`] where there is no page with that index.
    ///
    /// # Examples
    ///
    /// See [`VecMapping::new`].
    pub fn cpu_page(&mut self, index: usize) -> Result<CpuGuard<'_, [u8], D>> {
        let page = self.kind.0.get_mut(index).ok_or(ERANGE)?;
        let bytes = self.handle.cpu(index * PAGE_SIZE, PAGE_SIZE)?;

        // SAFETY: By the type invariant the pages are mapped in a row, so that these bytes are
        // those of this page.
        Ok(unsafe { CpuGuard::new(bytes, &mut **page) })
    }
}
