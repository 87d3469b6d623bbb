// SPDX-License-Identifier: GPL-2.0

//! A part of memory that the device owns, for the CPU.

use super::{
    handle::Raw,
    Direction,
    Writable, //
};
use crate::prelude::*;
use core::{
    marker::PhantomData,
    ops::{
        Deref,
        DerefMut,
        Range, //
    }, //
};

/// A part of an [`InFlight`](super::InFlight) or an [`SgInFlight`](super::SgInFlight) that the CPU
/// owns until this is dropped.
///
/// It dereferences to the elements, mutably if the direction is [`Writable`]. Dropping it transfers
/// them to the device. If it is forgotten, what the CPU has written may be lost when the memory is
/// completed.
///
/// # Invariants
///
/// `raw` is live, and `memory` is what it maps at `len` bytes from `offset`, which were transferred
/// to the CPU.
///
/// # Examples
///
/// See [`InFlight::part`](super::InFlight::part).
pub struct Part<'a, T: ?Sized, D: Direction> {
    memory: &'a mut T,
    raw: &'a mut dyn Raw,
    offset: usize,
    len: usize,
    _direction: PhantomData<fn() -> D>,
}

// SAFETY: It exclusively borrows a `T`, and the plain data of a handle, which any task may use.
unsafe impl<T: ?Sized + Send, D: Direction> Send for Part<'_, T, D> {}

// SAFETY: A shared reference gives access to a `&T` only.
unsafe impl<T: ?Sized + Sync, D: Direction> Sync for Part<'_, T, D> {}

impl<'a, T: ?Sized, D: Direction> Part<'a, T, D> {
    /// # Safety
    ///
    /// The type invariants hold, and the device of `raw` is bound.
    #[inline]
    pub(super) unsafe fn new(
        raw: &'a mut dyn Raw,
        offset: usize,
        len: usize,
        memory: &'a mut T,
    ) -> Self {
        // INVARIANT: The safety requirements are the invariants.
        Self {
            memory,
            raw,
            offset,
            len,
            _direction: PhantomData,
        }
    }
}

impl<T: ?Sized, D: Direction> Deref for Part<'_, T, D> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.memory
    }
}

impl<T: ?Sized, D: Writable> DerefMut for Part<'_, T, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.memory
    }
}

impl<T: ?Sized, D: Direction> Drop for Part<'_, T, D> {
    #[inline]
    fn drop(&mut self) {
        // It fails only if the IOMMU domain of the device was exchanged, which the C core reports.
        //
        // SAFETY: By the type invariant `raw` is live. What it is borrowed from keeps the device
        // bound.
        let _ = unsafe { self.raw.sync_for_device(self.offset, self.len) };
    }
}

/// Converts a range of elements of `T`, in memory of `size` bytes, into offset and length in bytes.
///
/// # Errors
///
/// - [`EINVAL`] if `range` is empty.
/// - [`ERANGE`] if it ends beyond the last element.
pub(super) fn elements_to_bytes<T>(range: &Range<usize>, size: usize) -> Result<(usize, usize)> {
    if range.is_empty() {
        return Err(EINVAL);
    }

    let count = size.checked_div(size_of::<T>()).ok_or(EINVAL)?;
    if range.end > count {
        return Err(ERANGE);
    }
    Ok((range.start * size_of::<T>(), range.len() * size_of::<T>()))
}
