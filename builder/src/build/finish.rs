//! The image: config and history from the plan and the layers, stored, and tagged last.

use wythe_layers::image;
use wythe_layers::layer::Purpose;
use wythe_layers::spec::{DiffId, Digest, History, ImageConfig, ImageId, Platform, Raw};

use super::bases::{self, Unpack};
use super::materials::{self, bottom};
use super::session::{Mode, Session};
use super::stage::{StageResult, write_layer};
use crate::plan::{Action, Base, Origin, PlannedStage};
use crate::{BuildResult, Result, StepReport};

/// Stores the target as an image and tags it.
pub(super) fn image(session: &Session<'_>, stages: &[StageResult]) -> Result<BuildResult> {
    let target = session.plan.target;
    let Some(stage) = session.plan.stages.get(target) else {
        return Err(crate::Error::Cancelled);
    };
    let base = bottom(session, target).map(|(_, image)| image);
    if let Some(base) = base
        && session.mode == Mode::Build
        && matches!(base.origin, Origin::Source(_))
    {
        // Nothing may have needed the layers until now; an image without them is none.
        bases::fetch(session, base, Unpack::No)?;
    }
    let config = final_config(session, stage, stages);
    let empty = empty_layer();
    if config.rootfs.diff_ids.contains(&empty) && !materials::is_present(session, &empty)? {
        write_layer(
            session,
            Vec::new(),
            Purpose::Blob(session.request.compression),
        )?;
    }
    let config = Raw::encode(config, "image config").map_err(wythe_layers::Error::from)?;
    let descriptor = image::commit(
        session.store,
        &config,
        base.and_then(|base| base.manifest()),
        session.request.annotations.clone(),
    )?;
    for tag in &session.request.tags {
        session.store.set_tag(tag, &descriptor)?;
    }
    Ok(BuildResult {
        image_id: ImageId(config.digest()),
        descriptor,
        config,
        steps: reports(session, stages),
    })
}

fn final_config(
    session: &Session<'_>,
    stage: &PlannedStage,
    stages: &[StageResult],
) -> ImageConfig {
    let mut config = stage.config.clone();
    config.config.env = stage.env.iter().cloned().collect();
    let created = rfc3339(session.epoch.seconds);
    drop_foreign(&mut config);
    if session.request.platform_is_given {
        set_platform(&mut config, &session.request.platform);
    }
    config.created = Some(created.clone());
    let labels = session.request.labels.clone();
    config.config.labels.extend(labels);
    (config.history, config.rootfs.diff_ids) = steps(session, stages, &created);
    config
}

/// A new image has what a Dockerfile can say, as with BuildKit. What else a base's config holds tells
/// of the base alone: its container, its build, its cache, its size.
fn drop_foreign(config: &mut ImageConfig) {
    config.extra.clear();
    config.config.extra.clear();
    config.config.stop_timeout = None;
    if let Some(check) = &mut config.config.healthcheck {
        check.extra.clear();
    }
    if config.variant.as_deref() == Some("") {
        config.variant = None;
    }
}

/// What was asked for, also where the final stage is one of another platform. Of a base of the same
/// architecture the parts that nobody asked for stay.
fn set_platform(config: &mut ImageConfig, platform: &Platform) {
    let is_same = config.os == platform.os && config.architecture == platform.architecture;
    config.os.clone_from(&platform.os);
    config.architecture.clone_from(&platform.architecture);
    if platform.variant.is_some() || !is_same {
        config.variant.clone_from(&platform.variant);
    }
    if platform.os_version.is_some() || !is_same {
        config.os_version.clone_from(&platform.os_version);
    }
    if !platform.os_features.is_empty() {
        config.os_features.clone_from(&platform.os_features);
    }
}

/// The base's history and layers, then those of each step of the stages on the way up. A step that
/// might have changed files and did not is an empty layer here, as with BuildKit, so that who reads
/// the history finds each such step's layer; nothing is built on it.
fn steps(
    session: &Session<'_>,
    stages: &[StageResult],
    created: &str,
) -> (Vec<History>, Vec<DiffId>) {
    let mut way = vec![session.plan.target];
    let (mut history, mut layers) = (Vec::new(), Vec::new());
    loop {
        let position = way.last().copied().unwrap_or_default();
        match session.plan.stages.get(position).map(|stage| &stage.base) {
            Some(Base::Stage(below)) => way.push(*below),
            Some(Base::Image(image)) => {
                history.clone_from(&image.config.history);
                for entry in &mut history {
                    entry.extra.clear();
                }
                layers.clone_from(&image.config.rootfs.diff_ids);
                complete(&mut history, &layers, created);
                break;
            }
            Some(Base::Scratch) | None => break,
        }
    }
    for position in way.into_iter().rev() {
        let (Some(stage), Some(result)) = (session.plan.stages.get(position), stages.get(position))
        else {
            continue;
        };
        for (step, done) in stage.steps.iter().zip(&result.steps) {
            let layer = match step.action {
                Action::Config => None,
                _ => Some(done.layer.clone().unwrap_or_else(empty_layer)),
            };
            if let Some(text) = &step.history {
                history.push(History {
                    created: Some(created.to_owned()),
                    created_by: Some(text.clone()),
                    empty_layer: layer.is_none(),
                    ..History::default()
                });
            }
            layers.extend(layer);
        }
    }
    (history, layers)
}

/// The layer without entries: a tar is two blocks of zeros then.
fn empty_layer() -> DiffId {
    DiffId(Digest::of(&[0; 1024]))
}

/// Docker refuses an image whose history tells of fewer layers than it has, so a base without
/// history gets one; a base whose history tells of more has its oldest made empty.
fn complete(history: &mut Vec<History>, diff_ids: &[DiffId], created: &str) {
    let told = history.iter().filter(|entry| !entry.empty_layer).count();
    for _ in told..diff_ids.len() {
        history.push(History {
            created: Some(created.to_owned()),
            comment: Some("a layer of the base image that its history does not tell of".to_owned()),
            ..History::default()
        });
    }
    let surplus = told.saturating_sub(diff_ids.len());
    let layers = history.iter_mut().filter(|entry| !entry.empty_layer);
    for entry in layers.take(surplus) {
        entry.empty_layer = true;
    }
}

fn reports(session: &Session<'_>, stages: &[StageResult]) -> Vec<StepReport> {
    let mut reports = Vec::new();
    for (stage, result) in session.plan.stages.iter().zip(stages) {
        for (number, (step, done)) in stage.steps.iter().zip(&result.steps).enumerate() {
            reports.push(StepReport {
                stage: stage.name.clone(),
                position: number + 1,
                of: stage.steps.len(),
                text: step.text.clone(),
                line: step.line,
                outcome: done.outcome,
                duration: done.duration,
                key: done.key.clone(),
                diff_id: done.layer.clone(),
            });
        }
    }
    reports
}

/// Seconds since 1970 as image configs write time (RFC 3339, UTC).
fn rfc3339(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let time = seconds.rem_euclid(86_400);
    // Days to civil date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        time / 3_600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_written_as_configs_want_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
