// SPDX-License-Identifier: GPL-2.0

//! Capabilities of tasks.

use crate::bindings;

/// What not every task may do.
///
/// C header: [`include/linux/capability.h`](srctree/include/linux/capability.h)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Capability {
    /// Administer the system.
    SysAdmin = bindings::CAP_SYS_ADMIN,
}

impl Capability {
    /// Whether the current task has it. The kernel remembers that the task used it.
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
    /// // A kernel thread may.
    /// assert!(allowed().is_ok());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn of_current(self) -> bool {
        // CAST: Capabilities are small numbers.
        // SAFETY: This can be called by each task, and the capability is one that there is.
        unsafe { bindings::capable(self as i32) }
    }
}
