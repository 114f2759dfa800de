//! What may stand behind `STOPSIGNAL`.

use super::diagnostic::Diagnostic;
use super::span::Span;
use super::suggest::near;

/// Linux signal names without `SIG`.
const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// # Errors
/// It is none.
pub(crate) fn check(signal: &str, span: Span) -> Result<(), Diagnostic> {
    if is_signal(signal) {
        return Ok(());
    }
    let diagnostic = Diagnostic::error(span, format!("invalid signal: {signal}"))
        .expected("a number but 0, or a name such as SIGTERM");
    Err(diagnostic.did_you_mean(near_signal(signal)))
}

/// The name that was meant, in the way that it was written.
fn near_signal(written: &str) -> Option<String> {
    let upper = written.to_ascii_uppercase();
    let (prefix, name) = match upper.strip_prefix("SIG") {
        Some(name) => ("SIG", name),
        None => ("", upper.as_str()),
    };
    near(name, SIGNALS).map(|name| format!("{prefix}{name}"))
}

/// Whether Docker accepts it: any whole number but 0 (a negative one too), or a name with or without
/// `SIG`, in any case. The offsets of real-time signals are written one way only: `RTMIN+3`.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if SIGNALS.contains(&name) {
        return true;
    }
    let offset = |prefix: &str, most: u32| {
        name.strip_prefix(prefix)
            .is_some_and(|offset| (1..=most).any(|number| number.to_string() == offset))
    };
    offset("RTMIN+", 15) || offset("RTMAX-", 14)
}
