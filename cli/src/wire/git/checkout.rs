//! Getting a commit, and leaving only what belongs to it.
//!
//! Nothing of this machine and this moment stays in `.git`: no hooks and texts of a template, no
//! reflogs, no times and inode numbers in an index. So two checkouts of a commit are the same.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use wythe_builder::{Cancel, CheckedOut, GitCheckout, GitTimes};
use wythe_layers::tree::Timestamp;

use super::run::run;
use super::{Git, GitError, PROTOCOLS};

/// Where everything that a server has is put while the commit is looked for.
const ALL_REFS: &str = "+refs/*:refs/wythe/*";
/// The longest name of a commit, in hexadecimal digits, of repositories with SHA-1.
const SHA1_DIGITS: usize = 40;

/// `git` in a checkout.
struct Runner<'a> {
    git: &'a Git,
    wanted: &'a GitCheckout<'a>,
    into: &'a Path,
    cancel: &'a Cancel,
}

impl Runner<'_> {
    fn git(&self, args: &[&str], what: &'static str) -> Result<String, GitError> {
        let mut command = self.git.command(&self.wanted.remote, self.into);
        command.args(args);
        run(command, what, self.cancel)
    }

    /// With the protocols of submodules, which say by themselves where they are.
    fn git_submodule(&self, args: &[&str]) -> Result<(), GitError> {
        let mut command = self.git.command(&self.wanted.remote, self.into);
        command.env("GIT_ALLOW_PROTOCOL", PROTOCOLS).args(args);
        run(command, "submodule update", self.cancel).map(drop)
    }
}

pub(super) fn checkout(
    git: &Git,
    wanted: &GitCheckout<'_>,
    address: &str,
    into: &Path,
    cancel: &Cancel,
) -> Result<CheckedOut, GitError> {
    let runner = Runner {
        git,
        wanted,
        into,
        cancel,
    };
    let commit = wanted.commit.commit.as_str();
    init(&runner, commit, address)?;
    fetch(&runner)?;
    let checkout = ["checkout", "--quiet", "--force", "--detach", commit, "--"];
    runner.git(&checkout, "checkout")?;
    if wanted.submodules {
        submodules(&runner)?;
    }
    let committed = committed(&runner, commit)?;
    if wanted.keep_git_dir {
        tidy(&runner)?;
    } else {
        remove_git_dirs(into)?;
    }
    if wanted.times == GitTimes::Commit {
        set_times(into, committed)?;
    }
    Ok(CheckedOut {
        committed: Timestamp::from_seconds(committed),
    })
}

fn init(runner: &Runner<'_>, commit: &str, address: &str) -> Result<(), GitError> {
    let mut init = vec!["init", "--quiet", "--template=", "--initial-branch=main"];
    if commit.len() > SHA1_DIGITS {
        init.push("--object-format=sha256");
    }
    init.push(".");
    runner.git(&init, "init")?;
    runner.git(&["remote", "add", "--", "origin", address], "remote add")?;
    Ok(())
}

fn fetch(runner: &Runner<'_>) -> Result<(), GitError> {
    let commit = runner.wanted.commit;
    let flags = [
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-recurse-submodules",
        "--update-shallow",
    ];
    let end = |error: &GitError| matches!(error, GitError::Cancelled | GitError::Start(_));
    let shallow = |name: &str| {
        let args = [&flags[..], &["--depth=1", "--", "origin", name]].concat();
        runner.git(&args, "fetch")
    };
    match shallow(&commit.object) {
        Ok(_) => return keep_reference(runner),
        Err(error) if end(&error) => return Err(error),
        Err(_) => {}
    }
    // Old servers give only what a ref names.
    if let Some(reference) = &commit.reference {
        match shallow(reference) {
            Ok(_) if has_commit(runner)? => return keep_reference(runner),
            Err(error) if end(&error) => return Err(error),
            _ => {}
        }
    }
    // "Dumb" ones give nothing in part, and a ref may have moved on since it was looked at.
    runner.git(&[&flags[..], &["--", "origin", ALL_REFS]].concat(), "fetch")?;
    let all = runner.into.join(".git/refs/wythe");
    match std::fs::remove_dir_all(&all) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(&all)(error)),
        _ => keep_reference(runner),
    }
}

fn has_commit(runner: &Runner<'_>) -> Result<bool, GitError> {
    let commit = format!("{}^{{commit}}", runner.wanted.commit.commit);
    match runner.git(&["cat-file", "-e", &commit], "cat-file") {
        Ok(_) => Ok(true),
        Err(GitError::Failed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A repository that is kept has the ref by which it was asked for.
fn keep_reference(runner: &Runner<'_>) -> Result<(), GitError> {
    let commit = runner.wanted.commit;
    if let Some(reference) = commit.reference.as_deref()
        && runner.wanted.keep_git_dir
        && reference.starts_with("refs/")
    {
        runner.git(&["update-ref", reference, &commit.object], "update-ref")?;
    }
    Ok(())
}

fn submodules(runner: &Runner<'_>) -> Result<(), GitError> {
    let update = ["submodule", "update", "--init", "--recursive", "--quiet"];
    let shallow = [&update[..], &["--depth=1"]].concat();
    match runner.git_submodule(&shallow) {
        // As in fetch: servers that give nothing in part.
        Err(GitError::Failed { message, .. })
            if message.contains("shallow") || message.contains("--depth") =>
        {
            runner.git_submodule(&update)
        }
        other => other,
    }
}

/// Seconds since 1970.
fn committed(runner: &Runner<'_>, commit: &str) -> Result<i64, GitError> {
    let commit = format!("{commit}^{{commit}}");
    let text = runner.git(
        &[
            "log",
            "-1",
            "--no-show-signature",
            "--format=%ct",
            &commit,
            "--",
        ],
        "log",
    )?;
    text.trim().parse().map_err(|_| GitError::Failed {
        what: "log",
        message: format!("{:?} is not a time", text.trim()),
    })
}

/// Makes `.git` one that says nothing of where and when it was made.
fn tidy(runner: &Runner<'_>) -> Result<(), GitError> {
    for git_dir in git_dirs(&runner.into.join(".git"))? {
        for name in ["FETCH_HEAD", "ORIG_HEAD"] {
            let path = git_dir.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file(&path)(error));
                }
                _ => {}
            }
        }
        // Read anew, an index has no times, inodes and owners in it.
        let index = git_dir.join("index");
        std::fs::remove_file(&index).map_err(file(&index))?;
        let option = format!("--git-dir={}", git_dir.display());
        runner.git(&[&option, "read-tree", "HEAD"], "read-tree")?;
    }
    Ok(())
}

/// The git directories of a checkout: its own and those of submodules, which lie in it.
fn git_dirs(top: &Path) -> Result<Vec<PathBuf>, GitError> {
    let mut found = Vec::new();
    let mut todo = vec![top.to_owned()];
    while let Some(directory) = todo.pop() {
        if directory.join("index").is_file() && directory.join("HEAD").is_file() {
            found.push(directory.clone());
        }
        for (path, kind) in children(&directory)? {
            let name = path.file_name().unwrap_or_default();
            if kind.is_dir() && name != "objects" && name != "refs" {
                todo.push(path);
            }
        }
    }
    Ok(found)
}

/// Takes away `.git` of the checkout and of its submodules.
fn remove_git_dirs(top: &Path) -> Result<(), GitError> {
    let mut todo = vec![top.to_owned()];
    while let Some(directory) = todo.pop() {
        for (path, kind) in children(&directory)? {
            match (path.ends_with(".git"), kind.is_dir()) {
                (true, true) => std::fs::remove_dir_all(&path).map_err(file(&path))?,
                (true, false) => std::fs::remove_file(&path).map_err(file(&path))?,
                (false, true) => todo.push(path),
                (false, false) => {}
            }
        }
    }
    Ok(())
}

/// Gives everything in a checkout, and itself, one time; links too, which are not followed.
fn set_times(top: &Path, seconds: i64) -> Result<(), GitError> {
    let mut directories = vec![top.to_owned()];
    let mut at = 0;
    while let Some(directory) = directories.get(at).cloned() {
        at += 1;
        for (path, kind) in children(&directory)? {
            if kind.is_dir() {
                directories.push(path);
            } else {
                set_time(&path, seconds)?;
            }
        }
    }
    // Writing into a directory changes its time, so it comes after what is in it.
    directories
        .iter()
        .rev()
        .try_for_each(|directory| set_time(directory, seconds))
}

fn set_time(path: &Path, seconds: i64) -> Result<(), GitError> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| file(path)(errno.into()))
}

fn children(directory: &Path) -> Result<Vec<(PathBuf, std::fs::FileType)>, GitError> {
    let entries = std::fs::read_dir(directory).map_err(file(directory))?;
    entries
        .map(|entry| {
            let entry = entry?;
            Ok((entry.path(), entry.file_type()?))
        })
        .collect::<io::Result<_>>()
        .map_err(file(directory))
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> GitError {
    move |source| GitError::File {
        path: path.to_owned(),
        source,
    }
}
