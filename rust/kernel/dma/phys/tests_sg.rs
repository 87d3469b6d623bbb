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

fn view_of<K: Kind, D: Direction>(map: &SgMapping<'_, K, D>) -> Result<DeviceView> {
    let view = DeviceView::of_segments(map.segments())?;

    assert_eq!(view.len(), map.size());
    assert!(map.segments().all(|(_, len)| len != 0 && len <= 65536));
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
        let mut map = SgMapping::<_, ToDevice>::new(owner.device(), counting()?, GFP_KERNEL)?;
        let view = view_of(&map)?;
        assert_eq!(map.size(), 4 * WORDS);

        for index in 0..WORDS {
            assert_eq!(word(&view, index), index as u32);
        }

        let mut words = map.cpu()?;
        assert_eq!(words.len(), WORDS);
        words[0] = 70;
        words[WORDS - 1] = 71;
        drop(words);
        map.cpu_range(1023..1025)?.copy_from_slice(&[72, 73]);
        assert_eq!((word(&view, 0), word(&view, WORDS - 1)), (70, 71));
        assert_eq!((word(&view, 1023), word(&view, 1024)), (72, 73));

        let words = map.unmap();
        assert_eq!((words[0], words[1024], words[1025]), (70, 73, 1025));
        assert!(words.capacity() >= 2 * WORDS);
        Ok(())
    }

    #[test]
    fn vector_from_device_transfers_to_the_cpu() -> Result {
        let owner = device(c"rust_phys_sg_from")?;
        let mut map = SgMapping::<_, FromDevice>::new(owner.device(), counting()?, GFP_KERNEL)?;
        let view = view_of(&map)?;

        view.fill(2);
        assert!(map.cpu()?.iter().all(|&word| word == 0x0202_0202));
        view.fill(3);
        // Crosses a page boundary.
        assert_eq!(map.cpu_range(1020..1030)?[..], [0x0303_0303; 10]);
        assert_eq!(map.cpu_range(WORDS - 1..WORDS)?[..], [0x0303_0303]);
        view.fill(4);
        assert!(map.unmap().iter().all(|&word| word == 0x0404_0404));
        Ok(())
    }

    #[test]
    fn unmap_transfers_to_the_cpu() -> Result {
        let owner = device(c"rust_phys_sg_unmap")?;
        let map = SgMapping::<_, FromDevice>::new(owner.device(), counting()?, GFP_KERNEL)?;
        let moved = KBox::new(map, GFP_KERNEL)?;

        view_of(&moved)?.fill(5);
        let words = KBox::into_inner(moved).unmap();
        assert_eq!((words[0], words[WORDS - 1]), (0x0505_0505, 0x0505_0505));
        Ok(())
    }

    #[test]
    fn h14_range_exceeds_no_vector() -> Result {
        let owner = device(c"rust_phys_sg_h14")?;
        let mut map = SgMapping::<_, ToDevice>::new(owner.device(), counting()?, GFP_KERNEL)?;

        #[expect(clippy::reversed_empty_ranges)]
        let empty = [5..5, 3..2, WORDS..WORDS];
        for range in empty {
            assert_eq!(map.cpu_range(range).err(), Some(EINVAL));
        }
        for range in [0..WORDS + 1, WORDS..WORDS + 1, 0..usize::MAX] {
            assert_eq!(map.cpu_range(range).err(), Some(ERANGE));
        }
        assert_eq!(map.cpu_range(0..WORDS)?.len(), WORDS);
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

        let mut map = SgMapping::<_, Bidirectional>::new(owner.device(), list, GFP_KERNEL)?;
        let view = view_of(&map)?;
        assert_eq!(map.size(), 3 * PAGE_SIZE);
        for page in 0..3 {
            assert_eq!(view.read(page * PAGE_SIZE), page as u8 + 1);
            assert_eq!(view.read(page * PAGE_SIZE + PAGE_SIZE - 1), page as u8 + 1);
        }

        map.cpu_page(1)?[PAGE_SIZE - 1] = 9;
        assert_eq!(view.read(2 * PAGE_SIZE - 1), 9);
        view.fill(4);
        assert!(map.cpu_page(2)?.iter().all(|&byte| byte == 4));
        assert_eq!(map.cpu_page(3).err(), Some(ERANGE));
        assert_eq!(map.cpu_page(usize::MAX).err(), Some(ERANGE));

        let list = map.unmap();
        assert!(ptr::eq(list[1].as_ptr(), address));
        assert!(list.iter().all(|page| page.iter().all(|&byte| byte == 4)));
        Ok(())
    }

    #[test]
    fn h02_empty_vector_is_not_mapped() -> Result {
        let owner = device(c"rust_phys_sg_h02")?;
        let empty = VVec::<u32>::with_capacity(8, GFP_KERNEL)?;
        let address = empty.as_ptr();

        let error = SgMapping::<_, ToDevice>::new(owner.device(), empty, GFP_KERNEL)
            .err()
            .ok_or(EIO)?;
        assert_eq!(error.error(), EINVAL);
        assert!(ptr::eq(error.into_memory().as_ptr(), address));

        let error = SgMapping::<_, FromDevice>::new(owner.device(), pages(0)?, GFP_KERNEL)
            .err()
            .ok_or(EIO)?;
        assert_eq!(error.error(), EINVAL);

        let error = SgMapping::<_, FromDevice>::new_mmio(owner.device(), &[], GFP_KERNEL);
        assert_eq!(error.err(), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn h05_vector_needs_a_mask() -> Result {
        let owner = faux::Registration::new(c"rust_phys_sg_h05", None)?;
        let faux: &faux::Device<Bound> = owner.as_ref();
        let dev: &Device<Bound> = faux.as_ref();

        let map = SgMapping::<_, Bidirectional>::new(dev, counting()?, GFP_KERNEL);
        let (error, words) = map.err().ok_or(EIO)?.into_parts();
        assert_eq!(error, EINVAL);
        assert_eq!(words[WORDS - 1], WORDS as u32 - 1);
        Ok(())
    }

    #[test]
    fn storage_holds_its_ranges() -> Result {
        let owner = device(c"rust_phys_storage")?;
        let dev = owner.device();

        assert!(SgStorage::new(dev, 7, 7, GFP_KERNEL)?.capacity() >= 7);
        // One range that is longer than the maximum segment size of the device.
        assert!(SgStorage::new(dev, 1, 1 << 20, GFP_KERNEL)?.capacity() >= 16);
        assert!(SgStorage::new(dev, usize::MAX, usize::MAX, GFP_KERNEL).is_err());
        Ok(())
    }
}
