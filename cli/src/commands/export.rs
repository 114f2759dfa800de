//! Writes a built image where `--output` says.

use std::collections::HashMap;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use wythe_builder::BuildResult;
use wythe_layers::image;
use wythe_layers::layer::{Found, LayerStack, Times};
use wythe_layers::progress::SharedObserver;
use wythe_layers::spec::{Descriptor, Platform, Reference};
use wythe_layers::store::Store;
use wythe_layers::tar::TarWriter;
use wythe_layers::tree::{Applier, ApplyOptions, EntryKind, EntryPath};

use super::output::{Kind, Output};
use super::{push, save};
use crate::args::BuildArgs;
use crate::settings::{Settings, default_jobs};

/// Writes one output.
pub(crate) fn write(
    settings: &Settings,
    store: &Store,
    result: &BuildResult,
    args: &BuildArgs,
    output: &Output,
    observer: &SharedObserver,
) -> anyhow::Result<()> {
    let whole = || {
        image::finalise(
            store,
            &result.descriptor,
            output.compression,
            default_jobs(),
            &**observer,
        )
        .context("cannot compress the layers")
    };
    match &output.kind {
        Kind::Store => Ok(()),
        Kind::Registry => {
            let whole = whole()?;
            let jobs = args.jobs.unwrap_or_else(default_jobs);
            args.tags
                .iter()
                .try_for_each(|tag| push::registry(settings, store, &whole, tag, jobs, observer))
        }
        Kind::OciArchive(target) => save::oci_archive(store, &named(args, &whole()?), target),
        Kind::OciDirectory(path) => save::oci_directory(store, &named(args, &whole()?), path),
        Kind::DockerArchive(target) => save::docker_archive(store, &named(args, &whole()?), target),
        Kind::Tar(target) => {
            let stack = stack(store, result, observer)?;
            save::to_target(target, |sink| write_tar(&stack, sink))
        }
        Kind::Local(path) => write_files(&stack(store, result, observer)?, path),
    }
}

/// Each name with the image; an image without a name goes without.
fn named(args: &BuildArgs, whole: &Descriptor) -> Vec<(Option<Reference>, Descriptor)> {
    if args.tags.is_empty() {
        return vec![(None, whole.clone())];
    }
    args.tags
        .iter()
        .map(|tag| (Some(tag.clone()), whole.clone()))
        .collect()
}

fn stack(
    store: &Store,
    result: &BuildResult,
    observer: &SharedObserver,
) -> anyhow::Result<LayerStack> {
    let image = image::open_target(store, &result.descriptor, &Platform::host())?
        .context("the image that was built is not in the store")?;
    let stack = image::stack(store, &image, default_jobs(), &**observer)?;
    // The same bytes as from a machine that pulled the image.
    Ok(stack.with_times(Times::Layers))
}

/// Visits every name of the merged view, parents before children, in order.
fn walk(
    stack: &LayerStack,
    directory: &EntryPath,
    visit: &mut dyn FnMut(&Found) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for found in stack.read_dir(directory)? {
        visit(&found)?;
        if found.entry.kind == EntryKind::Directory {
            walk(stack, &found.entry.path, visit)?;
        }
    }
    Ok(())
}

/// The merged root file system as one tar.
fn write_tar(stack: &LayerStack, sink: &mut dyn Write) -> anyhow::Result<()> {
    let mut writer = TarWriter::new(BufWriter::with_capacity(1 << 20, sink));
    let mut names = Names::default();
    walk(stack, &EntryPath::default(), &mut |found| {
        let (entry, mut content) = names.with_content(stack, found)?;
        writer.append(&entry, &mut *content)?;
        Ok(())
    })?;
    writer.finish()?.flush().context("cannot write the tar")
}

/// The first name of every file that has several.
#[derive(Default)]
struct Names {
    /// By layer, device and inode: names in different layers are different files.
    first: HashMap<(usize, u64, u64), EntryPath>,
}

impl Names {
    /// An entry and its content. Of a file's names the first to come is the file, the others are
    /// hard links to it: the name that the layer has as the file may be hidden by a layer above.
    fn with_content(
        &mut self,
        stack: &LayerStack,
        found: &Found,
    ) -> anyhow::Result<(wythe_layers::tree::Entry, Box<dyn Read>)> {
        let mut entry = found.entry.clone();
        let is_file = matches!(
            entry.kind,
            EntryKind::File { .. } | EntryKind::HardLink { .. }
        );
        if !is_file {
            return Ok((entry, Box::new(std::io::empty())));
        }
        let file = stack.open_file(found)?;
        let metadata = file.metadata().context("cannot ask for a file's size")?;
        if metadata.nlink() > 1 {
            let inode = (found.layer, metadata.dev(), metadata.ino());
            if let Some(target) = self.first.get(&inode) {
                let target = target.clone();
                entry.kind = EntryKind::HardLink { target };
                return Ok((entry, Box::new(std::io::empty())));
            }
            self.first.insert(inode, entry.path.clone());
        }
        let size = metadata.len();
        entry.kind = EntryKind::File { size };
        Ok((entry, Box::new(file.take(size))))
    }
}

/// The merged root file system as files; owners and devices as far as this user may make them.
fn write_files(stack: &LayerStack, path: &Path) -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut entries =
        std::fs::read_dir(path).with_context(|| format!("cannot open {}", path.display()))?;
    ensure!(entries.next().is_none(), "{} is not empty", path.display());
    let root = wythe_layers::tree::RootDir::open(path)?;
    let mut applier = Applier::new(
        root,
        wythe_layers::tree::Flavour::SingleId,
        ApplyOptions::default(),
    )?;
    let mut names = Names::default();
    walk(stack, &EntryPath::default(), &mut |found| {
        let (mut entry, mut content) = names.with_content(stack, found)?;
        // Owners are not kept: such a program would act for whoever runs this, not for its owner.
        if !entry.kind.is_directory() {
            entry.mode &= !0o6000;
        }
        let shown = path.join(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
        applier
            .apply(entry, &mut *content)
            .with_context(|| format!("cannot write {}", shown.display()))?;
        Ok(())
    })?;
    applier.finish()?;
    Ok(())
}
