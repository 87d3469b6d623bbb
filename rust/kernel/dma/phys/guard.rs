// SPDX-License-Identifier: GPL-2.0

//! The CPU's access to memory that is mapped.

use super::{
    Direction,
    Memory,
    Writable, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ops::{
        Deref,
        DerefMut, //
    }, //
};

/// The CPU's access to memory that is mapped, until it is dropped.
///
/// Made by [`Mapping::cpu`](super::Mapping::cpu). It reads in each direction, and writes where the
/// direction is [`Writable`].
///
/// Forgetting a guard leaves out the hand-over to the device: what the CPU wrote may not be seen
/// by the device, until the next guard is dropped.
///
/// # Invariants
///
/// `map` is a live map of all bytes of `memory`, which have been handed to the CPU.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, Mapping, ToDevice};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_guard", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let mut map = Mapping::<Cpu<_>, ToDevice>::new(dev, KBox::new([0u8; 512], GFP_KERNEL)?)?;
///
/// let mut bytes = map.cpu()?;
/// bytes.fill(0x5a);
/// bytes[511] = 0xa5;
/// drop(bytes);
///
/// // The device may read from here on.
/// # assert_eq!(map.unmap()[510..], [0x5a, 0xa5]);
/// # Ok::<(), Error>(())
/// ```
pub struct CpuGuard<'a, M: Memory, D: Direction> {
    map: &'a mut bindings::dma_phys_map,
    memory: &'a mut M,
    _direction: PhantomData<D>,
}

// SAFETY: The map is plain data that can be synced in any context, and refers to nothing of the
// task that mapped it. The rest is a `&mut M`.
unsafe impl<M: Memory + Send, D: Direction> Send for CpuGuard<'_, M, D> {}

// SAFETY: A shared reference to a guard gives access to a `&M::Target` and nothing else.
unsafe impl<M: Memory + Sync, D: Direction> Sync for CpuGuard<'_, M, D> {}

impl<'a, M: Memory, D: Direction> CpuGuard<'a, M, D> {
    /// # Safety
    ///
    /// `map` is a live map of all bytes of `memory`, which have been handed to the CPU.
    pub(super) unsafe fn new(map: &'a mut bindings::dma_phys_map, memory: &'a mut M) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            map,
            memory,
            _direction: PhantomData,
        }
    }
}

impl<M: Memory, D: Direction> Deref for CpuGuard<'_, M, D> {
    type Target = M::Target;

    #[inline]
    fn deref(&self) -> &M::Target {
        self.memory
    }
}

impl<M: Memory, D: Writable> DerefMut for CpuGuard<'_, M, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Target {
        self.memory
    }
}

impl<M: Memory, D: Direction> Drop for CpuGuard<'_, M, D> {
    fn drop(&mut self) {
        let size = self.map.size;
        // Refused only where the bytes are not all in the map, which they are.
        //
        // SAFETY: By the type invariant the map is live.
        let _ = unsafe { bindings::dma_phys_sync_for_device(self.map, 0, size) };
    }
}
