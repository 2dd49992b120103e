//! Why a Dockerfile cannot be lowered, and where it says so.

use firebuild_core::reference::ParseReferenceError;
use firebuild_dockerfile::{ExpandError, Span};

use super::BoxError;

/// A place in the Dockerfile and what is wrong there.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct LowerError {
    /// The place.
    pub span: Span,
    /// What is wrong. Its causes follow it, as the kind stands in this error's own text.
    #[source]
    source: Option<BoxError>,
    /// What is wrong.
    pub kind: LowerErrorKind,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum LowerErrorKind {
    /// A feature that firebuild does not have yet.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// Variables that cannot be expanded, or a value that is not what it must be.
    #[error("{0}")]
    Value(String),
    /// `FROM` names nothing.
    #[error("the base's name is empty{0}")]
    EmptyBase(String),
    /// A name that can be no image's.
    #[error(transparent)]
    Reference(ParseReferenceError),
    /// A base image that is not to be had.
    #[error("the base image is not available")]
    Base(BoxError),
    /// An instruction before the first `FROM`.
    #[error("`{0}` stands before the first `FROM`; only `ARG` may")]
    BeforeFrom(String),
    /// No stage at all.
    #[error("there is no `FROM`")]
    NoStage,
    /// `--target` names no stage.
    #[error("target stage `{name}` could not be found{suggestion}")]
    NoTarget {
        /// The name.
        name: String,
        /// ` (did you mean …?)`, or nothing.
        suggestion: String,
    },
    /// A copy from a stage that comes later.
    #[error("stage `{0}` needs to be defined before it is copied from")]
    LaterStage(String),
    /// A copy from a stage by a number that none has.
    #[error("there is no stage {0}: the file has {1}, counted from 0")]
    NoStageAt(String, usize),
    /// A trigger of the base image is wrong.
    #[error("the base image's trigger `{trigger}`: {problem}")]
    Trigger {
        /// The instruction.
        trigger: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `SOURCE_DATE_EPOCH` is no time.
    #[error(
        "`SOURCE_DATE_EPOCH` is `{0}`: not a number of seconds since 1970, `context`, a named context, or a stage from scratch that does nothing but ADD one address"
    )]
    Epoch(String),
}

impl LowerError {
    pub(crate) fn new(span: Span, kind: LowerErrorKind) -> Self {
        match kind {
            LowerErrorKind::Base(cause) => {
                let kind = LowerErrorKind::Base(cause.to_string().into());
                Self {
                    span,
                    source: Some(cause),
                    kind,
                }
            }
            kind => Self {
                span,
                source: None,
                kind,
            },
        }
    }

    pub(crate) fn unsupported(span: Span, what: impl Into<String>) -> Self {
        Self::new(span, LowerErrorKind::Unsupported(what.into()))
    }

    /// The same of a trigger, which is written in no line of the file but the `FROM` at `place`.
    pub(crate) fn in_trigger(self, trigger: &str, place: Span) -> Self {
        let problem = self.kind.to_string();
        let kind = LowerErrorKind::Trigger {
            trigger: trigger.to_owned(),
            problem,
        };
        Self {
            span: place,
            source: self.source,
            kind,
        }
    }

    pub(crate) fn value(span: Span, error: &dyn std::error::Error) -> Self {
        Self::new(span, LowerErrorKind::Value(error.to_string()))
    }
}

impl From<ExpandError> for LowerError {
    fn from(error: ExpandError) -> Self {
        Self::value(error.span, &error)
    }
}
