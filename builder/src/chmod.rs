//! Symbolic modes of `--chmod`: `u=rwX,go-w`. The rules are those of BSD's `setmode(3)` with umask 0,
//! which BuildKit follows; they differ from GNU `chmod` in corners: `a` is not the sticky bit, `=`
//! takes set-ID bits from directories too, `X` looks at the mode before all clauses.

/// A parsed list of clauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Symbolic(Vec<Command>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Clear(u32),
    Set(u32),
    /// For directories, and for files that anyone could execute before.
    SetIfExecutable(u32),
    /// The bits of one class to others.
    Copy(Copy),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copy {
    /// How far the class's bits are from the right.
    shift: u32,
    /// Bits that may change.
    to: u32,
    operator: Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o007;
const ALL: u32 = USER | GROUP | OTHERS;
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXECUTE: u32 = 0o111;

impl Symbolic {
    /// Parses `text`; `None` when it is not a symbolic mode.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut commands = Vec::new();
        for clause in text.split(',') {
            let who_end = clause.find(|letter| !matches!(letter, 'u' | 'g' | 'o' | 'a'))?;
            let (who, mut rest) = clause.split_at_checked(who_end)?;
            let mut actions = Actions {
                who: who.chars().fold(0, |who, letter| {
                    who | match letter {
                        'u' => USER,
                        'g' => GROUP,
                        'o' => OTHERS,
                        _ => ALL,
                    }
                }),
                commands: &mut commands,
            };
            while !rest.is_empty() {
                rest = actions.action(rest)?;
            }
        }
        Some(Self(commands))
    }

    /// The mode of a file that had `before`.
    pub(crate) fn apply(&self, before: u32, is_directory: bool) -> u32 {
        self.0.iter().fold(before, |mode, command| match command {
            Command::Clear(bits) => mode & !bits,
            Command::Set(bits) => mode | bits,
            Command::SetIfExecutable(bits) if is_directory || before & EXECUTE != 0 => mode | bits,
            Command::SetIfExecutable(_) => mode,
            Command::Copy(copy) => {
                // One class's bits, put into all three.
                let bits = (((mode >> copy.shift) & OTHERS) * EXECUTE) & copy.to;
                match copy.operator {
                    Operator::Add => mode | bits,
                    Operator::Remove => mode & !bits,
                    Operator::Set => (mode & !copy.to) | bits,
                }
            }
        })
    }
}

/// The actions of one clause: `=rwX`, `+u-w`.
struct Actions<'c> {
    /// Bits of the classes named; 0 when none is.
    who: u32,
    commands: &'c mut Vec<Command>,
}

impl Actions<'_> {
    /// One operator with its letters; gives what follows.
    fn action<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let mut letters = text.chars();
        let operator = match letters.next()? {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Set,
            _ => return None,
        };
        self.who &= !STICKY;
        let (mut bits, mut conditional, mut is_set) = (0, 0, operator != Operator::Set);
        loop {
            let rest = letters.as_str();
            let Some(letter) = letters.next() else {
                self.finish(operator, bits, conditional, is_set);
                return Some(rest);
            };
            // Set-user-ID and the sticky bit are not for the others alone.
            let special = self.who == 0 || self.who & !OTHERS != 0;
            match letter {
                'r' => bits |= READ,
                'w' => bits |= WRITE,
                'x' => bits |= EXECUTE,
                'X' if operator == Operator::Remove => bits |= EXECUTE,
                'X' => conditional = EXECUTE,
                's' if special => bits |= SET_IDS,
                't' if special => {
                    self.who |= STICKY;
                    bits |= STICKY;
                }
                's' | 't' => {}
                'u' | 'g' | 'o' => {
                    if bits != 0 {
                        self.change(operator, bits);
                    }
                    if conditional != 0 {
                        self.if_executable(conditional);
                    }
                    (bits, conditional, is_set) = (0, 0, true);
                    self.copy(letter, operator);
                }
                _ => {
                    self.finish(operator, bits, conditional, is_set);
                    return Some(rest);
                }
            }
        }
    }

    fn finish(&mut self, operator: Operator, bits: u32, conditional: u32, is_set: bool) {
        if bits != 0 || !is_set {
            self.change(operator, bits);
        }
        if conditional != 0 {
            self.if_executable(conditional);
        }
    }

    fn of_who(&self, bits: u32) -> u32 {
        if self.who == 0 { bits } else { bits & self.who }
    }

    fn change(&mut self, operator: Operator, bits: u32) {
        let bits = self.of_who(bits);
        if operator == Operator::Set {
            let all = if self.who == 0 { ALL } else { self.who };
            self.commands.push(Command::Clear(all));
        }
        self.commands.push(match operator {
            Operator::Remove => Command::Clear(bits),
            Operator::Add | Operator::Set => Command::Set(bits),
        });
    }

    fn if_executable(&mut self, bits: u32) {
        let bits = self.of_who(bits);
        self.commands.push(Command::SetIfExecutable(bits));
    }

    fn copy(&mut self, from: char, operator: Operator) {
        let shift = match from {
            'u' => 6,
            'g' => 3,
            _ => 0,
        };
        let to = self.of_who(READ | WRITE | EXECUTE);
        self.commands.push(Command::Copy(Copy {
            shift,
            to,
            operator,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_setmode_changes_them() {
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
            ("g=rx", 0o2777, true, 0o757),
            ("a=", 0o7777, true, 0o1000),
            ("=", 0o7777, false, 0o1000),
            ("a+t", 0o644, false, 0o1644),
            ("o+t,o+s", 0o644, false, 0o644),
            ("+xt", 0o644, false, 0o1644),
            ("u+rwxst", 0o600, false, 0o5700),
            ("g+st", 0o600, false, 0o3600),
            ("go=u-w", 0o750, false, 0o755),
            ("u=gw", 0o650, false, 0o250),
            ("u-x,+X", 0o711, false, 0o711),
            ("+x-X", 0o644, false, 0o644),
            ("u+o", 0o007, false, 0o707),
            ("ug-o", 0o777, false, 0o007),
            ("ugo+r", 0, false, 0o444),
            ("+", 0o644, false, 0o644),
            ("u+rg", 0o050, false, 0o550),
            ("u=rg", 0o750, false, 0o550),
            ("u+ug", 0o640, false, 0o640),
            ("+rt", 0o000, false, 0o1000),
            ("a+rt", 0o000, false, 0o1444),
        ] {
            let mode = Symbolic::parse(text).unwrap().apply(before, directory);
            assert_eq!(mode, after, "{text} on {before:o}: {mode:o}");
        }
        for bad in [
            "",
            "x",
            "u",
            "u=q",
            "z+x",
            "u+rwx,",
            "0755",
            ",u+x",
            "u,g+x",
            "u+x,,g+x",
            "u+x g+x",
            "u=rw, g=r",
            "+755",
            "-1",
            "u+é",
        ] {
            assert_eq!(Symbolic::parse(bad), None, "{bad}");
        }
    }
}
