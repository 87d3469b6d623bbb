// SPDX-License-Identifier: GPL-2.0

//! The CPU's access to memory that is mapped.

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

/// The CPU's access to memory that is mapped, until it is dropped.
///
/// Made by [`Mapping::cpu`](super::Mapping::cpu) for all that is mapped, by
/// [`Mapping::cpu_range`](super::Mapping::cpu_range) for a part, and by their twins in
/// [`VecMapping`](super::VecMapping). It reads in each direction, and writes where the direction is
/// [`Writable`].
///
/// Forgetting a guard leaves out the hand-over to the device: what the CPU wrote may not be seen
/// by the device, until the next guard for these bytes is dropped.
///
/// # Invariants
///
/// `bytes` are those of `lent`.
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
/// // The device may read from here on.
/// # assert_eq!(map.unmap()[510..], [0x5a, 0xa5]);
/// # Ok::<(), Error>(())
/// ```
pub struct CpuGuard<'a, T: ?Sized, D: Direction> {
    lent: &'a mut T,
    // Dropping it gives them to the device.
    _bytes: CpuBytes<'a>,
    _direction: PhantomData<fn() -> D>,
}

impl<'a, T: ?Sized, D: Direction> CpuGuard<'a, T, D> {
    /// # Safety
    ///
    /// `bytes` are those of `lent`.
    #[inline]
    pub(super) unsafe fn new(bytes: CpuBytes<'a>, lent: &'a mut T) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            lent,
            _bytes: bytes,
            _direction: PhantomData,
        }
    }
}

impl<T: ?Sized, D: Direction> Deref for CpuGuard<'_, T, D> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.lent
    }
}

impl<T: ?Sized, D: Writable> DerefMut for CpuGuard<'_, T, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.lent
    }
}

/// Where elements of `T` are in `size` bytes of them: offset and length in bytes.
///
/// # Errors
///
/// [`EINVAL`] where `range` is empty, [`ERANGE`] where it ends beyond the last element.
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
