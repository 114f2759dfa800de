//! What people see of a mistake, to the letter: `table.txt` beside this file has the Dockerfile and what
//! `wythe build` says about it. After a change on purpose, `WYTHE_BLESS=1 cargo test -p wythe --test it
//! mistakes` writes it anew; read the difference.

use std::path::Path;

use crate::support::{Sandbox, fail};

const TABLE: &str = include_str!("table.txt");

/// Every message fits a terminal of this width.
const COLUMNS: usize = 80;

struct Case<'a> {
    name: &'a str,
    args: &'a str,
    dockerfile: &'a str,
    /// Exit code, and standard error.
    said: &'a str,
}

/// `=== name`, `args: …` or not, `--- Dockerfile`, the file, `--- code N`, what is said.
fn cases() -> Vec<Case<'static>> {
    let case = |block: &'static str| {
        let (head, rest) = block.split_once("--- Dockerfile\n").unwrap();
        let (dockerfile, said) = rest.split_once("--- code ").unwrap();
        let (name, args) = head.split_once('\n').unwrap();
        Case {
            name,
            args: args.trim().trim_start_matches("args: "),
            dockerfile,
            said,
        }
    };
    TABLE.split("=== ").skip(1).map(case).collect()
}

fn said(case: &Case<'_>, colour: bool) -> String {
    let sandbox = Sandbox::new();
    sandbox.context(case.dockerfile);
    let mut command = sandbox.wythe(["build", "-q"]);
    command.args(case.args.split_whitespace()).arg("context");
    if colour {
        command.env("CLICOLOR_FORCE", "1");
    }
    let (code, error) = fail(&mut command);
    let folder = sandbox.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    assert_eq!(sandbox.ok(["images", "-q"]), "", "{}", case.name);
    format!("{code}\n{}", error.replace(folder, "~"))
}

/// Without the sequences that colour text.
fn plain(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |so_far, part| {
        so_far + part.split_once('m').unwrap_or_default().1
    })
}

#[test]
fn mistakes_look_as_they_are_written_down() {
    let bless = std::env::var_os("WYTHE_BLESS").is_some();
    let mut table = String::new();
    let mut different = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 50);
    for case in &cases {
        let said = said(case, false);
        if said != case.said {
            different.push(format!("=== {}\n{said}", case.name));
        }
        let args = if case.args.is_empty() {
            String::new()
        } else {
            format!("args: {}\n", case.args)
        };
        table.push_str(&format!(
            "=== {}\n{args}--- Dockerfile\n{}--- code {said}",
            case.name, case.dockerfile
        ));
        for line in said.lines() {
            let odd = line.chars().find(|c| c.is_control() || *c == '\u{202e}');
            assert_eq!(odd, None, "{}: {line:?}", case.name);
            // A word that is longer than a line is not cut; that is the long message's.
            let longest = line.split(' ').map(|word| word.chars().count()).max();
            assert!(
                line.chars().count() <= COLUMNS || longest > Some(COLUMNS - 20),
                "{}: {line}",
                case.name
            );
        }
    }
    if bless {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/mistakes/table.txt");
        std::fs::write(path, table).unwrap();
        return;
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn colours_are_all_that_a_terminal_adds() {
    for case in cases().iter().step_by(7) {
        let coloured = said(case, true);
        assert!(coloured.contains("\u{1b}["), "{}", case.name);
        assert_eq!(plain(&coloured), case.said, "{}", case.name);
    }
}
