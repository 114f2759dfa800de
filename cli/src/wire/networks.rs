//! Which network a process gets, and what its /etc says of it.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use wythe_runtime::{Bundle, Error, EtcFiles, Lease, Network, NoOutside, Outside};

/// Largest file of the host's /etc that is shown to containers, in bytes.
const MAX_ETC_BYTES: u64 = 1 << 20;

/// What is done where there can be no network of one's own that reaches the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// The host's, with a notice.
    Host,
    /// It is an error.
    Never,
}

/// Networks that reach the outside.
#[derive(Debug)]
pub(crate) struct Networks {
    outside: Outside,
    fallback: Fallback,
    /// Whether it was said already that there are none; it is so for every step.
    warned: AtomicBool,
}

/// The network of one process.
#[derive(Debug)]
pub(crate) enum Given {
    /// The host's.
    Host,
    /// Nothing but loopback.
    Loopback,
    /// One of its own that reaches the outside, until this is dropped.
    Outside(Lease),
}

impl Networks {
    /// None yet. `search` is the value of `PATH`.
    pub(crate) fn new(search: Option<PathBuf>, fallback: Fallback) -> Self {
        Self {
            outside: Outside::new(search.map(Into::into)),
            fallback,
            warned: AtomicBool::new(false),
        }
    }

    /// One is going to be wanted soon.
    pub(crate) fn prepare(&self) {
        self.outside.prepare();
    }

    /// One for a process.
    pub(crate) fn take(&self) -> Result<Given, Error> {
        let reason = match self.outside.take() {
            Ok(lease) => return Ok(Given::Outside(lease)),
            Err(reason) => reason,
        };
        match (&reason, self.fallback) {
            // There is no outside that could be missed; the host's network would only show what
            // the machine itself listens on.
            (NoOutside::Offline, _) => {
                tracing::debug!(%reason, "loopback only");
                Ok(Given::Loopback)
            }
            (_, Fallback::Never) => Err(Error::NoOutside(reason)),
            (_, Fallback::Host) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{}", notice(&reason));
                }
                Ok(Given::Host)
            }
        }
    }
}

/// What, why, and what to do.
fn notice(reason: &NoOutside) -> String {
    let todo = reason.hint().map(|hint| format!("; {hint}"));
    format!(
        "steps share the host's network, because {reason}{} (--network private and --network none \
         never do)",
        todo.unwrap_or_default()
    )
}

impl Given {
    /// Sets the network of a container and its files of /etc.
    pub(crate) fn fill(
        &self,
        bundle: &mut Bundle,
        extra_hosts: &[(String, String)],
    ) -> Result<(), Error> {
        bundle.network = match self {
            Self::Host => Network::Host,
            Self::Loopback => Network::None,
            Self::Outside(lease) => Network::Joined(lease.namespace()?),
        };
        bundle.etc = self.etc_files(bundle.hostname.as_deref(), extra_hosts);
        Ok(())
    }

    /// The files of /etc that a container gets: those of the host where it shares the network,
    /// else just enough to find itself and, where it reaches the outside, the name servers.
    fn etc_files(&self, hostname: Option<&str>, extra_hosts: &[(String, String)]) -> EtcFiles {
        let own = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            .as_bytes()
            .to_vec();
        let (mut hosts, resolv_conf) = match self {
            Self::Host => (read("/etc/hosts").unwrap_or(own), read("/etc/resolv.conf")),
            Self::Loopback => (own, Some(Vec::new())),
            Self::Outside(lease) => (own, Some(lease.resolv_conf())),
        };
        if let Some(name) = hostname {
            hosts.extend(format!("127.0.1.1\t{name}\n").bytes());
        }
        for (name, address) in extra_hosts {
            hosts.extend(format!("{address}\t{name}\n").bytes());
        }
        EtcFiles {
            hosts: Some(hosts),
            resolv_conf,
            hostname: hostname.map(|name| format!("{name}\n").into_bytes()),
        }
    }

    /// Whoever uses it may change it, so nobody is to use it afterwards.
    pub(crate) fn mark_changed(&mut self) {
        if let Self::Outside(lease) = self {
            lease.mark_changed();
        }
    }
}

fn read(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).ok()?.take(MAX_ETC_BYTES);
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
