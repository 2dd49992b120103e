//! The parser: text to instructions.

mod command;
mod health;
mod pairs;
mod scope;
mod simple;
mod transfer;

pub(crate) use transfer::names_variable;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::directive::{CheckOptions, DirectiveReader};
use crate::error::{ErrorKind, ParseError};
use crate::flags::Flags;
use crate::heredoc::{self, Heredoc};
use crate::json;
use crate::lines::{Line, LogicalLine, Reader, comment, trim_start, utf8};
use crate::lint;
use crate::position::LineIndex;
use crate::split::first_word;
use crate::{Dockerfile, Instruction, InstructionKind, Position, Span};
use scope::Scope;

/// The most bytes of text that are read as a Dockerfile.
pub const MAX_SIZE: usize = 64 << 20;

/// Parses a Dockerfile.
///
/// # Errors
/// The first mistake, with its place.
pub fn parse(text: &[u8]) -> Result<Dockerfile, ParseError> {
    let index = check_encoding(text)?;
    let mut parser = Parser::new(text, &index);
    let mut instructions: Vec<Instruction> = Vec::new();
    let mut staged = false;
    while let Some(instruction) = parser.next()? {
        staged |= matches!(instruction.kind, InstructionKind::From(_));
        if !staged && !matches!(instruction.kind, InstructionKind::Arg(_)) {
            let instruction_name = instruction.kind.name();
            let kind = ErrorKind::BeforeFrom {
                instruction: instruction_name,
            };
            return Err(
                ParseError::new(kind, instruction.keyword.span).expecting("FROM, or ARG before it")
            );
        }
        instructions.push(instruction);
    }
    let end = index.span(text.len()..text.len());
    if instructions.is_empty() {
        return Err(ParseError::new(ErrorKind::NoInstructions, end).expecting("FROM"));
    }
    if !staged {
        return Err(ParseError::new(ErrorKind::NoStages, end).expecting("FROM"));
    }
    let directives = parser.directives.directives;
    let warnings = lint::check(&instructions, parser.warnings);
    Ok(Dockerfile {
        directives,
        instructions,
        warnings,
    })
}

/// Parses one instruction on its own: an `ONBUILD` trigger out of an image's configuration.
///
/// # Errors
/// The first mistake, with its place in `text`; also what cannot be a trigger.
pub fn parse_trigger(text: &str) -> Result<Instruction, ParseError> {
    let index = check_encoding(text.as_bytes())?;
    let mut parser = Parser::new(text.as_bytes(), &index);
    let end = index.span(text.len()..text.len());
    let instruction = parser
        .next()?
        .ok_or_else(|| ParseError::new(ErrorKind::NoInstructions, end))?;
    check_trigger(&instruction)?;
    match parser.next()? {
        Some(second) => Err(ParseError::new(
            ErrorKind::SecondInstruction,
            second.keyword.span,
        )),
        None => Ok(instruction),
    }
}

fn check_encoding(text: &[u8]) -> Result<LineIndex<'_>, ParseError> {
    let start = Position {
        line: 1,
        column: 1,
        offset: 0,
    };
    let start = Span { start, end: start };
    if text.len() > MAX_SIZE {
        let kind = ErrorKind::TooLarge { size: text.len() };
        return Err(ParseError::new(kind, start));
    }
    if text.starts_with(&[0xFF, 0xFE]) || text.starts_with(&[0xFE, 0xFF]) {
        return Err(ParseError::new(ErrorKind::Utf16, start));
    }
    Ok(LineIndex::new(text))
}

struct Parser<'a> {
    index: &'a LineIndex<'a>,
    reader: Reader<'a>,
    directives: DirectiveReader,
    comments: Vec<(String, Span)>,
    warnings: Vec<lint::Warning>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], index: &'a LineIndex<'a>) -> Self {
        Self {
            index,
            reader: Reader::new(text),
            directives: DirectiveReader::default(),
            comments: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Reads on to the end of the next instruction.
    fn next(&mut self) -> Result<Option<Instruction>, ParseError> {
        while let Some(line) = self.reader.next(self.index)? {
            let content = line.content();
            let trimmed = trim_start(content);
            let start = line.start + content.len() - trimmed.len();
            if self.directives.line(trimmed, start, self.index)? {
                continue;
            }
            if let Some(comment) = comment(trimmed) {
                self.comment(comment, self.index.span(line.range()));
            } else if trimmed.is_empty() {
                self.comments.clear();
            } else {
                let escape = self.escape() as u8;
                let line = LogicalLine::read(line, &mut self.reader, escape, self.index)?;
                return self.instruction(&line).map(Some);
            }
        }
        Ok(None)
    }

    fn escape(&self) -> char {
        self.directives.directives.escape
    }

    fn comment(&mut self, text: &[u8], span: Span) {
        let text = String::from_utf8_lossy(text).trim().to_owned();
        if text.is_empty() {
            self.comments.clear();
        } else {
            self.comments.push((text, span));
        }
    }

    fn instruction(&mut self, logical: &LogicalLine) -> Result<Instruction, ParseError> {
        let line = Line::new(logical, self.index);
        let range = line.trim(0..line.text().len());
        let comments = std::mem::take(&mut self.comments);
        let check = self.check_comment(&comments);
        let comments: Vec<String> = comments.into_iter().map(|(text, _)| text).collect();
        let heredocs = match opens_heredocs(&line, range.clone()) {
            true => self.heredocs(&line)?,
            false => Vec::new(),
        };
        let end = heredocs
            .last()
            .map_or(line.span(range.clone()).end, |(_, end)| *end);
        let mut scope = Scope {
            line,
            escape: self.escape(),
            descriptions: descriptions(&comments),
            heredocs: heredocs.into_iter().map(|(heredoc, _)| heredoc).collect(),
        };
        let mut instruction = scope.instruction(range.clone())?;
        instruction.span.end = end;
        if let InstructionKind::Onbuild(onbuild) = &mut instruction.kind {
            onbuild.inner.span.end = end;
        }
        if let Some(blank) = logical.blank {
            let span = self.index.span(blank..blank);
            self.warnings.push(lint::empty_continuation(span));
        }
        instruction.comments = comments;
        instruction.check = check;
        Ok(instruction)
    }

    /// The last comment that is a `check=` directive for this instruction.
    fn check_comment(&mut self, comments: &[(String, Span)]) -> Option<CheckOptions> {
        let (value, span) = comments.iter().rev().find_map(|(text, span)| {
            let (name, value) = text.split_once('=')?;
            let named = name.trim_end().eq_ignore_ascii_case("check");
            named.then_some((value.trim(), *span))
        })?;
        match CheckOptions::parse(value) {
            Ok(options) => Some(options),
            Err(option) => {
                self.warnings.push(lint::check_comment(&option, span));
                None
            }
        }
    }

    /// Reads the bodies of the heredocs that a line opens; each with the end of its last line.
    fn heredocs(&mut self, line: &Line<'_>) -> Result<Vec<(Heredoc, Position)>, ParseError> {
        let opened = heredoc::opened_by(line.text()).map_err(|(_, word)| {
            let range = find(line, &word, 0);
            line.error(ErrorKind::HeredocDelimiter { word }, range)
        })?;
        let mut heredocs = Vec::new();
        let mut from = 0;
        for mut heredoc in opened {
            let range = find(line, &heredoc.token.text, from);
            from = range.end;
            heredoc.token.span = line.span(range);
            let end = self.body(&mut heredoc)?;
            heredocs.push((heredoc, end));
        }
        Ok(heredocs)
    }

    /// Reads the body of one heredoc up to its delimiter.
    fn body(&mut self, heredoc: &mut Heredoc) -> Result<Position, ParseError> {
        let mut start = None;
        while let Some(next) = self.reader.next(self.index)? {
            let start = *start.get_or_insert(next.start);
            if heredoc.ends_at(next.content()) {
                heredoc.body_span = self.index.span(start..next.start);
                return Ok(self.index.position(next.range().end));
            }
            heredoc
                .body
                .push_str(utf8(next.bytes, next.start, self.index)?);
        }
        let name = heredoc.name.clone();
        let expected = format!("a line `{name}` further down");
        let kind = ErrorKind::UnterminatedHeredoc { name };
        Err(ParseError::new(kind, heredoc.token.span).expecting(expected))
    }
}

/// The rest of each comment by its first word; of several the first.
fn descriptions(comments: &[String]) -> BTreeMap<&str, &str> {
    let mut descriptions = BTreeMap::new();
    for (word, rest) in comments.iter().filter_map(|text| text.split_once(' ')) {
        descriptions.entry(word).or_insert(rest);
    }
    descriptions
}

/// The first place of `word` in the line, from `from` on.
fn find(line: &Line<'_>, word: &str, from: usize) -> Range<usize> {
    let text = line.text();
    match text.get(from..).and_then(|rest| rest.find(word)) {
        Some(at) => from + at..from + at + word.len(),
        None => 0..text.len(),
    }
}

/// Whether the instruction may open heredocs: `RUN`, `COPY` or `ADD`, also behind `ONBUILD`, and
/// not in JSON form.
fn opens_heredocs(line: &Line<'_>, range: Range<usize>) -> bool {
    let (mut word, mut rest) = first_word(line, range);
    if line.get(word.clone()).eq_ignore_ascii_case("ONBUILD") {
        let (_, inner) = Flags::scan(line, rest, "ONBUILD");
        (word, rest) = first_word(line, inner);
    }
    let keyword = line.get(word).to_ascii_uppercase();
    if !matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
        return false;
    }
    let (_, rest) = Flags::scan(line, rest, "");
    !matches!(json::array(line.get(rest)), json::Array::Strings(_))
}

fn check_trigger(instruction: &Instruction) -> Result<(), ParseError> {
    let kind = match &instruction.kind {
        InstructionKind::Onbuild(_) => ErrorKind::OnbuildChain,
        InstructionKind::From(_) | InstructionKind::Maintainer(_) => ErrorKind::OnbuildTrigger {
            instruction: instruction.kind.name(),
        },
        _ => return Ok(()),
    };
    Err(ParseError::new(kind, instruction.keyword.span))
}
