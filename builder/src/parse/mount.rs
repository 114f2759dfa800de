//! `RUN --mount`.

use super::Diagnostic;
use super::expand::ExpandError;
use super::size;
use super::span::{Span, Spanned};
use super::suggest::near;

/// A `--mount` flag as written. Its values may hold variables, so it is validated only when the
/// stage is planned, as BuildKit does: a stage nobody builds may hold a bad one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// The value of the flag.
    pub text: Spanned<String>,
    /// `from=`, which is never expanded: a stage, image or named context. Known before the
    /// environment is, so that stages can be ordered.
    pub from: Option<Spanned<String>>,
}

/// `type=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MountType {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the user's, as file or variable.
    Secret,
    /// An agent socket.
    Ssh,
}

impl MountType {
    const ALL: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    /// The word after `type=`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// `sharing=` of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheSharing {
    /// Any number of steps at once.
    #[default]
    Shared,
    /// Each concurrent step gets a directory of its own.
    Private,
    /// One step after the other.
    Locked,
}

impl CacheSharing {
    const ALL: [(&'static str, Self); 3] = [
        ("shared", Self::Shared),
        ("private", Self::Private),
        ("locked", Self::Locked),
    ];
}

/// A valid `--mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `type`. Default: bind.
    pub kind: MountType,
    /// `from`.
    pub from: Option<String>,
    /// `source`.
    pub source: Option<String>,
    /// `target`. Without one a secret goes to `/run/secrets/<id>` (or only into `env`), an ssh socket
    /// to `/run/buildkit/ssh_agent.<n>`, and the others mean the working directory.
    pub target: Option<String>,
    /// Whether writes are refused. Default: true but for cache and tmpfs.
    pub read_only: bool,
    /// `size` in bytes of a tmpfs.
    pub size_bytes: Option<u64>,
    /// `id` of a cache, secret or ssh socket.
    pub id: Option<String>,
    /// `sharing` of a cache. Default: shared.
    pub sharing: CacheSharing,
    /// `required` of a secret or ssh socket. Default: false.
    pub required: bool,
    /// `env` of a secret: the variable's name, empty for the default name.
    pub env: Option<String>,
    /// `mode`, octal. Defaults: 0755 for a cache, 0400 for a secret, 0600 for ssh.
    pub mode: Option<u32>,
    /// `uid`. Default: 0.
    pub uid: Option<u32>,
    /// `gid`. Default: 0.
    pub gid: Option<u32>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl RunMount {
    /// Reads what can be known without an environment: the fields and `from`.
    pub(super) fn parse(text: Spanned<String>) -> Result<Self, Diagnostic> {
        let mut from = None;
        for field in fields(&text)? {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            if !key.eq_ignore_ascii_case("from") {
                continue;
            }
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err(Diagnostic::error(
                    field.span,
                    format!(
                        "'{}' doesn't support variable expansion, define alias stage instead",
                        key.to_lowercase()
                    ),
                )
                .hint(format!(
                    "add `FROM {value} AS <name>` above and use from=<name>"
                )));
            }
            from = (!value.is_empty()).then(|| Spanned::new(value.to_owned(), field.span));
        }
        Ok(Self { text, from })
    }

    /// Expands the values with `expand` and checks the result.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn resolve(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Mount, Diagnostic> {
        let mut draft = Draft::new();
        for field in fields(&self.text)? {
            match field.split_once('=') {
                None => draft.bare(&field)?,
                Some((key, value)) => {
                    let value = expand(value)
                        .map_err(|error| Diagnostic::error(field.span, error.to_string()))?;
                    draft.set(&field, &key.to_lowercase(), value)?;
                }
            }
        }
        draft.finish(self.text.span)
    }
}

/// A mount while its fields are read, in order: `type` has to come before what depends on it.
struct Draft {
    mount: Mount,
    read_only: Option<bool>,
    sharing: Option<CacheSharing>,
    /// `type` was given already.
    typed: bool,
}

impl Draft {
    fn new() -> Self {
        Self {
            mount: Mount {
                kind: MountType::Bind,
                from: None,
                source: None,
                target: None,
                read_only: false,
                size_bytes: None,
                id: None,
                sharing: CacheSharing::Shared,
                required: false,
                env: None,
                mode: None,
                uid: None,
                gid: None,
            },
            read_only: None,
            sharing: None,
            typed: false,
        }
    }

    fn bare(&mut self, field: &Spanned<String>) -> Result<(), Diagnostic> {
        match field.value.to_lowercase().as_str() {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => self.set_required(field, true)?,
            other => {
                let message = format!("invalid field '{}' must be a key=value pair", field.value);
                return Err(Diagnostic::error(field.span, message).did_you_mean(near(other, KEYS)));
            }
        }
        Ok(())
    }

    fn set(&mut self, field: &Spanned<String>, key: &str, value: String) -> Result<(), Diagnostic> {
        let error = |message: String| Diagnostic::error(field.span, message);
        let invalid = || error(format!("invalid value for {key}: {value}"));
        let mount = &mut self.mount;
        match key {
            "type" => {
                self.typed = true;
                mount.kind = choice(&MountType::ALL, &value)
                    .ok_or_else(|| unsupported(field, "mount type", &value, &MountType::ALL))?;
            }
            "sharing" => {
                let sharing = choice(&CacheSharing::ALL, &value).ok_or_else(|| {
                    unsupported(field, "sharing value", &value, &CacheSharing::ALL)
                })?;
                self.sharing = Some(sharing);
            }
            "from" => mount.from = filled(value),
            "source" | "src" => mount.source = filled(value),
            "target" | "dst" | "destination" => mount.target = filled(value),
            "id" => mount.id = filled(value),
            "env" => mount.env = Some(value),
            "readonly" | "ro" => self.read_only = Some(boolean(&value).ok_or_else(invalid)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(&value).ok_or_else(invalid)?),
            "required" => {
                let required = boolean(&value);
                self.set_required(field, required.unwrap_or(false))?;
                required.ok_or_else(|| error(format!("invalid value for {key}: {value}")))?;
            }
            "size" if mount.kind == MountType::Tmpfs => {
                mount.size_bytes = Some(size::parse(&value).ok_or_else(invalid)?);
            }
            "size" => return Err(self.unexpected(field, key)),
            "mode" | "uid" | "gid" => self.set_owner(field, key, &value)?,
            _ => {
                return Err(
                    error(format!("unexpected key '{key}' in '{}'", field.value))
                        .did_you_mean(near(key, KEYS)),
                );
            }
        }
        Ok(())
    }

    fn set_owner(
        &mut self,
        field: &Spanned<String>,
        key: &str,
        value: &str,
    ) -> Result<(), Diagnostic> {
        let (radix, wanted) = if key == "mode" {
            (8, "an octal number")
        } else {
            (10, "a number")
        };
        let number = u32::from_str_radix(value, radix)
            .ok()
            .filter(|_| !value.starts_with('+'));
        let number = number.ok_or_else(|| {
            Diagnostic::error(field.span, format!("invalid value {value} for {key}"))
                .expected(wanted)
        })?;
        match key {
            "mode" => self.mount.mode = Some(number),
            "uid" => self.mount.uid = Some(number),
            _ => self.mount.gid = Some(number),
        }
        Ok(())
    }

    fn set_required(&mut self, field: &Spanned<String>, required: bool) -> Result<(), Diagnostic> {
        if !matches!(self.mount.kind, MountType::Secret | MountType::Ssh) {
            return Err(self.unexpected(field, "required"));
        }
        self.mount.required = required;
        Ok(())
    }

    fn unexpected(&self, field: &Spanned<String>, key: &str) -> Diagnostic {
        let kind = self.mount.kind.as_str();
        let diagnostic = Diagnostic::error(
            field.span,
            format!("unexpected key '{key}' for mount type '{kind}'"),
        );
        if self.mount.kind == MountType::Bind && !self.typed {
            return diagnostic.note("fields are read in order: type= has to come first, and without it the type is bind");
        }
        diagnostic
    }

    /// Rules over several fields, and the defaults that depend on the type.
    fn finish(self, place: Span) -> Result<Mount, Diagnostic> {
        let Self {
            mut mount,
            read_only,
            sharing,
            typed: _,
        } = self;
        let error = |message: String| Err(Diagnostic::error(place, message));
        let kind = mount.kind;
        if !matches!(kind, MountType::Secret | MountType::Ssh | MountType::Cache) {
            for (key, given) in [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)] {
                if given.is_some() {
                    return error(format!(
                        "{key} not allowed for {:?} type mounts",
                        kind.as_str()
                    ));
                }
            }
        }
        mount.read_only = read_only.unwrap_or(!matches!(kind, MountType::Cache | MountType::Tmpfs));
        if kind == MountType::Secret {
            if mount.from.is_some() {
                return error("secret mount should not have a from".to_owned());
            }
            if sharing.is_some() {
                return error("secret mount should not define sharing".to_owned());
            }
            if mount.source.is_none() && mount.target.is_none() && mount.id.is_none() {
                return error("invalid secret mount. one of source, target required".to_owned());
            }
            if mount.source.is_some() && mount.id.is_some() {
                return error("both source and id can't be set".to_owned());
            }
        }
        if kind == MountType::Ssh && mount.source.is_some() {
            return error("ssh does not support source".to_owned());
        }
        if sharing.is_some() && kind != MountType::Cache {
            return error(format!(
                "invalid cache sharing set for {} mount",
                kind.as_str()
            ));
        }
        mount.sharing = sharing.unwrap_or_default();
        Ok(mount)
    }
}

fn filled(value: String) -> Option<String> {
    (!value.is_empty()).then_some(value)
}

fn choice<T: Copy>(all: &[(&str, T)], value: &str) -> Option<T> {
    all.iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value))
        .map(|(_, choice)| *choice)
}

fn unsupported<T>(
    field: &Spanned<String>,
    what: &str,
    value: &str,
    all: &[(&str, T)],
) -> Diagnostic {
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let diagnostic = Diagnostic::error(field.span, format!("unsupported {what} {value:?}"));
    match near(value, names.iter().copied()) {
        Some(near) => diagnostic.did_you_mean(Some(near)),
        None => diagnostic.note(format!("it is one of {}", names.join(", "))),
    }
}

/// The spellings that Go's `strconv.ParseBool` takes.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Cuts a value at commas, as a line of CSV: a field may be in double quotes, `""` standing for one.
fn fields(text: &Spanned<String>) -> Result<Vec<Spanned<String>>, Diagnostic> {
    // Offsets hold only if the lexer removed no quotes or escapes.
    let exact = text.span.end - text.span.start == text.value.len();
    let place = |from: usize, to: usize| {
        if exact {
            Span::new(text.span.start + from, text.span.start + to)
        } else {
            text.span
        }
    };
    let bad = |from: usize, to: usize, what: &str| {
        Err(Diagnostic::error(
            place(from, to),
            format!("failed to parse csv mounts: {what}"),
        ))
    };
    if text.value.is_empty() {
        return bad(0, 0, "EOF");
    }
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let rest = text.value.get(start..).unwrap_or_default();
        let (value, length) = if let Some(quoted) = rest.strip_prefix('"') {
            let Some((value, length)) = quoted_field(quoted) else {
                return bad(
                    start,
                    text.value.len(),
                    "extraneous or missing \" in quoted-field",
                );
            };
            (value, length + 1)
        } else {
            let length = rest.find(',').unwrap_or(rest.len());
            let value = rest.get(..length).unwrap_or_default();
            if value.contains('"') {
                return bad(start, start + length, "bare \" in non-quoted-field");
            }
            (value.to_owned(), length)
        };
        let end = start + length;
        fields.push(Spanned::new(value, place(start, end)));
        match text.value.get(end..).and_then(|rest| rest.chars().next()) {
            None => return Ok(fields),
            Some(',') => start = end + 1,
            Some(_) => return bad(start, end, "extraneous or missing \" in quoted-field"),
        }
    }
}

/// A field after its opening quote: the text, and the length with the closing quote.
fn quoted_field(rest: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = rest.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '"' {
            value.push(character);
        } else if characters.peek().is_some_and(|(_, next)| *next == '"') {
            characters.next();
            value.push('"');
        } else {
            return Some((value, at + 1));
        }
    }
    None
}
