//! What `build` lets its steps see of the machine: `--add-host`, `--ulimit`, `--shm-size`, `--allow`.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use wythe_builder::BuildRequest;
use wythe_runtime::Rlimit;

use super::run::parse_size;
use crate::args::BuildArgs;

/// Puts the arguments into the request.
pub(super) fn fill(request: &mut BuildRequest, args: &BuildArgs) -> anyhow::Result<()> {
    for allowed in &args.allow {
        match allowed.as_str() {
            "security.insecure" => request.allow_insecure = true,
            "network.host" => request.allow_host_network = true,
            _ => bail!("--allow {allowed:?}: there are network.host and security.insecure"),
        }
    }
    for spec in &args.add_hosts {
        request.extra_hosts.push(host(spec)?);
    }
    for spec in &args.ulimits {
        // Checked here, so that a wrong one is told before anything is built.
        spec.parse::<Rlimit>()
            .with_context(|| format!("--ulimit {spec:?}"))?;
        request.limits.push(spec.clone());
    }
    if let Some(text) = &args.shm_size {
        let size = parse_size(text).filter(|size| *size > 0);
        request.shm_size_bytes = Some(size.with_context(|| format!("--shm-size {text:?}"))?);
    }
    Ok(())
}

/// `name:address` or `name=address`; brackets around an address are Docker's.
fn host(spec: &str) -> anyhow::Result<(String, String)> {
    let parts = spec.split_once('=').or_else(|| spec.split_once(':'));
    let Some((name, address)) = parts.filter(|(name, _)| !name.is_empty()) else {
        bail!("--add-host {spec:?} is not NAME:ADDRESS");
    };
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        bail!("--add-host {spec:?}: a name has no blanks");
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
    let address: IpAddr = bare
        .unwrap_or(address)
        .parse()
        .with_context(|| format!("--add-host {spec:?}: {address:?} is no address"))?;
    Ok((name.to_owned(), address.to_string()))
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn hosts_are_written_as_docker_has_them() {
        for (spec, name, address) in [
            ("a:1.2.3.4", "a", "1.2.3.4"),
            ("a=1.2.3.4", "a", "1.2.3.4"),
            ("a:::1", "a", "::1"),
            ("a=[::1]", "a", "::1"),
        ] {
            let expected = (name.to_owned(), address.to_owned());
            assert_eq!(host(spec).unwrap(), expected, "{spec}");
        }
        for bad in ["a", ":1.2.3.4", "a:b", "a:", "a b:1.2.3.4", "a\nb:1.2.3.4"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
