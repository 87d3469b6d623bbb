// SPDX-License-Identifier: GPL-2.0

//! Ranges of memory that the CPU caches.

use crate::{
    bindings,
    error::to_result,
    io::PhysAddr,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use core::ptr;

/// A range of memory that the CPU caches.
///
/// It is a plain value: it holds no reference to the memory, and gives no access to it.
///
/// # Invariants
///
/// The range is not empty and does not wrap around. All of it is RAM, unless it is from
/// [`from_raw`](Self::from_raw).
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct CpuPhys(bindings::cpu_phys);

impl CpuPhys {
    /// Returns the range of `len` bytes at `offset` in `page`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `len` is 0 or the range exceeds the page.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     dma::phys::CpuPhys,
    ///     page::{Page, PAGE_SIZE}, //
    /// };
    ///
    /// let page = Page::alloc_page(GFP_KERNEL)?;
    /// let whole = CpuPhys::from_page(&page, 0, PAGE_SIZE)?;
    /// let tail = CpuPhys::from_page(&page, 512, PAGE_SIZE - 512)?;
    ///
    /// assert_eq!(tail.addr(), whole.addr() + 512);
    /// assert_eq!(tail.len(), PAGE_SIZE - 512);
    /// assert!(CpuPhys::from_page(&page, 512, PAGE_SIZE).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn from_page(page: &Page, offset: usize, len: usize) -> Result<Self> {
        if offset > PAGE_SIZE || len > PAGE_SIZE - offset {
            return Err(EINVAL);
        }

        let mut range = pin_init::zeroed();
        // SAFETY: By the type invariant of `Page` the first pointer is valid; the last one points
        // to a local variable.
        to_result(unsafe {
            bindings::cpu_phys_from_page(page.as_ptr(), offset, len, &raw mut range)
        })?;

        // INVARIANT: `cpu_phys_from_page()` succeeds only for RAM, and never for 0 bytes.
        Ok(Self(range))
    }

    /// Returns the range of `slice`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `slice` has no bytes or is not in the kernel's linear map. Memory from
    /// `vmalloc()`, of a stack, of a module or, on most architectures, of the kernel image is
    /// refused.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::dma::phys::CpuPhys;
    ///
    /// let words = KVec::from_elem(0u32, 8, GFP_KERNEL)?;
    /// assert_eq!(CpuPhys::from_slice(&words)?.len(), 32);
    ///
    /// let on_the_stack = [0u32; 8];
    /// assert!(CpuPhys::from_slice(&on_the_stack).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn from_slice<T>(slice: &[T]) -> Result<Self> {
        // SAFETY: A reference is valid for reads of its size.
        unsafe { Self::from_ptr(slice.as_ptr().cast(), size_of_val(slice)) }
    }

    /// Returns the range of `len` bytes at physical address `addr`, which the caller knows to be
    /// RAM: reserved memory, a carveout, memory without a `struct page`.
    ///
    /// It is mapped only for a device that reaches it without a bounce buffer and needs no cache
    /// maintenance.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `len` is 0, or the range wraps around.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::dma::phys::CpuPhys;
    ///
    /// assert_eq!(CpuPhys::from_raw(1 << 30, 4096)?.len(), 4096);
    /// assert!(CpuPhys::from_raw(1 << 30, 0).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn from_raw(addr: PhysAddr, len: usize) -> Result<Self> {
        let mut range = pin_init::zeroed();
        // SAFETY: The pointer points to a local variable.
        to_result(unsafe { bindings::cpu_phys_from_raw(addr, len, &raw mut range) })?;

        // INVARIANT: `cpu_phys_from_raw()` refuses an empty range, and one that wraps around.
        Ok(Self(range))
    }

    /// Returns the range of a [`PageBytes`](super::PageBytes).
    #[cfg(not(CONFIG_HIGHMEM))]
    #[inline]
    pub(super) fn from_page_bytes(addr: PhysAddr) -> Self {
        // INVARIANT: The address is that of a page, which is RAM.
        Self(bindings::cpu_phys {
            addr,
            len: PAGE_SIZE,
            raw: false,
        })
    }

    /// Returns the range of `value`, which the device may write.
    ///
    /// # Errors
    ///
    /// Same as [`from_slice`](Self::from_slice).
    pub(super) fn from_mut<T: ?Sized>(value: &mut T) -> Result<Self> {
        let len = size_of_val(value);

        // SAFETY: A reference is valid for reads of its size.
        unsafe { Self::from_ptr(ptr::from_mut(value).cast(), len) }
    }

    /// Returns the range of `value`, same as [`from_mut`](Self::from_mut), without validating it.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `value` has no bytes.
    ///
    /// # Safety
    ///
    /// `value` has no bytes, or is memory from `kmalloc()` or from the page allocator that is not
    /// high memory.
    #[inline]
    pub(super) unsafe fn from_linear<T: ?Sized>(value: &mut T) -> Result<Self> {
        let len = size_of_val(value);
        if len == 0 {
            return Err(EINVAL);
        }

        // SAFETY: Memory from `kmalloc()`, and pages that are not high memory, are in the kernel's
        // linear map.
        let addr = unsafe { bindings::virt_to_phys(ptr::from_mut(value).cast()) };

        // INVARIANT: Both allocators return RAM, and `len` is not 0.
        Ok(Self(bindings::cpu_phys {
            addr,
            len,
            raw: false,
        }))
    }

    /// Returns the range of `len` bytes at `addr`.
    ///
    /// # Safety
    ///
    /// `addr` is valid for reads of `len` bytes, or `len` is 0.
    unsafe fn from_ptr(addr: *const c_void, len: usize) -> Result<Self> {
        // With no bytes `addr` may be dangling.
        if len == 0 {
            return Err(EINVAL);
        }

        let mut range = pin_init::zeroed();
        // SAFETY: There is an allocation at `addr`, so that its page can be examined if the address
        // is in the linear map. The last pointer points to a local variable.
        to_result(unsafe { bindings::cpu_phys_from_virt(addr, len, &raw mut range) })?;

        // INVARIANT: `cpu_phys_from_virt()` succeeds only for RAM, and never for 0 bytes.
        Ok(Self(range))
    }

    /// Returns the physical address of the first byte.
    #[inline]
    pub fn addr(&self) -> PhysAddr {
        self.0.addr
    }

    /// Returns the length in bytes, which is never 0.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len
    }

    #[inline]
    pub(super) fn as_raw(&self) -> &bindings::cpu_phys {
        &self.0
    }
}
