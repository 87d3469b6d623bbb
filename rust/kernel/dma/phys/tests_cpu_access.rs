// SPDX-License-Identifier: GPL-2.0

//! Access by the CPU: to elements of a mapping, and to memory that is mapped in a scope.

use super::{
    tests::{
        device,
        DeviceView, //
    },
    *, //
};
use crate::prelude::*;
use core::ptr;

/// The memory that a mapping owns, accessed by the CPU without a guard.
struct CpuView(*mut u8);

impl CpuView {
    fn read(&self, offset: usize) -> u8 {
        // SAFETY: The tests keep the memory mapped, and do not borrow it during the access.
        unsafe { self.0.add(offset).read_volatile() }
    }

    fn write(&self, offset: usize, byte: u8) {
        // SAFETY: See above.
        unsafe { self.0.add(offset).write_volatile(byte) };
    }
}

#[macros::kunit_tests(rust_dma_phys_cpu_access)]
mod suite {
    use super::*;

    #[test]
    fn range_has_its_elements() -> Result {
        let owner = device(c"rust_phys_range")?;
        let words = KVec::from_elem(0x0101u16, 2048, GFP_KERNEL)?;
        let mut map = Mapping::<_, Bidirectional>::new(owner.device(), words)?;
        let view = DeviceView::of_map(&map)?;

        view.fill(2);
        for offset in 2000..3000 {
            view.write(offset, 3);
        }
        let words = map.cpu_range(1000..1500)?;
        assert_eq!(words.len(), 500);
        assert!(words.iter().all(|&word| word == 0x0303));
        drop(words);

        map.cpu_range(2047..2048)?[0] = 0x0504;
        assert_eq!((view.read(4094), view.read(4095)), (4, 5));
        assert_eq!((view.read(0), view.read(4093)), (2, 2));
        map.cpu_range(0..1)?.fill(0x0606);
        assert_eq!((view.read(0), view.read(1), view.read(2)), (6, 6, 2));
        Ok(())
    }

    #[test]
    fn only_the_range_is_synced() -> Result {
        let owner = device(c"rust_phys_range_sync")?;
        let mut bytes = KVec::from_elem(1u8, 4096, GFP_KERNEL)?;
        let cpu_view = CpuView(bytes.as_mut_ptr());
        let mut map = Mapping::<_, Bidirectional>::new(owner.device(), bytes)?;
        let view = DeviceView::of_map(&map)?;
        let bounces = map.route() == Route::Bounce;

        // For the CPU: the rest of a bounce buffer is not copied.
        view.fill(2);
        assert_eq!(map.cpu_range(1000..1500)?[..], [2; 500]);
        for offset in [0, 999, 1500, 4095] {
            assert_eq!(cpu_view.read(offset), if bounces { 1 } else { 2 });
        }

        // For the device.
        let range = map.cpu_range(1000..1500)?;
        for offset in [0, 999, 1000, 1499, 1500, 4095] {
            cpu_view.write(offset, 3);
        }
        drop(range);
        for offset in [0, 999, 1500, 4095] {
            assert_eq!(view.read(offset), if bounces { 2 } else { 3 });
        }
        assert_eq!((view.read(1000), view.read(1499)), (3, 3));
        Ok(())
    }

    #[test]
    fn h14_range_exceeds_no_mapping() -> Result {
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

    #[test]
    fn scope_transfers_both() -> Result {
        let owner = device(c"rust_phys_scope")?;
        let mut words = KVec::from_elem(0x0101u16, 1024, GFP_KERNEL)?;
        let range = CpuPhys::from_slice(&words[256..768])?;

        let first = scope::<Bidirectional, _, _>(owner.device(), &mut words[256..768], |map| {
            let view = DeviceView::of_map(map)?;
            assert_eq!(map.size(), range.len());
            if map.route() == Route::Direct {
                assert_eq!(map.dma_address(), range.addr());
            }

            map.cpu()?.fill(0x0202);
            assert_eq!((view.read(0), view.read(1023)), (2, 2));
            view.fill(3);
            let first = map.cpu_range(511..512)?[0];
            view.fill(4);
            Ok(first)
        })?;

        assert_eq!(first, 0x0303);
        assert!(words[256..768].iter().all(|&word| word == 0x0404));
        assert_eq!((words[255], words[768]), (0x0101, 0x0101));
        Ok(())
    }

    #[test]
    fn scope_unmaps_on_error() -> Result {
        let owner = device(c"rust_phys_scope_error")?;
        let mut bytes = KVec::from_elem(1u8, 512, GFP_KERNEL)?;

        let failed: Result = scope::<FromDevice, _, _>(owner.device(), &mut bytes, |map| {
            DeviceView::of_map(map)?.fill(2);
            Err(ENOTSUPP)
        });
        // It is unmapped, so a bounce buffer was copied back.
        assert_eq!(failed, Err(ENOTSUPP));
        assert!(bytes.iter().all(|&byte| byte == 2));
        Ok(())
    }

    #[test]
    fn refused_scope_does_not_run() -> Result {
        let owner = device(c"rust_phys_scope_no")?;
        let mut called = false;

        let mut stack = [0u8; 16];
        let refused = scope::<FromDevice, _, _>(owner.device(), &mut stack, |_| {
            called = true;
            Ok(())
        });
        assert_eq!(refused, Err(EINVAL));

        let refused = scope::<FromDevice, u8, _>(owner.device(), &mut [], |_| {
            called = true;
            Ok(())
        });
        assert_eq!(refused, Err(EINVAL));

        let refused = scope_shared(owner.device(), &stack, |_| {
            called = true;
            Ok(())
        });
        assert_eq!(refused, Err(EINVAL));
        assert!(!called);
        Ok(())
    }

    #[test]
    fn scopes_nest() -> Result {
        let owner = device(c"rust_phys_scopes")?;
        let mut bytes = KVec::from_elem(1u8, 1024, GFP_KERNEL)?;
        let (one, two) = bytes.split_at_mut(512);

        scope::<FromDevice, _, _>(owner.device(), one, |one| {
            scope::<FromDevice, _, _>(owner.device(), two, |two| {
                DeviceView::of_map(two)?.fill(3);
                Ok(())
            })?;
            DeviceView::of_map(one)?.fill(2);
            Ok(())
        })?;
        assert_eq!(
            (bytes[0], bytes[511], bytes[512], bytes[1023]),
            (2, 2, 3, 3)
        );
        Ok(())
    }

    #[test]
    fn shared_memory_is_mapped_twice() -> Result {
        let owner = device(c"rust_phys_shared")?;
        let mut bytes = KVec::from_elem(1u8, 256, GFP_KERNEL)?;
        bytes[255] = 2;

        scope_shared(owner.device(), &bytes, |one| {
            scope_shared(owner.device(), &bytes[128..], |two| {
                let (one, two) = (DeviceView::of_map(one)?, DeviceView::of_map(two)?);

                assert_eq!((one.len(), two.len()), (256, 128));
                assert_eq!((one.read(0), one.read(255)), (1, 2));
                assert_eq!((two.read(0), two.read(127)), (1, 2));
                assert_eq!(bytes[255], 2);
                Ok(())
            })
        })
    }

    #[test]
    fn forgotten_guard_is_harmless() -> Result {
        let owner = device(c"rust_phys_forgotten")?;
        let mut bytes = KVec::from_elem(1u8, 64, GFP_KERNEL)?;
        let address = ptr::from_ref(&bytes[0]);

        scope::<Bidirectional, _, _>(owner.device(), &mut bytes, |map| {
            let guard = map.cpu()?;
            assert!(ptr::eq(&guard[0], address));
            core::mem::forget(guard);

            map.cpu()?[1] = 7;
            assert_eq!(DeviceView::of_map(map)?.read(1), 7);
            Ok(())
        })?;
        assert_eq!(bytes[1], 7);
        Ok(())
    }
}
