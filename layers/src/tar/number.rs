//! Numbers of tar headers and PAX records.

use super::TarProblem;
use crate::tree::Timestamp;

/// A numeric header field: octal digits between blanks, or base 256 (GNU) when the first bit is
/// set. Blank is 0.
pub(super) fn parse_field(field: &[u8], what: &'static str) -> Result<i64, TarProblem> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => parse_base256(field, what),
        _ => parse_octal(field, what),
    }
}

fn parse_octal(field: &[u8], what: &'static str) -> Result<i64, TarProblem> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let digits = field.iter().skip_while(|byte| blank(byte));
    let mut value = 0i64;
    let mut blanks = false;
    for byte in digits {
        match byte {
            // Old writers leave remains behind the NUL.
            0 => break,
            b' ' => blanks = true,
            b'0'..=b'7' if !blanks => {
                // 12 digits of 3 bits fit.
                value = (value << 3) | i64::from(byte - b'0');
            }
            _ => return Err(TarProblem::Number(what)),
        }
    }
    Ok(value)
}

fn parse_base256(field: &[u8], what: &'static str) -> Result<i64, TarProblem> {
    let mut bytes = field.iter().copied();
    let first = bytes.next().unwrap_or_default();
    // The first bit is the mark, the second the sign of a two's complement.
    let negative = first & 0x40 != 0;
    let first = if negative { first } else { first & 0x7f };
    let start = i128::from(i8::from_ne_bytes([first]));
    // Twelve bytes are 95 bits.
    let value = bytes.fold(start, |value, byte| (value << 8) | i128::from(byte));
    i64::try_from(value).map_err(|_| TarProblem::OutOfRange {
        what,
        value: value.to_string(),
    })
}

/// A decimal number of a PAX record.
pub(super) fn parse_decimal(text: &[u8], what: &'static str) -> Result<u64, TarProblem> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(text).ok().filter(|_| digits);
    let text = text.ok_or(TarProblem::Number(what))?;
    text.parse().map_err(|_| TarProblem::OutOfRange {
        what,
        value: text.chars().take(40).collect(),
    })
}

/// A number that cannot be negative.
pub(super) fn unsigned(value: i64, what: &'static str) -> Result<u64, TarProblem> {
    u64::try_from(value).map_err(|_| TarProblem::OutOfRange {
        what,
        value: value.to_string(),
    })
}

/// An owner. `u32::MAX` is no id: `chown` takes it for "leave as it is".
pub(super) fn owner(value: u64, what: &'static str) -> Result<u32, TarProblem> {
    device_part(value, what).and_then(|id| match id {
        u32::MAX => Err(TarProblem::OutOfRange {
            what,
            value: value.to_string(),
        }),
        id => Ok(id),
    })
}

/// A device's major or minor number.
pub(super) fn device_part(value: u64, what: &'static str) -> Result<u32, TarProblem> {
    u32::try_from(value).map_err(|_| TarProblem::OutOfRange {
        what,
        value: value.to_string(),
    })
}

/// A PAX time: `-?digits(.digits)?` (POSIX `pax` §Extended Header). Digits beyond nanoseconds are cut off.
pub(super) fn parse_time(text: &[u8]) -> Result<Timestamp, TarProblem> {
    const WHAT: &str = "time";
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = parse_decimal(parts.next().unwrap_or_default(), WHAT)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(TarProblem::Number(WHAT));
    }
    let padded = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = padded.fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    let out_of_range = || TarProblem::OutOfRange {
        what: WHAT,
        value: whole.to_string(),
    };
    // Rounded down, and counted upwards from there.
    let (seconds, nanoseconds) = match (negative, nanoseconds) {
        (false, _) => (0i64.checked_add_unsigned(whole), nanoseconds),
        (true, 0) => (0i64.checked_sub_unsigned(whole), 0),
        (true, _) => (
            (-1i64).checked_sub_unsigned(whole),
            1_000_000_000 - nanoseconds,
        ),
    };
    let seconds = seconds.ok_or_else(out_of_range)?;
    Ok(Timestamp {
        seconds,
        nanoseconds,
    })
}

/// The reverse of [`parse_time`], in its shortest form.
pub(super) fn format_time(time: Timestamp) -> String {
    let Timestamp {
        seconds,
        nanoseconds,
    } = time;
    let (sign, whole, nanoseconds) = match (seconds < 0, nanoseconds) {
        (false, _) => ("", seconds.unsigned_abs(), nanoseconds),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, _) => (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000u32.saturating_sub(nanoseconds),
        ),
    };
    let text = format!("{sign}{whole}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
