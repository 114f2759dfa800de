//! The command line as data. Docker's flag names and meaning wherever Docker has the flag.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wythe_layers::spec::{Platform, Reference};

/// Builds, ships and runs OCI images: one binary, no daemon, no root.
#[derive(Debug, Parser)]
#[command(
    name = "wythe",
    version,
    max_term_width = 100,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Examples:\n  \
        wythe build -t app .               build the Dockerfile here and call the image app\n  \
        wythe run --rm -it app sh          run a shell in it\n  \
        wythe push app                     push it to its registry\n  \
        wythe build --help                 what one command can do"
)]
pub(crate) struct Cli {
    /// What to use everywhere.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Directory of the store [default: /var/lib/wythe as root, else ~/.local/share/wythe]
    #[arg(long, global = true, value_name = "DIR", env = "WYTHE_ROOT")]
    pub(crate) root: Option<PathBuf>,

    /// Say more on standard error: -D for steps, twice for everything
    #[arg(short = 'D', long = "debug", global = true, action = clap::ArgAction::Count)]
    pub(crate) debug: u8,

    /// Only HTTPS with verified certificates; `=false` also takes less
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,
}

/// Flags of `docker build` that ask for what is so anyway; accepted for its scripts' sake.
#[derive(Debug, Args)]
pub(crate) struct DockerOnly {
    /// The store always has the result.
    #[arg(long, hide = true)]
    load: bool,
    /// Nothing is left of a step but its layer.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<bool>,
    /// The same after a failure.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    force_rm: Option<bool>,
    /// No attestation is made.
    #[arg(long, hide = true, value_parser = no_attestation)]
    provenance: Option<()>,
    /// No attestation is made.
    #[arg(long, hide = true, value_parser = no_attestation)]
    sbom: Option<()>,
    /// No attestation is made.
    #[arg(long, hide = true, value_parser = no_attestation)]
    attest: Vec<()>,
}

/// Takes what asks for no attestation: `false`, or `type=provenance,disabled=true`.
fn no_attestation(text: &str) -> Result<(), String> {
    let is_off = matches!(text, "false" | "0")
        || text
            .split(',')
            .any(|field| matches!(field, "disabled=true" | "disabled=1"));
    if is_off {
        Ok(())
    } else {
        Err("attestations are not made yet; leave the flag out, or turn it off".to_owned())
    }
}

/// One verb each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Fetch an image from a registry
    Pull(PullArgs),
    /// Send an image to a registry
    Push(PushArgs),
    /// Run a command in a new container
    Run(Box<RunArgs>),
    /// List the images in the store
    Images(ImagesArgs),
    /// Show an image's config and manifest
    Inspect(InspectArgs),
    /// Show how an image's layers came about
    History(HistoryArgs),
    /// Give an image one more name
    Tag(TagArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Write images to an archive or a layout
    Save(SaveArgs),
    /// Read images from an archive or a layout
    Load(LoadArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Forget a registry's credentials
    Logout(LogoutArgs),
    /// Serve the store as a registry
    Serve(ServeArgs),
    /// Mount an image's root file system, read-only
    Mount(MountArgs),
    /// Unmount what `mount` mounted
    Umount(UmountArgs),
    /// Show what this machine allows and where things are
    Info(InfoArgs),
    /// Show the version
    Version(VersionArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  wythe completion bash > /etc/bash_completion.d/wythe")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(hide = true)]
    Man {
        /// Directory to write `wythe*.1` into
        dir: PathBuf,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For scripts; stable
    Json,
}

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// `tty` on a terminal, else `plain`
    Auto,
    /// Bars that move
    Tty,
    /// Lines
    Plain,
    /// Nothing but errors
    Quiet,
}

/// When to ask the registry for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// Ask for the newest each time
    Always,
    /// Only if it is not in the store
    Missing,
    /// Never
    Never,
}

/// Which network the steps of a build get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuildNetworkArg {
    /// As private, or the host's where pasta cannot serve
    #[value(alias = "bridge")]
    Default,
    /// Their own, which reaches the outside through pasta
    Private,
    /// Their own, with the loopback device only
    None,
    /// The host's
    Host,
}

/// Which network a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunNetworkArg {
    /// Its own, with the loopback device only
    #[value(alias = "bridge")]
    Default,
    /// Its own, which reaches the outside through pasta
    Private,
    /// Its own, with the loopback device only
    None,
    /// The host's
    Host,
}

/// `build`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    wythe build -t app .\n  \
    wythe build -f deploy/Dockerfile --target test --build-arg VERSION=3 .\n  \
    wythe build -t app --output type=oci,dest=app.tar .\n  \
    wythe build -t localhost:5000/app --push .\n  \
    wythe build --check .")]
pub(crate) struct BuildArgs {
    /// The Dockerfile; `-` is standard input [default: CONTEXT/Dockerfile, then CONTEXT/Containerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Name the result; may be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    pub(crate) tags: Vec<Reference>,
    /// Also write the result: `type=oci|docker|tar|local,dest=PATH`, `type=registry`, `type=oci,tar=false,dest=DIR`
    #[arg(short, long = "output", value_name = "SPEC")]
    pub(crate) outputs: Vec<String>,
    /// Push the result to the registries its names say; short for `--output type=registry`
    #[arg(long)]
    pub(crate) push: bool,
    /// What scripts for Docker say.
    #[command(flatten)]
    pub(crate) docker: DockerOnly,
    /// Stop at this stage, by name or index
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Set a build argument; without a value it is taken from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,
    /// Another context: `NAME=DIR`, `NAME=docker-image://REF`, `NAME=oci-layout://DIR[:TAG][@DIGEST]`, `NAME=` and an archive, http(s) or git address
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub(crate) build_contexts: Vec<String>,
    /// Add a label
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Add an annotation to the manifest
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(crate) annotations: Vec<String>,
    /// Build for this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run the steps of this stage again
    #[arg(long = "no-cache-filter", value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Clamp times of files in new layers to SOURCE_DATE_EPOCH, else to 1970; `=false` keeps them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) rewrite_timestamp: Option<bool>,
    /// Ask the registries for the newest base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// Network of RUN steps
    #[arg(
        long,
        value_name = "MODE",
        default_value = "default",
        env = "WYTHE_BUILD_NETWORK"
    )]
    pub(crate) network: BuildNetworkArg,
    /// A secret for `RUN --mount=type=secret`: `id=ID[,src=FILE|,env=NAME]`
    #[arg(long = "secret", value_name = "SPEC")]
    pub(crate) secrets: Vec<String>,
    /// An agent for `RUN --mount=type=ssh`: `default`, `ID=SOCKET[,raw=true]` or `ID=KEY[,KEY…]`
    #[arg(long = "ssh", value_name = "SPEC")]
    pub(crate) ssh: Vec<String>,
    /// Allow what is off by default: `security.insecure`, `network.host`
    #[arg(long = "allow", value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// A line of /etc/hosts for RUN steps
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(crate) add_hosts: Vec<String>,
    /// A resource limit of RUN steps
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimits: Vec<String>,
    /// Size of /dev/shm in RUN steps [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was built, as JSON, to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Check the Dockerfile, or all below a directory that has none itself, and build nothing
    #[arg(long, conflicts_with = "call")]
    pub(crate) check: bool,
    /// Ask about the Dockerfile: `check`, `outline` or `targets`, `,format=json`; build nothing
    #[arg(long, value_name = "METHOD")]
    pub(crate) call: Option<String>,
    /// How `--check` and `--call` print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// How to show progress
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) progress: Progress,
    /// Print only the image ID
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Steps, downloads and compressors at work at once [default: number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// The build context: a directory, a tar archive, `-` for standard input, an http(s) or git address
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,
}

/// `pull`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wythe pull alpine\n  wythe pull --platform linux/arm64 ghcr.io/me/app:3\n  \
    wythe pull oci-archive:app.tar"
)]
pub(crate) struct PullArgs {
    /// Choose this platform's image
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// Print only the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to show progress
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) progress: Progress,
    /// Downloads at once
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// The images: names, or `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]`
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// `push`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wythe push localhost:5000/app\n  wythe push app ghcr.io/me/app:3\n  \
    wythe push --compression zstd app oci-archive:app.tar"
)]
pub(crate) struct PushArgs {
    /// Print only the digest
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to show progress
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) progress: Progress,
    /// Uploads at once
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// How to compress layers that have not been compressed yet
    #[arg(long, value_enum)]
    pub(crate) compression: Option<CompressionArg>,
    /// The image in the store
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Reference,
    /// Where to, if not to where its name says
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: Option<String>,
}

/// A layer compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionArg {
    /// Everything reads it
    Gzip,
    /// Faster and smaller
    Zstd,
    /// Plain tar
    #[value(alias = "none")]
    Uncompressed,
}

/// `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wythe run --rm alpine echo hello\n  wythe run -it -v \"$PWD:/work\" -w /work app sh\n  \
    wythe run --network host --read-only --tmpfs /tmp app"
)]
pub(crate) struct RunArgs {
    /// Set an environment variable; without a value it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long = "env-file", value_name = "FILE")]
    pub(crate) env_files: Vec<PathBuf>,
    /// Run as this user: `name`, `uid`, `name:group`, `uid:gid`
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Start in this directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Run this instead of the image's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Bind a host path: `/host:/container[:ro]`
    #[arg(short, long = "volume", value_name = "SPEC")]
    pub(crate) volumes: Vec<String>,
    /// Mount a file system: `type=bind,src=…,dst=…[,ro]`, `type=tmpfs,dst=…`
    #[arg(long = "mount", value_name = "SPEC")]
    pub(crate) mounts: Vec<String>,
    /// A memory file system: `/path[:size=64m,mode=1777]`
    #[arg(long = "tmpfs", value_name = "SPEC")]
    pub(crate) tmpfs: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Accepted for Docker's sake: a container never outlives its command
    #[arg(long)]
    pub(crate) rm: bool,
    /// Make the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Run a small init as process 1 that reaps and forwards signals
    #[arg(long)]
    pub(crate) init: bool,
    /// Network
    #[arg(long, alias = "net", value_name = "MODE", default_value = "default")]
    pub(crate) network: RunNetworkArg,
    /// Host name
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Add a capability
    #[arg(long = "cap-add", value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Drop a capability; `ALL` for all
    #[arg(long = "cap-drop", value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// `no-new-privileges`, `seccomp=unconfined`
    #[arg(long = "security-opt", value_name = "OPT")]
    pub(crate) security_opt: Vec<String>,
    /// Choose this platform's image
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// When to ask the registry for the image
    #[arg(long, value_enum, default_value = "missing")]
    pub(crate) pull: PullPolicy,
    /// Do not show the pull's progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Reference,
    /// The command and its arguments, instead of the image's
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// `images`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe images\n  wythe images --format json app")]
pub(crate) struct ImagesArgs {
    /// Print only image IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print digests too
    #[arg(long)]
    pub(crate) digests: bool,
    /// Do not shorten IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// Only this repository, or this name
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<Reference>,
}

/// `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe inspect app\n  wythe inspect --raw app")]
pub(crate) struct InspectArgs {
    /// Print the manifest's exact bytes
    #[arg(long, conflicts_with = "config")]
    pub(crate) raw: bool,
    /// Print the config's exact bytes
    #[arg(long)]
    pub(crate) config: bool,
    /// Choose this platform's image
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<Platform>,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<Reference>,
}

/// `history`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wythe history app\n  wythe history --no-trunc --format json app"
)]
pub(crate) struct HistoryArgs {
    /// Do not shorten instructions
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Reference,
}

/// `tag`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe tag app localhost:5000/app:3")]
pub(crate) struct TagArgs {
    /// The image
    #[arg(value_name = "SOURCE")]
    pub(crate) source: Reference,
    /// The new name
    #[arg(value_name = "TARGET")]
    pub(crate) target: Reference,
}

/// `rmi`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe rmi app:old\n  wythe rmi --force missing")]
pub(crate) struct RmiArgs {
    /// It is no error if there is no such image
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep the layers that no image needs any more
    #[arg(long)]
    pub(crate) no_prune: bool,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<Reference>,
}

/// `save`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wythe save -o app.tar app\n  wythe save --format oci-archive -o app.tar app other\n  \
    wythe save app | ssh host docker load"
)]
pub(crate) struct SaveArgs {
    /// What to write
    #[arg(long, value_enum, default_value = "docker-archive")]
    pub(crate) format: ArchiveFormat,
    /// Where to; a directory for `oci-dir` [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// How to show progress
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) progress: Progress,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<Reference>,
}

/// A file format that holds images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// What `docker load` reads
    DockerArchive,
    /// An OCI image layout in a tar
    OciArchive,
    /// An OCI image layout as a directory
    OciDir,
}

/// `load`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe load -i app.tar\n  docker save app | wythe load")]
pub(crate) struct LoadArgs {
    /// The archive or layout directory; its kind is found out [default: standard input]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) input: Option<PathBuf>,
    /// Print only names
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// How to show progress
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) progress: Progress,
}

/// `login`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  echo \"$TOKEN\" | wythe login -u me --password-stdin ghcr.io")]
pub(crate) struct LoginArgs {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password; others on this machine can see it, better `--password-stdin`
    #[arg(
        short,
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
}

/// `logout`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe logout ghcr.io")]
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub(crate) registry: String,
}

/// `serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wythe serve\n  wythe serve --listen 127.0.0.1:0 --port-file port"
)]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
    /// Write the address that was taken to this file once it is ready
    #[arg(long, value_name = "FILE")]
    pub(crate) port_file: Option<PathBuf>,
}

/// `mount`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe mount app /mnt")]
pub(crate) struct MountArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Reference,
    /// An empty directory
    #[arg(value_name = "DIR")]
    pub(crate) target: PathBuf,
}

/// `umount`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe umount /mnt")]
pub(crate) struct UmountArgs {
    /// The directory given to `mount`
    #[arg(value_name = "DIR")]
    pub(crate) target: PathBuf,
}

/// `info`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wythe info\n  wythe info --format json\n  wythe info --verify"
)]
pub(crate) struct InfoArgs {
    /// Read the whole store and check every digest
    #[arg(long)]
    pub(crate) verify: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// `version`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wythe version --format json")]
pub(crate) struct VersionArgs {
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
        {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", command.get_name());
        }
    }

    #[test]
    fn what_scripts_for_docker_say_is_taken_where_it_is_so_anyway() {
        let parse = |flag: &str| Cli::try_parse_from(["wythe", "build", flag, "."]).is_ok();
        for flag in [
            "--load",
            "--rm",
            "--rm=true",
            "--force-rm",
            "--provenance=false",
            "--sbom=false",
            "--attest=type=provenance,disabled=true",
        ] {
            assert!(parse(flag), "{flag}");
        }
        for flag in [
            "--provenance=true",
            "--provenance=mode=max",
            "--sbom=true",
            "--attest=type=sbom",
            "--builder=x",
        ] {
            assert!(!parse(flag), "{flag}");
        }
    }
}
