//! Where another builder differs from wythe on the corpus, and why: `fixtures/corpus/BUILDER.txt`.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::Built;
use super::case::{self, Case};
use super::tree::Tree;

/// The list of one builder.
pub(crate) struct Known {
    builder: &'static str,
    lines: Vec<Line>,
}

/// `case`, what differs (`config.Env`, `history`, `/path`, `build`), why. A `*` at the end of the
/// first two stands for any rest.
struct Line {
    case: String,
    what: String,
    used: Cell<bool>,
}

impl Known {
    pub(crate) fn read(builder: &'static str) -> Self {
        let text = std::fs::read_to_string(case::folder().join(format!("{builder}.txt"))).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let parse = |line: &str| {
            let mut fields = line.splitn(3, '\t');
            let mut field = || fields.next().filter(|text| !text.is_empty());
            let (case, what) = (field().expect(line), field().expect(line));
            field().unwrap_or_else(|| panic!("no reason: {line}"));
            Line {
                case: case.to_owned(),
                what: what.to_owned(),
                used: false.into(),
            }
        };
        Self {
            builder,
            lines: lines.map(parse).collect(),
        }
    }

    fn has(&self, case: &Case, what: &str) -> bool {
        let fits = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => pattern == text,
        };
        let mut lines = self.lines.iter();
        let line = lines.find(|line| fits(&line.case, &case.name) && fits(&line.what, what));
        line.inspect(|line| line.used.set(true)).is_some()
    }

    /// Whether the other builder is not to be tried with it.
    pub(crate) fn is_skipped(&self, case: &Case) -> bool {
        self.has(case, "build")
    }

    /// Fails unless what differs is what the list says.
    pub(crate) fn check<'c>(
        &self,
        each: impl Iterator<Item = (&'c Case, Result<Built, String>, Result<Built, String>)>,
    ) {
        let mut problems = String::new();
        for (case, ours, theirs) in each {
            let name = &case.name;
            match (ours, theirs) {
                (Err(log), _) => writeln!(problems, "{name}: not built by wythe\n{log}").unwrap(),
                (_, Err(log)) => writeln!(problems, "{name}\tbuild\t{log}").unwrap(),
                (Ok(ours), Ok(theirs)) => {
                    for (what, ours, theirs) in differences(&ours, &theirs) {
                        if !self.has(case, &what) {
                            let builder = self.builder;
                            writeln!(problems, "{name}\t{what}\twythe {ours} {builder} {theirs}")
                                .unwrap();
                        }
                    }
                }
            }
        }
        if std::env::var_os("WYTHE_CORPUS").is_none() {
            for line in self.lines.iter().filter(|line| !line.used.get()) {
                let (case, what) = (&line.case, &line.what);
                writeln!(
                    problems,
                    "{case}\t{what}\tno longer differs: take it off the list"
                )
                .unwrap();
            }
        }
        assert!(problems.is_empty(), "\n{problems}");
    }
}

/// What differs: `config.Key` or a path, ours, theirs.
fn differences(ours: &Built, theirs: &Built) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let (our_config, their_config) = (&ours.config, &theirs.config);
    let keys = our_config.keys().chain(their_config.keys());
    for key in keys.collect::<BTreeSet<_>>() {
        let show = |config: &Map<String, Value>| {
            config.get(key).map_or("nothing".into(), Value::to_string)
        };
        if our_config.get(key) != their_config.get(key) {
            found.push((
                format!("config.{key}"),
                show(our_config),
                show(their_config),
            ));
        }
    }
    if ours.history != theirs.history {
        let shown = [&ours.history, &theirs.history].map(|history| format!("{history:#?}"));
        let [ours, theirs] = shown;
        found.push(("history".to_owned(), ours, theirs));
    }
    let paths = ours.tree.keys().chain(theirs.tree.keys());
    for path in paths.collect::<BTreeSet<_>>() {
        let show = |tree: &Tree| tree.get(path).map_or("as the base".into(), String::clone);
        if ours.tree.get(path) != theirs.tree.get(path) {
            found.push((path.clone(), show(&ours.tree), show(&theirs.tree)));
        }
    }
    found
}
