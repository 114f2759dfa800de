//! Whether there is an outside.

/// Whether this machine has no route to anything beyond itself and the link. Where that cannot be
/// read there is taken to be one.
pub fn is_offline() -> bool {
    let read = |path| std::fs::read_to_string(path);
    match (read("/proc/net/route"), read("/proc/net/ipv6_route")) {
        (Ok(four), six) => !any_four(&four) && !any_six(&six.unwrap_or_default()),
        (Err(_), _) => false,
    }
}

/// Of `/proc/net/route`: a line of titles, then interface, destination, ….
fn any_four(text: &str) -> bool {
    // 169.254.0.0 as the kernel prints it on either byte order.
    let is_link = |destination: &str| matches!(destination, "0000FEA9" | "A9FE0000");
    text.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let interface = fields.next();
        interface.is_some_and(|name| name != "lo") && !fields.next().is_some_and(is_link)
    })
}

/// Of `/proc/net/ipv6_route`: destination, its prefix, …, interface.
fn any_six(text: &str) -> bool {
    text.lines().any(|line| {
        let destination = line.get(..2).unwrap_or_default();
        let interface = line.split_ascii_whitespace().next_back();
        // fe80::/10 is the link, ff00::/8 multicast.
        !matches!(destination, "fe" | "ff") && interface.is_some_and(|name| name != "lo")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_beyond_the_link_leads_outside() {
        let title = "Iface\tDestination\tGateway \tFlags\n";
        for (rest, expected) in [
            ("", false),
            ("lo\t0000007F\t00000000\t0001\n", false),
            ("eth0\t0000FEA9\t00000000\t0001\n", false),
            ("eth0\t00000000\t010200C0\t0003\n", true),
            ("eth0\t000200C0\t00000000\t0001\n", true),
        ] {
            assert_eq!(any_four(&format!("{title}{rest}")), expected, "{rest:?}");
        }
        let zero = "0".repeat(32);
        for (line, expected) in [
            (
                format!("{zero} 00 {zero} 00 {zero} ffffffff 1 0 200200 lo"),
                false,
            ),
            (
                format!("fe80{} 40 {zero} 00 {zero} 100 1 0 1 eth0", "0".repeat(28)),
                false,
            ),
            (
                format!("ff00{} 08 {zero} 00 {zero} 100 1 0 1 eth0", "0".repeat(28)),
                false,
            ),
            (format!("{zero} 00 {zero} 00 {zero} 400 1 0 3 eth0"), true),
            (
                format!("fd00{} 40 {zero} 00 {zero} 100 1 0 1 eth0", "0".repeat(28)),
                true,
            ),
        ] {
            assert_eq!(any_six(&line), expected, "{line}");
        }
    }
}
