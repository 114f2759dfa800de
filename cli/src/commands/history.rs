//! `wythe history`

use std::process::ExitCode;

use serde::Serialize;
use wythe_layers::layer;
use wythe_layers::spec::DiffId;

use crate::args::{Format, HistoryArgs};
use crate::render::{self, printable, table::table};
use crate::settings::{Settings, stored_image};

/// One step. Stable: `--format json` prints exactly this.
#[derive(Debug, Serialize)]
struct Row {
    created: Option<String>,
    created_by: String,
    comment: Option<String>,
    diff_id: Option<DiffId>,
    /// Bytes of its layer, not compressed; 0 for a step without one.
    size_bytes: u64,
}

pub(crate) fn run(settings: &Settings, args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let store = settings.store()?;
    let image = stored_image(&store, &args.image, None)?;
    let mut diff_ids = image.config.rootfs.diff_ids.iter();
    let mut rows = Vec::new();
    for step in &image.config.history {
        let diff_id = if step.empty_layer {
            None
        } else {
            diff_ids.next()
        };
        rows.push((
            step.created.clone(),
            step.created_by.clone(),
            step.comment.clone(),
            diff_id,
        ));
    }
    // An image may have more layers than history; they are shown without words.
    rows.extend(diff_ids.map(|diff_id| (None, None, None, Some(diff_id))));

    let mut shown = Vec::new();
    for (created, created_by, comment, diff_id) in rows {
        let record = diff_id
            .map(|diff_id| layer::record(&store, diff_id))
            .transpose()?
            .flatten();
        shown.push(Row {
            created,
            created_by: created_by.unwrap_or_default(),
            comment,
            diff_id: diff_id.cloned(),
            size_bytes: record.map_or(0, |record| record.size_bytes),
        });
    }
    shown.reverse();
    match args.format {
        Format::Json => render::json(&shown)?,
        Format::Table => render::stdout(&as_table(&shown, args.no_trunc))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_table(rows: &[Row], no_trunc: bool) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let layer = row.diff_id.as_ref().map_or("-", |diff_id| {
                if no_trunc {
                    diff_id.digest().hex()
                } else {
                    diff_id.digest().short()
                }
            });
            let mut text = printable(&row.created_by.replace(['\n', '\t'], " "));
            if !no_trunc && text.chars().count() > 60 {
                text = text.chars().take(59).chain(['…']).collect();
            }
            let created = row.created.clone().unwrap_or_else(|| "-".into());
            vec![
                layer.to_owned(),
                printable(&created),
                render::bytes(row.size_bytes),
                text,
            ]
        })
        .collect();
    table(&["LAYER", "CREATED", "SIZE", "CREATED BY"], &cells)
}
