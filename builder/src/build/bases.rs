//! Base images: found by name, and their layers brought in when a step needs them.

use std::sync::{Arc, PoisonError};

use wythe_layers::image::{self, StoredImage, StoredManifest};
use wythe_layers::layer::LayerStack;
use wythe_layers::spec::{Manifest, Platform, Reference};

use super::Builder;
use super::session::{Mode, Session};
use crate::plan::{BaseImage, Origin};
use crate::{BuildRequest, Error, ImageAt, PullPolicy, Result};

/// Finds an image; `None` when a probe would have to ask its source.
pub(super) fn resolve(
    builder: &Builder,
    request: &BuildRequest,
    mode: Mode,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<Arc<BaseImage>>> {
    if request.pull != PullPolicy::Always
        && let Some(stored) = image::open(&builder.store, reference, platform)?
    {
        stored
            .config
            .validate()
            .map_err(wythe_layers::Error::from)?;
        return Ok(Some(Arc::new(BaseImage {
            reference: reference.clone(),
            config: stored.config.clone(),
            origin: Origin::Store(Box::new(stored)),
            layout: None,
        })));
    }
    if mode == Mode::Probe {
        return Ok(None);
    }
    let source = builder
        .images
        .as_ref()
        .filter(|_| request.pull != PullPolicy::Never);
    let Some(source) = source else {
        return Err(Error::NoImage {
            reference: Box::new(reference.clone()),
        });
    };
    let resolved = source.resolve(reference, platform)?;
    resolved
        .config
        .validate()
        .map_err(wythe_layers::Error::from)?;
    Ok(Some(Arc::new(BaseImage {
        reference: reference.clone(),
        config: resolved.config.clone(),
        origin: Origin::Source(Box::new(resolved)),
        layout: None,
    })))
}

/// The same of an image that has a source of its own; `None` when a probe would have to copy it.
pub(super) fn resolve_layout(
    builder: &Builder,
    mode: Mode,
    layout: &ImageAt,
    platform: &Platform,
) -> Result<Option<Arc<BaseImage>>> {
    let resolved = layout.source.resolve(&layout.reference, platform)?;
    resolved
        .config
        .validate()
        .map_err(wythe_layers::Error::from)?;
    let config = resolved.config.clone();
    let is_here = builder.store.blobs().has(&resolved.descriptor)?;
    let stored = if is_here {
        image::open_target(&builder.store, &resolved.descriptor, platform)?
    } else {
        None
    };
    let origin = match stored {
        Some(stored) => Origin::Store(Box::new(stored)),
        None if mode == Mode::Probe => return Ok(None),
        None => Origin::Source(Box::new(resolved)),
    };
    Ok(Some(Arc::new(BaseImage {
        reference: layout.reference.clone(),
        config,
        origin,
        layout: Some(layout.clone()),
    })))
}

impl BaseImage {
    /// Its manifest, where it has a whole one.
    pub(super) fn manifest(&self) -> Option<&Manifest> {
        match &self.origin {
            Origin::Store(stored) => match &stored.manifest {
                StoredManifest::Whole(manifest) => Some(manifest.value()),
                StoredManifest::Pending(_) => None,
            },
            Origin::Source(resolved) => Some(resolved.manifest.value()),
        }
    }
}

/// The unpacked layers of a base image; fetched now if they are not here.
pub(super) fn stack(
    session: &Session<'_>,
    position: usize,
    base: &BaseImage,
) -> Result<Arc<LayerStack>> {
    // Held while fetching: another stage on the same base waits instead of fetching too. Stages on
    // other bases wait as well, but a fetch uses all the bandwidth there is.
    let mut stacks = session
        .base_stacks
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(stack) = stacks.get(&position) {
        return Ok(Arc::clone(stack));
    }
    let stack = Arc::new(open_stack(session, base)?);
    stacks.insert(position, Arc::clone(&stack));
    Ok(stack)
}

fn open_stack(session: &Session<'_>, base: &BaseImage) -> Result<LayerStack> {
    let diff_ids = &base.config.rootfs.diff_ids;
    if let Some(stack) = LayerStack::open(session.store, diff_ids)? {
        return Ok(stack);
    }
    fetch(session, base, Unpack::Yes)?;
    if let Some(stack) = LayerStack::open(session.store, diff_ids)? {
        return Ok(stack);
    }
    let observer = session.builder.observer.as_ref();
    let stored = match &base.origin {
        Origin::Store(stored) => StoredImage::clone(stored),
        Origin::Source(resolved) => {
            let platform = base.config.platform();
            let target = &resolved.descriptor;
            image::open_target(session.store, target, &platform)?.ok_or_else(|| Error::NoImage {
                reference: Box::new(base.reference.clone()),
            })?
        }
    };
    Ok(image::stack(
        session.store,
        &stored,
        session.jobs(),
        observer,
    )?)
}

/// Whether trees are wanted or only blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpack {
    Yes,
    No,
}

/// Brings an image that is only known by manifest and config into the store, and tags it there:
/// the next build finds it without asking. Nothing to do for one that is there.
pub(super) fn fetch(session: &Session<'_>, base: &BaseImage, unpack: Unpack) -> Result<()> {
    let source = match &base.layout {
        Some(layout) => Some(&layout.source),
        None => session.builder.images.as_ref(),
    };
    let (Origin::Source(resolved), Some(source)) = (&base.origin, source) else {
        return Ok(());
    };
    session.check_cancelled()?;
    let descriptor = image::fetch(
        session.store,
        source.as_ref(),
        resolved,
        unpack == Unpack::Yes,
        session.jobs(),
        session.builder.observer.as_ref(),
    )?;
    if base.layout.is_none() {
        session.store.set_tag(&base.reference, &descriptor)?;
    }
    Ok(())
}
