//! Sizes as Docker writes them: `512m`, `1.5GiB`, `64 KB`; every unit counts in steps of 1024.

/// Reads a size in bytes.
pub(super) fn parse(text: &str) -> Option<u64> {
    let number_length =
        text.rfind(|last: char| last.is_ascii_digit() || last == '.' || last == ' ')? + 1;
    let (number, unit) = text.split_at_checked(number_length)?;
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = number
        .chars()
        .all(|digit| digit.is_ascii_digit() || digit == '.');
    if !plain || !number.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
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
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1024_u64.checked_pow(u32::try_from(exponent).ok()?)?);
    }
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(exponent);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range and not negative, as just checked"
    )]
    (0.0..9.0e18).contains(&bytes).then_some(bytes as u64)
}
