// SPDX-License-Identifier: GPL-2.0

//! A page as memory that a mapping can own.

use super::{
    Cpu,
    CpuPhys,
    Direction,
    Memory,
    Part,
    Prepared,
    SgInFlight,
    SgMapping,
    SgMemory,
    Writable, //
};
use crate::{
    alloc::{
        flags::__GFP_ZERO,
        AllocError,
        Flags, //
    },
    bindings,
    io::PhysAddr,
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
    ptr,
    slice, //
};

/// A page whose bytes are initialised and accessed only through this value.
///
/// A [`Page`] guarantees neither, so it is no [`Memory`]: it may not have been zeroed, and a
/// reference to it suffices to map it to user space.
///
/// # Invariants
///
/// The page has an address in the kernel's linear map, all its bytes are initialised, and they are
/// read and written only through a borrow of this value. `addr` is its physical address.
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
/// let mapping = Mapping::<Cpu<_>, ToDevice>::new(dev, page)?;
/// assert_eq!(mapping.size(), PAGE_SIZE);
///
/// let page = mapping.unmap();
/// assert_eq!(page[..2], [1, 0]);
/// # Ok::<(), Error>(())
/// ```
pub struct PageBytes {
    page: Page,
    /// Computed once, as a page may be mapped often.
    addr: PhysAddr,
}

impl PageBytes {
    /// Allocates a zeroed page.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if no page can be allocated.
    #[inline]
    pub fn zeroed(flags: Flags) -> Result<Self, AllocError> {
        let page = Page::alloc_page(flags | __GFP_ZERO)?;

        // SAFETY: The page allocator has zeroed the page, and nothing else refers to it.
        Ok(unsafe { Self::from_page(page) })
    }

    /// Converts a page.
    ///
    /// # Safety
    ///
    /// All bytes of `page` are initialised. Until the returned value is dropped they are read and
    /// written only through it, also by user space and devices.
    #[inline]
    pub unsafe fn from_page(page: Page) -> Self {
        let bytes = Self::bytes(&page);
        // SAFETY: Without high memory every page is in the linear map.
        let addr = unsafe { bindings::virt_to_phys(bytes.cast()) };

        // INVARIANT: Without high memory every page is in the linear map. The caller guarantees the
        // rest.
        Self { page, addr }
    }

    #[inline]
    fn bytes(page: &Page) -> *mut u8 {
        // SAFETY: By the type invariant of `Page` the pointer is to a valid page.
        unsafe { bindings::lowmem_page_address(page.as_ptr()) }.cast()
    }
}

impl Deref for PageBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariant there are `PAGE_SIZE` initialised bytes at this address,
        // which are written only through an exclusive borrow of `self`.
        unsafe { slice::from_raw_parts(Self::bytes(&self.page), PAGE_SIZE) }
    }
}

impl DerefMut for PageBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: By the type invariant there are `PAGE_SIZE` initialised bytes at this address,
        // which are read and written only through a borrow of `self`.
        unsafe { slice::from_raw_parts_mut(Self::bytes(&self.page), PAGE_SIZE) }
    }
}

// SAFETY: Address and size are those of the page, and do not change when the `PageBytes` is moved.
// The page is freed when the `PageBytes` is dropped, and leaked when it is forgotten. By the type
// invariant its bytes are accessed only through a borrow of the `PageBytes`.
unsafe impl Memory for PageBytes {
    #[inline]
    fn range(&mut self) -> Result<CpuPhys> {
        Ok(CpuPhys::from_page_bytes(self.addr))
    }

    #[inline]
    fn as_mut_ptr(&mut self) -> *mut u8 {
        Self::bytes(&self.page)
    }
}

// SAFETY: A `KVec` owns its elements, which change only in a call on the vector. The address of a
// page does not change when its `PageBytes` is moved. The page is freed with its `PageBytes`, and
// leaked when the vector is forgotten. By the type invariant of `PageBytes` its bytes are accessed
// only through a borrow of the element.
unsafe impl SgMemory for KVec<PageBytes> {
    #[inline]
    fn extent(&self) -> (usize, usize) {
        // A list in memory is shorter than all bytes that it refers to, which are in memory too.
        (self.len(), self.len() * PAGE_SIZE)
    }

    fn ranges(&mut self) -> impl Iterator<Item = Result<CpuPhys>> {
        self.iter_mut().map(Memory::range)
    }
}

impl Prepared<KVec<PageBytes>> {
    /// Returns the page at `index`, to be written.
    ///
    /// # Errors
    ///
    /// [`ERANGE`] if there is none.
    pub fn page_mut(&mut self, index: usize) -> Result<&mut [u8]> {
        bytes_of_page(&mut self.memory, index)
    }
}

impl<D: Writable> SgMapping<'_, Cpu<KVec<PageBytes>>, D> {
    /// Returns the page at `index`, to be written.
    ///
    /// # Errors
    ///
    /// [`ERANGE`] if there is none.
    ///
    /// # Examples
    ///
    /// See [`SgMapping::new`].
    pub fn page_mut(&mut self, index: usize) -> Result<&mut [u8]> {
        bytes_of_page(self.memory_mut(), index)
    }
}

impl<D: Direction> SgInFlight<'_, Cpu<KVec<PageBytes>>, D> {
    /// Gives one page to the CPU while the device keeps the others.
    ///
    /// Same as [`InFlight::part`](super::InFlight::part).
    ///
    /// # Errors
    ///
    /// [`ERANGE`] if there is no page with this index.
    ///
    /// # Safety
    ///
    /// While the returned value exists, or a borrow from it, the device accesses no byte of the
    /// page.
    pub unsafe fn part(&mut self, index: usize) -> Result<Part<'_, [u8], D>> {
        let offset = index.checked_mul(PAGE_SIZE).ok_or(ERANGE)?;

        // SAFETY: The list maps exactly the pages, in order, so these bytes are those of the page.
        // The caller guarantees the rest.
        unsafe {
            self.share(offset, PAGE_SIZE, |pages| {
                let page = pages.get_mut(index).ok_or(ERANGE)?;

                Ok(ptr::slice_from_raw_parts_mut(page.as_mut_ptr(), PAGE_SIZE))
            })
        }
    }
}

fn bytes_of_page(pages: &mut KVec<PageBytes>, index: usize) -> Result<&mut [u8]> {
    pages.get_mut(index).map(|page| &mut **page).ok_or(ERANGE)
}
