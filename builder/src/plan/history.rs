//! `created_by` texts, in the shapes that BuildKit writes and other tools look for.

use std::time::Duration;

use wythe_layers::spec::Healthcheck;

/// `RUN [|n ARG=value …] command`.
pub(super) fn run(args: &[String], build_args: &[(String, String)]) -> String {
    let mut text = String::from("RUN");
    if !build_args.is_empty() {
        text.push_str(&format!(" |{}", build_args.len()));
    }
    for (name, value) in build_args {
        text.push_str(&format!(" {name}={value}"));
    }
    for arg in args {
        text.push(' ');
        text.push_str(arg);
    }
    text
}

/// `ENV A=1 B=2`.
pub(super) fn pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    let mut text = keyword.to_owned();
    for (name, value) in pairs {
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

/// Go's `%q` of a list: `["a" "b"]`.
pub(super) fn quoted(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| quote(value)).collect();
    format!("[{}]", quoted.join(" "))
}

fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            plain if is_printed(plain) => quoted.push(plain),
            other if u32::from(other) > 0xffff => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(other)));
            }
            other => quoted.push_str(&format!("\\u{:04x}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether Go prints a character as it is: letters, marks, numbers, punctuation and symbols. Rust has
/// the same table behind `escape_debug`, which escapes marks only where they stand first.
fn is_printed(char: char) -> bool {
    char == '\'' || format!("a{char}").escape_debug().nth(1) == Some(char)
}

/// Go's `%v` of a list: `[a b]`.
pub(super) fn listed(values: &[String]) -> String {
    format!("[{}]", values.join(" "))
}

/// Go's `%+v` of Docker's struct.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        listed(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// Go's text of a duration: `1m30s`, `500ms`, `0s`.
fn duration(nanoseconds: i64) -> String {
    let duration = Duration::from_nanos(nanoseconds.unsigned_abs());
    let fraction = |nanoseconds: u64, unit: u64, digits: usize| {
        let whole = nanoseconds / unit;
        let rest = format!("{:0digits$}", nanoseconds % unit);
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() {
            whole.to_string()
        } else {
            format!("{whole}.{rest}")
        }
    };
    let total = nanoseconds.unsigned_abs();
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000, 6)),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = fraction(total % 60_000_000_000, 1_000_000_000, 9);
            match (hours, minutes) {
                (0, 0) => format!("{rest}s"),
                (0, _) => format!("{minutes}m{rest}s"),
                _ => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_shape_that_tools_know() {
        let args = ["/bin/sh", "-c", "make all"].map(String::from);
        assert_eq!(run(&args, &[]), "RUN /bin/sh -c make all");
        let build_args = [
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), String::new()),
        ];
        assert_eq!(run(&args, &build_args), "RUN |2 A=1 B= /bin/sh -c make all");
        assert_eq!(quoted(&args), r#"["/bin/sh" "-c" "make all"]"#);
        assert_eq!(quote("a\"\\\n\u{1}é'"), r#""a\"\\\n\x01é'""#);
        let rows = [
            ("e\u{301}x ü日🎉", "e\u{301}x ü日🎉"),
            ("\u{80}\u{a0}\u{200b}\u{feff}", r"\u0080\u00a0\u200b\ufeff"),
            ("\u{e0001}\u{7f}", r"\U000e0001\x7f"),
        ];
        for (text, expected) in rows {
            assert_eq!(quote(text), format!("\"{expected}\""));
        }
        assert_eq!(listed(&args), "[/bin/sh -c make all]");
        for (nanoseconds, text) in [
            (0, "0s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000_000, "1.5s"),
            (500_000_000, "500ms"),
            (1_500_000, "1.5ms"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }
}
