// SPDX-License-Identifier: GPL-2.0

//! A slot for one value that is passed on without a lock.

use crate::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    }, //
};
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit, //
};

const EMPTY: u32 = 0;
const FULL: u32 = 1;
/// The content is being moved in or out.
const BUSY: u32 = 2;

/// A slot that holds one value, or none.
///
/// Moving the value in or out transfers its ownership with one atomic exchange, in any context and
/// without a lock. So a task and an interrupt handler can pass data to each other that only the
/// current owner changes.
///
/// # Invariants
///
/// `content` is initialised if `state` is `FULL`. The task that has changed `state` to `BUSY` has
/// exclusive access to `content` until it changes it again.
///
/// # Examples
///
/// ```
/// use kernel::sync::AtomicSlot;
///
/// let slot = AtomicSlot::empty();
/// assert!(slot.put(KBox::new(1, GFP_KERNEL)?).is_ok());
///
/// // It holds one value.
/// let refused = slot.put(KBox::new(2, GFP_KERNEL)?);
/// assert_eq!(refused.err().as_deref(), Some(&2));
///
/// let mut first = slot.take().ok_or(EINVAL)?;
/// *first += 1;
/// assert!(slot.is_empty());
/// assert!(slot.take().is_none());
/// # Ok::<(), Error>(())
/// ```
pub struct AtomicSlot<T> {
    state: Atomic<u32>,
    content: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: A slot owns its content, so sending the slot sends a `T`.
unsafe impl<T: Send> Send for AtomicSlot<T> {}

// SAFETY: A shared reference only moves a `T` in or out, by value, which sends it. It never gives
// access to a `&T`.
unsafe impl<T: Send> Sync for AtomicSlot<T> {}

impl<T> AtomicSlot<T> {
    /// Creates an empty slot.
    #[inline]
    pub const fn empty() -> Self {
        // INVARIANT: The state is not `FULL`.
        Self {
            state: Atomic::new(EMPTY),
            content: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Creates a slot that holds `content`.
    #[inline]
    pub const fn new(content: T) -> Self {
        // INVARIANT: The content is initialised.
        Self {
            state: Atomic::new(FULL),
            content: UnsafeCell::new(MaybeUninit::new(content)),
        }
    }

    /// Moves the content out.
    #[inline]
    pub fn take(&self) -> Option<T> {
        self.state.cmpxchg(FULL, BUSY, Acquire).ok()?;

        // SAFETY: The state was `FULL`, so the content is initialised. It was changed to `BUSY`
        // here, so nothing else accesses it, and it is moved out once.
        let content = unsafe { (*self.content.get()).assume_init_read() };
        // INVARIANT: The content was moved out.
        self.state.store(EMPTY, Release);
        Some(content)
    }

    /// Moves `content` in.
    ///
    /// # Errors
    ///
    /// If the slot is not empty, `content` is returned.
    #[inline]
    pub fn put(&self, content: T) -> Result<(), T> {
        if self.state.cmpxchg(EMPTY, BUSY, Acquire).is_err() {
            return Err(content);
        }

        // SAFETY: The state was changed to `BUSY` here, so nothing else accesses the content.
        unsafe { (*self.content.get()).write(content) };
        // INVARIANT: The content is initialised.
        self.state.store(FULL, Release);
        Ok(())
    }

    /// Returns whether the slot was empty. It may change at any time. What was written before the
    /// content was moved in can be read after this has returned false.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.state.load(Acquire) != FULL
    }
}

impl<T> Drop for AtomicSlot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
