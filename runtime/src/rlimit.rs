//! Resource limits.

use std::str::FromStr;

use crate::error::{At, BundleError, Failure, Stage};
use crate::plan::PlannedRlimit;

/// A resource limit, `NAME=SOFT[:HARD]` in Docker's writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    resource: u32,
    /// Soft limit; `None` is unlimited.
    pub soft: Option<u64>,
    /// Hard limit; `None` is unlimited.
    pub hard: Option<u64>,
}

const NAMES: [(&str, u32); 16] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

impl FromStr for Rlimit {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || BundleError::Rlimit(text.to_owned());
        let (name, limits) = text.split_once('=').ok_or_else(error)?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (_, resource) = NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(error)?;
        let limit = |text: &str| match text {
            "-1" | "unlimited" => Ok(None),
            _ => text.parse().map(Some).map_err(|_| error()),
        };
        let parsed = Self {
            resource: *resource,
            soft: limit(soft)?,
            hard: limit(hard)?,
        };
        let is_ordered = parsed.soft.unwrap_or(u64::MAX) <= parsed.hard.unwrap_or(u64::MAX);
        if is_ordered { Ok(parsed) } else { Err(error()) }
    }
}

impl From<&Rlimit> for PlannedRlimit {
    fn from(limit: &Rlimit) -> Self {
        Self {
            resource: limit.resource,
            soft: limit.soft,
            hard: limit.hard,
        }
    }
}

/// Sets the limits of this process.
pub(crate) fn apply(limits: &[PlannedRlimit]) -> Result<(), Failure> {
    for limit in limits {
        let name = NAMES.iter().find(|(_, number)| *number == limit.resource);
        let name = name.map_or("", |(name, _)| *name);
        crate::sys::set_rlimit(limit.resource, limit.soft, limit.hard).at(Stage::Rlimit, name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_docker_writes_them() {
        let parse = |text: &str| text.parse::<Rlimit>();
        let expected = Rlimit {
            resource: libc::RLIMIT_NOFILE,
            soft: Some(10),
            hard: Some(20),
        };
        assert_eq!(parse("nofile=10:20"), Ok(expected));
        assert_eq!(parse("nofile=20"), parse("nofile=20:20"));
        assert_eq!(parse("core=-1"), parse("core=unlimited:unlimited"));
        for bad in [
            "nofile",
            "nofile=",
            "nofile=2:1",
            "nofile=-1:5",
            "files=1",
            "nofile=1:2:3",
        ] {
            assert_eq!(parse(bad), Err(BundleError::Rlimit(bad.into())));
        }
    }
}
