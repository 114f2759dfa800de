//! The container's view of control groups.
//!
//! On a host with one hierarchy (cgroup v2 at /sys/fs/cgroup) the container sees its own part of
//! it, read-only unless it is privileged. On hosts with the old hierarchies, alone or beside the new one, it sees none:
//! what programs look for there (their memory limit) is in the new one only where it has the
//! controllers.

use std::os::fd::OwnedFd;

use crate::mounts;

/// Magic number of cgroup v2 in `statfs`.
const CGROUP2_SUPER_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The cgroup file system as this namespace sees it; `None` where it cannot be had.
pub(crate) fn own_view(is_writable: bool) -> Option<OwnedFd> {
    let host = rustix::fs::statfs("/sys/fs/cgroup").ok()?;
    if host.f_type != CGROUP2_SUPER_MAGIC {
        return None;
    }
    let read_only = if is_writable {
        0
    } else {
        libc::MOUNT_ATTR_RDONLY
    };
    let attributes = mounts::HARDENED | read_only;
    mounts::new_filesystem("cgroup2", &[], attributes)
        .inspect_err(|error| tracing::debug!(%error, "no view of control groups"))
        .ok()
}
