// SPDX-License-Identifier: GPL-2.0

//! Valid uses of what the other programs misuse. This must compile.

use kernel::{
    block::mq::{Operations, Request},
    device::{Bound, Device},
    dma::phys::{
        scope, scope_shared, Bidirectional, Cpu, FromDevice, Mapping, Mmio, MmioPhys, PageBytes,
        Peer, PeerClient, RequestMapping, Revoke, SgMapping, SgStorage, ToDevice,
    },
    pci,
    prelude::*,
    sync::aref::ARef,
};

/// Driver data with a mapping of each kind.
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

pub fn map_twice(dev: &Device<Bound>) -> Result<u8> {
    let mut map = Mapping::<Cpu<_>, ToDevice>::new(dev, PageBytes::zeroed(GFP_KERNEL)?)?;
    map.cpu()?[0] = 1;

    let mut map = Mapping::<Cpu<_>, FromDevice>::new(dev, map.unmap())?;
    let first = map.cpu()?[0];
    Ok(first + map.unmap()[1])
}

pub fn many_ranges(dev: &Device<Bound>, pages: KVec<PageBytes>) -> Result<u8> {
    let words = VVec::from_elem(0u16, 100_000, GFP_KERNEL)?;
    let mut map = SgMapping::<Cpu<_>, ToDevice>::new(dev, words, GFP_KERNEL)?;
    map.cpu_range(0..10)?.fill(1);
    drop(map.unmap());

    let mut map = SgMapping::<Cpu<_>, FromDevice>::new(dev, pages, GFP_KERNEL)?;
    let first = map.cpu_page(0)?[0];
    Ok(first + map.unmap()[1][0])
}

pub fn borrowed(dev: &Device<Bound>, one: &mut [u8], two: &mut [u8]) -> Result<u8> {
    scope::<Bidirectional, _, _>(dev, one, |one| {
        one.cpu_range(0..1)?[0] = 1;
        scope_shared(dev, two, |two| Ok(two.size()))?;
        let first = one.cpu()?[0];
        Ok(first)
    })
}

pub fn request<T: Operations>(
    dev: &Device<Bound>,
    rq: ARef<Request<T>>,
    storage: SgStorage,
) -> Result<SgStorage> {
    let map = RequestMapping::new(dev, rq, storage)?;
    let (rq, storage) = map.unmap();
    Request::complete(rq);
    Ok(storage)
}

pub struct Client;

impl Revoke for Client {
    fn revoke(&self) {}
}

pub fn attach<'a>(dev: &'a Device<Bound>, range: MmioPhys<'a>) -> Result {
    let client = PeerClient::attach(&range, Client, GFP_KERNEL)?;
    let map = SgMapping::<_, ToDevice>::new_mmio(dev, &[range], GFP_KERNEL)?;
    drop((map, client));
    Ok(())
}

fn is_send<T: Send + Sync>() {}

pub fn mappings_are_send() {
    is_send::<Data<'_>>();
    is_send::<SgMapping<'_, Cpu<VVec<u8>>, ToDevice>>();
    is_send::<SgMapping<'_, Mmio<'_>, ToDevice>>();
    is_send::<SgStorage>();
    is_send::<PeerClient<Client>>();
}

pub fn requests_are_send<T: Operations>() {
    is_send::<RequestMapping<'_, T>>();
}
