//! `wythe run`

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use wythe_layers::image::{self, StoredImage};
use wythe_layers::snapshot::{self, Root};
use wythe_layers::spec::{ContainerConfig, Platform};
use wythe_layers::store::Store;
use wythe_runtime::{
    Bundle, CapabilityMask, Input, MountSource, MountSpec, Relay, Rootfs, Seccomp, Stream, launch,
};

use super::pull;
use crate::args::{Progress, PullPolicy, RunArgs, RunNetworkArg};
use crate::render;
use crate::settings::{NoSuchImage, Settings, default_jobs};
use crate::wire::{self, Given};

pub(crate) fn run(settings: &Settings, args: &RunArgs) -> anyhow::Result<ExitCode> {
    wire::require_user_namespace()?;
    let store = settings.store()?;
    let image = image(settings, &store, args)?;
    let config = &image.config.config;
    let program = command_line(args, config)?;

    let progress = Progress::Auto.unless(args.quiet);
    let observer = render::progress::observer(progress);
    let stack = image::stack(&store, &image, default_jobs(), &*observer)?;
    let snapshotter = snapshot::choose(&store)?;
    // Writable also for a read-only container: mount points that the image lacks have to be made
    // before its root becomes read-only.
    let snapshot = snapshotter.prepare(&store, &stack)?;
    let rootfs = match snapshot.root()? {
        Root::Detached(mount) => Rootfs::Detached(mount),
        Root::Directory(path) => Rootfs::Directory(path),
    };
    let mut bundle = Bundle::new(rootfs, program);
    fill(settings, &mut bundle, args, config)?;
    let given = match args.network {
        RunNetworkArg::Host => Given::Host,
        RunNetworkArg::Default | RunNetworkArg::None => Given::Loopback,
        RunNetworkArg::Private => {
            let networks = wire::Networks::new(settings.env.path("PATH"), wire::Fallback::Never);
            networks.take()?
        }
    };
    given.fill(&mut bundle, &[])?;
    let bundle = bundle.validate()?;

    let relay = Relay::install()?;
    let container = launch(bundle)?;
    for degradation in container.degradations() {
        render::stderr_line(&format!("warning: {degradation}"));
    }
    let input = if args.interactive {
        Input::Attached
    } else {
        Input::Detached
    };
    let status = relay.wait(container, input)?;
    drop(given);
    drop(snapshot);
    Ok(ExitCode::from(status.code()))
}

fn image(settings: &Settings, store: &Store, args: &RunArgs) -> anyhow::Result<StoredImage> {
    let host = Platform::host();
    let platform = args.platform.as_ref().unwrap_or(&host);
    let stored = match args.pull {
        PullPolicy::Always => None,
        PullPolicy::Missing | PullPolicy::Never => image::open(store, &args.image, platform)?,
    };
    if let Some(stored) = stored {
        return Ok(stored);
    }
    if args.pull == PullPolicy::Never {
        return Err(NoSuchImage {
            reference: args.image.clone(),
        }
        .into());
    }
    let progress = Progress::Auto.unless(args.quiet);
    pull::registry(
        settings,
        store,
        &args.image,
        platform,
        default_jobs(),
        &render::progress::observer(progress),
    )?;
    image::open(store, &args.image, platform)?.with_context(|| {
        format!(
            "{} was pulled but is not in the store",
            args.image.familiar()
        )
    })
}

/// Entrypoint and command, as docker-run(1) puts them together.
fn command_line(args: &RunArgs, config: &ContainerConfig) -> anyhow::Result<Vec<String>> {
    let mut line = match &args.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    // An entrypoint of one's own does not get the image's arguments.
    if !args.command.is_empty() {
        line.extend(args.command.iter().cloned());
    } else if args.entrypoint.is_none() || line.is_empty() {
        line.extend(config.cmd.clone().unwrap_or_default());
    }
    ensure!(
        !line.is_empty(),
        "the image names no command: give one after its name"
    );
    Ok(line)
}

fn fill(
    settings: &Settings,
    bundle: &mut Bundle,
    args: &RunArgs,
    config: &ContainerConfig,
) -> anyhow::Result<()> {
    let process = &mut bundle.process;
    process.env = environment(settings, args, config)?;
    let cwd = args
        .workdir
        .as_deref()
        .filter(|dir| !dir.is_empty())
        .unwrap_or(&config.working_dir);
    process.cwd = Path::new("/").join(cwd);
    let user = args.user.as_deref().unwrap_or(&config.user);
    process.user = user.parse().unwrap_or_default();
    process.capabilities = CapabilityMask::from_names(&args.cap_add, &args.cap_drop)?;
    for option in &args.security_opt {
        match option.as_str() {
            "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true" => {
                process.no_new_privileges = true;
            }
            "seccomp=unconfined" | "seccomp:unconfined" => process.seccomp = Seccomp::Unconfined,
            other => bail!(
                "--security-opt {other:?} is neither no-new-privileges nor seccomp=unconfined"
            ),
        }
    }
    if args.tty {
        ensure!(
            !args.interactive || std::io::stdin().is_terminal(),
            "-t: standard input is not a terminal"
        );
        process.terminal = Some(Relay::terminal_size().unwrap_or_default());
        if let Some(term) = settings
            .env
            .text("TERM")
            .filter(|_| !process.env.iter().any(|(name, _)| name == "TERM"))
        {
            process.env.push(("TERM".into(), term.into()));
        }
    } else {
        bundle.stdio.stdin = if args.interactive {
            Stream::Inherit
        } else {
            Stream::Null
        };
        bundle.stdio.stdout = Stream::Inherit;
        bundle.stdio.stderr = Stream::Inherit;
    }
    bundle.read_only = args.read_only;
    bundle.init = args.init;
    bundle.hostname = match (&args.hostname, args.network) {
        (Some(name), _) => Some(name.clone()),
        (None, RunNetworkArg::Host) => None,
        (None, _) => Some(format!("wythe-{}", std::process::id())),
    };
    let env = &mut bundle.process.env;
    if let Some(name) = &bundle.hostname
        && !env.iter().any(|(known, _)| known == "HOSTNAME")
    {
        env.insert(0, ("HOSTNAME".into(), name.into()));
    }
    for spec in &args.volumes {
        bundle.mounts.push(volume(spec)?);
    }
    for spec in &args.mounts {
        bundle.mounts.push(mount(spec)?);
    }
    for spec in &args.tmpfs {
        bundle.mounts.push(tmpfs(spec)?);
    }
    Ok(())
}

fn environment(
    settings: &Settings,
    args: &RunArgs,
    config: &ContainerConfig,
) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let mut pairs: Vec<String> = config.env.clone();
    for path in &args.env_files {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        pairs.extend(lines.filter_map(|line| from_environment(settings, line)));
    }
    pairs.extend(
        args.env
            .iter()
            .filter_map(|pair| from_environment(settings, pair)),
    );
    // The last setting of a name counts, in the place of the first.
    let mut order: Vec<String> = Vec::new();
    let mut values = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
        ensure!(
            !name.is_empty(),
            "the environment variable {pair:?} has no name"
        );
        if values.insert(name.to_owned(), value.to_owned()).is_none() {
            order.push(name.to_owned());
        }
    }
    Ok(order
        .into_iter()
        .filter_map(|name| Some((OsString::from(&name), values.remove(&name)?.into())))
        .collect())
}

/// `NAME=value`, or `NAME` for the value it has here; one that has none is left out.
fn from_environment(settings: &Settings, pair: &str) -> Option<String> {
    if pair.contains('=') {
        return Some(pair.to_owned());
    }
    settings
        .env
        .user_text(pair)
        .map(|value| format!("{pair}={value}"))
}

/// `/host:/container[:ro|rw,…]`
fn volume(spec: &str) -> anyhow::Result<MountSpec> {
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => bail!("-v {spec:?} is not /host/path:/container/path[:ro]"),
    };
    ensure!(
        source.starts_with(['/', '.']),
        "-v {spec:?}: there are no named volumes; give a path that starts with / or ./"
    );
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "readonly" => read_only = true,
            // Labels and propagation have no meaning here.
            "rw" | "z" | "Z" | "rprivate" | "private" => read_only |= false,
            other => bail!("-v {spec:?}: there is no option {other:?}; there are ro and rw"),
        }
    }
    bind(spec, source, target, read_only)
}

fn bind(spec: &str, source: &str, target: &str, read_only: bool) -> anyhow::Result<MountSpec> {
    let source = std::path::absolute(source).with_context(|| format!("{spec:?}: no such path"))?;
    ensure!(
        source.exists(),
        "{spec:?}: {} does not exist",
        source.display()
    );
    ensure!(
        target.starts_with('/'),
        "{spec:?}: the path in the container must be absolute"
    );
    Ok(MountSpec {
        source: MountSource::Bind(source),
        target: PathBuf::from(target),
        read_only,
    })
}

/// `type=bind,src=…,dst=…[,ro]` or `type=tmpfs,dst=…[,tmpfs-size=…,tmpfs-mode=…]`
fn mount(spec: &str) -> anyhow::Result<MountSpec> {
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for part in spec.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        keys.insert(key, value);
    }
    let mut take = |names: &[&'static str]| names.iter().find_map(|name| keys.remove(name));
    let kind = take(&["type"]).unwrap_or("bind");
    let target = take(&["target", "dst", "destination"])
        .with_context(|| format!("--mount {spec:?} has no dst="))?;
    let source = take(&["source", "src"]);
    let read_only = take(&["readonly", "ro"]).is_some_and(|value| value != "false");
    let size = take(&["tmpfs-size"]);
    let mode = take(&["tmpfs-mode"]);
    if let Some(unknown) = keys.keys().next() {
        bail!("--mount {spec:?}: there is no key {unknown:?}");
    }
    match (kind, source) {
        ("bind", Some(source)) => bind(spec, source, target, read_only),
        ("bind", None) => bail!("--mount {spec:?} has no src="),
        ("tmpfs", _) => tmpfs_mount(spec, target, size, mode, read_only),
        (other, _) => {
            bail!("--mount {spec:?}: there is no type {other:?}; there are bind and tmpfs")
        }
    }
}

/// `/path[:size=…,mode=…,ro]`
fn tmpfs(spec: &str) -> anyhow::Result<MountSpec> {
    let (target, options) = spec.split_once(':').unwrap_or((spec, ""));
    let (mut size, mut mode, mut read_only) = (None, None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => size = Some(value),
            Some(("mode", value)) => mode = Some(value),
            None if option == "ro" => read_only = true,
            // What the mount has anyway, or what the sandbox forbids anyway.
            None if matches!(option, "rw" | "exec" | "noexec" | "nosuid" | "nodev") => {}
            _ => bail!(
                "--tmpfs {spec:?}: there is no option {option:?}; there are size=, mode= and ro"
            ),
        }
    }
    tmpfs_mount(spec, target, size, mode, read_only)
}

fn tmpfs_mount(
    spec: &str,
    target: &str,
    size: Option<&str>,
    mode: Option<&str>,
    read_only: bool,
) -> anyhow::Result<MountSpec> {
    ensure!(
        target.starts_with('/'),
        "{spec:?}: the path in the container must be absolute"
    );
    let size_bytes = size
        .map(|text| parse_size(text).with_context(|| format!("{spec:?}: {text:?} is no size")))
        .transpose()?;
    let mode = match mode {
        Some(text) => u32::from_str_radix(text, 8)
            .with_context(|| format!("{spec:?}: {text:?} is no octal mode"))?,
        None => 0o1777,
    };
    Ok(MountSpec {
        source: MountSource::Tmpfs {
            size_bytes,
            mode: Some(mode),
            may_execute: false,
        },
        target: PathBuf::from(target),
        read_only,
    })
}

/// Bytes, with Docker's suffixes in powers of 1024.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower
        .trim_end_matches('b')
        .trim_end_matches(['k', 'm', 'g']);
    let unit = match lower.get(digits.len()..)?.chars().next() {
        None | Some('b') => 1,
        Some('k') => 1 << 10,
        Some('m') => 1 << 20,
        _ => 1 << 30,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_dockers_suffixes() {
        for (text, bytes) in [
            ("1", 1),
            ("64k", 64 << 10),
            ("64m", 64 << 20),
            ("2GB", 2 << 30),
            ("7b", 7),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "m", "-1", "1t", "99999999999g"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn mounts_are_read_as_docker_reads_them() {
        let spec = volume("/tmp:/data:ro").unwrap();
        assert!(spec.read_only && spec.target == Path::new("/data"));
        assert!(!mount("type=bind,src=/tmp,dst=/data").unwrap().read_only);
        assert!(
            mount("type=bind,src=/tmp,dst=/data,readonly")
                .unwrap()
                .read_only
        );
        assert!(matches!(
            tmpfs("/x:size=1m,mode=700").unwrap().source,
            MountSource::Tmpfs {
                size_bytes: Some(1_048_576),
                mode: Some(0o700),
                may_execute: false,
            }
        ));
        for bad in [
            "name:/data",
            "/tmp",
            "/tmp:data",
            "/no/such/path:/x",
            "/tmp:/x:odd",
            "/a:/b:ro:x",
        ] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        for bad in [
            "type=bind,dst=/x",
            "type=volume,src=a,dst=/x",
            "src=/tmp",
            "type=tmpfs,dst=/x,odd=1",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }
}
