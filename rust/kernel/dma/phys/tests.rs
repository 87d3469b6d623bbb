// SPDX-License-Identifier: GPL-2.0

//! What the Rust layer adds to the C core, on a device without hardware: the tests access memory at
//! its DMA addresses in place of the device.

use super::{
    testing::TestDevice,
    *, //
};
use crate::{
    bindings,
    device::Bound,
    dma::{
        DmaAddress,
        DmaMask, //
    },
    faux,
    io::resource::Resource,
    prelude::*,
    str::CStr, //
};
use core::{
    ptr,
    slice, //
};

/// The memory at the DMA addresses of a mapping, one segment after the other.
///
/// Without an IOMMU these are physical addresses: of the memory, or of bounce buffers.
pub(super) struct DeviceView(KVec<(*mut u8, usize)>);

impl DeviceView {
    pub(super) fn of<K: Kind, D: Direction>(in_flight: &InFlight<'_, K, D>) -> Result<Self> {
        Self::of_segments([(in_flight.dma_address(), in_flight.size())])
    }

    pub(super) fn of_segments(
        segments: impl IntoIterator<Item = (DmaAddress, usize)>,
    ) -> Result<Self> {
        let mut view = Self(KVec::new());

        for (addr, len) in segments {
            view.0.reserve(1, GFP_ATOMIC)?;
            // SAFETY: `memremap()` checks what is at the address.
            let bytes = unsafe { bindings::memremap(addr, len, bindings::MEMREMAP_WB.try_into()?) };
            if bytes.is_null() {
                return Err(EIO);
            }
            view.0.push((bytes.cast(), len), GFP_ATOMIC)?;
        }
        Ok(view)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|&(_, len)| len).sum()
    }

    fn at(&self, mut offset: usize) -> *mut u8 {
        for &(bytes, len) in &self.0 {
            if offset < len {
                // SAFETY: The byte is in this segment, which was remapped.
                return unsafe { bytes.add(offset) };
            }
            offset -= len;
        }
        panic!("offset exceeds the mapping");
    }

    pub(super) fn read(&self, offset: usize) -> u8 {
        // SAFETY: `at()` returns the address of a remapped byte.
        unsafe { self.at(offset).read_volatile() }
    }

    pub(super) fn write(&self, offset: usize, byte: u8) {
        // SAFETY: `at()` returns the address of a remapped byte. It is mapped for the device, so it
        // is not borrowed.
        unsafe { self.at(offset).write_volatile(byte) };
    }

    pub(super) fn fill(&self, byte: u8) {
        for offset in 0..self.len() {
            self.write(offset, byte);
        }
    }
}

impl Drop for DeviceView {
    fn drop(&mut self) {
        for &(bytes, _) in &self.0 {
            // SAFETY: The address is from `memremap()` in `of_segments()`.
            unsafe { bindings::memunmap(bytes.cast()) };
        }
    }
}

pub(super) fn device(name: &CStr) -> Result<TestDevice> {
    TestDevice::new(name, DmaMask::new::<64>())
}

/// Marks the running test as skipped.
pub(super) fn skip() {
    // SAFETY: This runs in a test, which may change its own status.
    unsafe {
        (*bindings::kunit_get_current_test()).status = bindings::kunit_status_KUNIT_SKIPPED;
    }
}

/// A reference to the first QEMU "edu" device, whose BAR is not shared.
#[cfg(CONFIG_PCI)]
struct Edu(ptr::NonNull<bindings::pci_dev>);

#[cfg(CONFIG_PCI)]
impl Edu {
    fn find() -> Option<Self> {
        // SAFETY: Null starts the search at the first device.
        let pdev = unsafe { bindings::pci_get_device(0x1234, 0x11e8, ptr::null_mut()) };
        ptr::NonNull::new(pdev).map(Self)
    }

    fn pci(&self) -> Result<&crate::pci::Device> {
        // SAFETY: The device is valid for as long as the reference.
        let dev: &crate::device::Device =
            unsafe { crate::device::Device::from_raw(&raw mut (*self.0.as_ptr()).dev) };
        dev.try_into()
    }
}

#[cfg(CONFIG_PCI)]
impl Drop for Edu {
    fn drop(&mut self) {
        // SAFETY: `pci_get_device()` has returned a reference, which `self` owns.
        unsafe { bindings::pci_dev_put(self.0.as_ptr()) };
    }
}

#[macros::kunit_tests(rust_dma_phys)]
mod suite {
    use super::*;

    #[test]
    fn to_device_transfers_to_the_device() -> Result {
        let owner = device(c"rust_phys_to_device")?;
        let buffer = KVec::from_elem(1u8, 4096, GFP_KERNEL)?;
        let in_flight = InFlight::<Cpu<_>, ToDevice>::map(owner.device(), buffer)?;
        let view = DeviceView::of(&in_flight)?;
        assert_eq!(in_flight.size(), 4096);
        assert_eq!((view.read(0), view.read(4095)), (1, 1));

        // SAFETY: The view does not access it until it is submitted.
        let mut mapping = unsafe { in_flight.complete() };
        mapping[4095] = 2;
        let in_flight = mapping.submit();
        assert_eq!((view.read(0), view.read(4095)), (1, 2));

        // SAFETY: The view does not access it again.
        let buffer = unsafe { in_flight.unmap() };
        assert_eq!((buffer[0], buffer[4095]), (1, 2));
        Ok(())
    }

    #[test]
    fn from_device_transfers_to_the_cpu() -> Result {
        let owner = device(c"rust_phys_from_device")?;
        let buffer = KBox::new([1u16; 256], GFP_KERNEL)?;
        let in_flight = InFlight::<Cpu<_>, FromDevice>::map(owner.device(), buffer)?;
        let view = DeviceView::of(&in_flight)?;

        view.fill(2);
        // SAFETY: The view does not access it until it is submitted.
        let mapping = unsafe { in_flight.complete() };
        assert_eq!(mapping[255], 0x0202);
        let in_flight = mapping.submit();
        view.fill(3);
        // SAFETY: See above.
        let mapping = unsafe { in_flight.complete() };
        assert_eq!(mapping[0], 0x0303);
        let in_flight = mapping.submit();
        view.fill(4);
        // SAFETY: The view does not access it again.
        assert_eq!(*unsafe { in_flight.unmap() }, [0x0404u16; 256]);
        Ok(())
    }

    #[test]
    fn bidirectional_transfers_both() -> Result {
        let owner = device(c"rust_phys_bidirectional")?;
        let mut mapping =
            Mapping::<Cpu<_>, Bidirectional>::new(owner.device(), PageBytes::zeroed(GFP_KERNEL)?)?;

        mapping.fill(5);
        let in_flight = mapping.submit();
        let view = DeviceView::of(&in_flight)?;
        assert_eq!(view.read(100), 5);
        view.fill(6);
        // SAFETY: The view does not access it again.
        let mapping = unsafe { in_flight.complete() };
        assert_eq!(mapping[100], 6);
        assert!(mapping.unmap().iter().all(|&byte| byte == 6));
        Ok(())
    }

    #[test]
    fn moved_mapping_keeps_its_memory() -> Result {
        let owner = device(c"rust_phys_moved")?;
        let buffer = KBox::new([7u8; 64], GFP_KERNEL)?;
        let address: *const [u8; 64] = &*buffer;
        let in_flight = InFlight::<Cpu<_>, ToDevice>::map(owner.device(), buffer)?;
        let addr = in_flight.dma_address();

        let mut list = KVec::new();
        list.push(in_flight, GFP_KERNEL)?;
        let in_flight = KBox::new(list.pop().ok_or(EIO)?, GFP_KERNEL)?;
        assert_eq!(in_flight.dma_address(), addr);
        assert_eq!(DeviceView::of(&in_flight)?.read(63), 7);

        // SAFETY: The view was dropped.
        let buffer = unsafe { KBox::into_inner(in_flight).unmap() };
        assert!(ptr::eq(address, &*buffer));
        Ok(())
    }

    #[test]
    fn route_and_address_agree() -> Result {
        let owner = device(c"rust_phys_route")?;
        let buffer = KVec::from_elem(0u64, 64, GFP_KERNEL)?;
        let range = CpuPhys::from_slice(&buffer)?;
        let mapping = Mapping::<Cpu<_>, ToDevice>::new(owner.device(), buffer)?;
        let route = mapping.route();
        let in_flight = mapping.submit();

        assert_eq!(in_flight.size(), range.len());
        assert_eq!(in_flight.route(), route);
        match route {
            Route::Direct => assert_eq!(in_flight.dma_address(), range.addr()),
            route => {
                assert_eq!(route, Route::Bounce);
                assert!(in_flight.dma_address() != range.addr());
            }
        }
        // SAFETY: Nothing accesses it.
        drop(unsafe { in_flight.unmap() });
        Ok(())
    }

    #[test]
    fn h02_no_bytes_are_not_mapped() -> Result {
        let owner = device(c"rust_phys_h02")?;
        let dev = owner.device();
        let empty = KVec::<u32>::with_capacity(8, GFP_KERNEL)?;
        let address = empty.as_ptr();

        let error = Mapping::<Cpu<_>, ToDevice>::new(dev, empty)
            .err()
            .ok_or(EIO)?;
        assert_eq!(error.error(), EINVAL);
        assert!(ptr::eq(error.into_memory().as_ptr(), address));

        let unit = KBox::new([0u8; 0], GFP_KERNEL)?;
        let error = Mapping::<Cpu<_>, FromDevice>::new(dev, unit)
            .err()
            .ok_or(EIO)?;
        assert_eq!(error.error(), EINVAL);
        assert_eq!(Error::from(error), EINVAL);
        Ok(())
    }

    #[test]
    fn h05_device_without_mask_is_refused() -> Result {
        let owner = faux::Registration::new(c"rust_phys_h05", None)?;
        let faux: &faux::Device<Bound> = owner.as_ref();
        let buffer = KVec::from_elem(9u8, 64, GFP_KERNEL)?;

        let map = Mapping::<Cpu<_>, Bidirectional>::new(faux.as_ref(), buffer);
        let (error, buffer) = map.err().ok_or(EIO)?.into_parts();
        assert_eq!(error, EINVAL);
        assert_eq!(buffer[63], 9);
        Ok(())
    }

    #[test]
    fn range_is_in_the_linear_map() -> Result {
        let stack = [0u8; 16];
        let vmalloc = VVec::from_elem(0u8, 16, GFP_KERNEL)?;
        let kmalloc = KVec::from_elem(0u8, 16, GFP_KERNEL)?;
        // SAFETY: The bytes are code of the kernel, which is not written.
        let text = unsafe { slice::from_raw_parts(skip as fn() as *const u8, 1) };

        assert_eq!(CpuPhys::from_slice(&stack).err(), Some(EINVAL));
        assert_eq!(CpuPhys::from_slice(&vmalloc).err(), Some(EINVAL));
        assert_eq!(CpuPhys::from_slice(text).err(), Some(EINVAL));
        assert_eq!(CpuPhys::from_slice(&kmalloc[16..]).err(), Some(EINVAL));
        assert_eq!(CpuPhys::from_slice(&kmalloc)?.len(), 16);
        Ok(())
    }

    #[cfg(CONFIG_PCI)]
    #[test]
    fn h23_h24_range_needs_a_shared_bar() -> Result {
        let Some(edu) = Edu::find() else {
            skip();
            return Ok(());
        };
        let pdev = edu.pci()?;

        // BAR 1 does not exist, index 6 is the ROM.
        for bar in [1, 6, 1 << 31, u32::MAX] {
            assert_eq!(MmioPhys::from_bar(pdev, bar, 0, 4096).err(), Some(EINVAL));
        }
        assert_eq!(MmioPhys::from_bar(pdev, 0, 0, 4096).err(), Some(ENODEV));
        Ok(())
    }

    #[cfg(CONFIG_PCI)]
    #[test]
    fn h24_resource_bounds_its_ranges() -> Result {
        let owner = device(c"rust_phys_resource")?;
        let Some(edu) = Edu::find() else {
            skip();
            return Ok(());
        };
        // SAFETY: The reference keeps the device and so its resources.
        let bar = unsafe { Resource::from_raw(&raw mut (*edu.0.as_ptr()).resource[0]) };
        let size = bar.size() as usize;

        for (offset, len) in [(0, 0), (0, size + 1), (1, size), (u64::MAX, 2)] {
            let range = MmioPhys::from_resource(bar, offset, len);
            assert_eq!(range.err(), Some(EINVAL));
        }

        let range = MmioPhys::from_resource(bar, 4096, 64)?;
        assert_eq!((range.addr(), range.len()), (bar.start() + 4096, 64));
        match InFlight::<Mmio<'_>, ToDevice>::map(owner.device(), range) {
            Ok(in_flight) => {
                assert_eq!(in_flight.dma_address(), range.addr());
                // SAFETY: Nothing accesses it.
                unsafe { in_flight.unmap() };
            }
            // If all DMA is forced to bounce.
            Err(error) => assert_eq!(error, EOPNOTSUPP),
        }
        Ok(())
    }

    #[test]
    fn h08_resource_of_ram_is_refused() -> Result {
        let memory = KVec::from_elem(0u8, 4096, GFP_KERNEL)?;
        let start = CpuPhys::from_slice(&memory)?.addr();
        let mut raw = bindings::resource {
            start,
            end: start + 4095,
            flags: bindings::IORESOURCE_MEM as usize,
            ..pin_init::zeroed()
        };
        // SAFETY: `raw` is a valid resource until the end of this function.
        let resource = unsafe { Resource::from_raw(&raw mut raw) };

        assert_eq!(MmioPhys::from_resource(resource, 0, 64).err(), Some(EINVAL));
        Ok(())
    }
}
