//! `wythe info`

use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;
use wythe_layers::tree::Flavour;
use wythe_runtime::userns;

use crate::args::{Format, InfoArgs};
use crate::render;
use crate::settings::{Settings, default_jobs};
use crate::wire;

pub(crate) fn run(settings: &Settings, args: &InfoArgs) -> anyhow::Result<ExitCode> {
    if args.verify {
        return verify(settings);
    }
    let rung = userns::detect();
    let root = settings.root()?;
    let flavour = match wire::flavour() {
        Flavour::Root => "root",
        Flavour::SubIds => "sub-ids",
        Flavour::SingleId => "single id",
    };
    let kernel = nix::sys::utsname::uname()?;
    let kernel = kernel.release().to_string_lossy().into_owned();
    let exists = root.join("oci-layout").exists();
    match args.format {
        Format::Json => render::json(&json!({
            "version": env!("CARGO_PKG_VERSION"),
            "store": root,
            "storeExists": exists,
            "isolation": rung.to_string(),
            "flavour": flavour,
            "kernel": kernel,
            "processors": default_jobs(),
        }))?,
        Format::Table => render::stdout(&format!(
            "version:     {}\nstore:       {}{}\nisolation:   {rung}\nlayer trees: {flavour}\nkernel:      {kernel}\nprocessors:  {}\n",
            env!("CARGO_PKG_VERSION"),
            root.display(),
            if exists { "" } else { " (not made yet)" },
            default_jobs(),
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(settings: &Settings) -> anyhow::Result<ExitCode> {
    // Trees of a user with sub-ids can only be looked into from inside.
    wire::enter_user_namespace()?;
    let store = settings.store()?;
    let problems = store.verify(default_jobs())?;
    for problem in &problems {
        render::stderr_line(&format!("problem: {problem}"));
    }
    if !problems.is_empty() {
        bail!(
            "the store at {} has {} problems",
            store.root().display(),
            problems.len()
        );
    }
    render::stderr_line("the store is whole");
    Ok(ExitCode::SUCCESS)
}
