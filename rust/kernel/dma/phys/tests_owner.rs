// SPDX-License-Identifier: GPL-2.0

//! The owner of the memory: what is transferred when, and what a drop does.

use super::{
    tests::{
        device,
        DeviceView, //
    },
    *, //
};
use crate::{
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use core::{
    cell::Cell,
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr, //
};

/// Memory of the kernel, accessed by its address while the device owns it.
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

/// Memory that counts how often it is freed.
struct Counted<'a> {
    bytes: KBox<[u8; 512]>,
    freed: &'a Cell<u32>,
}

impl Deref for Counted<'_> {
    type Target = [u8; 512];

    fn deref(&self) -> &[u8; 512] {
        &self.bytes
    }
}

impl DerefMut for Counted<'_> {
    fn deref_mut(&mut self) -> &mut [u8; 512] {
        &mut self.bytes
    }
}

// SAFETY: The box has the bytes.
unsafe impl Memory for Counted<'_> {
    fn as_mut_ptr(&mut self) -> *mut u8 {
        Memory::as_mut_ptr(&mut self.bytes)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.freed.set(self.freed.get() + 1);
    }
}

fn counted(freed: &Cell<u32>) -> Result<Counted<'_>> {
    Ok(Counted {
        bytes: KBox::new([1; 512], GFP_KERNEL)?,
        freed,
    })
}

#[macros::kunit_tests(rust_dma_phys_owner)]
mod suite {
    use super::*;

    #[test]
    fn h36_what_the_cpu_wrote_stays() -> Result {
        let owner = device(c"rust_phys_h36")?;
        let buffer = KVec::from_elem(1u8, 512, GFP_KERNEL)?;
        let mut mapping = Mapping::<Cpu<_>, Bidirectional>::new(owner.device(), buffer)?;

        // Never given to the device.
        mapping[0] = 2;
        assert_eq!(mapping.unmap()[..2], [2, 1]);

        // Completed by the device.
        let buffer = KVec::from_elem(1u8, 512, GFP_KERNEL)?;
        let in_flight = InFlight::<Cpu<_>, Bidirectional>::map(owner.device(), buffer)?;
        DeviceView::of(&in_flight)?.fill(3);
        // SAFETY: The view was dropped.
        let mut mapping = unsafe { in_flight.complete() };
        mapping[0] = 4;
        assert_eq!(mapping.unmap()[..2], [4, 3]);
        Ok(())
    }

    #[test]
    fn device_without_a_write_changes_nothing() -> Result {
        let owner = device(c"rust_phys_no_write")?;
        let buffer = KVec::from_elem(7u8, 512, GFP_KERNEL)?;
        let in_flight = Mapping::<Cpu<_>, FromDevice>::new(owner.device(), buffer)?.submit();

        DeviceView::of(&in_flight)?.write(511, 8);
        // SAFETY: The view was dropped.
        let buffer = unsafe { in_flight.unmap() };
        assert_eq!((buffer[0], buffer[510], buffer[511]), (7, 7, 8));
        Ok(())
    }

    #[test]
    fn transfers_are_copied_once() -> Result {
        let owner = device(c"rust_phys_once")?;
        let mut buffer = KVec::from_elem(1u8, 512, GFP_KERNEL)?;
        let cpu_view = CpuView(buffer.as_mut_ptr());
        let in_flight = InFlight::<Cpu<_>, Bidirectional>::map(owner.device(), buffer)?;
        let view = DeviceView::of(&in_flight)?;
        let bounces = in_flight.route() == Route::Bounce;

        view.fill(2);
        // SAFETY: The view accesses bytes only to see whether they are copied again.
        let mapping = unsafe { in_flight.complete() };
        // A second copy to the CPU would bring this.
        view.write(0, 3);
        assert_eq!(mapping[0], if bounces { 2 } else { 3 });
        let buffer = mapping.unmap();
        assert_eq!(buffer[0], if bounces { 2 } else { 3 });
        assert_eq!((cpu_view.read(1), buffer[1]), (2, 2));
        Ok(())
    }

    #[test]
    fn h32_dropped_in_flight_is_leaked() -> Result {
        let owner = device(c"rust_phys_h32")?;
        let freed = Cell::new(0);
        let in_flight = InFlight::<Cpu<_>, FromDevice>::map(owner.device(), counted(&freed)?)?;
        let view = DeviceView::of(&in_flight)?;
        // SAFETY: The original is dropped, which leaves all that it has to this copy.
        let leaked = ManuallyDrop::new(unsafe { ptr::read(&in_flight) });

        drop(in_flight);
        assert_eq!(freed.get(), 0);
        // The device still writes to what is mapped.
        view.fill(9);
        // SAFETY: The view does not access it again.
        let memory = unsafe { ManuallyDrop::into_inner(leaked).unmap() };
        assert_eq!(memory[511], 9);
        drop(memory);
        assert_eq!(freed.get(), 1);

        // Dropping what the CPU owns unmaps and frees it.
        drop(Mapping::<Cpu<_>, ToDevice>::new(
            owner.device(),
            counted(&freed)?,
        )?);
        assert_eq!(freed.get(), 2);
        let mapping = Mapping::<Cpu<_>, ToDevice>::new(owner.device(), counted(&freed)?)?;
        drop(mapping.unmap());
        assert_eq!(freed.get(), 3);
        Ok(())
    }

    #[test]
    fn h32_dropped_list_in_flight_is_leaked() -> Result {
        let owner = device(c"rust_phys_h32_sg")?;
        let frame = VVec::from_elem(1u8, 3 * PAGE_SIZE, GFP_KERNEL)?;
        let in_flight = SgInFlight::<Cpu<_>, FromDevice>::map(owner.device(), frame, GFP_KERNEL)?;
        let segments = in_flight.segments().iter();
        let view = DeviceView::of_segments(segments.map(|one| (one.dma_address(), one.dma_len())))?;
        // SAFETY: The original is dropped, which leaves all that it has to this copy.
        let leaked = ManuallyDrop::new(unsafe { ptr::read(&in_flight) });

        drop(in_flight);
        view.fill(9);
        // SAFETY: The view does not access it again.
        let frame = unsafe { ManuallyDrop::into_inner(leaked).unmap() };
        assert!(frame.iter().all(|&byte| byte == 9));
        Ok(())
    }

    #[test]
    fn part_has_its_elements() -> Result {
        let owner = device(c"rust_phys_part")?;
        let words = KVec::from_elem(0x0101u16, 2048, GFP_KERNEL)?;
        let mut in_flight = InFlight::<Cpu<_>, Bidirectional>::map(owner.device(), words)?;
        let view = DeviceView::of(&in_flight)?;

        view.fill(2);
        for offset in 2000..3000 {
            view.write(offset, 3);
        }
        // SAFETY: The view does not access it until it is dropped, here and below.
        let words = unsafe { in_flight.part(1000..1500) }?;
        assert_eq!(words.len(), 500);
        assert!(words.iter().all(|&word| word == 0x0303));
        drop(words);

        // SAFETY: See above.
        unsafe { in_flight.part(2047..2048) }?[0] = 0x0504;
        assert_eq!((view.read(4094), view.read(4095)), (4, 5));
        assert_eq!((view.read(0), view.read(4093)), (2, 2));
        // SAFETY: See above.
        unsafe { in_flight.part(0..1) }?.fill(0x0606);
        assert_eq!((view.read(0), view.read(1), view.read(2)), (6, 6, 2));
        // SAFETY: The view does not access it again.
        drop(unsafe { in_flight.unmap() });
        Ok(())
    }

    #[test]
    fn only_the_part_is_synced() -> Result {
        let owner = device(c"rust_phys_part_sync")?;
        let mut bytes = KVec::from_elem(1u8, 4096, GFP_KERNEL)?;
        let cpu_view = CpuView(bytes.as_mut_ptr());
        let mut in_flight = InFlight::<Cpu<_>, Bidirectional>::map(owner.device(), bytes)?;
        let view = DeviceView::of(&in_flight)?;
        let bounces = in_flight.route() == Route::Bounce;

        // For the CPU: the rest of a bounce buffer is not copied.
        view.fill(2);
        // SAFETY: The view does not access it until it is dropped, here and below.
        assert_eq!(unsafe { in_flight.part(1000..1500) }?[..], [2; 500]);
        for offset in [0, 999, 1500, 4095] {
            assert_eq!(cpu_view.read(offset), if bounces { 1 } else { 2 });
        }

        // For the device.
        // SAFETY: See above.
        let part = unsafe { in_flight.part(1000..1500) }?;
        for offset in [0, 999, 1000, 1499, 1500, 4095] {
            cpu_view.write(offset, 3);
        }
        drop(part);
        for offset in [0, 999, 1500, 4095] {
            assert_eq!(view.read(offset), if bounces { 2 } else { 3 });
        }
        assert_eq!((view.read(1000), view.read(1499)), (3, 3));
        // SAFETY: The view does not access it again.
        drop(unsafe { in_flight.unmap() });
        Ok(())
    }

    #[test]
    fn h14_part_exceeds_no_mapping() -> Result {
        let owner = device(c"rust_phys_h14")?;
        let words = KBox::new([0u32; 16], GFP_KERNEL)?;
        let mut in_flight = InFlight::<Cpu<_>, ToDevice>::map(owner.device(), words)?;

        #[expect(clippy::reversed_empty_ranges)]
        let empty = [0..0, 16..16, 20..20, 3..2, usize::MAX..0];
        for range in empty {
            // SAFETY: Nothing accesses it, here and below.
            assert_eq!(unsafe { in_flight.part(range) }.err(), Some(EINVAL));
        }
        for range in [0..17, 16..17, 0..usize::MAX, usize::MAX - 1..usize::MAX] {
            // SAFETY: See above.
            assert_eq!(unsafe { in_flight.part(range) }.err(), Some(ERANGE));
        }
        // SAFETY: See above.
        assert_eq!(unsafe { in_flight.part(0..16) }?.len(), 16);
        // SAFETY: See above.
        assert_eq!(unsafe { in_flight.part(15..16) }?.len(), 1);
        // SAFETY: See above.
        drop(unsafe { in_flight.unmap() });
        Ok(())
    }

    #[test]
    fn forgotten_part_is_harmless() -> Result {
        let owner = device(c"rust_phys_forgotten")?;
        let bytes = KVec::from_elem(1u8, 64, GFP_KERNEL)?;
        let address = ptr::from_ref(&bytes[0]);
        let mut in_flight = InFlight::<Cpu<_>, Bidirectional>::map(owner.device(), bytes)?;

        // SAFETY: Nothing accesses it, here and below.
        let part = unsafe { in_flight.part(0..64) }?;
        assert!(ptr::eq(&part[0], address));
        core::mem::forget(part);

        // SAFETY: See above.
        unsafe { in_flight.part(0..64) }?[1] = 7;
        assert_eq!(DeviceView::of(&in_flight)?.read(1), 7);
        // SAFETY: See above.
        assert_eq!(unsafe { in_flight.unmap() }[1], 7);
        Ok(())
    }

    #[test]
    fn range_of_others_is_mapped() -> Result {
        let owner = device(c"rust_phys_unowned")?;
        let page = Page::alloc_page(GFP_KERNEL)?;
        let range = CpuPhys::from_page(&page, 64, 512)?;

        let mapping: Mapping<'_, Cpu<Unowned>, Bidirectional> =
            // SAFETY: The page is freed after the mapping is dropped, and nothing else accesses it.
            unsafe { Mapping::from_range(owner.device(), range) }?;
        let in_flight = mapping.submit();
        assert_eq!(in_flight.size(), 512);
        DeviceView::of(&in_flight)?.fill(6);
        // SAFETY: The view was dropped.
        drop(unsafe { in_flight.complete() });

        let mut bytes = [0u8; 514];
        // SAFETY: The page is not mapped any longer.
        unsafe { page.read_raw(bytes.as_mut_ptr(), 63, 514) }?;
        assert!(bytes[1..513].iter().all(|&byte| byte == 6));
        Ok(())
    }

    #[test]
    fn raw_range_is_mapped_or_refused() -> Result {
        let owner = device(c"rust_phys_raw")?;
        let bytes = KVec::from_elem(0u8, 4096, GFP_KERNEL)?;
        let range = CpuPhys::from_slice(&bytes)?;
        let raw = CpuPhys::from_raw(range.addr(), range.len())?;
        assert_eq!(CpuPhys::from_raw(u64::MAX, 2).err(), Some(EINVAL));

        // SAFETY: The bytes are freed after the mapping, and not accessed meanwhile.
        match unsafe { Mapping::<Cpu<Unowned>, ToDevice>::from_range(owner.device(), raw) } {
            Ok(mapping) => {
                assert_eq!(mapping.route(), Route::Direct);
                let in_flight = mapping.submit();
                assert_eq!(in_flight.dma_address(), range.addr());
                // SAFETY: Nothing accesses it.
                drop(unsafe { in_flight.complete() });
            }
            // All DMA is forced to bounce.
            Err(error) => assert_eq!(error, EOPNOTSUPP),
        }
        drop(bytes);
        Ok(())
    }
}
