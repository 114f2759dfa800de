//! `wythe build --check` and `--call`: questions about a Dockerfile; nothing is built.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use wythe_builder::BuildRequest;
use wythe_builder::ignore::IgnoreRules;
use wythe_builder::parse::{self, Dockerfile, Expander, GlobalScope, Style, lint};
use wythe_layers::spec::Platform;

use crate::args::{BuildArgs, Format};
use crate::render;
use crate::settings::Settings;

pub(crate) fn run(
    settings: &Settings,
    request: &BuildRequest,
    args: &BuildArgs,
) -> anyhow::Result<ExitCode> {
    let style = style(settings);
    let dockerfile = match parse::parse(&request.dockerfile.bytes, &request.dockerfile.name) {
        Ok(dockerfile) => dockerfile,
        Err(error) => bail!("{}", error.render(style)),
    };
    let call = if args.check {
        "check"
    } else {
        args.call.as_deref().unwrap_or("check")
    };
    let (method, option) = call.split_once(',').unwrap_or((call, ""));
    let format = if option == "format=json" {
        Format::Json
    } else {
        args.format
    };
    match method {
        "check" | "lint" => check(&dockerfile, request, format, style),
        "targets" => targets(&dockerfile, format),
        "outline" => outline(&dockerfile, request, format, style),
        other => bail!("--call {other:?} is none of check, outline, targets"),
    }
}

/// What `# check=error=true` (or the build argument of its kind) asks of a build: that no rule has
/// anything to say about the stages that it needs.
pub(crate) fn enforce(request: &BuildRequest) -> anyhow::Result<()> {
    // What does not parse or plan is told by the build itself.
    let Ok(dockerfile) = parse::parse(&request.dockerfile.bytes, &request.dockerfile.name) else {
        return Ok(());
    };
    let Ok(options) = options(&dockerfile, request) else {
        return Ok(());
    };
    if !options.error {
        return Ok(());
    }
    let stages = dockerfile.stages();
    let defaults = platform_arguments(request);
    let expander = Expander::new(dockerfile.directives.escape);
    let scope = GlobalScope::evaluate(&dockerfile, &defaults, &request.build_args, &expander);
    let target = parse::find_target(&stages, request.target.as_deref());
    let (Ok(scope), Ok(target)) = (scope, target) else {
        return Ok(());
    };
    let Ok(needed) = parse::reachable(&stages, target, &scope, &expander) else {
        return Ok(());
    };
    let result = run_rules(&dockerfile, request, options, Some(&needed))?;
    if result.warnings.is_empty() {
        return Ok(());
    }
    for warning in &result.warnings {
        // Standard error takes the colours out where they do not belong.
        let text = warning
            .diagnostic()
            .render(&dockerfile.source, Style::Colour);
        render::stderr_line(text.trim_end());
    }
    let rules: BTreeSet<&str> = result.warnings.iter().map(|one| one.rule.name).collect();
    let rules: Vec<&str> = rules.into_iter().collect();
    bail!("lint violation found for rules: {}", rules.join(", "));
}

/// The build argument counts instead of the file's directive.
fn options(dockerfile: &Dockerfile, request: &BuildRequest) -> anyhow::Result<lint::LintOptions> {
    let given = request.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
    let written = dockerfile.directives.check.as_ref();
    Ok(match (given, written) {
        (Some(text), _) => lint::LintOptions::parse(text)?,
        (None, Some(text)) => lint::LintOptions::parse(&text.value)?,
        (None, None) => lint::LintOptions::default(),
    })
}

fn run_rules(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    options: lint::LintOptions,
    stages: Option<&BTreeSet<usize>>,
) -> anyhow::Result<lint::LintResult> {
    let ignore = request
        .ignore_file
        .as_ref()
        .map(|file| {
            IgnoreRules::parse(&file.bytes).with_context(|| format!("{} is not valid", file.name))
        })
        .transpose()?;
    Ok(lint::lint(&lint::LintInput {
        dockerfile,
        options,
        defaults: &platform_arguments(request),
        build_args: &request.build_args,
        ignore: ignore.as_ref(),
        stages,
        base: &|_| None,
    }))
}

fn check(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    format: Format,
    style: Style,
) -> anyhow::Result<ExitCode> {
    let result = run_rules(dockerfile, request, options(dockerfile, request)?, None)?;
    let report = lint::LintReport::new(&dockerfile.source, &result);
    match format {
        Format::Json => render::json(&report)?,
        Format::Table => {
            let mut text = String::new();
            for warning in &result.warnings {
                text.push_str(&warning.diagnostic().render(&dockerfile.source, style));
            }
            if let Some(error) = &result.error {
                text.push_str(&error.render(&dockerfile.source, style));
            }
            match result.warnings.len() {
                0 if result.error.is_none() => text.push_str("check complete, no warnings found\n"),
                1 => text.push_str("check complete, 1 warning found\n"),
                count => text.push_str(&format!("check complete, {count} warnings found\n")),
            }
            render::stdout(&text)?;
        }
    }
    Ok(ExitCode::from(report.status()))
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
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    format: Format,
    style: Style,
) -> anyhow::Result<ExitCode> {
    let stages = dockerfile.stages();
    let index = match &request.target {
        Some(name) => match parse::find_target(&stages, Some(name)) {
            Ok(index) => index,
            Err(unknown) => bail!("{unknown}"),
        },
        None => stages.len().saturating_sub(1),
    };
    let outline = lint::outline(
        dockerfile,
        index,
        &platform_arguments(request),
        &request.build_args,
    )
    .map_err(|diagnostic| anyhow::anyhow!("{}", diagnostic.render(&dockerfile.source, style)))?;
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

/// The predefined arguments (Dockerfile reference §Automatic platform ARGs).
fn platform_arguments(request: &BuildRequest) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut add = |prefix: &str, platform: &Platform| {
        values.insert(format!("{prefix}PLATFORM"), platform.to_string());
        values.insert(format!("{prefix}OS"), platform.os.clone());
        values.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        values.insert(
            format!("{prefix}VARIANT"),
            platform.variant.clone().unwrap_or_default(),
        );
    };
    add("BUILD", &request.build_platform);
    add("TARGET", &request.platform);
    values
}

fn style(settings: &Settings) -> Style {
    let colours = std::io::stdout().is_terminal() && settings.env.text("NO_COLOR").is_none();
    if colours { Style::Colour } else { Style::Plain }
}
