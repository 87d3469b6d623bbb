// SPDX-License-Identifier: GPL-2.0

//! What the other programs do, done right.

use kernel::{
    device::{Bound, Device},
    dma::phys::{
        Bidirectional, Cpu, FromDevice, Mapping, Mmio, MmioPhys, PageBytes, Peer, ToDevice,
    },
    pci,
    prelude::*,
};

/// A mapping of each kind, kept as a driver keeps them.
pub struct Data<'bound> {
    buffer: Mapping<'bound, Cpu<KVec<u32>>, Bidirectional>,
    register: Mapping<'bound, Mmio<'bound>, ToDevice>,
    peer: Peer<'bound>,
}

impl<'bound> Data<'bound> {
    pub fn new(pdev: &'bound pci::Device<Bound>, other: &'bound pci::Device) -> Result<Self> {
        let dev: &'bound Device<Bound> = pdev.as_ref();

        Ok(Self {
            buffer: Mapping::new(dev, KVec::from_elem(0, 16, GFP_KERNEL)?)?,
            register: Mapping::new_mmio(dev, MmioPhys::from_bar(other, 0, 0, 4)?)?,
            peer: Peer::register(pdev, 2)?,
        })
    }

    pub fn use_them(&mut self, dev: &Device<Bound>) -> Result<usize> {
        self.buffer.cpu()?[0] = 1;
        let mapped = Mapping::<_, ToDevice>::new_mmio(dev, self.peer.range(0, 4096)?)?;
        Ok(self.register.size() + mapped.size())
    }
}

pub fn there_and_back(dev: &Device<Bound>) -> Result<u8> {
    let mut map = Mapping::<Cpu<_>, ToDevice>::new(dev, PageBytes::zeroed(GFP_KERNEL)?)?;
    map.cpu()?[0] = 1;

    let mut map = Mapping::<Cpu<_>, FromDevice>::new(dev, map.unmap())?;
    let first = map.cpu()?[0];
    Ok(first + map.unmap()[1])
}

fn is_send<T: Send + Sync>() {}

pub fn mappings_go_to_other_threads() {
    is_send::<Data<'_>>();
}
