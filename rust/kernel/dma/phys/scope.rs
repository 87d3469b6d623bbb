// SPDX-License-Identifier: GPL-2.0

//! Borrowed memory, mapped for a scope.

use super::{
    Cpu,
    CpuPhys,
    Direction,
    Mapping,
    ToDevice, //
};
use crate::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    }, //
};
use core::ops::{
    Deref,
    DerefMut, //
};

/// Memory that [`scope`] has borrowed.
///
/// # Examples
///
/// ```
/// use kernel::dma::{
///     phys::{Borrowed, Cpu, FromDevice, Mapping},
///     DmaAddress, //
/// };
///
/// /// Where a device shall write, for use in a scope.
/// fn target(map: &mut Mapping<'_, Cpu<Borrowed<'_, u32>>, FromDevice>) -> (DmaAddress, usize) {
///     (map.dma_address(), map.size())
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Borrowed<'scope, T>(&'scope mut [T]);

impl<T> Deref for Borrowed<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.0
    }
}

impl<T> DerefMut for Borrowed<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.0
    }
}

/// Memory that [`scope_shared`] has borrowed.
///
/// # Examples
///
/// See [`scope_shared`].
pub struct Shared<'scope, T>(&'scope [T]);

impl<T> Deref for Shared<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.0
    }
}

/// Makes `memory` reachable for `dev` while `f` runs.
///
/// For memory that is somebody else's: a [`Mapping`] does not own it, and so must not outlive this
/// call. `f` borrows the mapping only. It cannot keep it, forget it or put another in its place,
/// and when `f` returns, with whatever result, the memory is unmapped. So `f` returns when the
/// device is done with the memory, or has been stopped.
///
/// Does not sleep, unless `f` does.
///
/// # Errors
///
/// What `f` returns; and as of [`Mapping::new`], without calling `f`. [`EINVAL`] where the memory
/// is not in the kernel's linear map as well: see [`CpuPhys::from_slice`].
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     dma::{
///         phys::{scope, Bidirectional},
///         DmaAddress, //
///     }, //
/// };
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
///
/// /// Lets a device work on part of a buffer that belongs to the caller.
/// fn work_on(
///     dev: &Device<Bound>,
///     buffer: &mut [u32],
///     run: impl Fn(DmaAddress, usize) -> Result,
/// ) -> Result<u32> {
///     scope::<Bidirectional, _, _>(dev, buffer, |map| {
///         map.cpu()?[0] = 42;
///         run(map.dma_address(), map.size())?;
///         Ok(map.cpu()?[0])
///     })
/// }
///
/// # let owner = TestDevice::new(c"rust_phys_doc_scope", DmaMask::new::<64>())?;
/// # let dev = owner.device();
/// let mut buffer = KVec::from_elem(0u32, 256, GFP_KERNEL)?;
/// assert_eq!(work_on(dev, &mut buffer[128..], |_, _| Ok(()))?, 42);
/// assert_eq!(buffer[128], 42);
///
/// assert_eq!(work_on(dev, &mut buffer, |_, _| Err(EIO)), Err(EIO));
/// assert_eq!(buffer[0], 42);
/// # Ok::<(), Error>(())
/// ```
pub fn scope<D, T, R>(
    dev: &Device<Bound>,
    memory: &mut [T],
    f: impl for<'scope> FnOnce(&mut Mapping<'scope, Cpu<Borrowed<'scope, T>>, D>) -> Result<R>,
) -> Result<R>
where
    D: Direction,
    T: AsBytes + FromBytes,
{
    let range = CpuPhys::from_mut(&mut *memory);

    // SAFETY: These are the bytes of `memory`, which is borrowed for longer than the mapping lives:
    // it is dropped here. `f` could not move it, and could not put another in its place, as it
    // knows none with the same lifetime: it must do for each. While it lives, who has not borrowed
    // the `Borrowed` in it has no other way to the bytes.
    let mut map = unsafe { Mapping::map(dev, Borrowed(memory), range) }?;

    f(&mut map)
}

/// Lets `dev` read `memory` while `f` runs.
///
/// As [`scope`], for memory that others read at the same time. [`ToDevice`] is its direction, and
/// `f` has the memory itself to read.
///
/// # Errors
///
/// As of [`scope`].
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::scope_shared;
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_shared", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let firmware = KVec::from_elem(0x90u8, 4096, GFP_KERNEL)?;
///
/// scope_shared(dev, &firmware, |map| {
///     // The device loads `map.size()` bytes from `map.dma_address()`.
///     assert_eq!(map.size(), firmware.len());
///     Ok(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
pub fn scope_shared<T, R>(
    dev: &Device<Bound>,
    memory: &[T],
    f: impl for<'scope> FnOnce(&mut Mapping<'scope, Cpu<Shared<'scope, T>>, ToDevice>) -> Result<R>,
) -> Result<R>
where
    T: AsBytes + FromBytes,
{
    let range = CpuPhys::from_slice(memory);

    // SAFETY: As in `scope()`. Nobody writes to the bytes while they are borrowed, as `T` has no
    // interior mutability, and the device only reads them.
    let mut map = unsafe { Mapping::map(dev, Shared(memory), range) }?;

    f(&mut map)
}
