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
use core::{
    ops::DerefMut,
    ptr, //
};

/// Memory that a [`Mapping`](super::Mapping) can own.
///
/// Implemented by [`KBox<T>`], which includes `KBox<[T; N]>`, by [`KVec<T>`] (its elements, not its
/// spare capacity) and by [`PageBytes`](super::PageBytes).
///
/// The element is [`AsBytes`] because the device can read every byte of it, and padding would
/// disclose old data. It is [`FromBytes`] because the device may write any bytes.
///
/// # Safety
///
/// As long as the value is only moved:
///
/// - [`Deref`](core::ops::Deref) and [`DerefMut`] return the same address and size each time,
///   before and after the move;
/// - [`range`](Self::range) returns the range of these bytes, and [`as_mut_ptr`](Self::as_mut_ptr)
///   the address of the first one;
/// - the bytes stay allocated, also after the value was forgotten;
/// - they are read and written only through a borrow of the value;
/// - for a device that is not coherent, their cache lines contain nothing else that is written,
///   unless they are from `kmalloc()`, which the kernel bounces then.
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
/// fn receive<M: Memory>(
///     dev: &Device<Bound>,
///     memory: M,
/// ) -> Result<Mapping<'_, Cpu<M>, FromDevice>> {
///     Ok(Mapping::new(dev, memory)?)
/// }
///
/// # let owner = TestDevice::new(c"rust_phys_doc_memory", DmaMask::new::<64>())?;
/// # let dev = owner.device();
/// assert_eq!(receive(dev, KBox::new([0u8; 512], GFP_KERNEL)?)?.size(), 512);
/// assert_eq!(receive(dev, KVec::from_elem(0u64, 16, GFP_KERNEL)?)?.size(), 128);
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not memory that a DMA mapping can own",
    note = "use a `KBox`, a `KVec` or a `PageBytes` of elements that are `AsBytes + FromBytes`"
)]
pub unsafe trait Memory: DerefMut<Target: AsBytes + FromBytes> {
    /// Returns the range of the bytes that the value dereferences to.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there are no bytes, or they are not in the kernel's linear map.
    #[inline]
    fn range(&mut self) -> Result<CpuPhys> {
        CpuPhys::from_mut(&mut **self)
    }

    /// Returns the address of the first byte.
    ///
    /// It must not borrow the bytes: a device may be writing them.
    fn as_mut_ptr(&mut self) -> *mut u8;
}

// SAFETY: A `KBox` owns an allocation that keeps its address and size until the box is dropped; a
// forgotten box leaks it. `T` is accessed only through the box, as it has no interior mutability.
unsafe impl<T: AsBytes + FromBytes> Memory for KBox<T> {
    #[inline]
    fn range(&mut self) -> Result<CpuPhys> {
        // SAFETY: The memory is from `kmalloc()`, or has no bytes.
        unsafe { CpuPhys::from_linear(&mut **self) }
    }

    #[inline]
    fn as_mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: The copy is converted into its pointer and not dropped.
        KBox::into_raw(unsafe { ptr::read(self) }).cast()
    }
}

// SAFETY: A `KVec` owns an allocation that changes its address or size only in a call on the
// vector, and is freed with it; a forgotten vector leaks it. The number of elements changes only in
// a call on the vector. `T` is accessed only through the vector, as it has no interior mutability.
unsafe impl<T: AsBytes + FromBytes> Memory for KVec<T> {
    #[inline]
    fn range(&mut self) -> Result<CpuPhys> {
        // SAFETY: The memory is from `kmalloc()`, or has no bytes.
        unsafe { CpuPhys::from_linear(&mut **self) }
    }

    #[inline]
    fn as_mut_ptr(&mut self) -> *mut u8 {
        KVec::as_mut_ptr(self).cast()
    }
}

mod private {
    pub trait Sealed {}
}

/// Memory that consists of elements: `[T]` and `[T; N]`.
///
/// The CPU can access some of them while a device keeps the others.
///
/// # Examples
///
/// See [`InFlight::part`](super::InFlight::part).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no elements to select a range of",
    note = "map a slice or an array, or complete all of it"
)]
pub trait Elements: private::Sealed {
    /// The type of an element.
    type Element;
}

impl<T> private::Sealed for [T] {}
impl<T, const N: usize> private::Sealed for [T; N] {}

impl<T> Elements for [T] {
    type Element = T;
}

impl<T, const N: usize> Elements for [T; N] {
    type Element = T;
}
