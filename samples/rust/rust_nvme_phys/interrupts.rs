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

/// The interrupt line. Dropping it disables the line: a controller that was not disabled may assert
/// it.
struct Line<'bound>(&'bound pci::Device<Bound>);

impl Drop for Line<'_> {
    fn drop(&mut self) {
        // SAFETY: This is dropped in a probe, or after the controller was stopped for good: nothing
        // else changes the command register. The device lock is held, which excludes the PCI core.
        unsafe { self.0.set_intx(false) };
    }
}

type Registration<'bound, T> = Pin<KBox<irq::NamedRegistration<'bound, T>>>;

/// Interrupt handlers and vectors of a controller.
pub(crate) struct Interrupts<'bound> {
    io: KVec<Registration<'bound, Handler<'bound>>>,
    _admin: Registration<'bound, AdminHandler<'bound>>,
    // Dropped after the handlers, which borrow it.
    vectors: Vectors<'bound>,
    // Dropped after the vectors: the release of MSI enables it.
    _line: Line<'bound>,
}

impl<'bound> Interrupts<'bound> {
    /// Registers the handlers of the admin queue and of `queues`, for controller `index`.
    ///
    /// The number of queues that have one is [`queues()`](Self::queues), at least 1: those after a
    /// failure have none, nor have those that are polled.
    pub(crate) fn new(
        vectors: Vectors<'bound>,
        index: u32,
        event: Arc<Event<'bound>>,
        queues: &[Arc<Queue<'bound>>],
    ) -> Result<Self> {
        let last = vectors.len() - 1;
        let mut io = KVec::with_capacity(queues.len(), GFP_KERNEL)?;

        for queue in queues.iter().filter(|queue| !queue.polled) {
            let name = CString::try_from_fmt(fmt!("{NAME}{index}q{}", queue.id))?;
            let vector = usize::from(queue.id).min(last);

            match Self::register(&vectors, vector, name, Handler(queue.clone())) {
                Ok(handler) => io.push(handler, GFP_KERNEL)?,
                Err(error) if io.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        let name = CString::try_from_fmt(fmt!("{NAME}{index}q0"))?;
        Ok(Self {
            io,
            _admin: Self::register(&vectors, 0, name, AdminHandler(event))?,
            _line: Line(vectors.device()),
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

    /// Returns the number of I/O queues that have a handler.
    pub(crate) fn queues(&self) -> usize {
        self.io.len()
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
