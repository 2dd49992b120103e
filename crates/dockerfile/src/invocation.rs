//! What a `RUN` hands to its shell.

use std::borrow::Cow;

use crate::heredoc::recognise;
use crate::{Command, Run};

/// What a `RUN` does, its heredocs put in their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation<'a> {
    /// The shell in force gets this text as its last argument.
    Shell(Cow<'a, str>),
    /// A heredoc that begins with `#!`: the content becomes a file of mode 0755,
    /// `/dev/pipes/NAME`, and the shell gets that path as its last argument.
    Script {
        /// The file's name.
        name: &'a str,
        /// Its content.
        content: Cow<'a, str>,
    },
    /// This program and these arguments, without a shell.
    Exec(&'a [String]),
}

impl Run {
    /// What is to be run. A heredoc alone is a script: for the shell, or, with `#!`, for its own
    /// interpreter. Heredocs beside other words are left to the shell, which gets the
    /// instruction's line and the bodies as they were written.
    #[must_use]
    pub fn invocation(&self) -> Invocation<'_> {
        let text = match &self.command {
            Command::Exec(strings) => return Invocation::Exec(strings),
            Command::Shell(text) => text,
        };
        match self.heredocs.first() {
            None => Invocation::Shell(Cow::Borrowed(text)),
            Some(heredoc) if matches!(recognise(text), Ok(Some(_))) => {
                let content = heredoc.content();
                match heredoc.has_shebang() {
                    true => Invocation::Script {
                        name: &heredoc.name,
                        content,
                    },
                    false => Invocation::Shell(content),
                }
            }
            Some(_) => {
                let mut whole = text.clone();
                for heredoc in &self.heredocs {
                    whole.push('\n');
                    whole.push_str(&heredoc.body);
                    whole.push_str(&heredoc.name);
                }
                Invocation::Shell(Cow::Owned(whole))
            }
        }
    }
}
