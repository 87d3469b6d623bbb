// SPDX-License-Identifier: GPL-2.0

//! The direction of a mapping.

use crate::dma::DataDirection;

mod private {
    pub trait Sealed {}
}

/// The direction of a transfer.
///
/// Implemented by [`ToDevice`], [`FromDevice`] and [`Bidirectional`] only. No type stands for
/// `DMA_NONE`.
///
/// # Examples
///
/// ```
/// use kernel::dma::{
///     phys::{Direction, FromDevice},
///     DataDirection, //
/// };
///
/// assert_eq!(FromDevice::DIRECTION, DataDirection::FromDevice);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a direction of a DMA mapping",
    note = "the directions are `ToDevice`, `FromDevice` and `Bidirectional`"
)]
pub trait Direction: private::Sealed {
    /// The same direction, as a value.
    const DIRECTION: DataDirection;
}

/// A [`Direction`] in which the CPU writes what the device reads.
///
/// What maps memory dereferences mutably in these directions only. Data that the CPU writes into
/// memory that is mapped [`FromDevice`] does not reach the device.
///
/// # Examples
///
/// ```
/// use kernel::{
///     dma::phys::{Cpu, Mapping, Memory, Writable},
///     transmute::{AsBytes, FromBytes}, //
/// };
/// # use kernel::dma::{phys::{testing::TestDevice, ToDevice}, DmaMask};
///
/// fn clear<T, M, D>(mapping: &mut Mapping<'_, Cpu<M>, D>)
/// where
///     T: AsBytes + FromBytes + Default,
///     M: Memory<Target = [T]>,
///     D: Writable,
/// {
///     mapping.fill_with(T::default);
/// }
///
/// # let owner = TestDevice::new(c"rust_phys_doc_writable", DmaMask::new::<64>())?;
/// # let buffer = KVec::from_elem(7u16, 64, GFP_KERNEL)?;
/// # let mut mapping = Mapping::<_, ToDevice>::new(owner.device(), buffer)?;
/// clear(&mut mapping);
/// # assert!(mapping.unmap().iter().all(|&word| word == 0));
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "the CPU cannot write into a mapping with direction `{Self}`",
    note = "the CPU writes into mappings `ToDevice` and `Bidirectional`"
)]
pub trait Writable: Direction {}

/// The CPU writes, the device reads.
///
/// # Examples
///
/// See [`SgMapping`](super::SgMapping).
pub struct ToDevice;

/// The device writes, the CPU reads.
///
/// # Examples
///
/// See [`InFlight`](super::InFlight).
pub struct FromDevice;

/// CPU and device both write and read.
///
/// # Examples
///
/// See [`Mapping`](super::Mapping).
pub struct Bidirectional;

impl private::Sealed for ToDevice {}
impl private::Sealed for FromDevice {}
impl private::Sealed for Bidirectional {}

impl Direction for ToDevice {
    const DIRECTION: DataDirection = DataDirection::ToDevice;
}

impl Direction for FromDevice {
    const DIRECTION: DataDirection = DataDirection::FromDevice;
}

impl Direction for Bidirectional {
    const DIRECTION: DataDirection = DataDirection::Bidirectional;
}

impl Writable for ToDevice {}
impl Writable for Bidirectional {}
