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
/// It is a fact about an address, not a claim on the memory: nothing can be reached through it.
///
/// # Invariants
///
/// Every byte of the range is RAM, and there is at least one.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct CpuPhys(bindings::cpu_phys);

impl CpuPhys {
    /// The range of `len` bytes that starts `offset` bytes into `page`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where `len` is 0 or the range leaves the page.
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
        // SAFETY: By the type invariant of `Page` the first pointer is to a valid page; the second
        // is to a local variable.
        to_result(unsafe {
            bindings::cpu_phys_from_page(page.as_ptr(), offset, len, &raw mut range)
        })?;

        // INVARIANT: `cpu_phys_from_page()` succeeds for RAM only, and never for 0 bytes.
        Ok(Self(range))
    }

    /// The range that `slice` occupies.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where `slice` has no bytes or is not in the kernel's linear map: memory of
    /// `vmalloc()`, of a stack, of a module or of the kernel image is refused.
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
        // SAFETY: The two are of one reference.
        unsafe { Self::from_raw(slice.as_ptr().cast(), size_of_val(slice)) }
    }

    /// The range that `value` occupies, where the device may write.
    ///
    /// # Errors
    ///
    /// As of [`from_slice`](Self::from_slice).
    pub(super) fn from_mut<T: ?Sized>(value: &mut T) -> Result<Self> {
        let len = size_of_val(value);

        // SAFETY: The two are of one reference.
        unsafe { Self::from_raw(ptr::from_mut(value).cast(), len) }
    }

    /// The range that `value` occupies, as of [`from_mut`](Self::from_mut), which needs no proof.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where `value` has no bytes.
    ///
    /// # Safety
    ///
    /// `value` is memory of `kmalloc()` or of the page allocator, and not of high memory, or has no
    /// bytes.
    #[inline]
    pub(super) unsafe fn from_linear<T: ?Sized>(value: &mut T) -> Result<Self> {
        let len = size_of_val(value);
        if len == 0 {
            return Err(EINVAL);
        }

        // SAFETY: By the safety requirements this is an address in the kernel's linear map.
        let addr = unsafe { bindings::virt_to_phys(ptr::from_mut(value).cast()) };

        // INVARIANT: By the safety requirements it is RAM, and there is a byte of it.
        Ok(Self(bindings::cpu_phys { addr, len }))
    }

    /// The range of `len` bytes at `addr`.
    ///
    /// # Safety
    ///
    /// `addr` is valid for reads of `len` bytes, or `len` is 0.
    unsafe fn from_raw(addr: *const c_void, len: usize) -> Result<Self> {
        // `cpu_phys_from_virt()` looks at the address first, which needs to be none here.
        if len == 0 {
            return Err(EINVAL);
        }

        let mut range = pin_init::zeroed();
        // SAFETY: By the safety requirements there is an allocation at `addr`, so that there is a
        // page to look at where it is in the linear map. The last pointer is to a local variable.
        to_result(unsafe { bindings::cpu_phys_from_virt(addr, len, &raw mut range) })?;

        // INVARIANT: `cpu_phys_from_virt()` succeeds for RAM only, and never for 0 bytes.
        Ok(Self(range))
    }

    /// Physical address of the first byte.
    #[inline]
    pub fn addr(&self) -> PhysAddr {
        self.0.addr
    }

    /// Length in bytes, never 0.
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
