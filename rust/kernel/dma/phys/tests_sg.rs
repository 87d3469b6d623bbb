// SPDX-License-Identifier: GPL-2.0

//! Memory of many ranges that a mapping owns.

use super::{
    tests::{
        device,
        DeviceView, //
    },
    *, //
};
use crate::{
    device::{
        Bound,
        Device, //
    },
    faux,
    page::PAGE_SIZE,
    prelude::*, //
};
use core::ptr;

/// More than three pages, and not a multiple of a page.
const WORDS: usize = (3 * PAGE_SIZE + 100) / 4;

/// Numbers, in a vector with spare capacity.
fn counting() -> Result<VVec<u32>> {
    let mut words = VVec::with_capacity(2 * WORDS, GFP_KERNEL)?;

    for word in 0..WORDS {
        words.push(word as u32, GFP_KERNEL)?;
    }
    Ok(words)
}

fn pages(count: usize) -> Result<KVec<PageBytes>> {
    let mut pages = KVec::new();

    for _ in 0..count {
        pages.push(PageBytes::zeroed(GFP_KERNEL)?, GFP_KERNEL)?;
    }
    Ok(pages)
}

fn view_of<K: Kind, D: Direction>(in_flight: &SgInFlight<'_, K, D>) -> Result<DeviceView> {
    let segments = in_flight.segments();
    let view = DeviceView::of_segments(
        segments
            .iter()
            .map(|segment| (segment.dma_address(), segment.dma_len())),
    )?;

    assert_eq!(view.len(), in_flight.size());
    assert!(segments
        .iter()
        .all(|segment| (1..=65536).contains(&segment.dma_len())));
    Ok(view)
}

/// Reads the word at `index` as the device does.
fn word(view: &DeviceView, index: usize) -> u32 {
    u32::from_ne_bytes([0, 1, 2, 3].map(|byte| view.read(4 * index + byte)))
}

#[macros::kunit_tests(rust_dma_phys_sg)]
mod suite {
    use super::*;

    #[test]
    fn vector_to_device_is_in_order() -> Result {
        let owner = device(c"rust_phys_sg_to")?;
        let in_flight =
            SgInFlight::<Cpu<_>, ToDevice>::map(owner.device(), counting()?, GFP_KERNEL)?;
        let view = view_of(&in_flight)?;
        assert_eq!(in_flight.size(), 4 * WORDS);

        for index in 0..WORDS {
            assert_eq!(word(&view, index), index as u32);
        }

        // SAFETY: The view does not access it until it is submitted.
        let mut mapping = unsafe { in_flight.complete() };
        assert_eq!(mapping.len(), WORDS);
        mapping[0] = 70;
        mapping[WORDS - 1] = 71;
        let mut in_flight = mapping.submit();
        // SAFETY: The view does not access it until it is dropped.
        unsafe { in_flight.part(1023..1025) }?.copy_from_slice(&[72, 73]);
        assert_eq!((word(&view, 0), word(&view, WORDS - 1)), (70, 71));
        assert_eq!((word(&view, 1023), word(&view, 1024)), (72, 73));

        // SAFETY: The view does not access it again.
        let words = unsafe { in_flight.unmap() };
        assert_eq!((words[0], words[1024], words[1025]), (70, 73, 1025));
        assert!(words.capacity() >= 2 * WORDS);
        Ok(())
    }

    #[test]
    fn vector_from_device_transfers_to_the_cpu() -> Result {
        let owner = device(c"rust_phys_sg_from")?;
        let in_flight =
            SgInFlight::<Cpu<_>, FromDevice>::map(owner.device(), counting()?, GFP_KERNEL)?;
        let view = view_of(&in_flight)?;

        view.fill(2);
        // SAFETY: The view does not access it until it is submitted.
        let mapping = unsafe { in_flight.complete() };
        assert!(mapping.iter().all(|&word| word == 0x0202_0202));
        let mut in_flight = mapping.submit();
        view.fill(3);
        // Crosses a page boundary.
        // SAFETY: The view does not access it until it is dropped, here and below.
        let part = unsafe { in_flight.part(1020..1030) }?;
        assert_eq!(part[..], [0x0303_0303; 10]);
        drop(part);
        // SAFETY: See above.
        let part = unsafe { in_flight.part(WORDS - 1..WORDS) }?;
        assert_eq!(part[..], [0x0303_0303]);
        drop(part);
        view.fill(4);
        // SAFETY: The view does not access it again.
        let words = unsafe { in_flight.unmap() };
        assert!(words.iter().all(|&word| word == 0x0404_0404));
        Ok(())
    }

    #[test]
    fn unmap_transfers_to_the_cpu() -> Result {
        let owner = device(c"rust_phys_sg_unmap")?;
        let mapping =
            SgMapping::<Cpu<_>, FromDevice>::new(owner.device(), counting()?, GFP_KERNEL)?;
        let moved = KBox::new(mapping.submit(), GFP_KERNEL)?;

        view_of(&moved)?.fill(5);
        // SAFETY: The view was dropped.
        let words = unsafe { KBox::into_inner(moved).unmap() };
        assert_eq!((words[0], words[WORDS - 1]), (0x0505_0505, 0x0505_0505));
        Ok(())
    }

    #[test]
    fn h36_list_keeps_what_the_cpu_wrote() -> Result {
        let owner = device(c"rust_phys_sg_h36")?;
        let in_flight =
            SgInFlight::<Cpu<_>, Bidirectional>::map(owner.device(), counting()?, GFP_KERNEL)?;

        view_of(&in_flight)?.fill(6);
        // SAFETY: The view was dropped.
        let mut mapping = unsafe { in_flight.complete() };
        mapping[WORDS - 1] = 7;
        let words = mapping.unmap();
        assert_eq!((words[0], words[WORDS - 1]), (0x0606_0606, 7));
        Ok(())
    }

    #[test]
    fn h14_part_exceeds_no_vector() -> Result {
        let owner = device(c"rust_phys_sg_h14")?;
        let mut in_flight =
            SgInFlight::<Cpu<_>, ToDevice>::map(owner.device(), counting()?, GFP_KERNEL)?;

        #[expect(clippy::reversed_empty_ranges)]
        let empty = [5..5, 3..2, WORDS..WORDS];
        for range in empty {
            // SAFETY: Nothing accesses it, here and below.
            assert_eq!(unsafe { in_flight.part(range) }.err(), Some(EINVAL));
        }
        for range in [0..WORDS + 1, WORDS..WORDS + 1, 0..usize::MAX] {
            // SAFETY: See above.
            assert_eq!(unsafe { in_flight.part(range) }.err(), Some(ERANGE));
        }
        // SAFETY: See above.
        assert_eq!(unsafe { in_flight.part(0..WORDS) }?.len(), WORDS);
        // SAFETY: See above.
        drop(unsafe { in_flight.unmap() });
        Ok(())
    }

    #[test]
    fn pages_are_in_order() -> Result {
        let owner = device(c"rust_phys_sg_pages")?;
        let mut list = pages(3)?;
        list.swap(0, 2);
        for (index, page) in (1..).zip(&mut list) {
            page.fill(index);
        }
        let address = list[1].as_ptr();

        let mut mapping =
            SgMapping::<Cpu<_>, Bidirectional>::new(owner.device(), list, GFP_KERNEL)?;
        assert_eq!(mapping.size(), 3 * PAGE_SIZE);
        assert_eq!(mapping[2][0], 3);
        mapping.page_mut(1)?[PAGE_SIZE - 1] = 9;
        assert_eq!(mapping.page_mut(3).err(), Some(ERANGE));

        let mut in_flight = mapping.submit();
        let view = view_of(&in_flight)?;
        for page in 0..3 {
            assert_eq!(view.read(page * PAGE_SIZE), page as u8 + 1);
        }
        assert_eq!(view.read(2 * PAGE_SIZE - 1), 9);

        // SAFETY: The view does not access it until it is dropped, here and below.
        unsafe { in_flight.part(1) }?[0] = 8;
        assert_eq!(view.read(PAGE_SIZE), 8);
        view.fill(4);
        // SAFETY: See above.
        let page = unsafe { in_flight.part(2) }?;
        assert!(page.iter().all(|&byte| byte == 4));
        drop(page);
        // SAFETY: See above.
        assert_eq!(unsafe { in_flight.part(3) }.err(), Some(ERANGE));
        // SAFETY: See above.
        assert_eq!(unsafe { in_flight.part(usize::MAX) }.err(), Some(ERANGE));

        // SAFETY: The view does not access it again.
        let list = unsafe { in_flight.unmap() };
        assert!(ptr::eq(list[1].as_ptr(), address));
        assert!(list.iter().all(|page| page.iter().all(|&byte| byte == 4)));
        Ok(())
    }

    #[test]
    fn prepared_memory_is_mapped_again() -> Result {
        let owner = device(c"rust_phys_prepared")?;
        let dev = owner.device();
        let mut prepared = Prepared::new(dev, counting()?, GFP_KERNEL)?;

        for round in 0..4u8 {
            prepared[1] = round.into();
            let in_flight = SgInFlight::<Cpu<_>, Bidirectional>::map_prepared(dev, prepared)?;
            let view = view_of(&in_flight)?;
            assert_eq!(word(&view, 1), round.into());
            view.fill(round);
            // SAFETY: The view does not access it again.
            prepared = unsafe { in_flight.unmap_prepared() };
            assert_eq!(prepared[WORDS - 1] as u8, round);

            let mut mapping = SgMapping::<Cpu<_>, ToDevice>::from_prepared(dev, prepared)?;
            mapping[0] = 5;
            prepared = mapping.unmap_prepared();
            assert_eq!((prepared[0], prepared[2] as u8), (5, round));
        }
        assert_eq!(prepared.into_memory().len(), WORDS);
        Ok(())
    }

    #[test]
    fn ranges_of_others_are_mapped() -> Result {
        let owner = device(c"rust_phys_ranges")?;
        let dev = owner.device();
        let mut list = pages(3)?;
        let ranges = [2, 0].map(|index: usize| CpuPhys::from_slice(&list[index][..100]));
        let [first, second] = ranges;

        // SAFETY: The pages are freed after the mapping, and not accessed meanwhile.
        let prepared = unsafe { Prepared::from_ranges(dev, &[first?, second?], GFP_KERNEL) }?;
        let in_flight = SgInFlight::<Cpu<_>, FromDevice>::map_prepared(dev, prepared)?;
        let view = view_of(&in_flight)?;
        view.fill(3);
        view.write(0, 4);
        // SAFETY: The view does not access it again.
        let _ = unsafe { in_flight.unmap() };
        assert_eq!((list[2][0], list[2][99], list[2][100]), (4, 3, 0));
        assert_eq!((list[0][0], list[0][99], list[0][100]), (3, 3, 0));
        list.pop();
        Ok(())
    }

    #[test]
    fn h02_empty_vector_is_not_mapped() -> Result {
        let owner = device(c"rust_phys_sg_h02")?;
        let empty = VVec::<u32>::with_capacity(8, GFP_KERNEL)?;
        let address = empty.as_ptr();

        let error = SgMapping::<Cpu<_>, ToDevice>::new(owner.device(), empty, GFP_KERNEL)
            .err()
            .ok_or(EIO)?;
        assert_eq!(error.error(), EINVAL);
        assert!(ptr::eq(error.into_memory().as_ptr(), address));

        let error = SgMapping::<Cpu<_>, FromDevice>::new(owner.device(), pages(0)?, GFP_KERNEL)
            .err()
            .ok_or(EIO)?;
        assert_eq!(error.error(), EINVAL);

        let error = SgInFlight::<Mmio<'_>, FromDevice>::map(owner.device(), &[], GFP_KERNEL);
        assert_eq!(error.err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn h05_vector_needs_a_mask() -> Result {
        let owner = faux::Registration::new(c"rust_phys_sg_h05", None)?;
        let faux: &faux::Device<Bound> = owner.as_ref();
        let dev: &Device<Bound> = faux.as_ref();

        let map = SgMapping::<Cpu<_>, Bidirectional>::new(dev, counting()?, GFP_KERNEL);
        let (error, words) = map.err().ok_or(EIO)?.into_parts();
        assert_eq!(error, EINVAL);
        assert_eq!(words[WORDS - 1], WORDS as u32 - 1);
        Ok(())
    }
}
