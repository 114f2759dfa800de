//! The near word for a misspelt one.

/// Words further away than this are no help.
const FARTHEST: usize = 2;

/// UTF-8 has none that is longer.
const MAX_CHARACTER_BYTES: usize = 4;

/// Words longer than this, in bytes, are no misspelt names.
const MAX_WORD_BYTES: usize = 64;

/// The option nearest to `word`, if it is at most two edits away; the first of equals.
///
/// `None` if `word` is itself an option: then the mistake is another one.
pub(crate) fn near<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut best: Option<(&str, usize)> = None;
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    for option in options {
        if option == word {
            return None;
        }
        let Some(distance) = distance(word, option) else {
            continue;
        };
        // Where nothing of the word would be left, the option is not near.
        if distance >= word.chars().count() {
            continue;
        }
        if best.is_none_or(|(_, nearest)| distance < nearest) {
            best = Some((option, distance));
        }
    }
    best.map(|(option, _)| option.to_owned())
}

/// As [`near`] for options in upper case, but the case of `word` counts for nothing and the answer is
/// in that case.
pub(super) fn near_any_case<'a>(
    word: &str,
    options: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let found = near(&word.to_uppercase(), options)?;
    let is_lower = word == word.to_lowercase();
    Some(if is_lower {
        found.to_lowercase()
    } else {
        found
    })
}

/// Edit distance, or `None` above [`FARTHEST`].
fn distance(left: &str, right: &str) -> Option<usize> {
    // Most options are told apart by their length, and what is equal at either end does not count.
    if left.len().abs_diff(right.len()) > FARTHEST * MAX_CHARACTER_BYTES {
        return None;
    }
    let (left, right) = without_common_ends(left, right);
    let width = right.chars().count();
    if left.chars().count().abs_diff(width) > FARTHEST {
        return None;
    }
    // On the stack: this is asked about each pair of an unknown and a known word.
    let mut cells: [usize; MAX_WORD_BYTES + 1] = std::array::from_fn(|at| at);
    let row = cells.get_mut(..=width)?;
    for (at, from) in left.chars().enumerate() {
        let mut diagonal = at;
        let mut before = at + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (to, cell) in right.chars().zip(row.iter_mut().skip(1)) {
            let substitution = diagonal + usize::from(from != to);
            diagonal = *cell;
            before = substitution.min(before + 1).min(*cell + 1);
            *cell = before;
        }
        // Nothing later can be nearer than the best of this row.
        if row.iter().min().is_some_and(|least| *least > FARTHEST) {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= FARTHEST)
}

/// Both words without what they begin and end with alike.
fn without_common_ends<'w>(left: &'w str, right: &'w str) -> (&'w str, &'w str) {
    let alike = |pair: &(char, char)| pair.0 == pair.1;
    let width = |pair: (char, char)| pair.0.len_utf8();
    let start: usize = left
        .chars()
        .zip(right.chars())
        .take_while(alike)
        .map(width)
        .sum();
    let left = left.get(start..).unwrap_or_default();
    let right = right.get(start..).unwrap_or_default();
    let end: usize = left
        .chars()
        .rev()
        .zip(right.chars().rev())
        .take_while(alike)
        .map(width)
        .sum();
    (
        left.get(..left.len() - end).unwrap_or_default(),
        right.get(..right.len() - end).unwrap_or_default(),
    )
}
