// SPDX-License-Identifier: GPL-2.0

//! A BAR that a Rust driver shares and unregisters: QEMU's "ivshmem-plain" device shares its memory
//! with itself.

use super::{
    tests::skip,
    *, //
};
use crate::{
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
    new_mutex,
    new_spinlock,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SpinLock, //
    },
    ThisModule, //
};
use core::marker::PhantomData;

/// The BAR with the memory.
const BAR: u32 = 2;

/// A test that runs in the probe of a driver.
trait Test: 'static {
    fn run(pdev: &pci::Device<Bound>) -> Result;
}

struct TestDriver<T>(PhantomData<T>);

/// The result of the test: 0, a negative errno, or 1 if it has not run.
static RESULT: Atomic<i32> = Atomic::new(1);

// `pci_device_table!()` is for modules.
static ID_TABLE: IdArray<pci::DeviceId, (), 1> = IdArray::new([(
    pci::DeviceId::from_id(pci::Vendor::REDHAT_QUMRANET, 0x1110),
    &(),
)]);

impl<T: Test> pci::Driver for TestDriver<T> {
    type IdInfo = ();
    type Data<'bound> = ();
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &ID_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _id_info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<(), Error> + 'bound {
        let prepared = pdev.enable_device_mem().and_then(|()| {
            // SAFETY: The device is being probed, so nothing is mapped for it.
            unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>()) }
        });

        let result = prepared.and_then(|()| T::run(pdev));
        RESULT.store(result.err().map_or(0, Error::to_errno), Relaxed);
        // The test is done, so the driver does not bind.
        Err::<(), _>(ENODEV)
    }
}

/// Runs a test in the probe of a driver.
fn run<T: Test>() -> Result {
    // SAFETY: The code is built in, so there is no module.
    static BUILT_IN: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };

    RESULT.store(1, Relaxed);
    let driver =
        driver::Registration::<pci::Adapter<TestDriver<T>>>::new(c"rust_phys_peer", &BUILT_IN);
    drop(KBox::pin_init(driver, GFP_KERNEL)?);
    match RESULT.load(Relaxed) {
        0 => Ok(()),
        1 => {
            skip();
            Ok(())
        }
        errno => Err(Error::from_errno(errno)),
    }
}

/// Same as `assert!()`, which works only in the function of a KUnit test.
#[track_caller]
fn check(condition: bool) -> Result {
    if !condition {
        let caller = core::panic::Location::caller();
        pr_err!("check failed: {}:{}\n", caller.file(), caller.line());
        return Err(EPROTO);
    }
    Ok(())
}

/// Counts how often it is revoked.
struct Count(Arc<Atomic<u32>>);

impl Revoke for Count {
    fn revoke(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }
}

struct ManyRanges;

impl Test for ManyRanges {
    fn run(pdev: &pci::Device<Bound>) -> Result {
        let dev: &Device<Bound> = pdev.as_ref();
        let peer = Peer::register(pdev, BAR)?;
        let ranges = [
            peer.range(0, 4096)?,
            peer.range(8192, 4096)?,
            peer.range(12288, 4096)?,
        ];

        let list = SgInFlight::<Mmio<'_>, FromDevice>::map(dev, &ranges, GFP_KERNEL)?;
        let (route, size) = (list.route(), list.size());
        // The last two are adjacent, and so one segment.
        let [first, second] = list.segments() else {
            return Err(EPROTO);
        };
        let (first, second) = (*first, *second);
        let one = InFlight::<Mmio<'_>, FromDevice>::map(dev, ranges[0])?;
        let addr = one.dma_address();
        // SAFETY: Nothing accesses it.
        unsafe {
            list.unmap();
            one.unmap();
        }

        check(route == Route::Bus)?;
        check(size == 3 * 4096)?;
        check(first.dma_len() == 4096)?;
        check(second.dma_address() == first.dma_address() + 8192)?;
        check(second.dma_len() == 8192)?;
        check(addr == first.dma_address())
    }
}

struct Revoked;

/// Device memory that is kept mapped until it is revoked.
#[pin_data]
struct Client<'a> {
    #[pin]
    target: Mutex<Option<SgInFlight<'a, Mmio<'a>, ToDevice>>>,
}

impl Revoke for Client<'_> {
    fn revoke(&self) {
        if let Some(target) = self.target.lock().take() {
            // SAFETY: Nothing accesses it.
            unsafe { target.unmap() };
        }
    }
}

impl Test for Revoked {
    fn run(pdev: &pci::Device<Bound>) -> Result {
        let dev: &Device<Bound> = pdev.as_ref();
        let peer = Peer::register(pdev, BAR)?;
        let range = MmioPhys::from_bar(pdev, BAR, 0, 4096)?;

        let client = pin_init!(Client { target <- new_mutex!(None) });
        // SAFETY: The client is dropped at the end of this function.
        let client = unsafe { PeerClient::attach_with_lt(dev, &range, client, GFP_KERNEL) }?;
        let count = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let counter = PeerClient::attach(dev, &range, Count(count.clone()), GFP_KERNEL)?;
        let detached = PeerClient::attach(dev, &range, Count(count.clone()), GFP_KERNEL)?;
        let target = SgInFlight::<Mmio<'_>, _>::map(dev, &[range], GFP_KERNEL)?;
        *client.target.lock() = Some(target);
        drop(detached);
        check(count.load(Relaxed) == 0)?;

        // Revokes the client, which drops the mapping, and waits for that.
        drop(peer);
        check(client.target.lock().is_none())?;
        check(count.load(Relaxed) == 1)?;
        check(counter.0.load(Relaxed) == 1)?;

        let late = PeerClient::attach(dev, &range, Count(count.clone()), GFP_KERNEL);
        check(late.err() == Some(ENODEV))?;
        let map = InFlight::<Mmio<'_>, ToDevice>::map(dev, range);
        check(map.err() == Some(ENODEV))?;
        drop(counter);
        check(count.load(Relaxed) == 1)
    }
}

struct DroppedInside;

/// A client that drops itself in its callback, and uses its data afterwards.
struct Inside<'a> {
    this: Arc<SpinLock<Option<PeerClient<'a, Inside<'a>>>>>,
    value: Arc<Atomic<u32>>,
    bytes: [u8; 64],
}

/// Address of the client that is leaked on purpose, so that kmemleak does not report it.
static LEAKED: Atomic<usize> = Atomic::new(0);

impl Revoke for Inside<'_> {
    fn revoke(&self) {
        LEAKED.store(core::ptr::from_ref(self) as usize, Relaxed);
        let this = self.this.lock().take();
        drop(this);
        // The data is still valid.
        self.value.store(u32::from(self.bytes[63]), Relaxed);
    }
}

impl Test for DroppedInside {
    fn run(pdev: &pci::Device<Bound>) -> Result {
        let peer = Peer::register(pdev, BAR)?;
        let range = MmioPhys::from_bar(pdev, BAR, 0, 4096)?;
        let value = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let this = Arc::pin_init(new_spinlock!(None), GFP_KERNEL)?;
        let data = Inside {
            this: this.clone(),
            value: value.clone(),
            bytes: [7; 64],
        };
        let dev: &Device<Bound> = pdev.as_ref();
        // SAFETY: The client borrows the device, which stays bound.
        let client = unsafe { PeerClient::attach_with_lt(dev, &range, data, GFP_KERNEL) }?;

        *this.lock() = Some(client);
        drop(peer);
        check(this.lock().is_none())?;
        check(value.load(Relaxed) == 7)
    }
}

struct ForgottenClient;

/// Same as `LEAKED`.
static ALSO_LEAKED: Atomic<usize> = Atomic::new(0);

/// The callback must not run once devres has detached the client.
static FORGOTTEN_REVOKED: Atomic<u32> = Atomic::new(0);

struct CountStatic;

impl Revoke for CountStatic {
    fn revoke(&self) {
        FORGOTTEN_REVOKED.store(1, Relaxed);
    }
}

impl Test for ForgottenClient {
    fn run(pdev: &pci::Device<Bound>) -> Result {
        // Both are forgotten: devres detaches the client first, then unregisters the peer.
        let peer = Peer::register(pdev, BAR)?;
        let range = MmioPhys::from_bar(pdev, BAR, 0, 4096)?;
        let client = PeerClient::attach(pdev.as_ref(), &range, CountStatic, GFP_KERNEL)?;

        ALSO_LEAKED.store(core::ptr::from_ref(&*client) as usize, Relaxed);
        core::mem::forget(client);
        core::mem::forget(peer);
        Ok(())
    }
}

struct Twice;

impl Test for Twice {
    fn run(pdev: &pci::Device<Bound>) -> Result {
        let peer = Peer::register(pdev, BAR)?;
        check(Peer::register(pdev, BAR).err() == Some(EEXIST))?;
        check(peer.range(u64::MAX - 1, 4096).err() == Some(EINVAL))?;

        let old = MmioPhys::from_bar(pdev, BAR, 0, 4096)?;
        drop(peer);
        check(MmioPhys::from_bar(pdev, BAR, 0, 4096).err() == Some(ENODEV))?;

        // A range of the old peer is no range of the new one.
        let _peer = Peer::register(pdev, BAR)?;
        let map = SgInFlight::<Mmio<'_>, FromDevice>::map(pdev.as_ref(), &[old], GFP_KERNEL);
        check(map.err() == Some(ENODEV))?;

        let new = MmioPhys::from_bar(pdev, BAR, 4096, 4096)?;
        let map = SgInFlight::<Mmio<'_>, FromDevice>::map(pdev.as_ref(), &[new, old], GFP_KERNEL);
        check(map.err() == Some(EINVAL))
    }
}

#[macros::kunit_tests(rust_dma_phys_peer)]
mod suite {
    use super::*;

    #[test]
    fn ranges_of_a_peer_are_mapped_together() -> Result {
        run::<ManyRanges>()
    }

    #[test]
    fn h25_revoked_client_unmaps() -> Result {
        run::<Revoked>()
    }

    #[test]
    fn h25_client_drops_itself() -> Result {
        run::<DroppedInside>()
    }

    #[test]
    fn h25_forgotten_client_is_detached() -> Result {
        FORGOTTEN_REVOKED.store(0, Relaxed);
        run::<ForgottenClient>()?;
        assert_eq!(FORGOTTEN_REVOKED.load(Relaxed), 0);
        // The BAR can be registered again.
        run::<Twice>()
    }

    #[test]
    fn registered_once_and_again() -> Result {
        run::<Twice>()
    }
}
