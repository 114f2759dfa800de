//! `RUN --mount`.

use super::Diagnostic;
use super::expand::ExpandError;
use super::span::Spanned;

/// A `--mount` flag as written. Its values may hold variables, so it is validated only when the
/// stage is planned, as BuildKit does: a stage nobody builds may hold a bad one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// The value of the flag.
    pub text: Spanned<String>,
    /// `from=`, which is never expanded: a stage, stage number, image or named context. Known before
    /// the environment is, so that stages can be ordered.
    pub from: Option<Spanned<String>>,
}

/// `type=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the user's, as file or variable.
    Secret,
    /// An agent socket.
    Ssh,
}

/// `sharing=` of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheSharing {
    /// Any number of steps at once.
    #[default]
    Shared,
    /// Each concurrent step gets a directory of its own.
    Private,
    /// One step after the other.
    Locked,
}

/// A valid `--mount` with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `type`. Default: bind.
    pub kind: MountType,
    /// `from`.
    pub from: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `target`; `None` where a default applies (secret, ssh) or where it is missing.
    pub target: Option<String>,
    /// Whether writes are refused. Default: true but for cache and tmpfs.
    pub read_only: bool,
    /// `size` in bytes of a tmpfs.
    pub size_bytes: Option<u64>,
    /// `id` of a cache, secret or ssh socket.
    pub id: Option<String>,
    /// `sharing` of a cache. Default: shared.
    pub sharing: CacheSharing,
    /// `required` of a secret or ssh socket. Default: false.
    pub required: bool,
    /// `env` of a secret: the variable's name, empty for the default name.
    pub env: Option<String>,
    /// `mode`, octal.
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
}

impl RunMount {
    /// Expands the values with `expand` and checks the result.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn resolve(
        &self,
        expand: impl FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Mount, Diagnostic> {
        let _ = expand;
        todo!()
    }
}
