// SPDX-License-Identifier: GPL-2.0

//! A part of what is mapped, lent to the CPU.

use super::{
    tests::{
        device,
        Seen, //
    },
    *, //
};
use crate::prelude::*;

/// Bytes of memory that a mapping owns, as they are for the CPU.
struct Behind(*mut u8);

impl Behind {
    fn read(&self, offset: usize) -> u8 {
        // SAFETY: The tests that use it keep the memory mapped, and borrow it nowhere meanwhile.
        unsafe { self.0.add(offset).read_volatile() }
    }

    fn write(&self, offset: usize, byte: u8) {
        // SAFETY: As above.
        unsafe { self.0.add(offset).write_volatile(byte) };
    }
}

#[macros::kunit_tests(rust_dma_phys_lend)]
mod suite {
    use super::*;

    #[test]
    fn range_shows_its_elements() -> Result {
        let owner = device(c"rust_phys_range")?;
        let words = KVec::from_elem(0x0101u16, 2048, GFP_KERNEL)?;
        let mut map = Mapping::<_, Bidirectional>::new(owner.device(), words)?;
        let seen = Seen::by_device(&map)?;

        seen.fill(2);
        for offset in 2000..3000 {
            seen.write(offset, 3);
        }
        let words = map.cpu_range(1000..1500)?;
        assert_eq!(words.len(), 500);
        assert!(words.iter().all(|&word| word == 0x0303));
        drop(words);

        map.cpu_range(2047..2048)?[0] = 0x0504;
        assert_eq!((seen.read(4094), seen.read(4095)), (4, 5));
        assert_eq!((seen.read(0), seen.read(4093)), (2, 2));
        map.cpu_range(0..1)?.fill(0x0606);
        assert_eq!((seen.read(0), seen.read(1), seen.read(2)), (6, 6, 2));
        Ok(())
    }

    #[test]
    fn range_is_all_that_is_synced() -> Result {
        let owner = device(c"rust_phys_range_sync")?;
        let mut bytes = KVec::from_elem(1u8, 4096, GFP_KERNEL)?;
        let behind = Behind(bytes.as_mut_ptr());
        let mut map = Mapping::<_, Bidirectional>::new(owner.device(), bytes)?;
        let seen = Seen::by_device(&map)?;
        let copied = map.route() == Route::Bounce;

        // Towards the CPU: in a slot the rest stays where it is.
        seen.fill(2);
        assert_eq!(map.cpu_range(1000..1500)?[..], [2; 500]);
        for offset in [0, 999, 1500, 4095] {
            assert_eq!(behind.read(offset), if copied { 1 } else { 2 });
        }

        // And towards the device.
        let part = map.cpu_range(1000..1500)?;
        for offset in [0, 999, 1000, 1499, 1500, 4095] {
            behind.write(offset, 3);
        }
        drop(part);
        for offset in [0, 999, 1500, 4095] {
            assert_eq!(seen.read(offset), if copied { 2 } else { 3 });
        }
        assert_eq!((seen.read(1000), seen.read(1499)), (3, 3));
        Ok(())
    }

    #[test]
    fn h14_range_stays_inside() -> Result {
        let owner = device(c"rust_phys_h14")?;
        let words = KBox::new([0u32; 16], GFP_KERNEL)?;
        let mut map = Mapping::<_, ToDevice>::new(owner.device(), words)?;

        #[expect(clippy::reversed_empty_ranges)]
        let empty = [0..0, 16..16, 20..20, 3..2, usize::MAX..0];
        for range in empty {
            assert_eq!(map.cpu_range(range).err(), Some(EINVAL));
        }
        for range in [0..17, 16..17, 0..usize::MAX, usize::MAX - 1..usize::MAX] {
            assert_eq!(map.cpu_range(range).err(), Some(ERANGE));
        }
        assert_eq!(map.cpu_range(0..16)?.len(), 16);
        assert_eq!(map.cpu_range(15..16)?.len(), 1);
        Ok(())
    }
}
