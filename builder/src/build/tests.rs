use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::Ordering;

use wythe_layers::layer::Times;
use wythe_layers::tree::EntryPath;

use super::testing::{Bench, eventually};
use crate::error::with_causes;
use crate::{
    BuildRequest, BuildResult, Builder, CachePolicy, Cancel, Error, ExitStatus, InputFile,
    StepOutcome,
};

fn outcomes(result: &BuildResult) -> Vec<(String, StepOutcome)> {
    result
        .steps
        .iter()
        .filter(|step| step.outcome != StepOutcome::Config)
        .map(|step| (step.text.clone(), step.outcome))
        .collect()
}

#[test]
fn files_are_copied_from_scratch_without_any_process() {
    let bench = Bench::new();
    bench
        .write("a.txt", "A")
        .write("src/b", "B")
        .write("src/deep/c", "C");
    fs::set_permissions(
        bench.context().join("src/b"),
        fs::Permissions::from_mode(0o4750),
    )
    .unwrap();
    symlink("../a.txt", bench.context().join("src/link")).unwrap();
    let request = bench.request(
        "FROM scratch\nWORKDIR /app\nCOPY a.txt .\nCOPY src /src/\nCOPY a.txt /renamed\nENV X=1\nCMD [\"/x\"]\n",
    );
    let result = Builder::new(bench.store()).build(&request).unwrap();
    assert_eq!(
        bench.tree(&result),
        [
            "d755 app",
            "f644 app/a.txt = A",
            "f644 renamed = A",
            "d755 src",
            "f4750 src/b = B",
            "d755 src/deep",
            "f644 src/deep/c = C",
            "l src/link -> ../a.txt",
        ]
    );
    let config = result.config.value();
    assert_eq!(config.rootfs.diff_ids.len(), 4);
    assert_eq!(config.config.cmd.as_deref(), Some(&["/x".to_owned()][..]));
    assert_eq!(config.config.env.last().unwrap(), "X=1");
    assert_eq!(config.config.working_dir, "/app");
    let history: Vec<(&str, bool)> = config
        .history
        .iter()
        .map(|entry| (entry.created_by.as_deref().unwrap(), entry.empty_layer))
        .collect();
    assert_eq!(
        history,
        [
            ("WORKDIR /app", false),
            ("COPY a.txt .", false),
            ("COPY src /src/", false),
            ("COPY a.txt /renamed", false),
            ("ENV X=1", true),
            ("CMD [\"/x\"]", true),
        ]
    );
    assert_eq!(config.created.as_deref(), Some("1970-01-01T00:00:00Z"));
}

#[test]
fn the_same_input_gives_the_same_bytes_in_another_store() {
    let dockerfile = "FROM scratch\nCOPY . /\nRUN write /made by-run\nWORKDIR /w\n";
    let digests: Vec<_> = (0..2)
        .map(|_| {
            let bench = Bench::new();
            bench.write("x/y", "1").write("z", "2");
            let result = bench.build(dockerfile);
            (result.image_id.clone(), result.descriptor.digest)
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_second_build_runs_nothing_and_the_probe_answers() {
    let bench = Bench::new();
    bench.write("a", "A");
    let dockerfile = "FROM scratch\nCOPY a /\nRUN write /b B\nCOPY a /c\n";
    let request = bench.request(dockerfile);
    assert!(bench.builder().probe(&request).unwrap().is_none());
    let first = bench.build(dockerfile);
    assert_eq!(bench.executor.commands(), ["write /b B"]);
    let second = bench.build(dockerfile);
    assert_eq!(bench.executor.commands(), [""; 0]);
    assert_eq!(first.image_id, second.image_id);
    assert!(
        outcomes(&second)
            .iter()
            .all(|(_, outcome)| *outcome == StepOutcome::Cached)
    );
    let probed = Builder::new(bench.store())
        .probe(&request)
        .unwrap()
        .unwrap();
    assert_eq!(probed.image_id, first.image_id);
    assert_eq!(probed.descriptor, first.descriptor);
}

#[test]
fn a_probe_that_hits_writes_nothing() {
    let bench = Bench::new();
    bench.write("a", "A").write("b/c", "C");
    let mut request = bench.request("FROM scratch\nCOPY . /\nRUN write /z Z\nWORKDIR /w\n");
    request.tags = vec!["x:1".parse().unwrap()];
    bench.builder().build(&request).unwrap();
    // Until the context's files are old enough to be trusted.
    std::thread::sleep(std::time::Duration::from_millis(120));
    bench.builder().build(&request).unwrap();
    let before = stamps(bench.directory.path());
    assert!(
        Builder::new(bench.store())
            .probe(&request)
            .unwrap()
            .is_some()
    );
    assert_eq!(stamps(bench.directory.path()), before);
}

/// Every file and directory with its inode and time of change; but for locks.
fn stamps(directory: &Path) -> Vec<(String, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let mut stamps = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let (seconds, rest) = (stat.ctime(), stat.ctime_nsec());
            stamps.push((path.display().to_string(), stat.ino(), seconds, rest));
            if stat.is_dir() {
                directories.push(path);
            }
        }
    }
    stamps.sort();
    stamps
}

#[test]
fn only_what_follows_a_changed_file_runs_again() {
    let bench = Bench::new();
    bench.write("early", "1").write("late", "1");
    let dockerfile = "FROM scratch\nCOPY early /\nRUN write /x 1\nCOPY late /\nRUN copy /late /y\n";
    bench.build(dockerfile);
    bench.executor.commands();
    bench.write("late", "2");
    let result = bench.build(dockerfile);
    assert_eq!(bench.executor.commands(), ["copy /late /y"]);
    use StepOutcome::{Cached, Done};
    let kinds: Vec<_> = outcomes(&result)
        .into_iter()
        .map(|(_, outcome)| outcome)
        .collect();
    assert_eq!(kinds, [Cached, Cached, Done, Done]);
    assert!(bench.tree(&result).contains(&"f644 y = 2".to_owned()));
    // A new time alone is no change.
    let path = bench.context().join("late");
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    bench.build(dockerfile);
    assert_eq!(bench.executor.commands(), [""; 0]);
}

#[test]
fn a_step_that_gives_the_same_files_again_leaves_later_steps_cached() {
    let bench = Bench::new();
    bench.write("in", "1");
    let dockerfile = "FROM scratch AS build\nCOPY in /\nRUN write /out same\nFROM scratch\nCOPY --from=build /out /\nRUN write /z z\n";
    bench.build(dockerfile);
    bench.executor.commands();
    bench.write("in", "2");
    let result = bench.build(dockerfile);
    assert_eq!(bench.executor.commands(), ["write /out same"]);
    assert_eq!(result.steps.last().unwrap().outcome, StepOutcome::Cached);
}

#[test]
fn of_a_stage_that_is_mounted_only_what_is_shown_counts() {
    let bench = Bench::new();
    bench.write("seen", "1").write("other", "1");
    let dockerfile = "FROM scratch AS from\nCOPY seen /d/\nCOPY other /\nFROM scratch\nRUN --mount=from=from,source=/d,target=/m mounted /m /out\nRUN write /z z\n";
    bench.build(dockerfile);
    bench.executor.commands();
    bench.write("other", "2");
    // The second time its layers' names are known too.
    for _ in 0..2 {
        let result = bench.build(dockerfile);
        assert_eq!(bench.executor.commands(), Vec::<String>::new());
        assert_eq!(result.steps.last().unwrap().outcome, StepOutcome::Cached);
    }
    bench.write("seen", "2");
    bench.build(dockerfile);
    assert_eq!(bench.executor.commands(), ["mounted /m /out"]);
}

#[test]
fn stages_that_nobody_needs_do_not_run() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS a\nRUN write /a a\nFROM scratch AS unused\nRUN fail 1\nFROM a AS b\nRUN write /b b\nFROM scratch\nCOPY --from=b / /\nCOPY --from=0 /a /again\n";
    let result = bench.build(dockerfile);
    assert_eq!(bench.executor.commands(), ["write /a a", "write /b b"]);
    assert_eq!(
        bench.tree(&result),
        ["f644 a = a", "f644 again = a", "f644 b = b"]
    );
    let mut request = bench.request(dockerfile);
    request.target = Some("A".into());
    let target = bench.builder().build(&request).unwrap();
    assert_eq!(bench.tree(&target), ["f644 a = a"]);
    request.target = Some("bb".into());
    let error = with_causes(&bench.builder().build(&request).unwrap_err());
    assert!(
        error.contains("target stage \"bb\" could not be found"),
        "{error}"
    );
}

#[test]
fn independent_stages_run_at_once() {
    let bench = Bench::new();
    bench.build(
        "FROM scratch AS a\nRUN together; write /a a\nFROM scratch AS b\nRUN together; write /b b\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n",
    );
    assert_eq!(bench.executor.most_at_once.load(Ordering::SeqCst), 2);
}

#[test]
fn the_same_step_of_two_stages_runs_once() {
    let bench = Bench::new();
    bench.build(
        "FROM scratch AS a\nRUN write /x x\nFROM scratch AS b\nRUN write /x x\nFROM scratch\nCOPY --from=a /x /1\nCOPY --from=b /x /2\n",
    );
    assert_eq!(bench.executor.commands(), ["write /x x"]);
}

#[test]
fn a_failing_process_is_told_with_its_place_and_its_last_words_and_stops_others() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS a\nRUN wait; write /a a\nFROM scratch AS b\nRUN say it broke; fail 7\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n";
    let mut request = bench.request(dockerfile);
    request.tags = vec!["x:1".parse().unwrap()];
    let error = bench.builder().build(&request).unwrap_err();
    let Error::Step { step, source } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(
        step.to_string(),
        "Dockerfile:4: RUN say it broke; fail 7 failed"
    );
    let Error::ProcessFailed {
        status, last_lines, ..
    } = source.as_ref()
    else {
        panic!("{source:?}");
    };
    assert_eq!(*status, ExitStatus::Code(7));
    assert_eq!(last_lines, &[b"it broke".to_vec()]);
    assert_eq!(bench.store().tag(&request.tags[0]).unwrap(), None);
}

#[test]
fn a_cancelled_build_ends_and_tags_nothing() {
    let bench = Bench::new();
    let cancel = Cancel::default();
    let mut request = bench.request("FROM scratch\nRUN wait\n");
    request.tags = vec!["x:1".parse().unwrap()];
    let builder = bench.builder().with_cancel(cancel.clone());
    let executor = std::sync::Arc::clone(&bench.executor);
    let stopper = std::thread::spawn(move || {
        eventually("the process runs", || {
            executor.running.load(Ordering::SeqCst) > 0
        });
        cancel.cancel();
    });
    assert!(matches!(builder.build(&request), Err(Error::Cancelled)));
    stopper.join().unwrap();
    assert_eq!(bench.store().tag(&request.tags[0]).unwrap(), None);
}

#[test]
fn arguments_reach_processes_only_where_declared_and_of_env_and_arg_the_later_counts() {
    let bench = Bench::new();
    let dockerfile = "ARG TOP=top\nFROM scratch\nRUN env A /1\nARG A=default\nARG TOP\nRUN env A /2; env TOP /3\nENV A=env\nRUN env A /4; env HTTP_PROXY /5\nARG A=again\nRUN env A /6\n";
    let mut request = bench.request(dockerfile);
    request.build_args = BTreeMap::from([
        ("A".into(), "given".into()),
        ("http_proxy".into(), "proxy".into()),
    ]);
    let result = bench.builder().build(&request).unwrap();
    assert_eq!(
        bench.tree(&result),
        [
            "f644 1 = (unset)",
            "f644 2 = given",
            "f644 3 = top",
            "f644 4 = env",
            "f644 5 = proxy",
            "f644 6 = given",
        ]
    );
    bench.executor.commands();
    // Undeclared for the first RUN, so that stays; a proxy is no input at all.
    request.build_args.insert("A".into(), "other".into());
    request
        .build_args
        .insert("http_proxy".into(), "elsewhere".into());
    bench.builder().build(&request).unwrap();
    assert_eq!(bench.executor.commands().len(), 3);
    let history: Vec<_> = result
        .config
        .history
        .iter()
        .filter_map(|h| h.created_by.clone())
        .collect();
    assert_eq!(
        history[3],
        "RUN |2 A=given TOP=top /bin/sh -c env A /2; env TOP /3"
    );
    assert!(
        history.iter().all(|text| !text.contains("proxy")),
        "{history:?}"
    );
}

#[test]
fn a_run_that_changes_nothing_is_an_empty_layer_that_nothing_is_built_on() {
    let bench = Bench::new();
    let result =
        bench.build("FROM scratch\nRUN write /a a\nRUN true\nRUN write /b b\nRUN true\nENV x=y\n");
    let config = &result.config;
    let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let layers: Vec<bool> = config
        .rootfs
        .diff_ids
        .iter()
        .map(|layer| layer.to_string() == empty)
        .collect();
    assert_eq!(layers, [false, true, false, true]);
    let marks: Vec<bool> = config
        .history
        .iter()
        .map(|entry| entry.empty_layer)
        .collect();
    assert_eq!(marks, [false, false, false, false, true]);
    // A base with an empty layer is as good as any.
    let again =
        bench.build("FROM scratch AS a\nRUN write /a a\nRUN true\nFROM a\nRUN write /c c\n");
    assert_eq!(again.config.rootfs.diff_ids.len(), 3);
}

#[test]
fn no_cache_runs_everything_again() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch AS one\nRUN write /a a\nFROM one AS two\nRUN write /b b\n";
    bench.build(dockerfile);
    bench.executor.commands();
    let mut request = bench.request(dockerfile);
    request.cache = CachePolicy::IgnoreStages(["two".to_owned()].into());
    bench.builder().build(&request).unwrap();
    assert_eq!(bench.executor.commands(), ["write /b b"]);
    request.cache = CachePolicy::Ignore;
    bench.builder().build(&request).unwrap();
    assert_eq!(bench.executor.commands(), ["write /a a", "write /b b"]);
}

#[test]
fn triggers_of_a_base_run_first_and_are_gone_after() {
    let bench = Bench::new();
    bench.write("app", "APP");
    let mut base =
        bench.request("FROM scratch\nONBUILD COPY app /on\nONBUILD RUN write /by trigger\n");
    base.tags = vec!["base:1".parse().unwrap()];
    let built = bench.builder().build(&base).unwrap();
    assert_eq!(
        built.config.config.on_build,
        ["COPY app /on", "RUN write /by trigger"]
    );
    assert!(bench.executor.commands().is_empty());
    let request = bench.request("FROM base:1\nRUN write /own x\n");
    assert!(bench.builder().may_run_processes(&request).unwrap());
    let result = bench.builder().build(&request).unwrap();
    assert_eq!(
        bench.executor.commands(),
        ["write /by trigger", "write /own x"]
    );
    assert!(result.config.config.on_build.is_empty());
    assert_eq!(
        bench.tree(&result),
        ["f644 by = trigger", "f644 on = APP", "f644 own = x"]
    );
    let of_stage =
        bench.build("FROM scratch AS b\nONBUILD RUN write /t t\nFROM b\nRUN write /u u\n");
    assert_eq!(bench.tree(&of_stage), ["f644 t = t", "f644 u = u"]);
    assert!(of_stage.config.config.on_build.is_empty());
}

#[test]
fn entrypoint_resets_an_inherited_command_but_not_its_own() {
    let bench = Bench::new();
    let result = bench.build("FROM scratch AS a\nCMD [\"x\"]\nFROM a\nENTRYPOINT [\"y\"]\n");
    assert_eq!(result.config.config.cmd, None);
    let result = bench.build("FROM scratch\nCMD x\nENTRYPOINT [\"y\"]\n");
    assert_eq!(
        result.config.config.cmd.as_ref().unwrap(),
        &["/bin/sh", "-c", "x"]
    );
}

#[test]
fn an_empty_command_is_left_out_of_the_config() {
    let bench = Bench::new();
    let result =
        bench.build("FROM scratch\nENTRYPOINT [\"y\"]\nCMD [\"x\"]\nENTRYPOINT []\nCMD [ ]\n");
    assert_eq!(result.config.config.entrypoint, None);
    assert_eq!(result.config.config.cmd, None);
}

#[test]
fn a_named_context_has_its_own_ignore_file() {
    let bench = Bench::new();
    let other = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("keep", "k"),
        ("drop", "d"),
        (".dockerignore", "drop\n.*\n"),
    ] {
        std::fs::write(other.path().join(name), content).unwrap();
    }
    let mut request = bench.request("FROM scratch\nCOPY --from=other . /\n");
    let context = crate::NamedContext::Directory(other.path().to_owned());
    request.named_contexts.insert("other".into(), context);
    let result = bench.builder().build(&request).unwrap();
    assert_eq!(bench.tree(&result), ["f644 keep = k"]);
}

#[test]
fn heredocs_become_scripts_and_files() {
    let bench = Bench::new();
    let result = bench.build(
        "FROM scratch\nARG WHO=world\nCOPY <<hello.txt <<\"raw.txt\" /texts/\nhello $WHO\nhello.txt\nhello $WHO\nraw.txt\nRUN <<EOF\nwrite /one 1;\nwrite /two 2\nEOF\n",
    );
    assert_eq!(
        bench.tree(&result),
        [
            "f644 one = 1",
            "d755 texts",
            "f644 texts/hello.txt = hello world\n",
            "f644 texts/raw.txt = hello $WHO\n",
            "f644 two = 2",
        ]
    );
}

#[test]
fn mounts_show_contexts_stages_secrets_and_caches_and_are_no_part_of_the_layer() {
    let bench = Bench::new();
    bench
        .write("in/a", "A")
        .write("in/b", "B")
        .write("hidden", "no")
        .write(".dockerignore", "hidden\n");
    let dockerfile = "FROM scratch AS tool\nRUN write /bin/tool T\nFROM scratch\nRUN --mount=type=bind,target=/src mounted /src /1\nRUN --mount=source=in/a,target=/f mounted /f /2\nRUN --mount=from=tool,source=/bin/tool,target=/t --mount=type=tmpfs,target=/x --mount=from=tool,source=/bin/tool,target=/x mounted /x /3\nRUN --mount=type=secret,id=s mounted /run/secrets/s /4\nRUN --mount=type=secret,id=s,env=SECRET env SECRET /5\nRUN --mount=type=cache,target=/cache mounted /cache /6\n";
    let mut request = bench.request(dockerfile);
    request
        .secrets
        .insert("s".into(), crate::Secret::new("hush"));
    let result = bench.builder().build(&request).unwrap();
    assert_eq!(
        bench.tree(&result),
        [
            "f644 1 = .dockerignore,in",
            "f644 2 = A",
            "f644 3 = T",
            "f644 4 = hush",
            "f644 5 = hush",
            "f644 6 = path",
        ]
    );
    bench.executor.commands();
    bench.write("in/b", "changed");
    request
        .secrets
        .insert("s".into(), crate::Secret::new("other"));
    bench.builder().build(&request).unwrap();
    let ran = bench.executor.commands();
    assert_eq!(ran.first().map(String::as_str), Some("mounted /src /1"));
    assert_eq!(
        ran.len(),
        1,
        "the rest has the same files below it: {ran:?}"
    );
    let missing = bench.fails("FROM scratch\nRUN --mount=type=secret,id=q,required=true true\n");
    assert!(missing.contains("secret \"q\" is required"), "{missing}");
    let file = bench.fails("FROM scratch AS tool\nRUN write /bin/tool T\nFROM scratch\nRUN --mount=type=cache,target=/c,from=tool,source=/bin/tool true\n");
    assert!(file.contains("/bin/tool is not a directory"), "{file}");
}

#[test]
fn entitlements_have_to_be_given() {
    let bench = Bench::new();
    for (flag, named) in [
        ("--network=host", "network.host"),
        ("--security=insecure", "security.insecure"),
    ] {
        let refused = bench.fails(&format!("FROM scratch\nRUN {flag} true\n"));
        let expected = format!("{named} is not allowed (allow it with --allow {named}");
        assert!(refused.contains(&expected), "{refused}");
    }
    let mut request = bench.request("FROM scratch\nRUN --network=host env A /f\n");
    request.allow_host_network = true;
    bench.builder().build(&request).unwrap();
    request.allow_host_network = false;
    request.network = crate::Network::Host;
    bench.builder().build(&request).unwrap();
}

#[test]
fn two_builders_may_use_one_store_at_once() {
    let bench = Bench::new();
    for number in 0..20 {
        bench.write(&format!("files/{number}"), &number.to_string());
    }
    let dockerfile =
        "FROM scratch\nCOPY files /files\nRUN write /a a\nRUN write /b b\nCOPY files/1 /c\n";
    let request = bench.request(dockerfile);
    let build = || bench.builder().build(&request).unwrap();
    let results: Vec<BuildResult> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        results
            .windows(2)
            .all(|pair| pair[0].image_id == pair[1].image_id)
    );
    assert!(bench.store().verify(1).unwrap().is_empty());
}

#[test]
fn a_layer_that_is_gone_from_the_store_is_made_again() {
    let bench = Bench::new();
    let dockerfile = "FROM scratch\nRUN write /a a\nRUN write /b b\n";
    let first = bench.build(dockerfile);
    bench.executor.commands();
    fs::remove_dir_all(bench.directory.path().join("store/trees")).unwrap();
    let again = bench.build(dockerfile);
    assert_eq!(bench.executor.commands(), ["write /a a", "write /b b"]);
    assert_eq!(first.image_id, again.image_id);
    assert_eq!(bench.tree(&again), ["f644 a = a", "f644 b = b"]);
}

#[test]
fn a_layer_that_is_only_a_blob_is_unpacked_when_a_later_run_needs_it() {
    let bench = Bench::new();
    bench.write("a", "A");
    bench.build("FROM scratch\nCOPY a /x/\nCOPY a /x/y\n");
    let trees = bench.directory.path().join("store/trees/v1");
    let count = || walk_count(&trees);
    assert_eq!(count(), 0, "no RUN, no tree");
    let result = bench.build("FROM scratch\nCOPY a /x/\nCOPY a /x/y\nRUN copy /x/y /z\n");
    assert_eq!(
        bench.tree(&result),
        ["d755 x", "f644 x/a = A", "f644 x/y = A", "f644 z = A"]
    );
}

fn walk_count(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            usize::from(path.is_file()) + if path.is_dir() { walk_count(&path) } else { 0 }
        })
        .sum()
}

#[test]
fn times_are_clamped_to_the_epoch_that_is_asked_for() {
    let bench = Bench::new();
    bench.write("a", "A");
    let file = fs::File::options()
        .append(true)
        .open(bench.context().join("a"))
        .unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000);
    file.set_modified(old).unwrap();
    let mut request = bench.request("FROM scratch\nCOPY a /\nRUN write /b b\n");
    let mtimes = |request: &BuildRequest| {
        let result = bench.builder().build(request).unwrap();
        let stack = bench.stack(&result).with_times(Times::Layers);
        let found = stack.read_dir(&EntryPath::ROOT).unwrap();
        let times: Vec<i64> = found
            .iter()
            .map(|found| found.entry.mtime.seconds)
            .collect();
        (times, result.config.created.clone().unwrap())
    };
    assert_eq!(
        mtimes(&request),
        (vec![0, 0], "1970-01-01T00:00:00Z".into())
    );
    request.source_date_epoch = Some(2_000);
    assert_eq!(
        mtimes(&request),
        (vec![1_000, 2_000], "1970-01-01T00:33:20Z".into())
    );
}

#[test]
fn mistakes_are_told_with_line_and_suggestion() {
    let bench = Bench::new();
    bench
        .write("readme.md", "x")
        .write("secret", "x")
        .write(".dockerignore", "secret\n");
    for (dockerfile, expected) in [
        (
            "FROM scratch\nCOPY reedme.md /\n",
            &[
                "Dockerfile:2:6",
                "reedme.md is not in",
                "did you mean `readme.md`?",
            ][..],
        ),
        (
            "FROM scratch\nCOPY secret /\n",
            &["Dockerfile:2:6", "excluded by the ignore file"],
        ),
        (
            "FROM scratch AS build\nFROM scratch\nCOPY --from=9 / /\n",
            &["invalid stage index 9"],
        ),
        (
            "FROM scratch AS a\nCOPY --from=b / /\nFROM scratch AS b\nFROM a\n",
            &["needs to be defined before current stage"],
        ),
        ("FROM ${NOPE}\n", &["Dockerfile:1:6", "should not be blank"]),
        (
            "FROM nowhere/at-all:1\n",
            &["Dockerfile:1", "nowhere/at-all:1 is not in the store"],
        ),
        (
            "FROM scratch\nCOPY readme.md /a\nCOPY readme.md /a/b\n",
            &["/a is not a directory"],
        ),
        ("FROM scratch\nSTOPSIGNAL NOPE\n", &["invalid signal"]),
        (
            "FROM scratch\nCOPY readme.md secret* https://x.example/ /\n",
            &["source can't be a URL for COPY"],
        ),
    ] {
        let error = bench.fails(dockerfile);
        for part in expected {
            assert!(error.contains(part), "{dockerfile}: {error}");
        }
    }
}

#[test]
fn a_build_without_a_run_needs_no_executor_and_says_so() {
    let bench = Bench::new();
    let builder = Builder::new(bench.store());
    let without = bench.request("FROM scratch\nWORKDIR /x\n");
    assert!(!builder.may_run_processes(&without).unwrap());
    let with = bench.request("FROM scratch\nRUN true\n");
    assert!(builder.may_run_processes(&with).unwrap());
    assert!(with_causes(&builder.build(&with).unwrap_err()).contains("nothing here can run them"));
    let unknown = bench.request("FROM elsewhere:1\n");
    assert!(builder.may_run_processes(&unknown).unwrap());
}

#[test]
fn a_dockerfile_without_context_builds() {
    let bench = Bench::new();
    let request = BuildRequest::new(InputFile {
        name: "-".into(),
        bytes: b"FROM scratch\nWORKDIR /x\nCOPY <<f /\nhi\nf\n".to_vec(),
    });
    let result = Builder::new(bench.store()).build(&request).unwrap();
    assert_eq!(bench.tree(&result), ["f644 f = hi\n", "d755 x"]);
    let mut request = request;
    request.dockerfile.bytes = b"FROM scratch\nCOPY x /\n".to_vec();
    let error = with_causes(&Builder::new(bench.store()).build(&request).unwrap_err());
    assert!(error.contains("x is not in the build context"), "{error}");
}
