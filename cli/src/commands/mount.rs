//! `wythe mount`

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use wythe_layers::image;
use wythe_layers::snapshot::{self, Root};

use crate::args::MountArgs;
use crate::render;
use crate::settings::{Settings, default_jobs, stored_image};
use crate::wire;

pub(crate) fn run(settings: &Settings, args: &MountArgs) -> anyhow::Result<ExitCode> {
    // A mount made in a user namespace of this process's own would be gone when it ends.
    ensure!(
        wire::can_mount(),
        "only root can leave a mount behind; as another user, run this inside `unshare --user --map-root-user --mount`"
    );
    let target = &args.target;
    let mut entries =
        std::fs::read_dir(target).with_context(|| format!("cannot open {}", target.display()))?;
    ensure!(
        entries.next().is_none(),
        "{} is not empty",
        target.display()
    );
    let store = settings.store()?;
    let image = stored_image(&store, &args.image, None)?;
    let observer = render::progress::observer(crate::args::Progress::Auto);
    let stack = image::stack(&store, &image, default_jobs(), &*observer)?;
    let snapshotter = snapshot::choose(&store)?;
    let snapshot = snapshotter.view(&store, &stack)?;
    match snapshot.root()? {
        Root::Detached(mount) => snapshot::attach(&mount, target)?,
        Root::Directory(_) => {
            bail!("this machine cannot mount layers over one another (overlayfs)")
        }
    }
    // The mount outlives this process, and with it the directory that gives its root; that one is
    // removed with the store's leftovers once it is mounted no more.
    std::mem::forget(snapshot);
    Ok(ExitCode::SUCCESS)
}
