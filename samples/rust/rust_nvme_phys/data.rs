// SPDX-License-Identifier: GPL-2.0

//! PRP entries and SGL descriptors (NVM Express 1.4, sections 4.3, 4.4).

use kernel::{
    dma::phys::RequestMapping,
    prelude::*, //
};

use crate::{
    block::Namespace,
    command::Data,
    queue::List, //
};

/// Type in the last byte of an SGL descriptor: data block.
const SGL_DATA: u64 = 0x00 << 56;
/// Type in the last byte of an SGL descriptor: the last segment of descriptors.
const SGL_LAST_SEGMENT: u64 = 0x30 << 56;

/// Returns the data pointer of a command for the mapped data. Writes a `list` if the data pointer
/// cannot hold all of it.
///
/// [`None`] if the segments cannot be described. The limits of the disks exclude that.
pub(crate) fn describe<'a>(
    mapping: &RequestMapping<'_, Namespace<'_>>,
    list: impl FnOnce() -> Result<List<'a>>,
    page: u64,
    sgl: bool,
) -> Option<Data> {
    if let Some(data) = two_prps(mapping.segments(), page) {
        return Some(data);
    }
    let list = list().ok()?;
    if sgl {
        sgl_descriptors(mapping.segments(), list)
    } else {
        prp_list(mapping.segments(), list, page)
    }
}

/// Two PRP entries suffice for data in two pages.
fn two_prps(mut segments: impl ExactSizeIterator<Item = (u64, usize)>, page: u64) -> Option<Data> {
    let (first, len) = segments.next()?;
    let in_page = page - (first & (page - 1));
    let len = len as u64;

    // The two low bits of a PRP entry are reserved.
    if first & 3 != 0 {
        return None;
    }
    match segments.next() {
        None if len <= in_page => Some(Data::prps(first, 0)),
        None if len <= in_page + page => Some(Data::prps(first, first + in_page)),
        Some((second, second_len))
            if segments.len() == 0
                && len == in_page
                && second & (page - 1) == 0
                && second_len as u64 <= page =>
        {
            Some(Data::prps(first, second))
        }
        _ => None,
    }
}

fn sgl_descriptors(
    mut segments: impl ExactSizeIterator<Item = (u64, usize)>,
    list: List<'_>,
) -> Option<Data> {
    let count = segments.len();
    let words = match count {
        1 => {
            let (addr, len) = segments.next()?;
            [addr, u64::from(u32::try_from(len).ok()?) | SGL_DATA]
        }
        _ => {
            for (i, (addr, len)) in segments.enumerate() {
                let len = u64::from(u32::try_from(len).ok()?);

                list.set(2 * i, addr).ok()?;
                list.set(2 * i + 1, len | SGL_DATA).ok()?;
            }
            [list.address(), (16 * count) as u64 | SGL_LAST_SEGMENT]
        }
    };

    Some(Data { words, sgl: true })
}

/// The first entry may start inside a page, and the last page may be used in part. All pages
/// between them are whole because of the limits of the disk; this is checked.
fn prp_list(
    segments: impl ExactSizeIterator<Item = (u64, usize)>,
    list: List<'_>,
    page: u64,
) -> Option<Data> {
    let last = segments.len().checked_sub(1)?;
    let mut first = 0;
    let mut count = 0;

    for (i, (addr, len)) in segments.enumerate() {
        let end = addr + len as u64;
        let mut next = addr;

        if (i != 0 && addr & (page - 1) != 0) || (i != last && end & (page - 1) != 0) {
            return None;
        }
        if i == 0 {
            if addr & 3 != 0 {
                return None;
            }
            first = addr;
            next = (addr | (page - 1)) + 1;
        }
        while next < end {
            list.set(count, next).ok()?;
            count += 1;
            next += page;
        }
    }
    Some(Data::prps(first, list.address()))
}
