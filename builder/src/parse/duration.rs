//! Go's notation for durations: `1h30m`, `1.5s`, `300ms`.

use std::time::Duration;

/// Go counts in signed 64-bit nanoseconds.
const MOST_NANOSECONDS: u128 = i64::MAX as u128;

/// Reads a duration: whether it is negative, and its size. The error is Go's message.
pub(super) fn parse(text: &str) -> Result<(bool, Duration), String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned == "0" {
        return Ok((false, Duration::ZERO));
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut rest = unsigned;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_length = rest
            .find(|next: char| !next.is_ascii_digit() && next != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(number_length).ok_or_else(invalid)?;
        let unit_length = after
            .find(|next: char| next.is_ascii_digit() || next == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_length).ok_or_else(invalid)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let Some(scale) = nanoseconds(unit) else {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        };
        total = total
            .checked_add(scaled(whole, fraction, scale).ok_or_else(invalid)?)
            .ok_or_else(invalid)?;
        if total > MOST_NANOSECONDS {
            return Err(invalid());
        }
        rest = next;
    }
    let size = u64::try_from(total)
        .map(Duration::from_nanos)
        .map_err(|_| invalid())?;
    Ok((text.starts_with('-') && total > 0, size))
}

fn nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn scaled(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    // Beyond 18 digits a fraction of an hour is less than a nanosecond.
    let kept = fraction.get(..fraction.len().min(18)).unwrap_or_default();
    let part: u128 = if kept.is_empty() {
        0
    } else {
        kept.parse().ok()?
    };
    let divisor = 10_u128.checked_pow(u32::try_from(kept.len()).ok()?)?;
    whole
        .checked_mul(scale)?
        .checked_add(part.checked_mul(scale)? / divisor)
}
