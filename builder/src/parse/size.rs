//! Sizes as Docker writes them: `512m`, `1.5GiB`, `64 KB`; every unit counts in steps of 1024.

/// Go counts in signed 64-bit numbers.
const MOST: u64 = i64::MAX as u64;

/// Reads a size in bytes. One beyond all numbers is no limit, which is 0.
pub(super) fn parse(text: &str) -> Option<u64> {
    let number_length =
        text.rfind(|last: char| last.is_ascii_digit() || last == '.' || last == ' ')? + 1;
    let (number, unit) = text.split_at_checked(number_length)?;
    let number = number.strip_suffix(' ').unwrap_or(number);
    // As Go writes numbers: `1.5`, `1e3`, `+1`; words that mean numbers are none here.
    let plain = number
        .chars()
        .all(|next| next.is_ascii_digit() || matches!(next, '.' | 'e' | 'E' | '+' | '-'));
    if !plain {
        return None;
    }
    let unit = unit.to_ascii_lowercase();
    let exponent: i32 = match unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit)
    {
        "" if unit == "ib" => return None,
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let whole = number.parse::<u64>().ok();
    let unit = 1024_u64.checked_pow(u32::try_from(exponent).ok()?)?;
    if let Some(bytes) = whole.and_then(|whole| whole.checked_mul(unit)) {
        return (bytes <= MOST).then_some(bytes).or(Some(0));
    }
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(exponent);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range and not negative, as just checked"
    )]
    (bytes >= 0.0).then_some(if bytes < 9.0e18 { bytes as u64 } else { 0 })
}
