//! A stage's layers as something to look into: unpacked trees, or lists of entries.

use std::sync::Arc;

use wythe_layers::layer::{self, LayerStack, Unpacked};
use wythe_layers::spec::DiffId;

use super::bases;
use super::session::Session;
use crate::plan::{Base, BaseImage};
use crate::view::View;
use crate::{Error, Result};

/// The image at the bottom of a stage, through the stages between: its position in the plan's
/// list, and itself.
pub(super) fn bottom<'s>(
    session: &'s Session<'_>,
    mut position: usize,
) -> Option<(usize, &'s Arc<BaseImage>)> {
    loop {
        match &session.plan.stages.get(position)?.base {
            Base::Scratch => return None,
            Base::Stage(below) => position = *below,
            Base::Image(image) => return Some((position, image)),
        }
    }
}

/// The base's stack of a stage, and how many layers that are.
fn base_stack(session: &Session<'_>, position: usize) -> Result<(Arc<LayerStack>, usize)> {
    match bottom(session, position) {
        None => Ok((Arc::default(), 0)),
        Some((at, image)) => {
            let count = image.config.rootfs.diff_ids.len();
            Ok((bases::stack(session, at, image)?, count))
        }
    }
}

/// All of `layers` (a stage's, so far) unpacked.
pub(super) fn stack(
    session: &Session<'_>,
    position: usize,
    layers: &[DiffId],
) -> Result<Arc<LayerStack>> {
    let (base, count) = base_stack(session, position)?;
    let mut stack = LayerStack::clone(&base);
    for diff_id in layers.get(count..).unwrap_or_default() {
        stack = match stack.with(session.store, diff_id)? {
            Some(more) => more,
            None => unpack(session, &stack, diff_id)?,
        };
    }
    Ok(Arc::new(stack))
}

/// Unpacks a layer that was written straight into a blob.
fn unpack(session: &Session<'_>, below: &LayerStack, diff_id: &DiffId) -> Result<LayerStack> {
    let store = session.store;
    let missing = || {
        Error::from(wythe_layers::Error::BlobMissing {
            digest: diff_id.digest().clone(),
        })
    };
    let record = layer::record(store, diff_id)?.ok_or_else(missing)?;
    for blob in &record.blobs {
        let Some(mut body) = store.blobs().get(blob)? else {
            continue;
        };
        if let Unpacked::NeedsParents = layer::unpack(store, blob, diff_id, &mut body)? {
            layer::unpack_onto(store, blob, diff_id, below)?;
        }
        return below.with(store, diff_id)?.ok_or_else(missing);
    }
    Err(missing())
}

/// A view of `layers` that unpacks none of them but the base's.
pub(super) fn view(session: &Session<'_>, position: usize, layers: &[DiffId]) -> Result<View> {
    let (base, count) = base_stack(session, position)?;
    let mut stack = LayerStack::clone(&base);
    let mut lists = Vec::new();
    for diff_id in layers.get(count..).unwrap_or_default() {
        if lists.is_empty()
            && let Some(more) = stack.with(session.store, diff_id)?
        {
            stack = more;
            continue;
        }
        match layer::entries(session.store, diff_id)? {
            Some(list) => lists.push(Arc::new(list)),
            None => {
                // Its list is gone: the tree has to be made after all, and everything above too.
                return Ok(View::new(
                    self::stack(session, position, layers)?,
                    Vec::new(),
                ));
            }
        }
    }
    Ok(View::new(Arc::new(stack), lists))
}

/// Whether a layer is in the store in some form: stat only.
pub(super) fn is_present(session: &Session<'_>, diff_id: &DiffId) -> Result<bool> {
    let Some(record) = layer::record(session.store, diff_id)? else {
        return Ok(false);
    };
    for blob in &record.blobs {
        if session.store.blobs().has(blob)? {
            return Ok(true);
        }
    }
    Ok(LayerStack::open(session.store, std::slice::from_ref(diff_id))?.is_some())
}
