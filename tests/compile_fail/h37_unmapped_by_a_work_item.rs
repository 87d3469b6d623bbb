// SPDX-License-Identifier: GPL-2.0

//! What may run after the driver was unbound does not unmap.

use kernel::{
    dma::phys::{Cpu, FromDevice, InFlight, Mapping},
    prelude::*,
    workqueue,
};

pub fn drop_later(map: Mapping<'_, Cpu<KVec<u8>>, FromDevice>) -> Result {
    Ok(workqueue::system().try_spawn(GFP_KERNEL, move || drop(map))?)
    //~^ ERROR E0521 borrowed data escapes outside of function
}

pub fn complete_later(map: InFlight<'_, Cpu<KVec<u8>>, FromDevice>) -> Result {
    let queue = workqueue::system();

    // SAFETY: The device has finished.
    Ok(queue.try_spawn(GFP_KERNEL, move || drop(unsafe { map.unmap() }))?)
    //~^ ERROR E0521 borrowed data escapes outside of function
}
