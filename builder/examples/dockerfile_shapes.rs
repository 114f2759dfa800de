//! How long Dockerfiles of 1 MiB take that are heavy in one thing each, and how that grows.
//!
//! `cargo run --release -p wythe-builder --example dockerfile_shapes [--write DIRECTORY] [NAME…|=NAME]`
//!
//! For each shape: milliseconds of processor time to parse it, the same for a quarter of its size times four, and
//! milliseconds of the rest: printing, lint and its report, outline, rendering of messages, plan (a
//! build that may do nothing). `--write` keeps the texts, for other parsers to be measured on.
#![expect(clippy::print_stdout, reason = "an example shows its figures")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use wythe_builder::parse::{self, Style, lint};
use wythe_builder::{BoxError, BuildRequest, Builder, InputFile};
use wythe_layers::store::Store;
use wythe_layers::tree::Flavour;

#[path = "../src/parse/tests/shapes.rs"]
mod shapes;

const SIZE: usize = 1 << 20;
/// The best of so many is shown.
const RUNS: usize = 5;

fn main() -> Result<(), BoxError> {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let mut directory = None;
    if names.first().is_some_and(|first| first == "--write") {
        names.remove(0);
        directory = (!names.is_empty()).then(|| PathBuf::from(names.remove(0)));
    }
    let scratch = tempfile::tempdir()?;
    let store = Store::open(scratch.path(), Flavour::SingleId)?;
    println!(
        "{:<34} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "ms", "parse", "4×quarter", "print", "lint", "outline", "render", "plan"
    );
    for (name, make) in shapes::SHAPES {
        let is_wanted = |wanted: &String| match wanted.strip_prefix('=') {
            Some(exact) => *name == exact,
            None => name.contains(wanted.as_str()),
        };
        if !names.is_empty() && !names.iter().any(is_wanted) {
            continue;
        }
        let text = make(SIZE);
        if let Some(directory) = &directory {
            std::fs::create_dir_all(directory)?;
            std::fs::write(directory.join(name.replace(' ', "-")), &text)?;
        }
        print!("{name:<34}");
        measure(&text, &make(SIZE / 4), &store);
        println!();
    }
    Ok(())
}

/// Of this process: other load on the machine does not count.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.try_into().unwrap_or_default()
}

fn best(mut run: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = processor_time();
        run();
        let taken = processor_time().saturating_sub(start);
        best = best.min(taken);
        if taken > Duration::from_millis(500) {
            break;
        }
    }
    best
}

fn show(taken: Duration, width: usize) {
    use std::io::Write as _;
    print!(" {:>width$.1}", taken.as_secs_f64() * 1000.0);
    let _ = std::io::stdout().flush();
}

fn measure(text: &str, quarter: &str, store: &Store) {
    let parsed = || parse::parse(text.as_bytes(), "Dockerfile");
    show(best(|| drop(parsed())), 9);
    show(
        best(|| drop(parse::parse(quarter.as_bytes(), "Dockerfile"))) * 4,
        9,
    );
    let file = match parsed() {
        Ok(file) => file,
        Err(error) => {
            let mut size = 0;
            let taken = best(|| size = error.render(Style::Plain).len());
            print!(" {:>8} {:>8} {:>8}", "-", "-", "-");
            show(taken, 8);
            print!("   {size} bytes, {} messages", error.diagnostics.len());
            return;
        }
    };
    show(best(|| drop(file.print())), 8);
    let known: BTreeMap<String, String> = BTreeMap::new();
    let options = file.directives.check.as_ref();
    let options = options.and_then(|text| lint::LintOptions::parse(&text.value).ok());
    let check = || {
        lint::lint(&lint::LintInput {
            dockerfile: &file,
            options: options.clone().unwrap_or_default(),
            defaults: &known,
            build_args: &known,
            ignore: None,
            stages: None,
            base: &|_, _| None,
        })
    };
    let report = || serde_json::to_string(&lint::LintReport::new(&file.source, &check()));
    show(best(|| drop(report())), 8);
    let last = file.stages().len().saturating_sub(1);
    let outline = || {
        lint::outline(&lint::OutlineInput {
            dockerfile: &file,
            target: last,
            defaults: &known,
            build_args: &known,
            base: &|_, _| None,
        })
    };
    show(best(|| drop(outline())), 8);
    let found = check();
    let mut size = 0;
    let render = best(|| {
        // As many as the command line shows; each is drawn with its whole line.
        let warnings = found.warnings.iter().take(100);
        let warnings = warnings.map(lint::LintWarning::diagnostic);
        size = warnings
            .chain(found.error.clone())
            .map(|one| one.render(&file.source, Style::Plain).len())
            .sum();
    });
    show(render, 8);
    let request = BuildRequest::new(InputFile {
        name: "Dockerfile".to_owned(),
        bytes: text.as_bytes().to_vec(),
    });
    let mut refused = None;
    show(
        best(|| {
            refused = Builder::new(store.clone())
                .may_run_processes(&request)
                .err()
        }),
        8,
    );
    print!("   {} warnings", found.warnings.len());
    if let Some(error) = &found.error {
        print!(", lint: {:.60}", error.message);
    }
    if let Some(error) = refused {
        print!(", plan: {:.60}", error.to_string());
    }
}
