//! `--chmod`: octal modes and the symbolic ones of chmod(1), with a file mode creation mask of 0.

use serde::{Serialize, Serializer};

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// These bits, 0 to 0o7777, whatever there was.
    Octal(u16),
    /// Clauses that are applied one after the other. See [`ModeChange::apply`].
    Symbolic(Symbolic),
}

/// A symbolic mode, such as `u=rwX,go=rX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbolic {
    text: String,
    actions: Vec<Action>,
}

/// A text that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseModeError {
    /// Looks like a number and is not octal, or is out of range.
    #[error("`{0}` is not an octal number between 0 and 07777")]
    Octal(String),
    /// Neither a number nor symbolic.
    #[error("`{0}` is not a mode")]
    Symbolic(String),
}

/// One `[ugoa…][+-=][rwxXst…|u|g|o]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Action {
    /// The bits that may be changed.
    who: u16,
    operator: Operator,
    /// The bits named.
    bits: u16,
    /// `X`: execute and search, where it makes sense.
    execute_if_any: bool,
    /// The class whose bits are copied: how far its bits are shifted left.
    copy: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

const USER: u16 = 0o4700;
const GROUP: u16 = 0o2070;
const OTHER: u16 = 0o0007;
const STICKY: u16 = 0o1000;
const EXECUTE: u16 = 0o111;

impl ModeChange {
    /// Reads a mode.
    ///
    /// # Errors
    /// [`ParseModeError`].
    pub fn parse(text: &str) -> Result<Self, ParseModeError> {
        let shown = || text.chars().take(50).collect::<String>();
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
            return match u32::from_str_radix(text, 8).map(u16::try_from) {
                Ok(Ok(mode)) if octal && mode <= 0o7777 => Ok(Self::Octal(mode)),
                _ => Err(ParseModeError::Octal(shown())),
            };
        }
        let clauses = text.split(',').map(clause);
        let actions: Option<Vec<_>> = clauses.collect();
        match actions {
            Some(actions) => Ok(Self::Symbolic(Symbolic {
                text: text.to_owned(),
                actions: actions.concat(),
            })),
            None => Err(ParseModeError::Symbolic(shown())),
        }
    }

    /// The new permission bits of a file or directory that has `mode`.
    #[must_use]
    pub fn apply(&self, mode: u16, directory: bool) -> u16 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(symbolic) => {
                let original = mode & 0o7777;
                let execute = directory || original & EXECUTE != 0;
                let actions = symbolic.actions.iter();
                actions.fold(original, |mode, action| action.apply(mode, execute))
            }
        }
    }
}

impl Action {
    fn apply(&self, mode: u16, execute: bool) -> u16 {
        let mut bits = self.bits;
        if self.execute_if_any && execute {
            bits |= EXECUTE;
        }
        if let Some(shift) = self.copy {
            bits |= (mode >> shift & 0o7) * 0o111;
        }
        bits &= self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => mode & !self.who | bits,
        }
    }
}

/// The actions of one clause, such as `go+w-x`.
fn clause(text: &str) -> Option<Vec<Action>> {
    let end = text.find(['+', '-', '='])?;
    let mut who = 0;
    for class in text[..end].chars() {
        who |= match class {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHER,
            'a' => USER | GROUP | OTHER,
            _ => return None,
        };
    }
    let who = if end == 0 { USER | GROUP | OTHER } else { who };
    let mut actions = Vec::new();
    let mut rest = &text[end..];
    while let Some(operator) = rest.chars().next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let length = rest[1..].find(['+', '-', '=']).unwrap_or(rest.len() - 1);
        actions.push(action(who, operator, &rest[1..=length])?);
        rest = &rest[1 + length..];
    }
    Some(actions)
}

fn action(who: u16, operator: Operator, permissions: &str) -> Option<Action> {
    let mut action = Action {
        who,
        operator,
        bits: 0,
        execute_if_any: false,
        copy: None,
    };
    for permission in permissions.chars() {
        match permission {
            'r' => action.bits |= 0o444,
            'w' => action.bits |= 0o222,
            'x' => action.bits |= EXECUTE,
            'X' => action.execute_if_any = true,
            's' => action.bits |= 0o6000,
            // Only for others, it means nothing.
            't' if who != OTHER => {
                action.bits |= STICKY;
                action.who |= STICKY;
            }
            't' => {}
            'u' | 'g' | 'o' if permissions.len() > 1 => return None,
            'u' => action.copy = Some(6),
            'g' => action.copy = Some(3),
            'o' => action.copy = Some(0),
            _ => return None,
        }
    }
    Some(action)
}

impl std::fmt::Display for ModeChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Octal(mode) => write!(f, "{mode:04o}"),
            Self::Symbolic(symbolic) => f.write_str(&symbolic.text),
        }
    }
}

impl Serialize for ModeChange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_modes() {
        for (text, mode, directory, result) in [
            ("644", 0o4755, false, 0o644),
            ("0", 0o755, true, 0),
            ("07777", 0, false, 0o7777),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o777, false, 0o555),
            ("go=", 0o777, false, 0o700),
            ("u+s,+t", 0o755, false, 0o5755),
            ("g=u", 0o740, false, 0o770),
            ("o=g-w", 0o770, false, 0o775),
            ("u+w-x", 0o500, false, 0o600),
            ("o+t", 0o755, false, 0o755),
            ("o+s", 0o755, false, 0o755),
            ("u=r", 0o4755, false, 0o455),
            ("=", 0o755, false, 0),
        ] {
            let change = ModeChange::parse(text).unwrap();
            assert_eq!(change.apply(mode, directory), result, "{text} {mode:o}");
        }
    }

    #[test]
    fn refuses_what_is_no_mode() {
        for text in ["8", "0o644", "10000", "644x", "00000000000000000777777"] {
            let error = ParseModeError::Octal(text.to_owned());
            assert_eq!(ModeChange::parse(text), Err(error), "{text}");
        }
        for text in [
            "", "rw", "u", "z+x", "u+q", "u+x,", "u=gr", "-1", "é+x", "u+é",
        ] {
            let error = ParseModeError::Symbolic(text.to_owned());
            assert_eq!(ModeChange::parse(text), Err(error), "{text}");
        }
    }
}
