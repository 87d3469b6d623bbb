// SPDX-License-Identifier: GPL-2.0

//! A BAR lent by a Rust driver, and taken back: QEMU's "ivshmem-plain" device lends its memory to
//! itself.

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
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    ThisModule, //
};
use core::marker::PhantomData;

/// The BAR that is memory.
const BAR: u32 = 2;

/// A test that is a driver's.
trait Test: 'static {
    fn run(pdev: &pci::Device<Bound>) -> Result;
}

struct Lender<T>(PhantomData<T>);

/// What the test that runs has found: 1 where it has not run, 0, or a negative errno.
static FOUND: Atomic<i32> = Atomic::new(1);

// Not `pci_device_table!()`, which is for modules.
static LENDERS: IdArray<pci::DeviceId, (), 1> = IdArray::new([(
    pci::DeviceId::from_id(pci::Vendor::REDHAT_QUMRANET, 0x1110),
    &(),
)]);

impl<T: Test> pci::Driver for Lender<T> {
    type IdInfo = ();
    type Data<'bound> = ();
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &LENDERS;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _id_info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<(), Error> + 'bound {
        let prepared = pdev.enable_device_mem().and_then(|()| {
            // SAFETY: Nobody maps for the device yet.
            unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>()) }
        });

        let found = prepared.and_then(|()| T::run(pdev));
        FOUND.store(found.err().map_or(0, Error::to_errno), Relaxed);
        // The device is not wanted for longer.
        Err::<(), _>(ENODEV)
    }
}

/// Runs a test in the probe of a driver.
fn run<T: Test>() -> Result {
    // SAFETY: This is no module.
    static BUILT_IN: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };

    FOUND.store(1, Relaxed);
    let driver =
        driver::Registration::<pci::Adapter<Lender<T>>>::new(c"rust_phys_lender", &BUILT_IN);
    drop(KBox::pin_init(driver, GFP_KERNEL)?);
    match FOUND.load(Relaxed) {
        0 => Ok(()),
        1 => {
            skip();
            Ok(())
        }
        errno => Err(Error::from_errno(errno)),
    }
}

/// As `assert!()`, which only a test itself can.
#[track_caller]
fn check(is: bool) -> Result {
    if !is {
        let at = core::panic::Location::caller();
        pr_err!("not as expected: {}:{}\n", at.file(), at.line());
        return Err(EPROTO);
    }
    Ok(())
}

/// Tells how often it was told.
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

        let map = VecMapping::<_, FromDevice>::new_mmio(dev, &ranges, GFP_KERNEL)?;
        check(map.route() == Route::Bus)?;
        check(map.size() == 3 * 4096)?;

        // The last two are one.
        let mut segments = map.segments();
        let (first, len) = segments.next().ok_or(EPROTO)?;
        check(len == 4096)?;
        check(segments.next() == Some((first + 8192, 8192)))?;
        check(segments.next().is_none())?;
        drop(segments);

        let one = Mapping::<_, FromDevice>::new_mmio(dev, ranges[0])?;
        check(one.dma_address() == first)
    }
}

struct Told;

/// A mapping that is kept until the peer leaves.
#[pin_data]
struct Kept<'a> {
    #[pin]
    map: Mutex<Option<VecMapping<'a, Mmio<'a>, ToDevice>>>,
}

impl Revoke for Kept<'_> {
    fn revoke(&self) {
        *self.map.lock() = None;
    }
}

impl Test for Told {
    fn run(pdev: &pci::Device<Bound>) -> Result {
        let dev: &Device<Bound> = pdev.as_ref();
        let peer = Peer::register(pdev, BAR)?;
        let range = MmioPhys::from_bar(pdev, BAR, 0, 4096)?;

        let kept = pin_init!(Kept { map <- new_mutex!(None) });
        // SAFETY: It is dropped at the end of this function.
        let kept = unsafe { PeerUser::attach_with_lt(&range, kept, GFP_KERNEL) }?;
        let count = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let counter = PeerUser::attach(&range, Count(count.clone()), GFP_KERNEL)?;
        let gone = PeerUser::attach(&range, Count(count.clone()), GFP_KERNEL)?;
        *kept.map.lock() = Some(VecMapping::new_mmio(dev, &[range], GFP_KERNEL)?);
        drop(gone);
        check(count.load(Relaxed) == 0)?;

        // Waits for the mapping, which is given up because it waits.
        drop(peer);
        check(kept.map.lock().is_none())?;
        check(count.load(Relaxed) == 1)?;
        check(counter.0.load(Relaxed) == 1)?;

        let late = PeerUser::attach(&range, Count(count.clone()), GFP_KERNEL);
        check(late.err() == Some(ENODEV))?;
        check(Mapping::<_, ToDevice>::new_mmio(dev, range).err() == Some(ENODEV))?;
        drop(counter);
        check(count.load(Relaxed) == 1)
    }
}

struct DroppedInside;

crate::sync::global_lock! {
    // SAFETY: Initialised in the only test that uses it.
    unsafe(uninit) static USER_INSIDE: Mutex<Option<PeerUser<Inside>>> = None;
}

/// A user that drops itself when it is told, and goes on.
struct Inside(Arc<Atomic<u32>>, [u8; 64]);

/// Where one is that was left behind, so that it does not count as lost.
static LEFT: Atomic<usize> = Atomic::new(0);

impl Revoke for Inside {
    fn revoke(&self) {
        LEFT.store(core::ptr::from_ref(self) as usize, Relaxed);
        drop(USER_INSIDE.lock().take());
        // It is still there.
        self.0.store(u32::from(self.1[63]), Relaxed);
    }
}

impl Test for DroppedInside {
    fn run(pdev: &pci::Device<Bound>) -> Result {
        let peer = Peer::register(pdev, BAR)?;
        let range = MmioPhys::from_bar(pdev, BAR, 0, 4096)?;
        let seen = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let user = PeerUser::attach(&range, Inside(seen.clone(), [7; 64]), GFP_KERNEL)?;

        *USER_INSIDE.lock() = Some(user);
        drop(peer);
        check(USER_INSIDE.lock().is_none())?;
        check(seen.load(Relaxed) == 7)
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

        // A range of a peer that has gone is not one of the next.
        let _peer = Peer::register(pdev, BAR)?;
        let map = VecMapping::<_, FromDevice>::new_mmio(pdev.as_ref(), &[old], GFP_KERNEL);
        check(map.err() == Some(ENODEV))?;

        let new = MmioPhys::from_bar(pdev, BAR, 4096, 4096)?;
        let map = VecMapping::<_, FromDevice>::new_mmio(pdev.as_ref(), &[new, old], GFP_KERNEL);
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
    fn h25_user_gives_up_what_it_keeps() -> Result {
        run::<Told>()
    }

    #[test]
    fn h25_user_is_dropped_by_its_callback() -> Result {
        // SAFETY: This test runs once.
        unsafe { USER_INSIDE.init() };
        run::<DroppedInside>()
    }

    #[test]
    fn lent_once_and_again() -> Result {
        run::<Twice>()
    }
}
