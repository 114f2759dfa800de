//! Symbolic modes of `--chmod`: `u=rwX,go-w`. POSIX `chmod`, §EXTENDED DESCRIPTION, with umask 0.

/// A parsed list of clauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Symbolic(Vec<Clause>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    /// Bits of user (0o4700), group (0o2070) and others (0o1007) that this may change.
    who: u32,
    operator: Operator,
    permissions: Permissions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Permissions {
    /// `r w x s t` for everyone, and `X`.
    Bits {
        bits: u32,
        conditional_execute: bool,
    },
    /// The bits that user (6), group (3) or others (0) have: the shift.
    CopyOf(u32),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o1007;
const EXECUTE: u32 = 0o111;

impl Symbolic {
    /// Parses `text`; `None` when it is not a symbolic mode.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let who_end = part.find(['+', '-', '='])?;
            let (who_text, mut rest) = part.split_at_checked(who_end)?;
            let mut who = 0;
            for letter in who_text.chars() {
                who |= match letter {
                    'u' => USER,
                    'g' => GROUP,
                    'o' => OTHERS,
                    'a' => USER | GROUP | OTHERS,
                    _ => return None,
                };
            }
            if who == 0 {
                who = USER | GROUP | OTHERS;
            }
            while !rest.is_empty() {
                let mut letters = rest.chars();
                let operator = match letters.next()? {
                    '+' => Operator::Add,
                    '-' => Operator::Remove,
                    '=' => Operator::Set,
                    _ => return None,
                };
                let after = letters.as_str();
                let end = after.find(['+', '-', '=']).unwrap_or(after.len());
                let (letters, next) = after.split_at_checked(end)?;
                clauses.push(Clause {
                    who,
                    operator,
                    permissions: permissions(letters)?,
                });
                rest = next;
            }
        }
        Some(Self(clauses))
    }

    /// The mode of a file that had `mode`.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        self.0.iter().fold(mode, |mode, clause| {
            let bits = match &clause.permissions {
                Permissions::CopyOf(shift) => ((mode >> shift) & 0o7) * EXECUTE,
                Permissions::Bits {
                    bits,
                    conditional_execute,
                } => {
                    let execute = *conditional_execute && (is_directory || mode & EXECUTE != 0);
                    bits | if execute { EXECUTE } else { 0 }
                }
            };
            let bits = bits & clause.who;
            match clause.operator {
                Operator::Add => mode | bits,
                Operator::Remove => mode & !bits,
                // Setuid and setgid of directories stay unless named, as GNU chmod does.
                Operator::Set if is_directory => (mode & !(clause.who & !0o6000)) | bits,
                Operator::Set => (mode & !clause.who) | bits,
            }
        })
    }
}

fn permissions(letters: &str) -> Option<Permissions> {
    match letters {
        "u" => return Some(Permissions::CopyOf(6)),
        "g" => return Some(Permissions::CopyOf(3)),
        "o" => return Some(Permissions::CopyOf(0)),
        _ => {}
    }
    let mut bits = 0;
    let mut conditional_execute = false;
    for letter in letters.chars() {
        bits |= match letter {
            'r' => 0o444,
            'w' => 0o222,
            'x' => EXECUTE,
            's' => 0o6000,
            't' => 0o1000,
            'X' => {
                conditional_execute = true;
                0
            }
            _ => return None,
        };
    }
    Some(Permissions::Bits {
        bits,
        conditional_execute,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        for (text, before, directory, after) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go-rwx", 0o777, false, 0o700),
            ("u+s,+t", 0o755, false, 0o5755),
            ("g=u", 0o740, false, 0o770),
            ("u=", 0o4755, false, 0o055),
            ("u+x-w", 0o600, false, 0o500),
            ("g=rx", 0o2777, true, 0o2757),
        ] {
            let mode = Symbolic::parse(text).unwrap().apply(before, directory);
            assert_eq!(mode, after, "{text} on {before:o}: {mode:o}");
        }
        for bad in ["", "x", "u", "u=q", "z+x", "u+rwx,", "0755", "u+ug"] {
            assert_eq!(Symbolic::parse(bad), None, "{bad}");
        }
    }
}
