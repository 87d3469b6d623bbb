// SPDX-License-Identifier: GPL-2.0

//! The error of a mapping that failed.

use super::Prepared;
use crate::{
    fmt,
    prelude::*, //
};

/// Why memory could not be mapped, and the memory.
///
/// The memory of a request is the request.
///
/// `?` converts it into the [`Error`] and drops the memory.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, Mapping, ToDevice};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_error", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// // Capacity for 16 bytes, and no element.
/// let empty = KVec::<u8>::with_capacity(16, GFP_KERNEL)?;
///
/// let (error, memory) = match Mapping::<Cpu<_>, ToDevice>::new(dev, empty) {
///     Ok(_) => return Err(EIO),
///     Err(error) => error.into_parts(),
/// };
/// assert_eq!(error, EINVAL);
/// assert!(memory.capacity() >= 16);
/// # Ok::<(), Error>(())
/// ```
pub struct MapError<M> {
    error: Error,
    memory: M,
}

impl<M> MapError<M> {
    #[inline]
    pub(super) fn new(error: Error, memory: M) -> Self {
        Self { error, memory }
    }

    /// Returns the reason.
    #[inline]
    pub fn error(&self) -> Error {
        self.error
    }

    /// Returns the memory.
    #[inline]
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// Returns the reason and the memory.
    #[inline]
    pub fn into_parts(self) -> (Error, M) {
        (self.error, self.memory)
    }
}

impl<M> MapError<Prepared<M>> {
    pub(super) fn unprepared(self) -> MapError<M> {
        MapError::new(self.error, self.memory.into_memory())
    }
}

impl<M> fmt::Debug for MapError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<M> From<MapError<M>> for Error {
    fn from(error: MapError<M>) -> Self {
        error.error
    }
}
