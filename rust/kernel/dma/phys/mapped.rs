// SPDX-License-Identifier: GPL-2.0

//! What is mapped, in either state: the part that single ranges and lists share.

use super::Route;
use crate::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use core::marker::PhantomData;

/// A handle of the C core: `struct dma_phys_map`, or `struct dma_phys_sg` with its segments.
///
/// # Safety
///
/// All methods return what the C core has stored. A sync or unmap concerns this handle alone.
pub(super) unsafe trait Raw {
    /// The device, null if the handle is empty.
    fn dev(&self) -> *mut bindings::device;

    /// Length in bytes.
    fn size(&self) -> usize;

    /// `enum dma_phys_route`.
    fn route(&self) -> u8;

    /// `DMA_PHYS_SKIP_CPU_SYNC`, and flags of the core.
    fn flags(&self) -> u8;

    /// Transfers bytes to the CPU; returns 0 or a negative errno.
    ///
    /// # Safety
    ///
    /// `self` is empty, or was filled in by the C core and its device is bound.
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int;

    /// Transfers bytes to the device; returns 0 or a negative errno.
    ///
    /// # Safety
    ///
    /// Same as for [`sync_for_cpu`](Self::sync_for_cpu).
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int;

    /// Unmaps, with a transfer to the CPU unless it was mapped without sync. `self` is empty
    /// afterwards.
    ///
    /// # Safety
    ///
    /// Same as for [`sync_for_cpu`](Self::sync_for_cpu).
    unsafe fn unmap(&mut self);

    /// Unmaps without a transfer. `self` is empty afterwards.
    ///
    /// # Safety
    ///
    /// Same as for [`sync_for_cpu`](Self::sync_for_cpu).
    unsafe fn unmap_nosync(&mut self);
}

// SAFETY: The methods read the fields of the handle, or call the C core with it.
unsafe impl Raw for bindings::dma_phys_map {
    #[inline]
    fn dev(&self) -> *mut bindings::device {
        self.dev
    }

    #[inline]
    fn size(&self) -> usize {
        self.size
    }

    #[inline]
    fn route(&self) -> u8 {
        self.route
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.flags
    }

    #[inline]
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: `self` is empty, or live for a bound device, and is borrowed exclusively.
        unsafe { bindings::dma_phys_sync_for_cpu(self, offset, len) }
    }

    #[inline]
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_sync_for_device(self, offset, len) }
    }

    #[inline]
    unsafe fn unmap(&mut self) {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_unmap(self) }
    }

    #[inline]
    unsafe fn unmap_nosync(&mut self) {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_unmap_nosync(self) }
    }
}

/// A live handle, and what it maps.
///
/// A mapping that the CPU owns and one that the device owns consist of this one struct. Each of
/// their types decides what a drop does: this one has none.
///
/// # Invariants
///
/// - `raw` is live: a successful call of the C core has filled it in for a device that is bound for
///   `'bound`, and it was not unmapped.
/// - It maps the memory that `kind` owns or stands for.
pub(super) struct Mapped<'bound, R: Raw, K> {
    pub(super) raw: R,
    pub(super) kind: K,
    _bound: PhantomData<&'bound Device<Bound>>,
}

// SAFETY: An `R` is plain data, or a list with segments of its own, which any task may sync and
// unmap. Its device is bound for `'bound` in every task.
unsafe impl<R: Raw, K: Send> Send for Mapped<'_, R, K> {}

// SAFETY: A shared reference only reads plain data, which only an exclusive reference changes, and
// gives access to a `&K`.
unsafe impl<R: Raw, K: Sync> Sync for Mapped<'_, R, K> {}

impl<'bound, R: Raw, K> Mapped<'bound, R, K> {
    /// # Safety
    ///
    /// The type invariants hold.
    #[inline]
    pub(super) unsafe fn new(raw: R, kind: K) -> Self {
        // INVARIANT: The safety requirements are the invariants.
        Self {
            raw,
            kind,
            _bound: PhantomData,
        }
    }

    #[inline]
    pub(super) fn route(&self) -> Route {
        Route::from_raw(self.raw.route())
    }

    /// A sync does something. The C core decides that when it maps.
    #[inline]
    fn needs_sync(&self) -> bool {
        u32::from(self.raw.flags()) & bindings::DMA_PHYS_NO_SYNC == 0
    }

    /// Transfers all bytes to the device.
    ///
    /// The C core refuses only a device whose IOMMU domain was exchanged. It reports that, and the
    /// device reaches nothing through this mapping any longer.
    #[inline]
    pub(super) fn sync_for_device(&mut self) {
        let size = self.raw.size();

        if self.needs_sync() {
            // SAFETY: By the type invariant the handle is live and its device is bound.
            let _ = unsafe { self.raw.sync_for_device(0, size) };
        }
    }

    /// Transfers all bytes to the CPU. See [`sync_for_device`](Self::sync_for_device) for errors.
    #[inline]
    pub(super) fn sync_for_cpu(&mut self) {
        let size = self.raw.size();

        if self.needs_sync() {
            // SAFETY: By the type invariant the handle is live and its device is bound.
            let _ = unsafe { self.raw.sync_for_cpu(0, size) };
        }
    }

    /// Unmaps what the CPU owns: no bytes are transferred.
    #[inline]
    pub(super) fn unmap_from_cpu(mut self) -> (R, K) {
        if self.needs_sync() {
            // SAFETY: By the type invariant the handle is live and its device is bound.
            unsafe { self.raw.unmap_nosync() };
        } else {
            // Without syncs this does the same, and is faster.
            // SAFETY: See above.
            unsafe { self.raw.unmap() };
        }
        (self.raw, self.kind)
    }

    /// Unmaps what the device owned, and transfers it to the CPU once.
    #[inline]
    pub(super) fn unmap_from_device(mut self) -> (R, K) {
        // What was mapped without sync is unmapped without sync.
        if u32::from(self.raw.flags()) & bindings::DMA_PHYS_SKIP_CPU_SYNC != 0 {
            self.sync_for_cpu();
        }
        // SAFETY: By the type invariant the handle is live and its device is bound.
        unsafe { self.raw.unmap() };
        (self.raw, self.kind)
    }

    /// Counts and reports memory that is leaked because the device may access it indefinitely.
    #[cold]
    pub(super) fn report_leak(&self) {
        // SAFETY: By the type invariant the handle is live, so it has a device, which is bound.
        unsafe { bindings::dma_phys_leak(self.raw.dev(), self.raw.size()) };
    }
}
