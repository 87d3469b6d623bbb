// SPDX-License-Identifier: GPL-2.0

//! The controller memory buffer (CMB; NVM Express 1.4, sections 3.1.11, 3.1.12, 3.1.19), shared
//! with other devices: as ranges for drivers, and as pages for programs that map
//! `/sys/bus/pci/devices/<device>/p2pmem/allocate`.

use kernel::{
    device::Bound,
    dma::phys::Peer,
    io::Io,
    pci,
    prelude::*, //
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
            base: pdev.bus_address(bar).ok()?,
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

/// Shares the buffer of a controller with other devices. Sharing is optional: failures are only
/// logged.
///
/// Dropping the peer waits for the last unmap of a range of it. After the device was unbound,
/// devres waits for users of its pages, and then disables the buffer.
pub(crate) fn share<'bound>(
    pdev: &'bound pci::Device<Bound>,
    regs: &Regs<'_>,
    cmb: Cmb,
) -> Option<Peer<'bound>> {
    cmb.enable(regs);

    let peer = try_share(pdev, cmb)
        .inspect_err(|error| dev_warn!(pdev, "CMB is not shared ({:?})\n", error))
        .ok()?;

    // A CMB without pages is shared with drivers only.
    let _ = peer
        .publish()
        .inspect_err(|error| dev_warn!(pdev, "no pages for the CMB ({:?})\n", error));
    Some(peer)
}

fn try_share(pdev: &pci::Device<Bound>, cmb: Cmb) -> Result<Peer<'_>> {
    if cmb.has_cmbmsc {
        // Devres releases in reverse order, so the pages are removed before.
        pdev.write32_at_unbind(0, regs::CMBMSC, 0)?;
    }
    Peer::register(pdev, cmb.bar)
}
