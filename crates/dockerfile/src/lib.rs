//! Dockerfile text to instructions, with a position for every error; and what instructions are
//! made of: variables, patterns, ports, signals, modes.
//!
//! Everything here is pure: text comes in, values go out; no files, no network, no environment.
//! The grammar is BuildKit's (`frontend/dockerfile`), bugs that hurt nobody included.
//!
//! * [`parse()`] makes a [`Dockerfile`]: its [`Directives`] and its [`Instruction`]s, as written.
//! * [`Expander`] replaces the variables in a [`Word`], [`mount::MountFlag`] or [`Heredoc`].
//! * [`expose`], [`signal`], [`chmod`], [`ownership`], [`source`], [`mount`] read expanded values.
//! * [`dockerignore`] and [`glob`] match paths.
//!
//! ```
//! use firebuild_dockerfile::{Expander, InstructionKind, parse};
//!
//! let dockerfile = parse(b"FROM scratch\nWORKDIR /srv/${name:-app}\n")?;
//! let expander = Expander::new(dockerfile.directives.escape);
//! if let InstructionKind::Workdir(workdir) = &dockerfile.instructions[1].kind {
//!     let environment = vec![("name", "web")];
//!     assert_eq!(expander.word(&workdir.path, &environment)?.value, "/srv/web");
//! }
//!
//! let error = parse(b"FROM scratch\nRNU make\n").unwrap_err();
//! assert_eq!((error.line(), error.column(), error.range()), (2, 1, 13..16));
//! assert_eq!(error.to_string(), "unknown instruction `RNU`; did you mean `RUN`?");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Whatever the input, nothing here panics, and time and memory are bounded by its length.

pub mod chmod;
mod directive;
pub mod dockerignore;
mod duration;
mod error;
mod expand;
pub mod expose;
mod flags;
pub mod glob;
mod heredoc;
mod instruction;
mod invocation;
mod json;
mod lines;
mod lint;
pub mod mount;
pub mod ownership;
mod parse;
mod position;
mod print;
pub mod signal;
pub mod source;
mod split;
pub mod suggest;
mod word;

pub use directive::{CheckOptions, Directives, detect_syntax};
pub use duration::ParseDurationError;
pub use error::{ErrorKind, ParseError};
pub use expand::{
    Environment, ExpandError, ExpandErrorKind, Expander, Expansion, MAX_HEREDOC, MAX_WORD,
};
pub use heredoc::Heredoc;
pub use instruction::{
    AddFiles, Argument, Arguments, Assignment, Assignments, Command, CommandLine, CopyFiles,
    DeviceRequest, Dockerfile, Expose, FromImage, Healthcheck, HealthcheckCommand, Instruction,
    InstructionKind, Maintainer, Network, Onbuild, Run, Security, Shell, Source, StopSignal,
    TransferOptions, User, Volume, Workdir,
};
pub use invocation::Invocation;
pub use lint::{Rule, Warning};
pub use parse::{MAX_SIZE, parse, parse_trigger};
pub use position::{Position, Span};
pub use suggest::nearest;
pub use word::Word;
