//! Where the crates meet: the registry client becomes the builder's images, the runtime becomes
//! its executor, the machine decides the store's flavour.

mod agent;
mod garbage;
mod git;
mod machine;
mod networks;
mod processes;
mod registries;
mod remote;

pub(crate) use agent::agent;
pub(crate) use garbage::collect_garbage;
pub(crate) use machine::{
    Interruption, can_mount, cancel_on_signals, child_hooks, enter_user_namespace, flavour,
    is_real_root, require_user_namespace,
};
pub(crate) use networks::{Fallback, Given, Networks};
pub(crate) use processes::Processes;
pub(crate) use registries::{archive, client, client_as, credentials, place, remote, scratch};
