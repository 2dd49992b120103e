//! Errors in a Dockerfile as pictures: the file, the line, a mark under it, what was expected.

use std::io::{self, IsTerminal as _};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use firebuild_builder::{Error, StepError};
use firebuild_dockerfile::{ParseError, Warning};
use firebuild_plan::Origin;
use firebuild_plan::lower::LowerError;

use crate::command::BuildEnd;
use crate::error::{self, Rendered, hinted};
use crate::progress::printable;
use crate::terminal;

/// How many of a failed command's last lines are shown again.
const SHOWN_LINES: usize = 10;

/// Why `--debug` has opened nothing.
const NO_SHELL: &str = "`--debug` opens a shell only where a command of a RUN failed: this step has no root to look into";

/// What a person can do about a command that failed.
const DEBUG: &str = "`--debug` opens a shell where it failed";

/// A Dockerfile that errors are shown in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picture<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its text.
    pub(crate) text: &'a [u8],
}

/// What a picture shows.
struct Shown<'a> {
    level: Level<'a>,
    title: &'a str,
    span: Range<usize>,
    label: &'a str,
    notes: Vec<String>,
    hint: Option<String>,
}

impl Picture<'_> {
    /// A mistake in the text.
    pub(crate) fn of_parse(&self, error: &ParseError) -> anyhow::Error {
        let title = error.to_string();
        self.rendered(Shown {
            level: Level::ERROR,
            title: &title,
            span: error.range(),
            label: error.expected.as_deref().unwrap_or_default(),
            notes: Vec::new(),
            hint: error.hint(),
        })
    }

    /// A mistake in what the text means.
    pub(crate) fn of_lowering(&self, error: LowerError) -> anyhow::Error {
        let span = error.span.range();
        let title = error.to_string();
        let error = anyhow::Error::new(error);
        let notes = error
            .chain()
            .skip(1)
            .map(|cause| format!("caused by: {cause}"))
            .collect();
        self.rendered(Shown {
            level: Level::ERROR,
            title: &title,
            span,
            label: "",
            notes,
            hint: error::hint_of(&error),
        })
    }

    /// Something that is probably not meant.
    pub(crate) fn of_warning(&self, warning: &Warning, colours: bool) -> String {
        let title = format!("{} ({})", warning.message, warning.rule);
        let shown = Shown {
            level: Level::WARNING,
            title: &title,
            span: warning.span.range(),
            label: "",
            notes: vec![warning.rule.url()],
            hint: None,
        };
        self.render(shown, colours)
    }

    /// The end of a build. `debugging` says whether a person wanted to look into a failed step.
    pub(crate) fn of_build(&self, end: BuildEnd, debugging: bool) -> anyhow::Error {
        let error = match end {
            BuildEnd::Interrupted => {
                return hinted(
                    "the build was interrupted",
                    "what was finished is kept: the same command goes on from there",
                );
            }
            BuildEnd::Failed(error) => error,
        };
        match self.of_failure(&error, debugging) {
            Some(picture) => Rendered(picture).into(),
            None => error.into(),
        }
    }

    /// A failed step, if it is one that failed.
    pub(crate) fn of_failure(&self, error: &Error, debugging: bool) -> Option<String> {
        let Error::Step {
            stage,
            origin,
            source,
        } = error
        else {
            return None;
        };
        let (title, span, mut notes) = (
            format!("stage `{stage}`: {source}"),
            self.place(origin, source.word()),
            notes(source),
        );
        let is_command = matches!(**source, StepError::Command { .. });
        if debugging && !is_command {
            notes.push(NO_SHELL.to_owned());
        }
        let teach = is_command && !debugging && io::stdin().is_terminal();
        let hint = error::hint_in(&**source).or_else(|| teach.then(|| DEBUG.to_owned()));
        let shown = Shown {
            level: Level::ERROR,
            title: &title,
            span,
            label: "",
            notes,
            hint,
        };
        Some(self.render(shown, terminal::colours()))
    }

    fn rendered(&self, shown: Shown<'_>) -> anyhow::Error {
        Rendered(self.render(shown, terminal::colours())).into()
    }

    fn render(&self, shown: Shown<'_>, colours: bool) -> String {
        // Marks are placed by bytes, so bytes that are no text must not change their number.
        let text: String = match std::str::from_utf8(self.text) {
            Ok(text) => text.to_owned(),
            Err(_) => self
                .text
                .iter()
                .map(|byte| {
                    if byte.is_ascii() {
                        char::from(*byte)
                    } else {
                        '?'
                    }
                })
                .collect(),
        };
        let text: String = text.chars().map(seen).collect();
        let end = shown.span.end.min(text.len());
        let span = shown.span.start.min(end)..end;
        let annotation = AnnotationKind::Primary.span(span).label(shown.label);
        let snippet = Snippet::source(text.as_str())
            .path(self.name)
            .line_start(1)
            .annotation(annotation);
        let title = error::quoted(shown.title);
        let notes: Vec<String> = shown.notes.iter().map(|note| error::quoted(note)).collect();
        let hint = shown.hint.as_deref().map(error::quoted);
        let mut group = shown.level.primary_title(&title).element(snippet);
        for note in &notes {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        if let Some(hint) = &hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        let report: &[Group<'_>] = &[group];
        let renderer = if colours {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(report)
    }

    /// The bytes of a word of an instruction; of its first line if the word is not there, which is so
    /// if it came of a variable.
    fn place(&self, origin: &Origin, word: Option<&str>) -> Range<usize> {
        let first = self.lines(origin);
        let lines = usize::try_from(origin.end_line.saturating_sub(origin.line)).unwrap_or(0);
        let rest = self.text.get(first.start..).unwrap_or_default();
        let lines = rest.split_inclusive(|byte| *byte == b'\n').take(lines + 1);
        let text = &rest[..lines.map(<[u8]>::len).sum()];
        let ends = |byte: Option<&u8>| byte.is_none_or(|byte| b" \t\r\n\"',[]".contains(byte));
        let word = word.map(str::as_bytes).filter(|word| !word.is_empty());
        let found = word.and_then(|word| {
            let mut places = text.windows(word.len()).enumerate();
            let (at, _) = places.find(|(at, part)| {
                *part == word
                    && ends(at.checked_sub(1).and_then(|before| text.get(before)))
                    && ends(text.get(at + word.len()))
            })?;
            Some(first.start + at..first.start + at + word.len())
        });
        found.unwrap_or(first)
    }

    /// The bytes of an instruction's first line.
    fn lines(&self, origin: &Origin) -> Range<usize> {
        let mut start = 0;
        for (number, line) in (1..).zip(self.text.split_inclusive(|byte| *byte == b'\n')) {
            if number == origin.line {
                return start..start + line.trim_ascii_end().len();
            }
            start += line.len();
        }
        start..start
    }
}

/// A character that a terminal only shows, of as many bytes. The renderer knows those of one byte itself.
fn seen(letter: char) -> char {
    match letter.len_utf8() {
        2 if firebuild_core::is_obeyed(letter) => '¿',
        3 if firebuild_core::is_obeyed(letter) => '\u{fffd}',
        _ => letter,
    }
}

/// What is known beside a step's own message: its causes, or the end of its output.
fn notes(error: &StepError) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    if let StepError::Command { tail, .. } = error {
        let last = tail.iter().skip(tail.len().saturating_sub(SHOWN_LINES));
        let lines: Vec<String> = last
            .map(|(_, line)| printable(line).trim_end().to_owned())
            .collect();
        if !lines.is_empty() {
            notes.push(format!("its last lines were:\n{}", lines.join("\n")));
        }
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        notes.push(format!("caused by: {cause}"));
        source = cause.source();
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_in_its_line() {
        let text = b"FROM debian\nRNU true\n";
        let error = firebuild_dockerfile::parse(text).unwrap_err();
        assert_eq!((error.line(), error.column()), (2, 1));
        let picture = Picture {
            name: "Dockerfile",
            text,
        };
        let shown = picture.of_parse(&error).to_string();
        assert!(shown.contains("Dockerfile:2:1"), "{shown}");
        assert!(
            shown.contains("RNU true") && shown.contains("^^^"),
            "{shown}"
        );
    }

    #[test]
    fn a_word_is_marked_where_it_stands() {
        let text = b"FROM scratch\nCOPY xa \\\n  [\"b\", a] $c /\nCOPY a /\n";
        let picture = Picture {
            name: "Dockerfile",
            text,
        };
        let origin = Origin {
            line: 2,
            end_line: 3,
            text: String::new(),
        };
        for (word, marked) in [
            (Some("a"), "a"),
            (Some("b"), "b"),
            (Some("xa"), "xa"),
            (Some("c"), "COPY xa \\"),
            (Some(""), "COPY xa \\"),
            (None, "COPY xa \\"),
        ] {
            let place = picture.place(&origin, word);
            assert_eq!(&text[place.clone()], marked.as_bytes(), "{word:?}");
            assert!(word != Some("a") || place.start > 25);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_too() {
        let text = b"FROM a\nRUN \xff\xfe\nBAD x\n";
        if let Err(error) = firebuild_dockerfile::parse(text) {
            let picture = Picture {
                name: "Dockerfile",
                text,
            };
            assert!(picture.of_parse(&error).to_string().contains("Dockerfile:"));
        }
    }
}
