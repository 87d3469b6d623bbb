// SPDX-License-Identifier: GPL-2.0

//! A slot for one pointer, exchanged atomically.

use crate::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed, //
    },
    types::ForeignOwnable, //
};
use core::{
    cell::Cell,
    marker::PhantomData,
    ptr, //
};

/// A slot that holds one owned pointer, or none.
///
/// Taking the pointer out transfers its ownership with one atomic operation, in any context and
/// without a lock. So a task and an interrupt handler can pass data to each other that only the
/// current owner changes.
///
/// # Invariants
///
/// The pointer is null, or came from [`ForeignOwnable::into_foreign`] of a `P` and was not taken
/// out. A slot is invariant in `P`, as a shared reference suffices to put a `P` in.
///
/// # Examples
///
/// ```
/// use kernel::sync::AtomicSlot;
///
/// let slot = AtomicSlot::empty();
/// assert!(slot.put(KBox::new(1, GFP_KERNEL)?).is_none());
///
/// // The previous content is returned.
/// let first = slot.put(KBox::new(2, GFP_KERNEL)?);
/// assert_eq!(first.as_deref(), Some(&1));
///
/// let mut second = slot.take().ok_or(EINVAL)?;
/// *second += 1;
/// assert!(slot.is_empty());
/// assert!(slot.take().is_none());
/// # Ok::<(), Error>(())
/// ```
pub struct AtomicSlot<P: ForeignOwnable> {
    raw: Atomic<*mut c_void>,
    _owns: PhantomData<Cell<P>>,
}

// SAFETY: A slot owns its content, so sending the slot sends a `P`.
unsafe impl<P: ForeignOwnable + Send> Send for AtomicSlot<P> {}

// SAFETY: A shared reference only moves a `P` in or out, by value, which sends it. It never gives
// access to a `&P`.
unsafe impl<P: ForeignOwnable + Send> Sync for AtomicSlot<P> {}

impl<P: ForeignOwnable> AtomicSlot<P> {
    /// Creates an empty slot.
    #[inline]
    pub const fn empty() -> Self {
        // INVARIANT: The pointer is null.
        Self {
            raw: Atomic::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// Creates a slot that holds `content`.
    #[inline]
    pub fn new(content: P) -> Self {
        // INVARIANT: The pointer came from `into_foreign()`.
        Self {
            raw: Atomic::new(content.into_foreign()),
            _owns: PhantomData,
        }
    }

    /// Takes the content out.
    #[inline]
    pub fn take(&self) -> Option<P> {
        // INVARIANT: The pointer is null afterwards.
        let old = self.raw.xchg(ptr::null_mut(), Acquire);

        // SAFETY: By the type invariant `old` is null or came from `into_foreign()` of a `P`. The
        // exchange has removed it, so it is taken out only once.
        unsafe { P::try_from_foreign(old) }
    }

    /// Puts `content` in, and returns the previous content.
    #[inline]
    pub fn put(&self, content: P) -> Option<P> {
        // INVARIANT: The pointer came from `into_foreign()`.
        let old = self.raw.xchg(content.into_foreign(), Full);

        // SAFETY: See `take()`.
        unsafe { P::try_from_foreign(old) }
    }

    /// Returns whether the slot was empty. It may change at any time.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.load(Relaxed).is_null()
    }
}

impl<P: ForeignOwnable> Drop for AtomicSlot<P> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
