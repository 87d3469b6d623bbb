// SPDX-License-Identifier: GPL-2.0

//! A place for one thing, which goes from hand to hand without a lock.

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

/// A place for one thing, or for none.
///
/// Who takes it out has it alone, in any context: one atomic operation, and no lock. So what is
/// handed to and fro between a task and an interrupt's handler is changed by who has it.
///
/// # Invariants
///
/// The pointer is null, or came from [`ForeignOwnable::into_foreign`] of a `P`, and was not taken
/// since. It is of this very `P`: a place is invariant in it, as anyone who sees it can put one in.
///
/// # Examples
///
/// ```
/// use kernel::sync::Place;
///
/// let place = Place::empty();
/// assert!(place.put(KBox::new(1, GFP_KERNEL)?).is_none());
///
/// // What was there is not lost.
/// let first = place.put(KBox::new(2, GFP_KERNEL)?);
/// assert_eq!(first.as_deref(), Some(&1));
///
/// let mut second = place.take().ok_or(EINVAL)?;
/// *second += 1;
/// assert!(place.is_empty());
/// assert!(place.take().is_none());
/// # Ok::<(), Error>(())
/// ```
pub struct Place<P: ForeignOwnable> {
    raw: Atomic<*mut c_void>,
    _owns: PhantomData<Cell<P>>,
}

// SAFETY: A place that is sent to another thread sends what is in it.
unsafe impl<P: ForeignOwnable + Send> Send for Place<P> {}

// SAFETY: Through a shared reference it is put in and taken out by value: each time it is sent.
unsafe impl<P: ForeignOwnable + Send> Sync for Place<P> {}

impl<P: ForeignOwnable> Place<P> {
    /// A place where nothing is.
    #[inline]
    pub const fn empty() -> Self {
        // INVARIANT: It is null.
        Self {
            raw: Atomic::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// A place where `thing` is.
    #[inline]
    pub fn new(thing: P) -> Self {
        // INVARIANT: It is from `into_foreign()`.
        Self {
            raw: Atomic::new(thing.into_foreign()),
            _owns: PhantomData,
        }
    }

    /// Takes out what is there.
    #[inline]
    pub fn take(&self) -> Option<P> {
        // INVARIANT: It is null then.
        let old = self.raw.xchg(ptr::null_mut(), Acquire);

        // SAFETY: By the type invariant; nobody else took the same.
        unsafe { P::try_from_foreign(old) }
    }

    /// Puts `thing` in, and takes out what was there.
    #[inline]
    pub fn put(&self, thing: P) -> Option<P> {
        // INVARIANT: It is from `into_foreign()`.
        let old = self.raw.xchg(thing.into_foreign(), Full);

        // SAFETY: By the type invariant; nobody else took the same.
        unsafe { P::try_from_foreign(old) }
    }

    /// Whether nothing was there just now.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.load(Relaxed).is_null()
    }
}

impl<P: ForeignOwnable> Drop for Place<P> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
