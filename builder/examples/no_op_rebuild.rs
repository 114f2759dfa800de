//! How long a rebuild takes that has nothing to do: 12 steps, a context of 1,000 files.
//!
//! `cargo run --release -p wythe-builder --example no_op_rebuild [DIRECTORY]`; a directory is made
//! in the temporary directory otherwise. Prints the milliseconds of the first build, of the second
//! and the best and middle of 50 probes (what the command line does before anything else).
#![expect(clippy::print_stdout, reason = "an example shows its figures")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use wythe_builder::{
    BoxError, BuildRequest, Builder, Cancel, Executor, Exit, ExitStatus, OutputSink, Process,
};
use wythe_layers::snapshot::{CopySnapshotter, Root};
use wythe_layers::store::Store;
use wythe_layers::tree::Flavour;

const DOCKERFILE: &str = "FROM scratch
WORKDIR /app
ENV A=1
COPY dir0 ./dir0
RUN one
COPY dir1 dir2 ./lib/
RUN two
COPY . .
ARG B=2
RUN three
USER 1000
EXPOSE 80
CMD [\"/app/run\"]
";

/// Leaves a file named like the command.
struct Touch;

impl Executor for Touch {
    fn run(
        &self,
        root: &Root,
        process: &Process,
        _: &dyn OutputSink,
        _: &Cancel,
    ) -> Result<Exit, BoxError> {
        if let (Root::Directory(root), Some(name)) = (root, process.args.last()) {
            std::fs::write(root.join(name), name)?;
        }
        Ok(Exit {
            status: ExitStatus::Code(0),
            created: Vec::new(),
        })
    }
}

fn main() -> Result<(), BoxError> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("wythe-no-op-{}", std::process::id()))
    });
    let context = directory.join("context");
    fill(&context)?;
    let request = BuildRequest::for_directory(&context, None)?;
    let store = || Store::open(&directory.join("store"), Flavour::SingleId);
    let build = || -> Result<(), BoxError> {
        Builder::new(store()?)
            .with_executor(Arc::new(Touch))
            .with_snapshotter(Arc::new(CopySnapshotter))
            .build(&request)?;
        Ok(())
    };
    for name in ["first build", "second build"] {
        let began = Instant::now();
        build()?;
        println!("{name}: {:.1} ms", milliseconds(began));
        // Files younger than a clock tick are not trusted.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    build()?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        let result = Builder::new(store()?).probe(&request)?;
        times.push(milliseconds(began));
        let result = result.ok_or("the probe missed")?;
        assert_eq!(result.steps.len(), 12);
    }
    times.sort_by(f64::total_cmp);
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    println!("no-op: best {:.2} ms, middle {:.2} ms", at(0), at(25));
    Ok(())
}

fn fill(context: &Path) -> std::io::Result<()> {
    for number in 0..1_000 {
        let directory = context.join(format!("dir{}", number % 10));
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(format!("file{number}"));
        if !path.exists() {
            std::fs::write(path, format!("content of {number}\n").repeat(100))?;
        }
    }
    std::fs::write(context.join("Dockerfile"), DOCKERFILE)
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}
