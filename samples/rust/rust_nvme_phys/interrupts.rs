// SPDX-License-Identifier: GPL-2.0

//! Interrupt vectors and handlers of a controller.

use kernel::{
    device::Bound,
    irq,
    pci,
    prelude::*,
    str::CString,
    sync::Arc, //
};

use crate::{
    admin::{
        AdminHandler,
        Event, //
    },
    queue::{
        Handler,
        Queue, //
    },
    NAME, //
};

/// The interrupt vectors of a controller. They are boxed, as the handlers borrow them.
pub(crate) type Vectors<'bound> = Pin<KBox<pci::IrqVectorRegistration<'bound>>>;

/// Allocates MSI-X, MSI or INTx vectors. The first one is for the admin queue, the others are
/// spread over the CPUs. One is enough: then all queues share it.
pub(crate) fn allocate(pdev: &pci::Device<Bound>, queues: usize) -> Result<Vectors<'_>> {
    let max = u32::try_from(1 + queues)?;
    let vectors = pdev.alloc_irq_vectors_spread(1, max, pci::IrqTypes::all(), 1)?;

    Ok(KBox::pin(vectors, GFP_KERNEL)?)
}

type Registration<'bound, T> = Pin<KBox<irq::NamedRegistration<'bound, T>>>;

/// Interrupt handlers and vectors of a controller.
pub(crate) struct Interrupts<'bound> {
    _io: KVec<Registration<'bound, Handler<'bound>>>,
    _admin: Registration<'bound, AdminHandler<'bound>>,
    // Dropped last: the handlers borrow it.
    vectors: Vectors<'bound>,
}

impl<'bound> Interrupts<'bound> {
    /// Registers the handlers of the admin queue and of `queues`, for controller `index`.
    pub(crate) fn new(
        vectors: Vectors<'bound>,
        index: u32,
        event: Arc<Event<'bound>>,
        queues: &[Arc<Queue<'bound>>],
    ) -> Result<Self> {
        let last = vectors.len() - 1;
        let mut io = KVec::with_capacity(queues.len(), GFP_KERNEL)?;

        for queue in queues {
            let name = CString::try_from_fmt(fmt!("{NAME}{index}q{}", queue.id))?;
            let vector = usize::from(queue.id).min(last);

            io.push(
                Self::register(&vectors, vector, name, Handler(queue.clone()))?,
                GFP_KERNEL,
            )?;
        }
        let name = CString::try_from_fmt(fmt!("{NAME}{index}q0"))?;
        Ok(Self {
            _io: io,
            _admin: Self::register(&vectors, 0, name, AdminHandler(event))?,
            vectors,
        })
    }

    fn register<T: irq::Handler + 'bound>(
        vectors: &Vectors<'bound>,
        index: usize,
        name: CString,
        handler: T,
    ) -> Result<Registration<'bound, T>> {
        let vectors: *const pci::IrqVectorRegistration<'bound> = &**vectors;

        // SAFETY: Registrations are stored next to the vectors, which are boxed, and dropped before
        // them. Both are part of the driver data, which is dropped when the device is unbound, or
        // local to the probe.
        let registration = unsafe {
            irq::NamedRegistration::new(
                (*vectors).index(index)?.into(),
                irq::Flags::SHARED,
                name,
                Ok(handler),
            )
        };
        KBox::pin_init(registration, GFP_KERNEL)
    }

    /// Returns the number of vectors, at least 1.
    pub(crate) fn count(&self) -> u16 {
        // No device has more than 2048.
        self.vectors.len().try_into().unwrap_or(u16::MAX)
    }

    pub(crate) fn vectors(&self) -> &pci::IrqVectorRegistration<'bound> {
        &self.vectors
    }
}
