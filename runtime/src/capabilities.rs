//! Capabilities: what is left of root inside a container.

use std::str::FromStr;

use caps::Capability;
use serde::{Deserialize, Serialize};

use crate::error::{At, BundleError, Failure, Result, Stage};

/// A set of capabilities, as the kernel's bit mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapabilityMask(u64);

/// What Docker leaves to a container's root.
const DEFAULT: [Capability; 14] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

impl Default for CapabilityMask {
    /// Docker's fourteen.
    fn default() -> Self {
        Self(
            DEFAULT
                .iter()
                .fold(0, |mask, capability| mask | capability.bitmask()),
        )
    }
}

impl CapabilityMask {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Every capability, those that this version has no name for included.
    pub const ALL: Self = Self(u64::MAX);

    /// Docker's default set with `drop` taken away, then `add` put in. Names may be written with
    /// or without `CAP_`, in any case; `ALL` stands for all.
    ///
    /// # Errors
    /// A name that is no capability.
    pub fn from_names(
        add: &[impl AsRef<str>],
        drop: &[impl AsRef<str>],
    ) -> Result<Self, BundleError> {
        let mut mask = Self::default().0;
        for name in drop {
            mask &= !named(name.as_ref())?;
        }
        for name in add {
            mask |= named(name.as_ref())?;
        }
        Ok(Self(mask))
    }

    /// Whether the capability with this kernel number is in the set.
    pub(crate) fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bitmask() != 0
    }
}

fn named(name: &str) -> Result<u64, BundleError> {
    if name.eq_ignore_ascii_case("all") {
        return Ok(caps::all()
            .iter()
            .fold(0, |mask, capability| mask | capability.bitmask()));
    }
    Capability::from_str(&caps::to_canonical(name))
        .map(|capability| capability.bitmask())
        .map_err(|_| BundleError::Capability(name.to_owned()))
}

/// Takes everything that is not in `mask` out of the bounding set, so no program can gain it.
pub(crate) fn bound(mask: CapabilityMask) -> Result<(), Failure> {
    // Asking the kernel, which may be older or newer than our list, for its last capability would
    // be another call each; it refuses the first number it does not know.
    for number in 0..64_u32 {
        if mask.0 & (1 << number) != 0 {
            continue;
        }
        let bit = rustix::thread::CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(bit) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error).at(Stage::Capabilities, ""),
        }
    }
    Ok(())
}

/// Lets capabilities outlive the change of the user that follows.
pub(crate) fn keep_over_change_of_user() -> Result<(), Failure> {
    rustix::thread::set_keep_capabilities(true).at(Stage::Capabilities, "")
}

/// Gives this process, whoever its user is by now, `mask` as far as it has it, and the same to
/// every program that it starts: those of users other than root get theirs from the ambient set.
pub(crate) fn spread(mask: CapabilityMask) -> Result<(), Failure> {
    let held = rustix::thread::capabilities(None).at(Stage::Capabilities, "")?;
    let kept = held.permitted & rustix::thread::CapabilitySet::from_bits_retain(mask.0);
    let sets = rustix::thread::CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: kept,
    };
    rustix::thread::set_capabilities(None, sets).at(Stage::Capabilities, "")?;
    for number in 0..64_u32 {
        let capability = rustix::thread::CapabilitySet::from_bits_retain(1 << number);
        if !kept.contains(capability) {
            continue;
        }
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .at(Stage::Capabilities, "ambient set")?;
    }
    Ok(())
}

/// Sets what this process may do: `mask` as root, nothing as anyone else; nothing is inheritable
/// and nothing is ambient.
pub(crate) fn reduce(mask: CapabilityMask, is_root: bool) -> Result<(), Failure> {
    // EINVAL on a kernel without ambient capabilities, where there is nothing to clear.
    let _ = rustix::thread::clear_ambient_capability_set();
    let held = rustix::thread::capabilities(None).at(Stage::Capabilities, "")?;
    let wanted = if is_root { mask.0 } else { 0 };
    let kept = held.permitted & rustix::thread::CapabilitySet::from_bits_retain(wanted);
    let sets = rustix::thread::CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: rustix::thread::CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).at(Stage::Capabilities, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_add_to_and_drop_from_the_default_set() {
        const NONE: [&str; 0] = [];
        let default = CapabilityMask::default();
        assert_eq!(default.0.count_ones(), 14);
        // The value that Docker containers show as CapEff.
        assert_eq!(default.0, 0xa804_25fb);
        let rows: [(&[&str], &[&str], u64); 5] = [
            (&[], &["ALL"], 0),
            (&["NET_ADMIN"], &["all"], 1 << 12),
            (
                &["cap_net_admin"],
                &["CAP_CHOWN"],
                (default.0 | 1 << 12) & !1,
            ),
            (&["chown"], &["chown"], default.0),
            (&[], &[], default.0),
        ];
        for (add, drop, expected) in rows {
            assert_eq!(
                CapabilityMask::from_names(add, drop).unwrap().0,
                expected,
                "{add:?}"
            );
        }
        assert_eq!(
            CapabilityMask::from_names(&["fly"], &NONE),
            Err(BundleError::Capability("fly".into()))
        );
    }
}
