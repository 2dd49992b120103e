//! `build --debug`: a shell where a RUN failed.

use std::io;

use clap::Args;
use firebuild_builder::Error;
use firebuild_builder::debug::Debugger;
use firebuild_machine::terminal::UserEnd;

use crate::error::hinted;
use crate::picture::Picture;
use crate::terminal;

#[derive(Debug, Args)]
pub(super) struct DebugArguments {
    /// Open a shell where a RUN fails, in its own VM: with its files as it left them, its mounts,
    /// variables, user and directory. It is the shell of the Dockerfile, or PROGRAM; the build ends,
    /// as failed, when the shell does. Without a terminal it reads standard input:
    /// `echo 'ls -l' | firebuild build --debug .`
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, require_equals = true)]
    debug: Option<Option<String>>,
}

/// A person at the streams of this command.
#[derive(Debug)]
pub(super) struct Person<'a> {
    program: Option<&'a str>,
    picture: Picture<'a>,
}

impl DebugArguments {
    /// Whether a shell is to be opened.
    pub(super) fn wanted(&self) -> bool {
        self.debug.is_some()
    }

    /// Refuses what cannot be. `input_is_taken` says whether the build itself reads standard input.
    pub(super) fn check(&self, input_is_taken: bool) -> anyhow::Result<()> {
        if self.wanted() && input_is_taken {
            return Err(hinted(
                "the shell of `--debug` needs standard input, which the build reads itself",
                "give a file or a directory in place of `-`",
            ));
        }
        Ok(())
    }

    /// The person who looks into a failed step.
    pub(super) fn person<'a>(&'a self, picture: Picture<'a>) -> Option<Person<'a>> {
        let program = self.debug.as_ref()?.as_deref();
        Some(Person {
            program: program.filter(|program| !program.is_empty()),
            picture,
        })
    }
}

impl Debugger for Person<'_> {
    fn program(&self) -> Option<&str> {
        self.program
    }

    fn open(&self, failure: &Error, program: &str) -> io::Result<UserEnd> {
        if let Some(shown) = self.picture.of_failure(failure, true) {
            terminal::say(shown);
        }
        let program = crate::progress::printable(program.as_bytes());
        terminal::say(format_args!(
            "starting `{program}` where the step failed; the build ends when it does"
        ));
        terminal::take_streams()
    }
}
