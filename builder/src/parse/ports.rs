//! `EXPOSE`: ports and ranges of ports.

use std::net::IpAddr;

/// Why a port cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Nothing before the `/`.
    #[error("invalid port: {port:?}: no port specified")]
    Missing {
        /// The specification.
        port: String,
    },
    /// Neither tcp, udp nor sctp.
    #[error("invalid port: {port:?}: invalid proto: {protocol}")]
    Protocol {
        /// The specification.
        port: String,
        /// What stood after the `/`.
        protocol: String,
    },
    /// The part before the host's port is no address.
    #[error("invalid IP address: {address}")]
    Address {
        /// That part.
        address: String,
    },
    /// No number up to 65535, or a range that runs backwards.
    #[error("invalid containerPort: {port}")]
    Container {
        /// Port or range.
        port: String,
    },
    /// The same for a host's port.
    #[error("invalid hostPort: {port}")]
    Host {
        /// Port or range.
        port: String,
    },
    /// Ranges of different lengths.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's.
        container: String,
        /// The host's.
        host: String,
    },
}

/// One argument of `EXPOSE` after expansion: `[[address:]host:]port[-port][/protocol]`.
///
/// Address and host port are checked and then mean nothing; lint says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// First port.
    pub first: u16,
    /// Last port, the same as the first unless it is a range.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`, as written. Default: tcp.
    pub protocol: String,
    /// Whether an address or a host's port was given.
    pub has_host_part: bool,
}

impl PortSpec {
    /// Parses one argument.
    ///
    /// # Errors
    /// What BuildKit refuses.
    pub fn parse(text: &str) -> Result<Self, PortError> {
        let mut parts = text.rsplitn(3, ':');
        let container = parts.next().unwrap_or_default();
        let host = parts.next().unwrap_or_default();
        let address = parts.next().unwrap_or_default();
        let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
        if port.is_empty() {
            return Err(PortError::Missing {
                port: text.to_owned(),
            });
        }
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        if !["tcp", "udp", "sctp"].contains(&protocol.to_lowercase().as_str()) {
            return Err(PortError::Protocol {
                port: text.to_owned(),
                protocol: protocol.to_owned(),
            });
        }
        check_address(address)?;
        let (first, last) = range(port).ok_or_else(|| PortError::Container {
            port: port.to_owned(),
        })?;
        if !host.is_empty() {
            let (host_first, host_last) = range(host).ok_or_else(|| PortError::Host {
                port: host.to_owned(),
            })?;
            if first != last && last - first != host_last - host_first {
                return Err(PortError::Ranges {
                    container: port.to_owned(),
                    host: host.to_owned(),
                });
            }
        }
        let has_host_part = !host.is_empty() || !address.is_empty();
        Ok(Self {
            first,
            last,
            protocol: protocol.to_owned(),
            has_host_part,
        })
    }

    /// `port/protocol` for each port, as an image config holds them.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = String> {
        let protocol = self.protocol.to_lowercase();
        (self.first..=self.last).map(move |port| format!("{port}/{protocol}"))
    }
}

fn check_address(address: &str) -> Result<(), PortError> {
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    if address.is_empty() || bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(PortError::Address {
        address: address.to_owned(),
    })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}
