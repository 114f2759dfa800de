//! `wythe umount`

use std::process::ExitCode;

use anyhow::Context as _;

use crate::args::UmountArgs;

pub(crate) fn run(args: &UmountArgs) -> anyhow::Result<ExitCode> {
    let target = &args.target;
    rustix::mount::unmount(target, rustix::mount::UnmountFlags::NOFOLLOW)
        .with_context(|| format!("cannot unmount {}", target.display()))?;
    Ok(ExitCode::SUCCESS)
}
