// SPDX-License-Identifier: GPL-2.0

//! Borrowed memory, mapped while a closure runs.

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

/// Memory that [`scope`] borrows.
///
/// # Examples
///
/// ```
/// use kernel::dma::{
///     phys::{Borrowed, Cpu, FromDevice, Mapping},
///     DmaAddress, //
/// };
///
/// /// What a device needs to write to the memory.
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

/// Memory that [`scope_shared`] borrows.
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

/// Maps `memory` for `dev` while `f` runs.
///
/// The [`Mapping`] does not own the memory, so it must not outlive this call. `f` only borrows the
/// mapping: it cannot keep it, forget it or replace it. When `f` returns, with any result, the
/// memory is unmapped. So `f` must not return before the device is done with the memory or has been
/// stopped.
///
/// Does not sleep unless `f` does.
///
/// # Errors
///
/// Those that `f` returns, those of [`Mapping::new`], and [`EINVAL`] if the memory is not in the
/// kernel's linear map, see [`CpuPhys::from_slice`]. `f` is not called if mapping fails.
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
/// /// Runs the device on a part of the caller's buffer.
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

    // SAFETY: `range` covers the bytes of `memory`, which is borrowed exclusively until this
    // function returns. The mapping is dropped before: `f` only borrows it, and cannot replace it,
    // as `f` must work for any `'scope` and so has no other mapping of this type. While the mapping
    // exists, the bytes are accessible only through the `Borrowed` in it.
    let mut map = unsafe { Mapping::map(dev, Borrowed(memory), range) }?;

    f(&mut map)
}

/// Maps `memory` for `dev` to read while `f` runs.
///
/// Same as [`scope`], for memory that is shared: `f` and others may read it at the same time. The
/// direction is [`ToDevice`].
///
/// # Errors
///
/// Same as [`scope`].
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

    // SAFETY: See `scope()` for range and lifetime. The bytes are not written while they are
    // borrowed, as `T` has no interior mutability, and the device only reads them.
    let mut map = unsafe { Mapping::map(dev, Shared(memory), range) }?;

    f(&mut map)
}
