//! External programs, as they are told of.

use std::process::Command;

use crate::shortened;

/// How many characters are shown of a command.
const SHOWN: usize = 2_000;

/// A command's program and arguments, as text for people. Its environment is left out: that may have
/// secrets.
#[must_use]
pub fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words
        .map(|word| match without_user(&word.to_string_lossy()) {
            text if text.is_empty() || text.contains([' ', '"', '\'']) => format!("{text:?}"),
            text => text,
        })
        .collect();
    shortened(&words.join(" "), SHOWN)
}

/// An address without the user and the password that it may have (RFC 3986, 3.2.1).
fn without_user(text: &str) -> String {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let at = rest[..end].rfind('@')?;
        Some((scheme, &rest[at..]))
    });
    match parts {
        Some((scheme, rest)) => format!("{scheme}://***{rest}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_and_variables_are_not() {
        let mut command = Command::new("/usr/bin/tool");
        command.args(["--flag", "two words", "", "\u{1b}[31m"]);
        command.env("TOKEN", "secret");
        assert_eq!(
            words(&command),
            "/usr/bin/tool --flag \"two words\" \"\" \\u{1b}[31m"
        );
        let mut git = Command::new("git");
        git.args(["fetch", "https://me:token@host/a@b", "https://host/a@b"]);
        assert_eq!(
            words(&git),
            "git fetch https://***@host/a@b https://host/a@b"
        );
        command.arg("x".repeat(10_000));
        assert!(words(&command).len() < SHOWN + 100);
    }
}
