// SPDX-License-Identifier: GPL-2.0

//! Memory that a mapping can own.

use super::CpuPhys;
use crate::{
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    }, //
};
use core::ops::DerefMut;

/// Memory that a [`Mapping`](super::Mapping) can own.
///
/// Implemented by [`KBox<T>`], with that `KBox<[T; N]>`, by [`KVec<T>`] (its elements, not its
/// spare capacity) and by [`PageBytes`](super::PageBytes).
///
/// The element is [`AsBytes`], because the device sees every byte of it and padding would show what
/// was there before, and [`FromBytes`], because the device may leave any bytes in it.
///
/// # Safety
///
/// As long as nothing but a move happens to the value:
///
/// - [`Deref`](core::ops::Deref) and [`DerefMut`] return the same address and the same size each
///   time, before and after the move;
/// - [`range`](Self::range) is of these bytes;
/// - the memory there is allocated, also after the value has been forgotten;
/// - nobody reads or writes it who does not borrow the value.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     dma::phys::{Cpu, FromDevice, Mapping, Memory}, //
/// };
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
///
/// fn listen<M: Memory>(
///     dev: &Device<Bound>,
///     memory: M,
/// ) -> Result<Mapping<'_, Cpu<M>, FromDevice>> {
///     Ok(Mapping::new(dev, memory)?)
/// }
///
/// # let owner = TestDevice::new(c"rust_phys_doc_memory", DmaMask::new::<64>())?;
/// # let dev = owner.device();
/// assert_eq!(listen(dev, KBox::new([0u8; 512], GFP_KERNEL)?)?.size(), 512);
/// assert_eq!(listen(dev, KVec::from_elem(0u64, 16, GFP_KERNEL)?)?.size(), 128);
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not memory that a DMA mapping can own",
    note = "use a `KBox`, a `KVec` or a `PageBytes` of elements that are `AsBytes + FromBytes`"
)]
pub unsafe trait Memory: DerefMut<Target: AsBytes + FromBytes> {
    /// The range that it dereferences to.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where it has no bytes, or is not in the kernel's linear map.
    #[inline]
    fn range(&mut self) -> Result<CpuPhys> {
        CpuPhys::from_mut(&mut **self)
    }
}

// SAFETY: A `KBox` points to an allocation of its own that moves, shrinks and ends only with the
// box; a forgotten box leaks it. `T` shares no byte of itself, as it has no interior mutability.
unsafe impl<T: AsBytes + FromBytes> Memory for KBox<T> {
    #[inline]
    fn range(&mut self) -> Result<CpuPhys> {
        // SAFETY: It is memory of `kmalloc()`, or has no bytes.
        unsafe { CpuPhys::from_linear(&mut **self) }
    }
}

// SAFETY: A `KVec` points to an allocation of its own that moves or ends only in a call on the
// vector, or with it; a forgotten vector leaks it. So do its elements, of which there are as many
// as the vector's length. `T` shares no byte of itself, as it has no interior mutability.
unsafe impl<T: AsBytes + FromBytes> Memory for KVec<T> {
    #[inline]
    fn range(&mut self) -> Result<CpuPhys> {
        // SAFETY: It is memory of `kmalloc()`, or has no bytes.
        unsafe { CpuPhys::from_linear(&mut **self) }
    }
}

mod private {
    pub trait Sealed {}
}

/// Memory made of elements: `[T]` and `[T; N]`.
///
/// A [`CpuGuard`](super::CpuGuard) can lend a part of it.
///
/// # Examples
///
/// See [`Mapping::cpu_range`](super::Mapping::cpu_range).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no elements of which the CPU could have some",
    note = "map a slice or an array, or take all of it with `cpu()`"
)]
pub trait Elements: private::Sealed {
    /// One of them.
    type Element;

    /// All of them, with all bytes of `self`.
    fn elements(&mut self) -> &mut [Self::Element];
}

impl<T> private::Sealed for [T] {}
impl<T, const N: usize> private::Sealed for [T; N] {}

impl<T> Elements for [T] {
    type Element = T;

    #[inline]
    fn elements(&mut self) -> &mut [T] {
        self
    }
}

impl<T, const N: usize> Elements for [T; N] {
    type Element = T;

    #[inline]
    fn elements(&mut self) -> &mut [T] {
        self
    }
}
