// SPDX-License-Identifier: GPL-2.0

//! What is mapped, in either state: the part that single ranges and lists share.

use super::{
    handle::Raw,
    Direction,
    Part,
    Route, //
};
use crate::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr, //
};

/// A live handle, and what it maps.
///
/// A mapping that the CPU owns and one that the device owns consist of this one struct.
/// [`CpuOwned`] and [`DeviceOwned`] decide what a drop does: this one has none.
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
    #[inline]
    fn sync_for_device(self) -> Self {
        if self.needs_sync() {
            // SAFETY: By the type invariant the handle is live and its device is bound.
            unsafe { sync_all(ManuallyDrop::new(ptr::read(&self.raw)), false) };
        }
        self
    }

    /// Transfers all bytes to the CPU.
    #[inline]
    fn sync_for_cpu(self) -> Self {
        if self.needs_sync() {
            // SAFETY: By the type invariant the handle is live and its device is bound.
            unsafe { sync_all(ManuallyDrop::new(ptr::read(&self.raw)), true) };
        }
        self
    }

    /// Unmaps what the CPU owns: no bytes are transferred.
    #[inline]
    pub(super) fn unmap_from_cpu(mut self) -> (R, K) {
        if self.raw.needs_unmap() {
            // SAFETY: By the type invariant the handle is live and its device is bound.
            self.raw = unsafe {
                match self.needs_sync() {
                    true => unmap_nosync(self.raw),
                    // Without syncs this does the same, and is faster.
                    false => unmap(self.raw),
                }
            };
        }
        (self.raw, self.kind)
    }

    /// Unmaps what the device owned, and transfers it to the CPU once.
    #[inline]
    fn unmap_from_device(mut self) -> (R, K) {
        if self.raw.needs_unmap() {
            // What was mapped without sync is unmapped without sync.
            if u32::from(self.raw.flags()) & bindings::DMA_PHYS_SKIP_CPU_SYNC != 0 {
                self = self.sync_for_cpu();
            }
            // SAFETY: By the type invariant the handle is live and its device is bound.
            self.raw = unsafe { unmap(self.raw) };
        }
        (self.raw, self.kind)
    }

    /// Gives the CPU what is at `len` bytes from `offset`.
    ///
    /// # Safety
    ///
    /// `memory` returns the part of the memory that is mapped at these bytes. While the returned
    /// value exists, or a borrow from it, the device does not access it.
    #[inline]
    pub(super) unsafe fn share<'a, T: ?Sized, D: Direction>(
        &'a mut self,
        offset: usize,
        len: usize,
        memory: impl FnOnce(&mut K) -> Result<*mut T>,
    ) -> Result<Part<'a, T, D>> {
        let memory = memory(&mut self.kind)?;
        // SAFETY: By the type invariant the handle is live, and its device is bound.
        to_result(unsafe { self.raw.sync_for_cpu(offset, len) })?;

        // SAFETY: The bytes were just transferred to the CPU, and `memory` is at them. They are
        // borrowed exclusively for as long as `self`.
        Ok(unsafe { Part::new(&mut self.raw, offset, len, &mut *memory) })
    }

    /// Counts and reports memory that is leaked because the device may access it indefinitely.
    #[cold]
    fn report_leak(&self) {
        // SAFETY: By the type invariant the handle is live, so it has a device, which is bound.
        unsafe { bindings::dma_phys_leak(self.raw.dev(), self.raw.size()) };
    }
}

/// What is mapped and owned by the CPU. Dropping it unmaps and frees it.
pub(super) struct CpuOwned<'bound, R: Raw, K>(ManuallyDrop<Mapped<'bound, R, K>>);

/// What is mapped and owned by the device. Dropping it leaks it.
pub(super) struct DeviceOwned<'bound, R: Raw, K>(ManuallyDrop<Mapped<'bound, R, K>>);

impl<'bound, R: Raw, K> CpuOwned<'bound, R, K> {
    #[inline]
    pub(super) fn new(mapped: Mapped<'bound, R, K>) -> Self {
        Self(ManuallyDrop::new(mapped))
    }

    /// Takes the contents out, without `drop()`.
    #[inline]
    fn into_mapped(self) -> Mapped<'bound, R, K> {
        let mut this = ManuallyDrop::new(self);

        // SAFETY: `this` is neither used again nor dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }

    /// Transfers all bytes to the device.
    #[inline]
    pub(super) fn submit(self) -> DeviceOwned<'bound, R, K> {
        DeviceOwned::new(self.into_mapped().sync_for_device())
    }

    #[inline]
    pub(super) fn unmap(self) -> (R, K) {
        self.into_mapped().unmap_from_cpu()
    }
}

impl<'bound, R: Raw, K> DeviceOwned<'bound, R, K> {
    #[inline]
    pub(super) fn new(mapped: Mapped<'bound, R, K>) -> Self {
        Self(ManuallyDrop::new(mapped))
    }

    /// Takes the contents out, without `drop()`.
    #[inline]
    fn into_mapped(self) -> Mapped<'bound, R, K> {
        let mut this = ManuallyDrop::new(self);

        // SAFETY: `this` is neither used again nor dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }

    /// Transfers all bytes to the CPU.
    #[inline]
    pub(super) fn complete(self) -> CpuOwned<'bound, R, K> {
        CpuOwned::new(self.into_mapped().sync_for_cpu())
    }

    #[inline]
    pub(super) fn unmap(self) -> (R, K) {
        self.into_mapped().unmap_from_device()
    }
}

impl<'bound, R: Raw, K> Deref for CpuOwned<'bound, R, K> {
    type Target = Mapped<'bound, R, K>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<R: Raw, K> DerefMut for CpuOwned<'_, R, K> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<'bound, R: Raw, K> Deref for DeviceOwned<'bound, R, K> {
    type Target = Mapped<'bound, R, K>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<R: Raw, K> DerefMut for DeviceOwned<'_, R, K> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<R: Raw, K> Drop for CpuOwned<'_, R, K> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The contents are not used again.
        drop(unsafe { ManuallyDrop::take(&mut self.0) }.unmap_from_cpu());
    }
}

impl<R: Raw, K> Drop for DeviceOwned<'_, R, K> {
    fn drop(&mut self) {
        self.report_leak();
    }
}

// These take the handle by value. So the compiler knows all accesses to that of the caller, and
// keeps it in registers on the paths that call none of them.

/// Transfers all bytes to the CPU or to the device. A sync does not change a handle, so a copy of
/// it will do.
///
/// The C core refuses only a device whose IOMMU domain was exchanged. It reports that, and the
/// device reaches nothing through this mapping any longer.
///
/// # Safety
///
/// `raw` is a copy of a live handle, whose device is bound.
#[inline(never)]
unsafe fn sync_all<R: Raw>(mut raw: ManuallyDrop<R>, for_cpu: bool) {
    let size = raw.size();

    // SAFETY: The caller guarantees it.
    let _ = unsafe {
        match for_cpu {
            true => raw.sync_for_cpu(0, size),
            false => raw.sync_for_device(0, size),
        }
    };
}

/// # Safety
///
/// `raw` is live, and its device is bound.
#[inline]
unsafe fn unmap<R: Raw>(mut raw: R) -> R {
    // SAFETY: The caller guarantees it.
    unsafe { raw.unmap() };
    raw
}

/// # Safety
///
/// `raw` is live, and its device is bound.
#[inline(never)]
unsafe fn unmap_nosync<R: Raw>(mut raw: R) -> R {
    // SAFETY: The caller guarantees it.
    unsafe { raw.unmap_nosync() };
    raw
}
