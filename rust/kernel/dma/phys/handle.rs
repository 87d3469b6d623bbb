// SPDX-License-Identifier: GPL-2.0

//! Handles of the C core.

use crate::{
    bindings,
    prelude::*, //
};
use core::ptr;

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

    /// Returns whether [`unmap`](Self::unmap) does anything, and so has to be called. If not, no
    /// sync is needed either.
    fn needs_unmap(&self) -> bool;

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

/// A `struct dma_phys_map`.
///
/// Its small fields are joined, so that the compiler can keep it in registers.
///
/// # Invariants
///
/// It has the layout and the contents of a `struct dma_phys_map`.
#[repr(C)]
pub(super) struct Handle {
    dev: *mut bindings::device,
    addr: bindings::dma_addr_t,
    size: usize,
    target: *const c_void,
    peer: *mut bindings::dma_phys_peer,
    /// `dir`, `kind`, `route` and `flags`.
    bytes: u32,
    id: u32,
}

const _: () = {
    use bindings::dma_phys_map as Map;
    use core::mem::offset_of;

    assert!(size_of::<Handle>() == size_of::<Map>() && align_of::<Handle>() == align_of::<Map>());
    assert!(offset_of!(Handle, addr) == offset_of!(Map, addr));
    assert!(offset_of!(Handle, size) == offset_of!(Map, size));
    assert!(offset_of!(Handle, target) == offset_of!(Map, target));
    assert!(offset_of!(Handle, peer) == offset_of!(Map, peer));
    assert!(offset_of!(Handle, bytes) == offset_of!(Map, dir));
    assert!(offset_of!(Map, route) == offset_of!(Map, dir) + ROUTE);
    assert!(offset_of!(Map, flags) == offset_of!(Map, dir) + FLAGS);
    assert!(offset_of!(Handle, id) == offset_of!(Map, id));
};

const ROUTE: usize = 2;
const FLAGS: usize = 3;

impl Handle {
    /// Calls `map` with an empty handle. `map` passes it to a function of the C core, and returns
    /// its result.
    #[inline]
    pub(super) fn map_with(map: impl FnOnce(*mut bindings::dma_phys_map) -> c_int) -> Result<Self> {
        // INVARIANT: Zeroed memory is an empty handle.
        let mut this = Self {
            dev: ptr::null_mut(),
            addr: 0,
            size: 0,
            target: ptr::null(),
            peer: ptr::null_mut(),
            bytes: 0,
            id: 0,
        };

        match map(this.as_raw()) {
            0 => Ok(this),
            // `to_result()` is not inlined.
            errno => Err(Error::from_errno(errno)),
        }
    }

    #[inline]
    fn as_raw(&mut self) -> *mut bindings::dma_phys_map {
        ptr::from_mut(self).cast()
    }

    #[inline]
    pub(super) fn addr(&self) -> bindings::dma_addr_t {
        self.addr
    }
}

// SAFETY: The methods read the fields of the handle, or call the C core with it.
unsafe impl Raw for Handle {
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
        self.bytes.to_ne_bytes()[ROUTE]
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.bytes.to_ne_bytes()[FLAGS]
    }

    #[inline]
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: By the type invariant this is a handle, which is empty, or live for a bound
        // device. It is borrowed exclusively.
        unsafe { bindings::dma_phys_sync_for_cpu(self.as_raw(), offset, len) }
    }

    #[inline]
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_sync_for_device(self.as_raw(), offset, len) }
    }

    #[inline]
    fn needs_unmap(&self) -> bool {
        u32::from(self.flags()) & bindings::DMA_PHYS_NO_UNMAP == 0 || unmap_is_traced()
    }

    #[inline]
    unsafe fn unmap(&mut self) {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_unmap(self.as_raw()) }
    }

    #[inline]
    unsafe fn unmap_nosync(&mut self) {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_unmap_nosync(self.as_raw()) }
    }
}

/// A handle that is a `struct dma_phys_sg`, wherever it is stored.
pub(super) trait RawSg {
    fn sg(&self) -> &bindings::dma_phys_sg;

    fn sg_mut(&mut self) -> &mut bindings::dma_phys_sg;
}

// SAFETY: The methods read the fields of the list, or call the C core with it.
unsafe impl<L: RawSg> Raw for L {
    #[inline]
    fn dev(&self) -> *mut bindings::device {
        self.sg().dev
    }

    #[inline]
    fn size(&self) -> usize {
        self.sg().size
    }

    #[inline]
    fn route(&self) -> u8 {
        self.sg().route
    }

    #[inline]
    fn flags(&self) -> u8 {
        self.sg().flags
    }

    #[inline]
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: The list is empty, or live for a bound device, and is borrowed exclusively.
        unsafe { bindings::dma_phys_sg_sync_for_cpu(self.sg_mut(), offset, len) }
    }

    #[inline]
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_sg_sync_for_device(self.sg_mut(), offset, len) }
    }

    #[inline]
    fn needs_unmap(&self) -> bool {
        true
    }

    #[inline]
    unsafe fn unmap(&mut self) {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_sg_unmap(self.sg_mut()) }
    }

    #[inline]
    unsafe fn unmap_nosync(&mut self) {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_sg_unmap_nosync(self.sg_mut()) }
    }
}

/// The trace event of an unmap is on.
#[inline(always)]
fn unmap_is_traced() -> bool {
    #[cfg(CONFIG_TRACEPOINTS)]
    // SAFETY: It is the static key of a tracepoint.
    unsafe {
        crate::jump_label::static_branch_unlikely!(
            bindings::__tracepoint_dma_phys_unmap,
            bindings::tracepoint,
            key
        )
    }

    #[cfg(not(CONFIG_TRACEPOINTS))]
    false
}
