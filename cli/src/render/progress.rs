//! Progress of builds, pulls and pushes: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use wythe_layers::progress::{Event, Observer, Outcome, SharedObserver, Silent};

use super::{bytes, printable, seconds, stderr_line};
use crate::args::Progress;

impl Progress {
    /// This, or none at all where `--quiet` was given.
    pub(crate) fn unless(self, is_quiet: bool) -> Self {
        if is_quiet { Self::Quiet } else { self }
    }
}

/// The observer that `--progress` asks for.
pub(crate) fn observer(wanted: Progress) -> SharedObserver {
    match wanted {
        Progress::Quiet => Arc::new(Silent),
        Progress::Plain => Arc::new(Plain::default()),
        Progress::Tty => Arc::new(Tty::default()),
        Progress::Auto if std::io::stderr().is_terminal() => Arc::new(Tty::default()),
        Progress::Auto => Arc::new(Plain::default()),
    }
}

/// A unit under way.
#[derive(Debug)]
struct Unit {
    label: String,
    started: Instant,
    bytes: u64,
}

impl Unit {
    fn new(label: &str) -> Self {
        Self {
            label: printable(label),
            started: Instant::now(),
            bytes: 0,
        }
    }

    /// How it ended: what, how much, how long, how fast.
    fn summary(&self, outcome: Outcome) -> String {
        let Self {
            label,
            bytes: count,
            ..
        } = self;
        let took = self.started.elapsed();
        match outcome {
            Outcome::Cached => format!("{label}  cached"),
            Outcome::Failed => format!("{label}  FAILED after {}", seconds(took)),
            Outcome::Done if *count > 0 => {
                let rate = *count as f64 / took.as_secs_f64().max(1e-6);
                format!(
                    "{label}  {}, {} ({}/s)",
                    bytes(*count),
                    seconds(took),
                    bytes(rate as u64)
                )
            }
            Outcome::Done => format!("{label}  {}", seconds(took)),
        }
    }
}

/// One line when a unit ends, one for each line of output: for logs.
#[derive(Debug, Default)]
struct Plain {
    units: Mutex<HashMap<String, Unit>>,
}

impl Observer for Plain {
    fn event(&self, event: Event) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { id, label, .. } => {
                units.insert(id, Unit::new(&label));
            }
            Event::Advanced { id, bytes } => {
                if let Some(unit) = units.get_mut(&id) {
                    unit.bytes += bytes;
                }
            }
            Event::Output { id, line } => {
                // The first output announces its step: a long step must not look like the one before.
                if let Some(unit) = units.get_mut(&id).filter(|unit| unit.bytes == 0) {
                    unit.bytes = u64::MAX;
                    stderr_line(&unit.label);
                }
                stderr_line(&format!(
                    "  | {}",
                    printable(&String::from_utf8_lossy(&line))
                ));
            }
            Event::Finished { id, outcome } => {
                if let Some(mut unit) = units.remove(&id) {
                    if unit.bytes == u64::MAX {
                        unit.bytes = 0;
                    }
                    stderr_line(&unit.summary(outcome));
                }
            }
            Event::Warning { message } => stderr_line(&format!("warning: {}", printable(&message))),
            _ => {}
        }
    }
}

/// Bars that move, finished units above them.
struct Tty {
    bars: MultiProgress,
    units: Mutex<HashMap<String, (Unit, ProgressBar)>>,
}

impl Default for Tty {
    fn default() -> Self {
        Self {
            bars: MultiProgress::new(),
            units: Mutex::default(),
        }
    }
}

impl Tty {
    fn line(&self, text: &str) {
        if self.bars.println(text).is_err() {
            stderr_line(text);
        }
    }
}

impl Observer for Tty {
    fn event(&self, event: Event) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started {
                id,
                label,
                total_bytes,
            } => {
                let template = match total_bytes {
                    Some(_) => {
                        "{spinner} {prefix}  {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}"
                    }
                    None => "{spinner} {prefix}  {elapsed} {wide_msg}",
                };
                let style = ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                let unit = Unit::new(&label);
                let bar = match total_bytes {
                    Some(total) => ProgressBar::new(total),
                    None => ProgressBar::new_spinner(),
                };
                let bar = self
                    .bars
                    .add(bar.with_style(style).with_prefix(unit.label.clone()));
                bar.enable_steady_tick(Duration::from_millis(120));
                units.insert(id, (unit, bar));
            }
            Event::Advanced { id, bytes } => {
                if let Some((unit, bar)) = units.get_mut(&id) {
                    unit.bytes += bytes;
                    bar.inc(bytes);
                }
            }
            Event::Output { id, line } => {
                let text = printable(&String::from_utf8_lossy(&line));
                if let Some((_, bar)) = units.get(&id) {
                    bar.set_message(text.clone());
                }
                self.line(&format!("  | {text}"));
            }
            Event::Finished { id, outcome } => {
                if let Some((unit, bar)) = units.remove(&id) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                    self.line(&unit.summary(outcome));
                }
            }
            Event::Warning { message } => self.line(&format!("warning: {}", printable(&message))),
            _ => {}
        }
    }
}
