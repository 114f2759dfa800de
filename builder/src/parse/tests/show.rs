//! Instructions as one line of text, for tables.

use crate::parse::*;

fn words(words: &[Word]) -> String {
    words
        .iter()
        .map(|word| format!("{:?}", word.value))
        .collect::<Vec<_>>()
        .join(" ")
}

fn command(command: &CommandLine) -> String {
    match command {
        CommandLine::Exec(items) => format!("exec[{}]", words(items)),
        CommandLine::Shell(text) => format!("shell({:?})", text.value),
    }
}

fn option(name: &str, word: &Option<Word>) -> String {
    word.as_ref()
        .map(|word| format!(" {name}={:?}", word.value))
        .unwrap_or_default()
}

fn flag(name: &str, set: bool) -> String {
    if set {
        format!(" {name}")
    } else {
        String::new()
    }
}

fn transfer(files: &Transfer) -> String {
    let sources: Vec<String> = files
        .sources
        .iter()
        .map(|source| match source {
            TransferSource::Path(word) => format!("{:?}", word.value),
            TransferSource::Inline(file) => {
                format!(
                    "<<{}{}{:?}",
                    file.name,
                    if file.expand { "" } else { " raw " },
                    file.content
                )
            }
        })
        .collect();
    format!(
        "[{}] -> {:?}{}{}{}{}",
        sources.join(" "),
        files.destination.value,
        option("chown", &files.chown),
        option("chmod", &files.chmod),
        flag("link", files.link),
        files
            .exclude
            .iter()
            .map(|word| format!(" exclude={:?}", word.value))
            .collect::<String>(),
    )
}

fn pairs(pairs: &[Pair]) -> String {
    let one = |pair: &Pair| {
        format!(
            "{}{:?}={:?}",
            if pair.legacy { "legacy " } else { "" },
            pair.key.value,
            pair.value.value
        )
    };
    pairs.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(super) fn show(instruction: &Instruction) -> String {
    let bodies: String = instruction
        .heredocs
        .iter()
        .map(|body| {
            let tabs = if body.strip_tabs { "-" } else { "" };
            let raw = if body.expand { "" } else { " raw" };
            format!(
                " {}<<{tabs}{}{raw} {:?}",
                body.descriptor, body.name, body.content
            )
        })
        .collect();
    let text = match &instruction.kind {
        InstructionKind::From(from) => format!(
            "{:?}{}{}",
            from.image.value,
            option("platform", &from.platform),
            option("as", &from.name)
        ),
        InstructionKind::Run(run) => {
            let mounts: String = run
                .mounts
                .iter()
                .map(|mount| format!(" mount={:?}", mount.text.value))
                .collect();
            let network = if run.network == Network::Default {
                String::new()
            } else {
                format!(" {:?}", run.network)
            };
            let insecure = flag("insecure", run.security == Security::Insecure);
            format!(
                "{}{mounts}{network}{insecure}{bodies}",
                command(&run.command)
            )
        }
        InstructionKind::Copy(copy) => {
            format!(
                "{}{}{}",
                transfer(&copy.files),
                option("from", &copy.from),
                flag("parents", copy.parents)
            )
        }
        InstructionKind::Add(add) => format!(
            "{}{}{}{}",
            transfer(&add.files),
            option("checksum", &add.checksum),
            add.keep_git_dir
                .map(|value| format!(" keep-git-dir={value}"))
                .unwrap_or_default(),
            add.unpack
                .map(|value| format!(" unpack={value}"))
                .unwrap_or_default(),
        ),
        InstructionKind::Env(list) | InstructionKind::Label(list) => pairs(list),
        InstructionKind::Arg(list) => list
            .iter()
            .map(|arg| match &arg.default {
                Some(default) => format!("{:?}={:?}", arg.name.value, default.value),
                None => format!("{:?}", arg.name.value),
            })
            .collect::<Vec<_>>()
            .join(" "),
        InstructionKind::Cmd(line) | InstructionKind::Entrypoint(line) => command(line),
        InstructionKind::Shell(list)
        | InstructionKind::Expose(list)
        | InstructionKind::Volume(list) => words(list),
        InstructionKind::User(word)
        | InstructionKind::Workdir(word)
        | InstructionKind::Stopsignal(word)
        | InstructionKind::Maintainer(word) => format!("{:?}", word.value),
        InstructionKind::Healthcheck(Healthcheck::None) => "none".to_owned(),
        InstructionKind::Healthcheck(Healthcheck::Command(check)) => format!(
            "{} {:?} {:?} {:?} {:?} {:?}",
            command(&check.command),
            check.interval,
            check.timeout,
            check.start_period,
            check.start_interval,
            check.retries
        ),
        InstructionKind::Onbuild(onbuild) => format!(
            "{:?} {}",
            onbuild.expression,
            onbuild
                .trigger
                .as_ref()
                .map_or("?".to_owned(), |trigger| show(trigger))
        ),
    };
    format!("{} {text}", instruction.name())
}
