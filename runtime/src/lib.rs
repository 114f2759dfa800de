//! Launches processes in namespaces over a root file system: no daemon, no root, no state on disk.
//!
//! A [`Bundle`] says what is wanted, [`Bundle::validate`] turns it into a [`Plan`] without touching
//! anything, [`launch()`] starts it and gives a [`Container`] to wait for. The new process is our
//! own binary started afresh, so `main` of every program that launches must call [`init_hook`]
//! first; who is not root also calls [`userns::enter`], before any thread exists.
//!
//! ```no_run
//! use wythe_runtime::{Bundle, Rootfs, Stream, init_hook, launch, userns};
//!
//! fn main() -> Result<(), wythe_runtime::Error> {
//!     init_hook();
//!     userns::enter()?;
//!     let mut bundle = Bundle::new(Rootfs::Directory("/srv/rootfs".into()), ["/bin/true"]);
//!     bundle.stdio.stdout = Stream::Inherit;
//!     let status = launch(bundle.validate()?)?.wait()?;
//!     std::process::exit(status.code().into());
//! }
//! ```
//!
//! # What a container is
//! Mount, IPC, UTS, cgroup and process ID namespaces of its own, and a network namespace with
//! nothing but loopback, unless the host's is asked for or one of [`Outside`], which reach the
//! outside through pasta. There is no user namespace of the
//! container's own: root runs containers as Docker does by default, and anyone else is in the user
//! namespace that [`userns::enter`] made.
//!
//! # What an image cannot do
//! Every path of the image is resolved inside its root, link by link; see `in_root`. The first
//! process runs from a read-only mount of our binary, starts the program with descriptors 0, 1 and
//! 2 only, and checks that the working directory lies inside.

mod bundle;
mod capabilities;
mod cgroup;
mod channel;
mod error;
mod id_maps;
mod in_root;
mod init;
mod launch;
mod machine;
mod mounts;
mod network;
pub mod passwd;
pub mod plan;
mod rlimit;
mod seccomp;
mod signals;
mod sys;
mod text;
mod tty;
pub mod userns;

pub use bundle::{
    Bundle, CwdOwner, DEFAULT_PATH, EtcFiles, MountSource, MountSpec, Network, Privileges, Process,
    Rootfs, Seccomp, Stdio, Stream, TerminalSize, ValidBundle,
};
pub use capabilities::CapabilityMask;
pub use error::{BundleError, Error, Failure, Refusal, Result, Stage};
pub use id_maps::{IdMap, IdRange};
pub use init::init_hook;
pub use launch::{Container, Degradation, ExitStatus, launch};
pub use machine::Machine;
pub use network::{Lease, NoOutside, Outside, is_offline};
pub use passwd::UserSpec;
pub use plan::Plan;
pub use rlimit::Rlimit;
pub use signals::{Input, Relay};
pub use text::OsText;
