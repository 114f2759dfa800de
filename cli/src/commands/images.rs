//! `wythe images`

use std::process::ExitCode;

use serde::Serialize;
use wythe_layers::spec::{MediaType, Platform, Reference};
use wythe_layers::store::Store;
use wythe_layers::{image, layer};

use crate::args::{Format, ImagesArgs};
use crate::render::{self, table::table};
use crate::settings::Settings;

/// One row. Stable: `--format json` prints exactly this.
#[derive(Debug, Serialize)]
struct Row {
    repository: String,
    tag: String,
    digest: String,
    image_id: String,
    created: Option<String>,
    platform: String,
    /// Bytes of all layers, not compressed.
    size_bytes: u64,
}

pub(crate) fn run(settings: &Settings, args: &ImagesArgs) -> anyhow::Result<ExitCode> {
    let store = settings.store()?;
    let mut rows = Vec::new();
    for (reference, descriptor) in store.tags()? {
        if args
            .name
            .as_ref()
            .is_some_and(|wanted| !matches(wanted, &reference))
        {
            continue;
        }
        let Some(row) = row(&store, &reference, descriptor.media_type.clone())? else {
            continue;
        };
        rows.push(row);
    }
    match (args.quiet, args.format) {
        (true, _) => {
            let ids: Vec<&str> = rows.iter().map(|row| row.image_id.as_str()).collect();
            render::stdout(&ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
        }
        (false, Format::Json) => render::json(&rows)?,
        (false, Format::Table) => render::stdout(&as_table(&rows, args))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `app` means every tag of it; `app:1` that one.
fn matches(wanted: &Reference, have: &Reference) -> bool {
    wanted.name() == have.name()
        && (wanted.tag() == Some("latest") || wanted.tag().is_none() || wanted.tag() == have.tag())
}

fn row(store: &Store, reference: &Reference, tagged: MediaType) -> anyhow::Result<Option<Row>> {
    // An index without an image for this machine is still listed by its first platform elsewhere;
    // here a name that cannot be run is left out rather than shown with made-up numbers.
    let Some(image) = image::open(store, reference, &Platform::host()).or_else(|error| {
        tracing::warn!(%reference, %tagged, %error, "image cannot be opened");
        Ok::<_, anyhow::Error>(None)
    })?
    else {
        return Ok(None);
    };
    let mut size_bytes = 0;
    for diff_id in &image.config.rootfs.diff_ids {
        size_bytes += layer::record(store, diff_id)?.map_or(0, |record| record.size_bytes);
    }
    Ok(Some(Row {
        repository: reference.name(),
        tag: reference.tag().unwrap_or("<none>").to_owned(),
        digest: image.descriptor.digest.to_string(),
        image_id: image.config_descriptor.digest.to_string(),
        created: image.config.created.clone(),
        platform: image.config.platform().to_string(),
        size_bytes,
    }))
}

fn as_table(rows: &[Row], args: &ImagesArgs) -> String {
    let short = |id: &str| {
        if args.no_trunc {
            id.to_owned()
        } else {
            id.chars().skip("sha256:".len()).take(12).collect()
        }
    };
    let mut header = vec!["REPOSITORY", "TAG"];
    if args.digests {
        header.push("DIGEST");
    }
    header.extend(["IMAGE ID", "PLATFORM", "SIZE"]);
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let familiar = row.repository.strip_prefix("docker.io/library/");
            let familiar = familiar.or_else(|| row.repository.strip_prefix("docker.io/"));
            let mut cells = vec![
                familiar.unwrap_or(&row.repository).to_owned(),
                row.tag.clone(),
            ];
            if args.digests {
                cells.push(row.digest.clone());
            }
            cells.extend([
                short(&row.image_id),
                row.platform.clone(),
                render::bytes(row.size_bytes),
            ]);
            cells
        })
        .collect();
    table(&header, &rows)
}
