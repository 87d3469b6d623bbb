// SPDX-License-Identifier: GPL-2.0

//! What the C core has mapped, until it is undone.

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

/// What the C core knows a mapping by: `struct dma_phys_map`, or `struct dma_phys_vec` with its
/// storage.
pub(super) trait Raw {
    /// Length in bytes.
    fn size(&self) -> usize;

    /// The route as a number.
    fn route(&self) -> u8;

    /// Gives bytes to the CPU; 0 or a negative errno.
    ///
    /// # Safety
    ///
    /// `self` is empty, or was filled in by the C core and its device is bound.
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int;

    /// Gives bytes to the device; 0 or a negative errno.
    ///
    /// # Safety
    ///
    /// As for [`sync_for_cpu`](Self::sync_for_cpu).
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int;

    /// Undoes what is mapped, and leaves `self` empty.
    ///
    /// # Safety
    ///
    /// As for [`sync_for_cpu`](Self::sync_for_cpu).
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
        // SAFETY: By the safety requirements.
        unsafe { bindings::dma_phys_sync_for_cpu(self, offset, len) }
    }

    #[inline]
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe { bindings::dma_phys_sync_for_device(self, offset, len) }
    }

    #[inline]
    unsafe fn unmap(&mut self) {
        // SAFETY: By the safety requirements.
        unsafe { bindings::dma_phys_unmap(self) }
    }
}

/// Something that is mapped, until it is dropped.
///
/// The lifetimes in `'bound` and `K` are here, beside the `Drop`, so that they must still be valid
/// when it runs.
///
/// # Invariants
///
/// `raw` is live: it was filled in by a call of the C core that succeeded, for a device that is
/// bound for `'bound`, and has not been unmapped. `route` is its route.
pub(super) struct Handle<'bound, R: Raw, K> {
    raw: R,
    route: Route,
    _bound: PhantomData<&'bound Device<Bound>>,
    _kind: PhantomData<K>,
}

// SAFETY: An `R` is plain data, with storage of its own where it is a vec, which any task may sync
// and unmap. Its device is bound for `'bound` wherever the handle is. There is no `K` in a handle.
unsafe impl<R: Raw, K> Send for Handle<'_, R, K> {}

// SAFETY: A shared reference to a handle reads plain data which only an exclusive one changes.
unsafe impl<R: Raw, K> Sync for Handle<'_, R, K> {}

impl<'bound, R: Raw, K> Handle<'bound, R, K> {
    /// Lets `map` fill in `raw` for `dev`. An error gives `raw` back.
    ///
    /// # Safety
    ///
    /// - `raw` is empty.
    /// - `map` calls the C core to map for the device that it is given, into `raw`, and returns
    ///   what that returned.
    /// - Until the handle is dropped the memory that is mapped stays allocated, and is not accessed
    ///   but between a sync for the CPU and one for the device.
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
            // INVARIANT: Filled in just now, for `dev`.
            Ok(route) => Ok(Self {
                raw,
                route,
                _bound: PhantomData,
                _kind: PhantomData,
            }),
            Err(error) => {
                // SAFETY: The C core leaves it empty when it fails; else it is live for `dev`.
                unsafe { raw.unmap() };
                Err(MapError::new(error, raw))
            }
        }
    }

    /// Length in bytes, never 0.
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

    /// Gives `len` bytes at `offset` to the CPU, until the result is dropped.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where they are none or leave what is mapped.
    #[inline]
    pub(super) fn cpu(&mut self, offset: usize, len: usize) -> Result<CpuBytes<'_>> {
        // SAFETY: By the type invariant it is live, and its device still bound.
        to_result(unsafe { self.raw.sync_for_cpu(offset, len) })?;

        // INVARIANT: Given to the CPU just now.
        Ok(CpuBytes {
            raw: &mut self.raw,
            offset,
            len,
        })
    }

    /// Undoes what is mapped, and gives back what it was known by.
    #[inline]
    pub(super) fn unmap(self) -> R {
        let mut this = ManuallyDrop::new(self);

        // SAFETY: By the type invariant it is live, and its device still bound.
        unsafe { this.raw.unmap() };
        // SAFETY: `this` is neither used again nor dropped.
        unsafe { ptr::read(&this.raw) }
    }
}

impl<R: Raw, K> Drop for Handle<'_, R, K> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is live, and its device still bound.
        unsafe { self.raw.unmap() };
    }
}

/// Bytes that the CPU has, until it is dropped.
///
/// # Invariants
///
/// `raw` is live, and `len` bytes at `offset` of it have been given to the CPU.
pub(super) struct CpuBytes<'a> {
    raw: &'a mut dyn Raw,
    offset: usize,
    len: usize,
}

// SAFETY: As for `Handle`, of which it borrows all that is used here.
unsafe impl Send for CpuBytes<'_> {}

// SAFETY: A shared reference gives access to nothing.
unsafe impl Sync for CpuBytes<'_> {}

impl Drop for CpuBytes<'_> {
    #[inline]
    fn drop(&mut self) {
        // Refused only where the bytes are not all in the map, which they are.
        //
        // SAFETY: By the type invariant it is live; the handle that it borrows has the device
        // bound.
        let _ = unsafe { self.raw.sync_for_device(self.offset, self.len) };
    }
}
