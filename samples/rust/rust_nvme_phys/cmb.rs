// SPDX-License-Identifier: GPL-2.0

//! The controller memory buffer (CMB; NVM Express 1.4, sections 3.1.11, 3.1.12, 3.1.19), shared
//! with other devices: as ranges for drivers, and as pages for programs that map
//! `/sys/bus/pci/devices/<device>/p2pmem/allocate`.

use kernel::{
    device::Bound,
    dma::phys::Peer,
    io::Io,
    pci,
    prelude::*,
    sync::Arc, //
};

use crate::{
    controller::Caps,
    regs::{
        self,
        high,
        low,
        Regs, //
    }, //
};

/// A controller memory buffer that fills a BAR.
#[derive(Clone, Copy)]
pub(crate) struct Cmb {
    bar: u32,
    /// Bus address of the BAR.
    base: u64,
    /// `CMBMSC` enables the buffer.
    has_cmbmsc: bool,
}

impl Cmb {
    /// Finds the buffer, which is optional.
    pub(crate) fn find(pdev: &pci::Device<Bound>, regs: &Regs<'_>, caps: &Caps) -> Option<Self> {
        let has_cmbmsc = caps.has_cmbmsc();

        // Since version 1.4 CMBSZ and CMBLOC read as 0 until CRE is set.
        if has_cmbmsc {
            regs.write_reg(regs::CMBMSC_LO::zeroed().with_cre(true));
        }
        let bar = whole_bar(pdev, regs.read(regs::CMBLOC), regs.read(regs::CMBSZ))?;

        Some(Self {
            bar,
            base: bus_address(pdev, bar).ok()?,
            has_cmbmsc,
        })
    }

    /// Sets the bus address of the buffer in its controller, which has lost it if it was reset.
    pub(crate) fn enable(&self, regs: &Regs<'_>) {
        if !self.has_cmbmsc {
            return;
        }
        let base = regs::CMBMSC_LO::from_raw(low(self.base));

        regs.write_reg(regs::CMBMSC_HI::from_raw(high(self.base)));
        regs.write_reg(
            regs::CMBMSC_LO::zeroed()
                .with_cba(base.cba())
                .with_cre(true)
                .with_cmse(true),
        );
    }
}

/// Returns the BAR that the buffer fills.
///
/// A peer shares a whole BAR. So a buffer is shared only if it fills its BAR: no other device may
/// access registers.
fn whole_bar(pdev: &pci::Device, loc: regs::CMBLOC, cmbsz: regs::CMBSZ) -> Option<u32> {
    let bar = loc.bir().get();
    let szu = cmbsz.szu().get();
    if cmbsz.into_raw() == regs::ALL_ONES
        || !(1..=5).contains(&bar)
        || loc.ofst() != 0
        || szu > 6
        || !cmbsz.rds()
        || !cmbsz.wds()
    {
        return None;
    }

    // The buffer may be larger than its BAR.
    let bytes = u64::from(cmbsz.sz().get()) << (12 + 4 * szu);
    let size = pdev.resource_len(bar).ok()?;
    (size != 0 && bytes >= size).then_some(bar)
}

/// Returns the bus address of BAR `bar`.
fn bus_address(pdev: &pci::Device<Bound>, bar: u32) -> Result<u64> {
    let config = pdev.config_space();
    // CAST: one of six.
    let offset = 0x10 + 4 * bar as usize;
    let low = config.try_read32(offset)?;

    // Bits 3 to 0 are flags. If bits 2 and 1 are 2, the next register is the upper half.
    let high = match low & 0x6 {
        0x4 => config.try_read32(offset + 4)?,
        _ => 0,
    };
    Ok(u64::from(high) << 32 | u64::from(low & !0xf))
}

/// The buffer of a controller, shared with other devices. Dropping it waits for the last unmap of a
/// range of it. After the device was unbound, devres waits for users of its pages.
pub(crate) struct SharedCmb<'bound> {
    // Dropped first, while the buffer can still be accessed.
    peer: Option<Peer<'bound>>,
    regs: Arc<Regs<'bound>>,
    cmb: Cmb,
    published: bool,
}

impl<'bound> SharedCmb<'bound> {
    /// Shares the buffer. Sharing is optional: failures are only logged.
    pub(crate) fn new(
        pdev: &'bound pci::Device<Bound>,
        regs: Arc<Regs<'bound>>,
        cmb: Cmb,
    ) -> Option<Self> {
        cmb.enable(&regs);

        let peer = Peer::register(pdev, cmb.bar)
            .inspect_err(|error| dev_warn!(pdev, "CMB is not shared ({:?})\n", error))
            .ok()?;

        // A CMB without pages is shared with drivers only.
        let published = peer
            .publish()
            .inspect_err(|error| dev_warn!(pdev, "no pages for the CMB ({:?})\n", error))
            .is_ok();
        Some(Self {
            peer: Some(peer),
            regs,
            cmb,
            published,
        })
    }
}

impl Drop for SharedCmb<'_> {
    fn drop(&mut self) {
        self.peer = None;
        // Its pages may still be in use.
        if self.cmb.has_cmbmsc && !self.published {
            self.regs.write_reg(regs::CMBMSC_LO::zeroed());
        }
    }
}
