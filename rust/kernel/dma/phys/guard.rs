// SPDX-License-Identifier: GPL-2.0

//! The CPU's access to mapped memory.

use super::{
    handle::CpuBytes,
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

/// The CPU's access to mapped memory, until it is dropped.
///
/// [`Mapping::cpu`](super::Mapping::cpu) returns one for all of the memory,
/// [`Mapping::cpu_range`](super::Mapping::cpu_range) for a sub-range;
/// [`SgMapping`](super::SgMapping) has the same methods. A guard reads in each direction, and
/// writes if the direction is [`Writable`].
///
/// Creating a guard syncs the memory for the CPU, dropping it syncs it for the device. If a guard
/// is forgotten, the device may not see what the CPU wrote until the next guard of the same bytes
/// is dropped.
///
/// # Invariants
///
/// The mapping has `memory` at the bytes that `_bytes` has given to the CPU.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, Mapping, ToDevice};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_guard", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let mut map = Mapping::<Cpu<_>, ToDevice>::new(dev, KBox::new([0u8; 512], GFP_KERNEL)?)?;
///
/// let mut bytes = map.cpu()?;
/// bytes.fill(0x5a);
/// bytes[511] = 0xa5;
/// drop(bytes);
///
/// // From here on the device may read.
/// # assert_eq!(map.unmap()[510..], [0x5a, 0xa5]);
/// # Ok::<(), Error>(())
/// ```
pub struct CpuGuard<'a, T: ?Sized, D: Direction> {
    memory: &'a mut T,
    // Dropping it gives the bytes to the device.
    _bytes: CpuBytes<'a>,
    _direction: PhantomData<fn() -> D>,
}

impl<'a, T: ?Sized, D: Direction> CpuGuard<'a, T, D> {
    /// # Safety
    ///
    /// The mapping has `memory` at the bytes that `bytes` has given to the CPU.
    #[inline]
    pub(super) unsafe fn new(bytes: CpuBytes<'a>, memory: &'a mut T) -> Self {
        // INVARIANT: The safety requirement is the invariant.
        Self {
            memory,
            _bytes: bytes,
            _direction: PhantomData,
        }
    }
}

impl<T: ?Sized, D: Direction> Deref for CpuGuard<'_, T, D> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.memory
    }
}

impl<T: ?Sized, D: Writable> DerefMut for CpuGuard<'_, T, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.memory
    }
}

/// Converts a range of elements of `T`, in memory of `size` bytes, into offset and length in bytes.
///
/// # Errors
///
/// - [`EINVAL`] if `range` is empty.
/// - [`ERANGE`] if it ends beyond the last element.
pub(super) fn bytes_of<T>(range: &Range<usize>, size: usize) -> Result<(usize, usize)> {
    if range.is_empty() {
        return Err(EINVAL);
    }

    let count = size.checked_div(size_of::<T>()).ok_or(EINVAL)?;
    if range.end > count {
        return Err(ERANGE);
    }
    Ok((range.start * size_of::<T>(), range.len() * size_of::<T>()))
}
