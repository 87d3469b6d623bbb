// SPDX-License-Identifier: GPL-2.0

//! Memory of many ranges, prepared for a device.

use super::{
    handle::RawSg,
    CpuPhys,
    MapError,
    SgMemory,
    Unowned, //
};
use crate::{
    alloc::{
        flags::__GFP_NOWARN,
        AllocError,
        Flags, //
    },
    bindings,
    device::{
        Bound,
        Device, //
    },
    dma::DmaAddress,
    prelude::*, //
};
use core::{
    ops::{
        Deref,
        DerefMut, //
    },
    slice, //
};

/// Contiguous DMA addresses: a part of a list that a device accesses with one descriptor.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::Segment;
///
/// /// Returns the words of a descriptor that consists of an address and a length.
/// fn descriptor(segment: &Segment) -> Result<[u64; 2]> {
///     let len = u32::try_from(segment.dma_len())?;
///
///     Ok([segment.dma_address().into(), len.into()])
/// }
/// # Ok::<(), Error>(())
/// ```
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Segment(pub(super) bindings::dma_phys_segment);

impl Segment {
    /// Returns the DMA address of the first byte.
    #[inline]
    pub fn dma_address(&self) -> DmaAddress {
        self.0.addr
    }

    /// Returns the length in bytes, which is never 0.
    #[inline]
    pub fn dma_len(&self) -> usize {
        self.0.len
    }
}

/// Memory of many ranges whose ranges were computed, with space for its segments.
///
/// Mapping it allocates nothing but what the kernel itself needs behind an IOMMU or for bounce
/// buffers. [`SgMapping::unmap_prepared`](super::SgMapping::unmap_prepared) returns it, to be
/// mapped again. It dereferences to the memory.
///
/// # Invariants
///
/// The ranges in `list` are those of `memory`.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, FromDevice, Prepared, SgInFlight};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_prepared", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let frame = VVec::from_elem(0u16, 640 * 480, GFP_KERNEL)?;
/// let mut frame = Prepared::new(dev, frame, GFP_KERNEL)?;
///
/// for _ in 0..3 {
///     let in_flight = SgInFlight::<Cpu<_>, FromDevice>::map_prepared(dev, frame)?;
///     // The device writes the frame and reports completion.
///
///     // SAFETY: The device has finished.
///     frame = unsafe { in_flight.unmap_prepared() };
///     assert_eq!(frame.len(), 640 * 480);
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Prepared<M> {
    pub(super) list: List,
    pub(super) memory: M,
}

impl<M: SgMemory> Prepared<M> {
    /// Computes the ranges of `memory`, and allocates space for them and for the segments that they
    /// may become for `dev`.
    ///
    /// It is one allocation. The limits of the device, such as its maximum segment size, must be
    /// set before. May sleep if `flags` allow it.
    ///
    /// # Errors
    ///
    /// An error returns `memory`.
    ///
    /// - [`EINVAL`] if the memory has no bytes.
    /// - [`ENOMEM`] if there is not enough memory.
    pub fn new(dev: &Device<Bound>, mut memory: M, flags: Flags) -> Result<Self, MapError<M>> {
        match List::new(dev, flags, memory.extent(), memory.ranges()) {
            // INVARIANT: The ranges are those of `memory`, which by the safety requirements of
            // `SgMemory` do not change when it is moved.
            Ok(list) => Ok(Self { list, memory }),
            Err(error) => Err(MapError::new(error, memory)),
        }
    }
}

impl Prepared<Unowned> {
    /// Prepares ranges that the mapping will not own, same as
    /// [`Mapping::from_range`](super::Mapping::from_range).
    ///
    /// # Errors
    ///
    /// Same as [`new`](Self::new).
    ///
    /// # Safety
    ///
    /// For as long as the returned value or anything made from it exists, and indefinitely if
    /// one of them is forgotten or leaked:
    ///
    /// - the ranges are memory, and stay allocated to the caller;
    /// - while an [`SgInFlight`](super::SgInFlight) made from it exists, no code accesses a byte of
    ///   them that the device writes, and none writes a byte that the device reads.
    pub unsafe fn from_ranges(
        dev: &Device<Bound>,
        ranges: &[CpuPhys],
        flags: Flags,
    ) -> Result<Self> {
        let size = ranges
            .iter()
            .try_fold(0usize, |size, range| size.checked_add(range.len()))
            .ok_or(EINVAL)?;
        let list = List::new(
            dev,
            flags,
            (ranges.len(), size),
            ranges.iter().copied().map(Ok),
        )?;

        // INVARIANT: The caller vouches for the ranges.
        Ok(Self {
            list,
            memory: Unowned::new(),
        })
    }
}

impl<M> Prepared<M> {
    /// Returns the memory.
    #[inline]
    pub fn into_memory(self) -> M {
        self.memory
    }
}

impl<M: Deref> Deref for Prepared<M> {
    type Target = M::Target;

    #[inline]
    fn deref(&self) -> &M::Target {
        &self.memory
    }
}

// Only for a vector: with a list of buffers a mutable reference would suffice to exchange them.
impl<T> DerefMut for Prepared<VVec<T>> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory
    }
}

/// What precedes the ranges and the segments in the allocation of a [`List`].
#[repr(C)]
struct Header {
    sg: bindings::dma_phys_sg,
    /// Number of ranges.
    ranges: usize,
    /// Number of segments there is space for.
    capacity: usize,
    /// Number of segments of the present map.
    segments: usize,
}

type Word = u64;

const HEADER_WORDS: usize = size_of::<Header>().div_ceil(size_of::<Word>());

const _: () = {
    assert!(align_of::<Header>() <= align_of::<Word>());
    assert!(align_of::<CpuPhys>() <= align_of::<Word>());
    assert!(align_of::<Segment>() <= align_of::<Word>());
};

/// Returns the number of words that hold `count` values of `T`, which are at most a whole
/// allocation.
#[inline]
const fn words_of<T>(count: usize) -> usize {
    (count * size_of::<T>()).div_ceil(size_of::<Word>())
}

/// A list of the C core with its ranges and segments, in one allocation: it is moved several times
/// between submission and completion.
///
/// # Invariants
///
/// - The words are a `Header`, then `ranges` values of `CpuPhys`, then space for `capacity` values
///   of `Segment`; each part begins with a word of its own.
/// - `sg` is empty unless the list is part of a [`Mapped`](super::mapped::Mapped), and has no pool.
/// - While it is mapped, its segments are the first `segments` values, at most `capacity`.
pub(super) struct List(KVVec<Word>);

// SAFETY: It is plain data. What `sg` points to while it is mapped belongs to `sg` alone, or is the
// device, and may be used by any task.
unsafe impl Send for List {}

// SAFETY: A shared reference only reads plain data, which only an exclusive reference changes.
unsafe impl Sync for List {}

impl List {
    /// Allocates a list for `dev`, with `ranges`: as many as `extent` says, of as many bytes.
    fn new(
        dev: &Device<Bound>,
        flags: Flags,
        extent: (usize, usize),
        mut ranges: impl Iterator<Item = Result<CpuPhys>>,
    ) -> Result<Self> {
        let (count, size) = extent;
        let mut this = Self::with_space(dev, count, count, size, flags)?;

        for space in this.ranges_mut() {
            *space = ranges.next().ok_or(EINVAL)??;
        }
        match ranges.next() {
            None => Ok(this),
            Some(_) => Err(EINVAL),
        }
    }

    /// Allocates a list with space for `stored` ranges, and for the segments of `count` ranges of
    /// `size` bytes in all.
    pub(super) fn with_space(
        dev: &Device<Bound>,
        stored: usize,
        count: usize,
        size: usize,
        flags: Flags,
    ) -> Result<Self, AllocError> {
        if count == 0 {
            // The C core refuses an empty list, so this needs no space.
            return Self::zeroed(0, 0, flags);
        }
        // SAFETY: `dev` is a reference to a device, so the pointer is valid.
        let capacity = unsafe { bindings::dma_phys_sg_max_segments(dev.as_raw(), count, size) };
        Self::zeroed(stored, capacity, flags)
    }

    fn zeroed(ranges: usize, capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        // Neither of the two products overflows, so that the sums do not either.
        let max = usize::MAX / 4;
        if ranges > max / size_of::<CpuPhys>() || capacity > max / size_of::<Segment>() {
            return Err(AllocError);
        }
        let words = HEADER_WORDS + words_of::<CpuPhys>(ranges) + words_of::<Segment>(capacity);
        // A size that is too large is an error and needs no warning.
        let words = KVVec::from_elem(0, words, flags | __GFP_NOWARN)?;

        // INVARIANT: There are words for all three, and zeroed words are a header of an empty list
        // without pool, of no range and of no segment.
        let mut this = Self(words);
        let header = this.header_mut();
        header.ranges = ranges;
        header.capacity = capacity;
        Ok(this)
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: By the type invariant the words begin with a header.
        unsafe { &*self.0.as_ptr().cast() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: See `header()`.
        unsafe { &mut *self.0.as_mut_ptr().cast() }
    }

    #[inline]
    fn ranges_mut(&mut self) -> &mut [CpuPhys] {
        let ranges = self.header().ranges;

        // SAFETY: By the type invariant the ranges follow the header. `CpuPhys` is plain data.
        unsafe { slice::from_raw_parts_mut(self.0.as_mut_ptr().add(HEADER_WORDS).cast(), ranges) }
    }

    /// Returns the segments of the present map.
    #[inline]
    pub(super) fn segments(&self) -> &[Segment] {
        let Header {
            ranges, segments, ..
        } = *self.header();

        // SAFETY: By the type invariant the segments follow the ranges. `Segment` is plain data.
        unsafe {
            let first = self
                .0
                .as_ptr()
                .add(HEADER_WORDS + words_of::<CpuPhys>(ranges));
            slice::from_raw_parts(first.cast(), segments)
        }
    }

    /// Calls `map` with the ranges, their number, space for segments, its size and the list. `map`
    /// passes them to a function of the C core, and returns its result: the number of segments or a
    /// negative errno.
    #[inline]
    pub(super) fn map_with(
        &mut self,
        map: impl FnOnce(
            *const bindings::cpu_phys,
            usize,
            *mut bindings::dma_phys_segment,
            usize,
            *mut bindings::dma_phys_sg,
        ) -> c_int,
    ) -> Result {
        let words = self.0.as_mut_ptr();
        let header = words.cast::<Header>();
        // SAFETY: By the type invariant the words begin with a header, ranges and segments follow.
        let (ranges, count, capacity, segments, sg) = unsafe {
            let ranges = words.add(HEADER_WORDS);
            let count = (*header).ranges;
            (
                ranges.cast_const().cast(),
                count,
                (*header).capacity,
                ranges.add(words_of::<CpuPhys>(count)).cast(),
                &raw mut (*header).sg,
            )
        };
        let result = map(ranges, count, segments, capacity, sg);
        let Ok(count) = usize::try_from(result) else {
            return Err(Error::from_errno(result));
        };

        // INVARIANT: The C core has written `count` segments, which is no more than the capacity;
        // `min()` lets the compiler rely on that as well.
        self.header_mut().segments = count.min(capacity);
        Ok(())
    }
}

impl RawSg for List {
    #[inline]
    fn sg(&self) -> &bindings::dma_phys_sg {
        &self.header().sg
    }

    #[inline]
    fn sg_mut(&mut self) -> &mut bindings::dma_phys_sg {
        &mut self.header_mut().sg
    }
}
