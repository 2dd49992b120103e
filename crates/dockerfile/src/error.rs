//! Why a Dockerfile cannot be read, where, and what was expected there.

use std::ops::Range;

use crate::Span;
use crate::chmod::ParseModeError;
use crate::duration::ParseDurationError;
use crate::mount::MountErrorKind;

/// A mistake in a Dockerfile: what is wrong, where, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The text that is wrong; may be empty, a place then.
    pub span: Span,
    /// What was expected, to stand beside the mark: lower case, no full stop.
    pub expected: Option<String>,
}

impl ParseError {
    pub(crate) fn new(kind: ErrorKind, span: Span) -> Self {
        Self {
            kind,
            span,
            expected: None,
        }
    }

    pub(crate) fn expecting(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// The line of the mistake, from 1.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.span.start.line
    }

    /// The character in that line, from 1.
    #[must_use]
    pub fn column(&self) -> u32 {
        self.span.start.column
    }

    /// The bytes of the text to mark.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.span.range()
    }

    /// What the person can do, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.kind.hint()
    }
}

/// What is wrong with a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing but comments and blank lines.
    #[error("file with no instructions")]
    NoInstructions,
    /// Only `ARG`.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// More than one instruction where one is wanted.
    #[error("an ONBUILD trigger is a single instruction")]
    SecondInstruction,
    /// A line that BuildKit would not read either.
    #[error(
        "dockerfile line greater than max allowed size of {}",
        crate::lines::MAX_LINE
    )]
    LineTooLong,
    /// More text than a Dockerfile can reasonably have.
    #[error(
        "dockerfile is {size} bytes, more than the {} that are read",
        crate::MAX_SIZE
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Bytes that are no UTF-8, outside comments.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// The text is in an encoding of two bytes a character.
    #[error("file is UTF-16, not UTF-8")]
    Utf16,
    /// A directive that stands twice.
    #[error("only one {name} parser directive can be used")]
    DuplicateDirective {
        /// Its name.
        name: String,
    },
    /// `# escape=` with something else than a backslash or a backtick.
    #[error("invalid escape token `{value}`")]
    EscapeToken {
        /// What stands there.
        value: String,
    },
    /// A `# check=` that cannot be understood.
    #[error("invalid check option `{option}`")]
    CheckOption {
        /// The part that is wrong.
        option: String,
    },
    /// A line whose first word is no instruction.
    #[error("unknown instruction `{word}`{}", did_you_mean(*.suggestion))]
    UnknownInstruction {
        /// The word.
        word: String,
        /// The instruction that it looks like.
        suggestion: Option<&'static str>,
    },
    /// A heredoc whose last line is missing.
    #[error("unterminated heredoc `{name}`")]
    UnterminatedHeredoc {
        /// The delimiter.
        name: String,
    },
    /// A heredoc's delimiter that is no word.
    #[error("invalid heredoc delimiter `{word}`")]
    HeredocDelimiter {
        /// What stands there.
        word: String,
    },
    /// A heredoc as the destination of `COPY` or `ADD`.
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HeredocDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// A heredoc of `COPY` or `ADD` that is not one of the sources.
    #[error("heredoc `{name}` is not a source of {instruction}")]
    HeredocNotSource {
        /// The instruction.
        instruction: &'static str,
        /// The delimiter.
        name: String,
    },
    /// A flag that the instruction does not have.
    #[error("unknown flag `--{flag}` of {instruction}{}", did_you_mean_flag(*.suggestion))]
    UnknownFlag {
        /// The instruction.
        instruction: &'static str,
        /// The flag, without dashes.
        flag: String,
        /// The flag that it looks like, without dashes.
        suggestion: Option<&'static str>,
    },
    /// A flag that stands twice and may stand once.
    #[error("duplicate flag `--{flag}`")]
    DuplicateFlag {
        /// The flag, without dashes.
        flag: &'static str,
    },
    /// A flag without its value.
    #[error("missing a value on flag `--{flag}`")]
    MissingFlagValue {
        /// The flag, without dashes.
        flag: &'static str,
    },
    /// A flag that is on or off, with another value.
    #[error("flag `--{flag}` is true or false, not `{value}`")]
    NotBoolean {
        /// The flag, without dashes.
        flag: &'static str,
        /// What stands there.
        value: String,
    },
    /// A flag with a value that it cannot have.
    #[error("invalid value `{value}` of flag `--{flag}`")]
    FlagValue {
        /// The flag, without dashes.
        flag: &'static str,
        /// What stands there.
        value: String,
    },
    /// A variable where none is expanded.
    #[error("variable expansion is not supported for `--{flag}`")]
    VariableInFlag {
        /// The flag, without dashes.
        flag: &'static str,
    },
    /// A `--mount` that is wrong.
    #[error("invalid `--mount`: {0}")]
    Mount(MountErrorKind),
    /// A `--chmod` that is no mode.
    #[error("invalid `--chmod`: {0}")]
    Chmod(ParseModeError),
    /// A JSON array with something else than strings in it.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonElement,
    /// An instruction without arguments.
    #[error("{instruction} requires at least one argument")]
    NoArguments {
        /// The instruction.
        instruction: &'static str,
    },
    /// An instruction that has one argument, without it.
    #[error("{instruction} requires exactly one argument")]
    OneArgument {
        /// The instruction.
        instruction: &'static str,
    },
    /// `COPY` or `ADD` with a single argument.
    #[error("{instruction} requires at least two arguments, a source and the destination")]
    NoDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// `ENV NAME`, `LABEL NAME`.
    #[error("{instruction} must have two arguments, a name and its value")]
    NoValue {
        /// The instruction.
        instruction: &'static str,
    },
    /// A word without `=` among some with it.
    #[error("can't find = in `{word}`")]
    NoEqualsSign {
        /// The word.
        word: String,
    },
    /// `=value`.
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// The instruction.
        instruction: &'static str,
    },
    /// `FROM` with a wrong number of words.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// `AS` and something that cannot name a stage.
    #[error("invalid name for build stage: `{name}`")]
    StageName {
        /// What stands there.
        name: String,
    },
    /// An instruction before the first `FROM`.
    #[error("no build stage in current context: {instruction} before the first FROM")]
    BeforeFrom {
        /// The instruction.
        instruction: &'static str,
    },
    /// `ONBUILD ONBUILD`.
    #[error("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    /// `ONBUILD FROM`, `ONBUILD MAINTAINER`.
    #[error("{instruction} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger {
        /// The inner instruction.
        instruction: &'static str,
    },
    /// `SHELL` without a JSON array.
    #[error("SHELL requires the arguments to be in JSON form")]
    ShellForm,
    /// `VOLUME [""]`.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// `HEALTHCHECK` with another word than `CMD` and `NONE`.
    #[error("unknown type `{word}` in HEALTHCHECK")]
    HealthcheckType {
        /// The word.
        word: String,
    },
    /// `HEALTHCHECK NONE` and more.
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// `HEALTHCHECK CMD` and nothing more.
    #[error("missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    /// A time that cannot be read.
    #[error("invalid value of flag `--{flag}`: {reason}")]
    Duration {
        /// The flag, without dashes.
        flag: &'static str,
        /// Why.
        reason: ParseDurationError,
    },
}

impl ErrorKind {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotUtf8 | Self::Utf16 => "save the file as UTF-8",
            Self::UnterminatedHeredoc { name } => {
                return Some(format!(
                    "end it with a line that holds only `{name}`, or quote `<<` if it opens none"
                ));
            }
            Self::VariableInFlag { flag: "from" } => {
                "define a new stage with FROM, which expands build arguments, and name that"
            }
            Self::NoArguments {
                instruction: instruction @ ("CMD" | "ENTRYPOINT"),
            } => {
                return Some(format!(
                    "to clear an inherited one, write `{instruction} []`"
                ));
            }
            Self::LineTooLong => "break the line with the escape character",
            Self::HeredocNotSource { .. } => {
                "write the delimiter directly behind `<<`, as a word of its own"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |word| format!("; did you mean `{word}`?"))
}

fn did_you_mean_flag(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |flag| format!("; did you mean `--{flag}`?"))
}
