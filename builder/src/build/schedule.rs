//! Stages side by side: each begins as soon as those it needs are done.

use std::sync::{Condvar, Mutex, PoisonError};

use wythe_layers::progress::{Event, Outcome};

use super::session::{Session, file_sources};
use super::stage::{StageResult, run_stage, step_id, step_label};
use crate::plan::{Base, FileSource};
use crate::{Error, Result, StepOutcome};

/// All stages on this thread, in the plan's order; `None` at a probe's first miss.
pub(super) fn one_by_one(session: &Session<'_>) -> Result<Option<Vec<StageResult>>> {
    let mut done: Vec<Option<StageResult>> = vec![None; session.plan.stages.len()];
    for position in 0..session.plan.stages.len() {
        let Some(result) = run_stage(session, position, &done)? else {
            return Ok(None);
        };
        if let Some(slot) = done.get_mut(position) {
            *slot = Some(result);
        }
    }
    Ok(done.into_iter().collect())
}

/// What the workers share.
struct Board {
    done: Vec<Option<StageResult>>,
    taken: Vec<bool>,
    failure: Option<Error>,
}

/// All stages, as many at once as the request allows. The first failure stops the others.
pub(super) fn at_once(session: &Session<'_>) -> Result<Vec<StageResult>> {
    let count = session.plan.stages.len();
    let workers = session.jobs().min(count);
    let board = Mutex::new(Board {
        done: vec![None; count],
        taken: vec![false; count],
        failure: None,
    });
    let changed = Condvar::new();
    if workers <= 1 {
        work(session, &board, &changed);
    } else {
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| work(session, &board, &changed));
            }
        });
    }
    let board = board.into_inner().unwrap_or_else(PoisonError::into_inner);
    match board.failure {
        Some(error) => Err(error),
        None => board
            .done
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or(Error::Cancelled),
    }
}

fn work(session: &Session<'_>, board: &Mutex<Board>, changed: &Condvar) {
    let mut state = board.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if state.failure.is_some() {
            return;
        }
        let waiting = |position: &usize| state.taken.get(*position) == Some(&false);
        let ready = |position: &usize| needs_are_done(session, *position, &state.done);
        let mut open = (0..session.plan.stages.len()).filter(waiting).peekable();
        if open.peek().is_none() {
            return;
        }
        let Some(position) = open.find(ready) else {
            // Something it needs is being done by another worker.
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        if let Some(taken) = state.taken.get_mut(position) {
            *taken = true;
        }
        let known = state.done.clone();
        drop(state);
        // A panic elsewhere must not leave the others waiting for ever.
        let result = run_stage(session, position, &known);
        state = board.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(result) => {
                if let Some(slot) = state.done.get_mut(position) {
                    *slot = result;
                }
            }
            Err(error) => {
                session.cancel.cancel();
                // Others end with "cancelled" because of the first.
                if !matches!(state.failure, Some(ref first) if !matches!(first, Error::Cancelled)) {
                    state.failure = Some(error);
                }
            }
        }
        changed.notify_all();
    }
}

fn needs_are_done(session: &Session<'_>, position: usize, done: &[Option<StageResult>]) -> bool {
    let is_done = |position: usize| done.get(position).is_some_and(Option::is_some);
    let Some(stage) = session.plan.stages.get(position) else {
        return false;
    };
    let base = match stage.base {
        Base::Stage(base) => is_done(base),
        Base::Scratch | Base::Image(_) => true,
    };
    let mut sources = stage.steps.iter().flat_map(|s| file_sources(&s.action));
    base && sources.all(|source| match source {
        FileSource::Stage(from) => is_done(*from),
        FileSource::Context | FileSource::Named(_) => true,
    })
}

/// Tells the observer of a build that was cached from end to end.
pub(super) fn tell(session: &Session<'_>, results: &[StageResult]) {
    let observer = &session.builder.observer;
    let stages = session.plan.stages.iter().zip(results).enumerate();
    for (position, (stage, result)) in stages {
        for (number, (step, done)) in stage.steps.iter().zip(&result.steps).enumerate() {
            if done.outcome == StepOutcome::Config {
                continue;
            }
            let id = step_id(position, number);
            observer.event(Event::Started {
                id: id.clone(),
                label: step_label(stage, number, step),
                total_bytes: None,
            });
            observer.event(Event::Finished {
                id,
                outcome: Outcome::Cached,
            });
        }
    }
}
