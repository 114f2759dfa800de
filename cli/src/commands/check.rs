//! `wythe build --check` and `--call`: questions about a Dockerfile; nothing is built.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use wythe_builder::parse::{self, Dockerfile, ParseError, Style, lint};
use wythe_builder::{BuildRequest, Error, check_plan};

use super::lint::{self as checks, Checked, Stages, platform_arguments};
use crate::args::{BuildArgs, Format};
use crate::render;
use crate::settings::Settings;

/// More warnings of a file than this are only counted for people; `format=json` has them all.
const MAX_SHOWN: usize = 100;

/// More warnings than this are only counted while something is built.
const MAX_SHOWN_IN_BUILD: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Check,
    Targets,
    Outline,
}

/// What `--check` and `--call` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    method: Method,
    format: Format,
    /// Exit with 0 whatever was found.
    ignore_status: bool,
}

impl Call {
    /// `METHOD[,format=json|text][,ignorestatus=true]` as `docker build --call` takes it; `None` for a
    /// build.
    pub(crate) fn of(args: &BuildArgs) -> anyhow::Result<Option<Self>> {
        let text = match (&args.call, args.check) {
            (Some(call), _) => call.as_str(),
            (None, true) => "check",
            (None, false) => return Ok(None),
        };
        let mut parts = text.split(',');
        let method = match parts.next().unwrap_or_default() {
            "build" => return Ok(None),
            "check" | "lint" => Method::Check,
            "targets" => Method::Targets,
            "outline" => Method::Outline,
            other => bail!("--call {other:?} is none of build, check, outline, targets"),
        };
        let mut call = Self {
            method,
            format: args.format,
            ignore_status: false,
        };
        for option in parts {
            match option.split_once('=') {
                Some(("format", "json")) => call.format = Format::Json,
                Some(("format", "text" | "table")) => call.format = Format::Table,
                None if option == "ignorestatus" => call.ignore_status = true,
                Some(("ignorestatus", "true" | "1")) => call.ignore_status = true,
                Some(("ignorestatus", "false" | "0")) => call.ignore_status = false,
                _ => bail!("--call: {option:?} is none of format=json, format=text, ignorestatus"),
            }
        }
        Ok(Some(call))
    }

    /// Whether a directory without a Dockerfile of the usual name means all Dockerfiles below it.
    pub(crate) fn takes_many(self) -> bool {
        self.method == Method::Check
    }

    fn exit(self, status: u8) -> ExitCode {
        ExitCode::from(if self.ignore_status { 0 } else { status })
    }
}

pub(crate) fn run(
    settings: &Settings,
    request: &BuildRequest,
    call: Call,
) -> anyhow::Result<ExitCode> {
    if call.method == Method::Check {
        return check(settings, request, call, style(settings));
    }
    let dockerfile = match parse::parse(&request.dockerfile.bytes, &request.dockerfile.name) {
        Ok(dockerfile) => dockerfile,
        Err(error) => return Err(Error::from(error).into()),
    };
    match call.method {
        Method::Targets => targets(&dockerfile, call.format),
        _ => outline(settings, &dockerfile, request, call.format),
    }
}

fn check(
    settings: &Settings,
    request: &BuildRequest,
    call: Call,
    style: Style,
) -> anyhow::Result<ExitCode> {
    let store = checks::store(settings);
    let checked = checks::check(request, store.as_ref(), Stages::All)?;
    let report = report(&checked);
    match (call.format, &checked) {
        (Format::Json, _) => render::json(&report)?,
        (Format::Table, Err(_)) => {
            // Shown as any build shows it, on standard error.
            return checked
                .map(|_| ExitCode::SUCCESS)
                .map_err(|error| Error::from(error).into());
        }
        (Format::Table, Ok(checked)) => {
            let text = format!("{}{}", shown(checked, style), summary(checked));
            render::stdout(&text)?;
        }
    }
    Ok(call.exit(report.status()))
}

fn report(checked: &Result<Checked, ParseError>) -> lint::LintReport {
    match checked {
        Ok(checked) => {
            let source = &checked.dockerfile.source;
            let mut report = lint::LintReport::new(source, &checked.result);
            if let (None, Some(message)) = (&report.build_error, checked.violation()) {
                report.build_error = Some(lint::ReportError {
                    message,
                    location: lint::Location::default(),
                });
            }
            report
        }
        Err(error) => lint::LintReport::unreadable(error),
    }
}

/// All Dockerfiles below a directory, each with the folder it lies in as its context.
pub(crate) fn directory(
    settings: &Settings,
    directory: &Path,
    call: Call,
    request: impl Fn(&Path) -> anyhow::Result<BuildRequest>,
) -> anyhow::Result<ExitCode> {
    let style = style(settings);
    let store = checks::store(settings);
    let files: Vec<PathBuf> = checks::files_below(directory)?;
    let mut reports = Vec::new();
    let mut text = String::new();
    let (mut warnings, mut bad) = (0, 0);
    for file in &files {
        let mut request = request(file)?;
        // The names are to be told apart, and an editor is to find them.
        request.dockerfile.name = file.display().to_string();
        let checked = checks::check(&request, store.as_ref(), Stages::All)?;
        match &checked {
            Err(error) => {
                bad += 1;
                text.push_str(&error.render(style));
            }
            Ok(checked) => {
                warnings += checked.result.warnings.len();
                bad += usize::from(checked.result.error.is_some());
                text.push_str(&shown(checked, style));
            }
        }
        if call.format == Format::Json {
            reports.push(report(&checked));
        }
    }
    match call.format {
        Format::Json => render::json(&reports)?,
        Format::Table => {
            text.push_str(&format!(
                "check complete, {} files, {warnings} warnings found, {bad} files cannot be built\n",
                files.len()
            ));
            render::stdout(&text)?;
        }
    }
    Ok(call.exit(u8::from(warnings + bad > 0)))
}

/// Warnings and the error with their places.
fn shown(checked: &Checked, style: Style) -> String {
    let source = &checked.dockerfile.source;
    let mut text = String::new();
    for warning in checked.result.warnings.iter().take(MAX_SHOWN) {
        text.push_str(&warning.diagnostic().render(source, style));
    }
    let more = checked.result.warnings.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        text.push_str(&format!("and {more} more warnings in {}\n", source.name()));
    }
    if let Some(error) = &checked.result.error {
        text.push_str(&error.render(source, style));
    }
    text
}

fn summary(checked: &Checked) -> String {
    match (checked.result.warnings.len(), &checked.result.error) {
        (0, None) => "check complete, no warnings found\n".to_owned(),
        (0, Some(_)) => "check complete, this file cannot be built\n".to_owned(),
        (1, _) => "check complete, 1 warning found\n".to_owned(),
        (count, _) => format!("check complete, {count} warnings found\n"),
    }
}

/// The checks in passing of a build: warnings of the stages that are built go to standard error, each
/// once. What the build itself will refuse is left to it.
///
/// # Errors
/// There is a warning, and the file says that this is an error.
pub(crate) fn in_passing(
    request: &BuildRequest,
    store: &wythe_layers::store::Store,
    quiet: bool,
) -> anyhow::Result<()> {
    let Ok(Ok(checked)) = checks::check(request, Some(store), Stages::OfTarget) else {
        return Ok(());
    };
    let source = &checked.dockerfile.source;
    let warnings = &checked.result.warnings;
    let limit = if quiet { 0 } else { MAX_SHOWN_IN_BUILD };
    if let Some(violation) = checked.violation() {
        // Standard error takes the colours out where they do not belong.
        render::stderr_line(shown(&checked, Style::Colour).trim_end());
        bail!(violation);
    }
    for warning in warnings.iter().take(limit) {
        let line = source.position(warning.span.start).line;
        render::stderr_line(&render::printable(&format!(
            "warning: {}:{line}: {} ({})",
            source.name(),
            warning.detail,
            warning.rule.name
        )));
    }
    if !quiet && warnings.len() > limit {
        let more = warnings.len() - limit;
        render::stderr_line(&format!("warning: and {more} more; --check shows them all"));
    }
    Ok(())
}

fn targets(dockerfile: &Dockerfile, format: Format) -> anyhow::Result<ExitCode> {
    let list = lint::targets(dockerfile);
    match format {
        Format::Json => render::json(&list)?,
        Format::Table => {
            let rows: Vec<Vec<String>> = list
                .targets
                .iter()
                .enumerate()
                .map(|(index, target)| {
                    let name = if target.name.is_empty() {
                        index.to_string()
                    } else {
                        target.name.clone()
                    };
                    let default = if target.default { "default" } else { "" };
                    vec![
                        name,
                        target.base.clone(),
                        default.to_owned(),
                        target.description.clone(),
                    ]
                })
                .collect();
            render::stdout(&render::table::table(
                &["TARGET", "BASE", "", "DESCRIPTION"],
                &rows,
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn outline(
    settings: &Settings,
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let stages = dockerfile.stages();
    let index = match &request.target {
        Some(name) => match parse::find_target(&stages, Some(name)) {
            Ok(index) => index,
            Err(unknown) => bail!("{unknown}"),
        },
        None => stages.len().saturating_sub(1),
    };
    check_plan(dockerfile, request)?;
    let store = checks::store(settings);
    // What could not be built has no outline.
    let checked = checks::check(request, store.as_ref(), Stages::OfTarget)?;
    if let Ok(Some(diagnostic)) = checked.map(|checked| checked.result.error) {
        return Err(Error::from(ParseError {
            source: dockerfile.source.clone(),
            diagnostics: vec![diagnostic],
        })
        .into());
    }
    let images = checks::Images::new(request, store.as_ref());
    let outline = lint::outline(&lint::OutlineInput {
        dockerfile,
        target: index,
        defaults: &platform_arguments(request),
        build_args: &request.build_args,
        base: &|name, platform| images.get(name, platform),
    })
    .map_err(|diagnostic| {
        Error::from(ParseError {
            source: dockerfile.source.clone(),
            diagnostics: vec![diagnostic],
        })
    })?;
    match format {
        Format::Json => render::json(&outline)?,
        Format::Table => {
            let mut rows: Vec<Vec<String>> = Vec::new();
            for arg in &outline.args {
                rows.push(vec![
                    "build arg".into(),
                    arg.name.clone(),
                    arg.value.clone(),
                    arg.description.clone(),
                ]);
            }
            let mounts = [("secret", &outline.secrets), ("ssh", &outline.ssh)];
            for (kind, mount) in mounts
                .into_iter()
                .flat_map(|(kind, list)| list.iter().map(move |one| (kind, one)))
            {
                let required = if mount.required { "required" } else { "" };
                rows.push(vec![
                    kind.into(),
                    mount.name.clone(),
                    required.into(),
                    String::new(),
                ]);
            }
            render::stdout(&render::table::table(
                &["TAKES", "NAME", "VALUE", "DESCRIPTION"],
                &rows,
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn style(settings: &Settings) -> Style {
    let colours = std::io::stdout().is_terminal() && settings.env.text("NO_COLOR").is_none();
    if colours { Style::Colour } else { Style::Plain }
}
