//! What may be thrown away: neither an image nor the build cache needs it.

use std::time::Duration;

use wythe_layers::image::{self, Roots};
use wythe_layers::store::Store;

use crate::render;

/// How long to wait for other processes that use the store.
const PATIENCE: Duration = Duration::from_millis(500);

/// Frees what no name and no cached step needs. When others use the store it is left for the next
/// time.
pub(crate) fn collect_garbage(store: Store) -> anyhow::Result<()> {
    let roots = Roots {
        stacks: wythe_builder::cached_stacks(&store)?,
        ..Roots::default()
    };
    match image::collect_garbage(&store, &roots, PATIENCE) {
        Ok(collected) => {
            tracing::debug!(?collected, "garbage collected");
            if collected.blob_bytes > 0 {
                render::stderr_line(&format!("freed {}", render::bytes(collected.blob_bytes)));
            }
            Ok(())
        }
        Err(wythe_layers::Error::Locked { .. }) => {
            render::stderr_line(
                "the store is in use: what is no longer needed stays until the next `wythe rmi`",
            );
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
