// SPDX-License-Identifier: GPL-2.0

//! Capabilities.

use crate::bindings;

/// A capability that a task may have.
///
/// C header: [`include/linux/capability.h`](srctree/include/linux/capability.h)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Capability {
    /// System administration.
    SysAdmin = bindings::CAP_SYS_ADMIN,
}

impl Capability {
    /// Returns whether the current task has the capability, and marks it as used.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::cred::Capability;
    ///
    /// fn allowed() -> Result {
    ///     if Capability::SysAdmin.of_current() { Ok(()) } else { Err(EPERM) }
    /// }
    ///
    /// // A kernel thread has all capabilities.
    /// assert!(allowed().is_ok());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn of_current(self) -> bool {
        // CAST: Capabilities are small numbers.
        // SAFETY: Any task may call this, and the capability exists.
        unsafe { bindings::capable(self as i32) }
    }
}
