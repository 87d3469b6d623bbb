// SPDX-License-Identifier: GPL-2.0

//! The CPU never owns mapped device memory, and does not access it.

use kernel::{
    device::{Bound, Device},
    dma::phys::{FromDevice, InFlight, Mapping, Mmio, MmioPhys, SgInFlight},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, range: MmioPhys<'_>) -> Result {
    Mapping::<Mmio<'_>, FromDevice>::new(dev, range)?;
    //~^ ERROR E0599 no function or associated item named `new` found
    Ok(())
}

pub fn complete(map: InFlight<'_, Mmio<'_>, FromDevice>) {
    // SAFETY: The device has finished.
    let _ = unsafe { map.complete() };
    //~^ ERROR E0599 no method named `complete` found
}

pub fn complete_list(map: SgInFlight<'_, Mmio<'_>, FromDevice>) {
    // SAFETY: The device has finished.
    let _ = unsafe { map.complete() };
    //~^ ERROR E0599 no method named `complete` found
}

pub fn part(map: &mut InFlight<'_, Mmio<'_>, FromDevice>) {
    // SAFETY: The device has finished.
    let _ = unsafe { map.part(0..1) };
    //~^ ERROR E0599 no method named `part` found
}

pub fn read(map: &Mapping<'_, Mmio<'_>, FromDevice>) -> u8 {
    map[0]
    //~^ ERROR E0608 cannot index into a value of type
}
