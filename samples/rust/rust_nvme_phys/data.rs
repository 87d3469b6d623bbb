// SPDX-License-Identifier: GPL-2.0

//! PRP entries and SGL descriptors (NVM Express 1.4, sections 4.3, 4.4).
//!
//! Data in two pages, and with SGL descriptors any single segment, is described by the command
//! alone. Other requests need a list.

use kernel::{
    dma::phys::{
        Segment,
        Segments, //
    },
    prelude::*, //
};

use crate::{
    command::{
        Data,
        Psdt, //
    },
    queue::List, //
};

/// Type in the last byte of an SGL descriptor: data block.
const SGL_DATA: u64 = 0x00 << 56;
/// Type in the last byte of an SGL descriptor: the last segment of descriptors.
const SGL_LAST_SEGMENT: u64 = 0x30 << 56;

/// Takes all segments of a request, and returns the data pointer of its command. Writes a `list` if
/// the data pointer cannot hold all of it.
///
/// # Errors
///
/// `EINVAL` or `E2BIG` if the segments cannot be described. The limits of the disks exclude that.
#[inline]
pub(crate) fn describe<'a>(
    segments: &mut Segments<'_>,
    list: impl FnOnce() -> Result<List<'a>>,
    page: u64,
    sgl: bool,
) -> Result<Data> {
    let size = segments.size();
    let first = segments.next().ok_or(EINVAL)?;
    let second = segments.next();

    if let Some(data) = two_prps(&first, second.as_ref(), size as u64, page) {
        return Ok(data);
    }
    // SGL descriptors for everything else. Behind an IOMMU a request is one segment, so that its
    // one descriptor is in the command, while a PRP list has an entry for each page. PRP lists are
    // for controllers without SGLs.
    if sgl {
        sgl_descriptors(first, second, segments, list)
    } else {
        prp_list(first, second, segments, list, page)
    }
}

/// PRP1 and PRP2 describe data in two pages: the rest of one, and another.
#[inline]
fn two_prps(first: &Segment, second: Option<&Segment>, size: u64, page: u64) -> Option<Data> {
    let addr = first.dma_address();
    let rest = page - (addr & (page - 1));

    // The two low bits of a PRP entry are reserved.
    if addr & 3 != 0 || size > rest + page {
        return None;
    }
    match second {
        None if size <= rest => Some(Data::prps(addr, 0)),
        None => Some(Data::prps(addr, addr + rest)),
        Some(second) => {
            let len = first.dma_len() as u64;
            let is_next = second.dma_address() & (page - 1) == 0;

            (len == rest && is_next && second.dma_len() as u64 == size - rest)
                .then(|| Data::prps(addr, second.dma_address()))
        }
    }
}

/// Returns the descriptor of a segment of `count` descriptors, which is the last one.
fn last_segment(address: u64, count: usize) -> [u64; 2] {
    [address, (16 * count) as u64 | SGL_LAST_SEGMENT]
}

/// Returns the descriptor of data.
#[inline]
fn descriptor(segment: &Segment) -> Result<[u64; 2]> {
    let len = u32::try_from(segment.dma_len())?;

    Ok([segment.dma_address(), u64::from(len) | SGL_DATA])
}

/// Writes descriptors of `segments` to a list, from descriptor `first` on. Returns how many.
fn write_descriptors(
    list: List<'_>,
    first: usize,
    segments: impl Iterator<Item = Segment>,
) -> Result<usize> {
    let mut count = 0;

    for segment in segments {
        let [addr, len] = descriptor(&segment)?;
        let word = 2 * (first + count);

        list.set(word, addr)?;
        list.set(word + 1, len)?;
        count += 1;
    }
    Ok(count)
}

/// Same as [`describe`], always with SGL descriptors: for a command whose metadata has them.
pub(crate) fn describe_sgl<'a>(
    segments: &mut Segments<'_>,
    list: impl FnOnce() -> Result<List<'a>>,
) -> Result<Data> {
    let first = segments.next().ok_or(EINVAL)?;
    let second = segments.next();

    sgl_descriptors(first, second, segments, list)
}

/// Describes the metadata, and returns the metadata pointer and whether it points to an SGL. It is
/// the address of the only segment, or of an SGL in `list`.
///
/// # Errors
///
/// `EINVAL` or `E2BIG` if the segments cannot be described. The limits of the disks exclude that.
pub(crate) fn describe_metadata(
    segments: &mut Segments<'_>,
    list: Option<List<'_>>,
) -> Result<(u64, bool)> {
    let first = segments.next().ok_or(EINVAL)?;

    if first.dma_address() & 3 != 0 {
        return Err(EINVAL);
    }
    let Some(second) = segments.next() else {
        return Ok((first.dma_address(), false));
    };
    let list = list.ok_or(EINVAL)?;
    let rest = Iterator::chain([first, second].into_iter(), segments);
    // The first descriptor describes the SGL segment that has the others.
    let count = write_descriptors(list, 1, rest)?;
    let [addr, len] = last_segment(list.address() + 16, count);

    list.set(0, addr)?;
    list.set(1, len)?;
    Ok((list.address(), true))
}

fn sgl_descriptors<'a>(
    first: Segment,
    second: Option<Segment>,
    segments: &mut Segments<'_>,
    list: impl FnOnce() -> Result<List<'a>>,
) -> Result<Data> {
    let Some(second) = second else {
        return Ok(Data {
            words: descriptor(&first)?,
            kind: Psdt::Sgl,
        });
    };

    let list = list()?;
    let rest = Iterator::chain([first, second].into_iter(), segments);
    let count = write_descriptors(list, 0, rest)?;
    Ok(Data {
        words: last_segment(list.address(), count),
        kind: Psdt::Sgl,
    })
}

/// A PRP list that is being written.
struct PrpList<'a> {
    list: List<'a>,
    /// Entries that are written.
    count: usize,
    /// DMA address after the last byte that is described.
    end: u64,
    page: u64,
}

impl PrpList<'_> {
    /// Adds entries. Pages between the first and the last one are whole: the limits of the queue
    /// and of the device ensure that. Check it anyway, or the wrong bytes move.
    fn add(&mut self, mut addr: u64, len: u64) -> Result {
        if (self.end | addr) & (self.page - 1) != 0 {
            return Err(EINVAL);
        }
        self.end = addr + len;
        while addr < self.end {
            self.list.set(self.count, addr)?;
            self.count += 1;
            addr += self.page;
        }
        Ok(())
    }
}

fn prp_list<'a>(
    first: Segment,
    second: Option<Segment>,
    segments: &mut Segments<'_>,
    list: impl FnOnce() -> Result<List<'a>>,
    page: u64,
) -> Result<Data> {
    let (addr, len) = (first.dma_address(), first.dma_len() as u64);
    let rest = (page - (addr & (page - 1))).min(len);
    let mut list = PrpList {
        list: list()?,
        count: 0,
        end: addr + rest,
        page,
    };

    if addr & 3 != 0 {
        return Err(EINVAL);
    }
    if len > rest {
        list.add(list.end, len - rest)?;
    }
    for segment in Iterator::chain(second.into_iter(), segments) {
        list.add(segment.dma_address(), segment.dma_len() as u64)?;
    }
    Ok(Data::prps(addr, list.list.address()))
}
