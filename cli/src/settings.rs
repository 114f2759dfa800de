//! What one invocation works with: the environment, the global flags, the store.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use wythe_layers::spec::{Platform, Reference};
use wythe_layers::store::Store;
use wythe_layers::tree::Flavour;

use crate::args::Global;
use crate::env::Environment;
use crate::wire;

/// What one invocation works with.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The environment at start.
    pub(crate) env: Environment,
    /// `--tls-verify`; `None` where it was not given.
    pub(crate) tls_verify: Option<bool>,
    root: Option<PathBuf>,
}

impl Settings {
    /// From the global flags and the environment.
    pub(crate) fn new(global: &Global, env: Environment) -> Self {
        Self {
            env,
            tls_verify: global.tls_verify,
            root: global.root.clone(),
        }
    }

    /// The store's directory, absolute: a relative one would mean another place after `chdir`.
    pub(crate) fn root(&self) -> anyhow::Result<PathBuf> {
        let root = match &self.root {
            Some(root) => root.clone(),
            None if wire::is_real_root() => PathBuf::from("/var/lib/wythe"),
            None => match self.env.data_home() {
                Some(data) => data.join("wythe"),
                None => bail!("neither --root nor HOME says where the store is"),
            },
        };
        std::path::absolute(&root)
            .with_context(|| format!("cannot make {} an absolute path", root.display()))
    }

    /// Opens the store with trees as this process can keep them.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        self.store_as(wire::flavour())
    }

    /// Opens the store with trees of another flavour than this process would choose.
    pub(crate) fn store_as(&self, flavour: Flavour) -> anyhow::Result<Store> {
        let root = self.root()?;
        Store::open(&root, flavour)
            .with_context(|| format!("cannot open the store at {}", root.display()))
    }
}

/// The number of processors this process may use.
pub(crate) fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Opens a stored image or says that it is not there.
pub(crate) fn stored_image(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
) -> anyhow::Result<wythe_layers::image::StoredImage> {
    let host = Platform::host();
    wythe_layers::image::open(store, reference, platform.unwrap_or(&host))?.ok_or_else(|| {
        NoSuchImage {
            reference: reference.clone(),
        }
        .into()
    })
}

/// The store has no image of that name.
#[derive(Debug)]
pub(crate) struct NoSuchImage {
    /// The name.
    pub(crate) reference: Reference,
}

impl std::fmt::Display for NoSuchImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "there is no image {} in the store",
            self.reference.familiar()
        )
    }
}

impl std::error::Error for NoSuchImage {}
