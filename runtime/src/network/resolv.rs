//! Which name servers a namespace asks.
//!
//! Those of the host, as its resolv.conf(5) has them. One that is the host itself (systemd-resolved
//! on 127.0.0.53, dnsmasq) cannot be reached from the namespace; in its place stands an address
//! that pasta forwards to it, questions of names and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The address whose port 53 pasta forwards. Link-local, so that no host beyond the gateway has it.
const FORWARDED_4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The same for a host that has nothing but IPv6 resolvers, of the range for private use.
const FORWARDED_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0x7974, 0x6865, 0, 0, 0, 0, 0x53));

/// What the namespace's resolv.conf says, and what pasta has to do for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolvers {
    pub(super) text: Vec<u8>,
    /// Addresses that are to be forwarded to the host's own resolver.
    pub(super) forwarded: Vec<IpAddr>,
}

/// The host's resolv.conf as a namespace can use it.
pub(super) fn translate(host: &[u8]) -> Resolvers {
    translate_with(host, is_this_host)
}

fn translate_with(host: &[u8], is_this_host: impl Fn(IpAddr) -> bool) -> Resolvers {
    let mut found = Resolvers::default();
    for line in host.split_inclusive(|byte| *byte == b'\n') {
        let Some(server) = name_server(line) else {
            found.text.extend(line);
            continue;
        };
        // An address with a zone names an interface of the host.
        let address = server.parse::<IpAddr>().ok();
        let (four, six) = match address {
            Some(address) if !is_this_host(address) => {
                found.text.extend(line);
                continue;
            }
            Some(IpAddr::V4(_)) => (true, false),
            Some(IpAddr::V6(_)) => (false, true),
            None if server.contains('%') => (false, true),
            None => (false, false),
        };
        for (wanted, forwarded) in [(four, FORWARDED_4), (six, FORWARDED_6)] {
            if wanted && !found.forwarded.contains(&forwarded) {
                found.forwarded.push(forwarded);
                found
                    .text
                    .extend(format!("nameserver {forwarded}\n").bytes());
            }
        }
    }
    found
}

/// The address of a `nameserver` line. The resolver takes the word only at the line's start.
fn name_server(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("nameserver")?;
    let is_word = rest.starts_with([' ', '\t']);
    rest.split_ascii_whitespace().next().filter(|_| is_word)
}

/// Whether an address is one of this host's own: only those can be bound. The namespace has the
/// host's outer address too, for itself.
fn is_this_host(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_resolvers_of_the_host_itself_are_forwarded() {
        let own = |address: IpAddr| address.is_loopback() || address.to_string() == "192.0.2.2";
        let rows: [(&str, &str, &[&str]); 8] = [
            ("", "", &[]),
            ("nameserver 192.0.2.53\n", "nameserver 192.0.2.53\n", &[]),
            (
                "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch a.test b.test\n",
                "# stub\nnameserver 169.254.1.1\noptions edns0 trust-ad\nsearch a.test b.test\n",
                &["169.254.1.1"],
            ),
            (
                "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 9.9.9.9",
                "nameserver 169.254.1.1\nnameserver 9.9.9.9",
                &["169.254.1.1"],
            ),
            (
                "nameserver\t192.0.2.2 \n",
                "nameserver 169.254.1.1\n",
                &["169.254.1.1"],
            ),
            (
                "nameserver ::1\n",
                "nameserver fd77:7974:6865::53\n",
                &["fd77:7974:6865::53"],
            ),
            (
                "nameserver fe80::1%eth0\nnameserver 2001:db8::53\n",
                "nameserver fd77:7974:6865::53\nnameserver 2001:db8::53\n",
                &["fd77:7974:6865::53"],
            ),
            (
                " nameserver 127.0.0.1\nnameserver no\n",
                " nameserver 127.0.0.1\n",
                &[],
            ),
        ];
        for (host, text, forwarded) in rows {
            let found = translate_with(host.as_bytes(), own);
            assert_eq!(String::from_utf8(found.text).unwrap(), text, "{host:?}");
            let addresses: Vec<_> = found.forwarded.iter().map(IpAddr::to_string).collect();
            assert_eq!(addresses, forwarded, "{host:?}");
        }
    }

    #[test]
    fn an_address_that_can_be_bound_is_the_hosts() {
        assert!(is_this_host(Ipv4Addr::new(127, 0, 0, 53).into()));
        // Of a range for documentation.
        assert!(!is_this_host(Ipv4Addr::new(198, 51, 100, 53).into()));
    }
}
