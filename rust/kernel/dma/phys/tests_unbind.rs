// SPDX-License-Identifier: GPL-2.0

//! What a driver keeps mapped when it is unbound, behind an IOMMU: QEMU's "edu".

use super::{
    tests::skip,
    *, //
};
use crate::{
    bindings,
    device::{
        Bound,
        Core,
        Device, //
    },
    device_id::IdArray,
    dma::{
        Device as _,
        DmaMask, //
    },
    driver,
    pci,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    ThisModule, //
};

/// What the drop of the driver data has seen.
static SEEN: Atomic<u32> = Atomic::new(NOT_BOUND);

const NOT_BOUND: u32 = 0;
const NO_IOMMU: u32 = 1;
const OWNED: u32 = 2;
const NOT_OWNED: u32 = 3;

/// Driver data that is still mapped when it is dropped.
struct Data<'bound> {
    dev: &'bound Device<Bound>,
    _kept: Mapping<'bound, Cpu<PageBytes>, ToDevice>,
}

impl Drop for Data<'_> {
    fn drop(&mut self) {
        // SAFETY: The device is bound, so it is valid.
        let group = unsafe { bindings::iommu_group_get(self.dev.as_raw()) };
        let seen = match group.is_null() {
            true => NO_IOMMU,
            // SAFETY: The reference to the group is put below.
            false => match unsafe { bindings::iommu_group_dma_owner_claimed(group) } {
                true => OWNED,
                false => NOT_OWNED,
            },
        };

        // SAFETY: `iommu_group_get()` has returned a reference, or null, for which this does
        // nothing.
        unsafe { bindings::iommu_group_put(group) };
        SEEN.store(seen, Relaxed);
    }
}

struct KeepsMapping;

// `pci_device_table!()` is for modules.
static ID_TABLE: IdArray<pci::DeviceId, (), 1> = IdArray::new([(
    pci::DeviceId::from_id(pci::Vendor::from_raw(0x1234), 0x11e8),
    &(),
)]);

impl pci::Driver for KeepsMapping {
    type IdInfo = ();
    type Data<'bound> = Data<'bound>;
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &ID_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _id_info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Data<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            pdev.enable_device_mem()?;
            // SAFETY: The device is being probed, so nothing is mapped for it.
            unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>()) }?;

            let dev: &Device<Bound> = pdev.as_ref();
            Ok(Ok::<_, Error>(Data {
                dev,
                _kept: Mapping::new(dev, PageBytes::zeroed(GFP_KERNEL)?)?,
            }))
        })
    }
}

#[macros::kunit_tests(rust_dma_phys_unbind)]
mod suite {
    use super::*;

    #[test]
    fn h37_data_is_dropped_while_dma_is_owned() -> Result {
        // SAFETY: The code is built in, so there is no module.
        static BUILT_IN: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };
        type Adapter = pci::Adapter<KeepsMapping>;

        SEEN.store(NOT_BOUND, Relaxed);
        let driver = driver::Registration::<Adapter>::new(c"rust_phys_unbind", &BUILT_IN);
        drop(KBox::pin_init(driver, GFP_KERNEL)?);

        match SEEN.load(Relaxed) {
            NOT_BOUND | NO_IOMMU => skip(),
            seen => assert_eq!(seen, OWNED),
        }
        Ok(())
    }
}
