// SPDX-License-Identifier: GPL-2.0

//! Ownership of what the C core has mapped.

use super::{
    MapError,
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
    ptr, //
};

/// A handle of the C core: `struct dma_phys_map`, or `struct dma_phys_sg` with its segments.
pub(super) trait Raw {
    /// Length in bytes.
    fn size(&self) -> usize;

    /// `enum dma_phys_route`.
    fn route(&self) -> u8;

    /// Gives bytes to the CPU; returns 0 or a negative errno.
    ///
    /// # Safety
    ///
    /// `self` is empty, or was filled in by the C core and its device is bound.
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int;

    /// Gives bytes to the device; returns 0 or a negative errno.
    ///
    /// # Safety
    ///
    /// Same as for [`sync_for_cpu`](Self::sync_for_cpu).
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int;

    /// Unmaps. `self` is empty afterwards.
    ///
    /// # Safety
    ///
    /// Same as for [`sync_for_cpu`](Self::sync_for_cpu).
    unsafe fn unmap(&mut self);
}

impl Raw for bindings::dma_phys_map {
    #[inline]
    fn size(&self) -> usize {
        self.size
    }

    #[inline]
    fn route(&self) -> u8 {
        self.route
    }

    #[inline]
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: `self` is a handle that is empty, or live for a bound device, and nothing else
        // uses it during the call, as it is borrowed exclusively.
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
}

/// A live handle; dropping it unmaps.
///
/// The lifetimes in `'bound` and `K` belong to the type that implements `Drop`, so that they must
/// still be valid when it is dropped.
///
/// # Invariants
///
/// `raw` is live: it was filled in by a successful call of the C core for a device that is bound
/// for `'bound`, and it was not unmapped. `route` is its route.
pub(super) struct Handle<'bound, R: Raw, K> {
    raw: R,
    route: Route,
    _bound: PhantomData<&'bound Device<Bound>>,
    _kind: PhantomData<K>,
}

// SAFETY: An `R` is plain data, a list with segments of its own, which any task may sync and unmap.
// Its device is bound for `'bound` in every task. A handle contains no `K`.
unsafe impl<R: Raw, K> Send for Handle<'_, R, K> {}

// SAFETY: A shared reference to a handle only reads plain data, which only an exclusive reference
// changes.
unsafe impl<R: Raw, K> Sync for Handle<'_, R, K> {}

impl<'bound, R: Raw, K> Handle<'bound, R, K> {
    /// Calls `map` to fill in `raw` for `dev`. An error returns `raw`.
    ///
    /// # Safety
    ///
    /// - `raw` is empty.
    /// - `map` calls the C core to map for the device that it is given, into `raw`; it returns 0
    ///   if that succeeded, else the negative errno.
    /// - Until the handle is dropped the mapped memory stays allocated, and is accessed only
    ///   between a sync for the CPU and one for the device.
    #[inline]
    pub(super) unsafe fn new(
        dev: &'bound Device<Bound>,
        mut raw: R,
        map: impl FnOnce(*mut bindings::device, &mut R) -> c_int,
    ) -> Result<Self, MapError<R>> {
        let route = match map(dev.as_raw(), &mut raw) {
            0 => Route::from_raw(raw.route()),
            errno => Err(Error::from_errno(errno)),
        };

        match route {
            // INVARIANT: `map` has just filled in `raw` for `dev`, which is bound for `'bound`.
            Ok(route) => Ok(Self {
                raw,
                route,
                _bound: PhantomData,
                _kind: PhantomData,
            }),
            Err(error) => {
                // SAFETY: The C core leaves the handle empty if it fails; else the handle is live
                // for `dev`, which is bound.
                unsafe { raw.unmap() };
                Err(MapError::new(error, raw))
            }
        }
    }

    /// Returns the length in bytes, which is never 0.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.raw.size()
    }

    #[inline]
    pub(super) fn route(&self) -> Route {
        self.route
    }

    #[inline]
    pub(super) fn raw(&self) -> &R {
        &self.raw
    }

    /// Gives `len` bytes at `offset` to the CPU until the returned value is dropped.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `len` is 0 or the bytes are not all mapped.
    #[inline]
    pub(super) fn cpu(&mut self, offset: usize, len: usize) -> Result<CpuBytes<'_>> {
        // SAFETY: By the type invariant the handle is live and its device is bound.
        to_result(unsafe { self.raw.sync_for_cpu(offset, len) })?;

        // INVARIANT: The bytes were just given to the CPU.
        Ok(CpuBytes {
            raw: &mut self.raw,
            offset,
            len,
        })
    }

    /// Unmaps, and returns the handle of the C core, which is empty then.
    #[inline]
    pub(super) fn unmap(self) -> R {
        let mut this = ManuallyDrop::new(self);

        // SAFETY: By the type invariant the handle is live and its device is bound.
        unsafe { this.raw.unmap() };
        // SAFETY: `this` is neither used again nor dropped.
        unsafe { ptr::read(&this.raw) }
    }
}

impl<R: Raw, K> Drop for Handle<'_, R, K> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the handle is live and its device is bound.
        unsafe { self.raw.unmap() };
    }
}

/// Bytes of a mapping that belong to the CPU until this is dropped.
///
/// # Invariants
///
/// `raw` is live, and `len` bytes at `offset` of it were given to the CPU.
pub(super) struct CpuBytes<'a> {
    raw: &'a mut dyn Raw,
    offset: usize,
    len: usize,
}

// SAFETY: It exclusively borrows the plain data of a `Handle`, which is `Send`.
unsafe impl Send for CpuBytes<'_> {}

// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for CpuBytes<'_> {}

impl Drop for CpuBytes<'_> {
    #[inline]
    fn drop(&mut self) {
        // This fails only for bytes that are not mapped. By the type invariant these were given to
        // the CPU, so they are mapped.
        //
        // SAFETY: By the type invariant `raw` is live. The handle that it borrows from keeps the
        // device bound.
        let _ = unsafe { self.raw.sync_for_device(self.offset, self.len) };
    }
}
