//! Docker's default system call profile, as numbers.
//!
//! Facts as of moby/profiles `seccomp/default.json` (September 2026). Each architecture that the
//! kernel may run programs of has a table: our own, and those that Docker's profile allows beside
//! it (x86 and x32 on x86-64, 32-bit ARM on arm64). A system call that is in no list is refused.

#[cfg(any(target_arch = "aarch64", test))]
mod arm;
#[cfg(any(target_arch = "x86_64", test))]
mod i386;
mod native;
#[cfg(target_arch = "x86_64")]
pub(super) mod x32;

use caps::Capability;

/// The last system call these tables know of. Newer ones are answered with ENOSYS, so that
/// programs fall back to older ones, as runc does. Calls this new have the same number everywhere.
pub(super) const LAST_KNOWN: u32 = 466;

/// Numbers, and what they need.
type ByCapability = &'static [(Capability, &'static [i64])];

/// The system calls of one architecture.
pub(super) struct Table {
    /// `AUDIT_ARCH_…`, by which the kernel says whose number it is.
    pub(super) architecture: u32,
    /// Always allowed.
    pub(super) allowed: &'static [&'static [i64]],
    /// Allowed to who has the capability.
    pub(super) by_capability: ByCapability,
    /// `clone`, whose flags are looked at.
    pub(super) clone: i64,
    /// `clone3`, whose flags cannot be.
    pub(super) clone3: i64,
    /// `personality`, whose argument is looked at.
    pub(super) personality: i64,
    /// `socket`, whose family is looked at.
    pub(super) socket: i64,
}

/// Our own architecture, then the others whose programs may run.
#[cfg(target_arch = "x86_64")]
pub(super) const TABLES: &[&Table] = &[&native::TABLE, &i386::TABLE];

/// Our own architecture, then the others whose programs may run.
#[cfg(target_arch = "aarch64")]
pub(super) const TABLES: &[&Table] = &[&native::TABLE, &arm::TABLE];

/// Our own architecture, then the others whose programs may run.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const TABLES: &[&Table] = &[&native::TABLE];

#[cfg(test)]
pub(super) use arm::TABLE as ARM;
#[cfg(test)]
pub(super) use i386::TABLE as I386;
#[cfg(any(target_arch = "x86_64", test))]
pub(super) use native::ARCHITECTURE as OWN_ARCHITECTURE;
