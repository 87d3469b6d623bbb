// SPDX-License-Identifier: GPL-2.0

//! The controller memory buffer (CMB; NVM Express 1.4, sections 3.1.11, 3.1.12, 3.1.19), lent to
//! other devices: as ranges to drivers that ask for them, and as pages to programs that map
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
    /// Where the BAR is on the bus.
    base: u64,
    /// It is enabled by a register of its own.
    control: bool,
}

impl Cmb {
    /// Finds the buffer. Not every controller has one, and none is needed.
    pub(crate) fn find(pdev: &pci::Device<Bound>, regs: &Regs<'_>, caps: &Caps) -> Option<Self> {
        let control = caps.has_cmb_control();

        // Since 1.4 the registers read as 0 until asked for.
        if control {
            regs.write_reg(regs::CMBMSC_LO::zeroed().with_cre(true));
        }
        let bar = whole_bar(pdev, regs.read(regs::CMBLOC), regs.read(regs::CMBSZ))?;

        Some(Self {
            bar,
            base: bus_address(pdev, bar).ok()?,
            control,
        })
    }

    /// Has a controller, which has lost that when it lost its power, know its own buffer.
    pub(crate) fn enable(&self, regs: &Regs<'_>) {
        if !self.control {
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

/// The BAR that the buffer fills.
///
/// A peer lends a whole BAR. One that holds registers as well is no business of others.
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

    // It may be announced larger than its BAR.
    let bytes = u64::from(cmbsz.sz().get()) << (12 + 4 * szu);
    let size = pdev.resource_len(bar).ok()?;
    (size != 0 && bytes >= size).then_some(bar)
}

/// Where BAR `bar` is on the bus.
fn bus_address(pdev: &pci::Device<Bound>, bar: u32) -> Result<u64> {
    let config = pdev.config_space();
    // CAST: one of six.
    let offset = 0x10 + 4 * bar as usize;
    let low = config.try_read32(offset)?;

    // Bits 2 and 1 are 2 where the next register holds the upper half; bits 3 to 0 are flags.
    let high = match low & 0x6 {
        0x4 => config.try_read32(offset + 4)?,
        _ => 0,
    };
    Ok(u64::from(high) << 32 | u64::from(low & !0xf))
}

/// A controller's buffer, lent to other devices; dropping it waits until none has a range of it
/// mapped. Who uses its pages is waited for later, when the device has been unbound.
pub(crate) struct Lending<'bound> {
    // Dropped first: the controller still answers those who use the buffer.
    peer: Option<Peer<'bound>>,
    regs: Arc<Regs<'bound>>,
    cmb: Cmb,
    published: bool,
}

impl<'bound> Lending<'bound> {
    /// Lends the buffer. That it is not lent is no failure of the controller.
    pub(crate) fn new(
        pdev: &'bound pci::Device<Bound>,
        regs: Arc<Regs<'bound>>,
        cmb: Cmb,
    ) -> Option<Self> {
        cmb.enable(&regs);

        let peer = Peer::register(pdev, cmb.bar)
            .inspect_err(|error| dev_warn!(pdev, "CMB is not lent ({:?})\n", error))
            .ok()?;

        // Pages are an extra: not every BAR can have them.
        let published = peer
            .publish()
            .inspect_err(|error| dev_warn!(pdev, "CMB has no pages ({:?})\n", error))
            .is_ok();
        Some(Self {
            peer: Some(peer),
            regs,
            cmb,
            published,
        })
    }
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        self.peer = None;
        // Somebody may still read and write its pages.
        if self.cmb.control && !self.published {
            self.regs.write_reg(regs::CMBMSC_LO::zeroed());
        }
    }
}
