//! `wythe inspect`

use std::process::ExitCode;

use serde_json::{Value, json};
use wythe_layers::layer;
use wythe_layers::spec::MAX_MANIFEST_BYTES;

use crate::args::InspectArgs;
use crate::render;
use crate::settings::{Settings, stored_image};

pub(crate) fn run(settings: &Settings, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let store = settings.store()?;
    let mut documents = Vec::new();
    for reference in &args.images {
        let image = stored_image(&store, reference, args.platform.as_ref())?;
        if args.config {
            render::stdout_bytes(image.config.bytes())?;
            continue;
        }
        let manifest = store.blobs().read(&image.descriptor, MAX_MANIFEST_BYTES)?;
        if args.raw {
            render::stdout_bytes(&manifest)?;
            continue;
        }
        let mut layers = Vec::new();
        for diff_id in &image.config.rootfs.diff_ids {
            let record = layer::record(&store, diff_id)?;
            layers.push(json!({
                "diffId": diff_id,
                "sizeBytes": record.as_ref().map(|record| record.size_bytes),
                "blobs": record.map(|record| record.blobs).unwrap_or_default(),
            }));
        }
        documents.push(json!({
            "name": reference.to_string(),
            "imageId": image.config_descriptor.digest,
            "digest": image.descriptor.digest,
            "mediaType": image.descriptor.media_type,
            "layers": layers,
            "config": serde_json::from_slice::<Value>(image.config.bytes())?,
            "manifest": serde_json::from_slice::<Value>(&manifest)?,
        }));
    }
    if !documents.is_empty() {
        render::json(&documents)?;
    }
    Ok(ExitCode::SUCCESS)
}
