//! The rules of Dockerfiles, one table for each group of them, in our own words; and properties
//! that hold for any input.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod config;
mod errors;
mod generated;
mod heredocs;
mod ignore;
mod lexing;
mod lints;
mod properties;
mod refused;
mod run;
mod sizes;
mod stages;
mod transfer;
mod variables;

use firebuild_dockerfile::{Dockerfile, Instruction, ParseError, parse};
use serde_json::Value;

/// Parses a Dockerfile that must be right.
#[track_caller]
fn good(text: &str) -> Dockerfile {
    match parse(text.as_bytes()) {
        Ok(dockerfile) => dockerfile,
        Err(error) => panic!("{text}\n{error} at {:?}", error.span),
    }
}

/// Parses a Dockerfile that must be wrong.
#[track_caller]
fn bad(text: &str) -> ParseError {
    match parse(text.as_bytes()) {
        Ok(dockerfile) => panic!("{text}\n{dockerfile:#?}"),
        Err(error) => error,
    }
}

/// The last instruction of a file that consists of `FROM scratch` and `text`.
#[track_caller]
fn last(text: &str) -> Instruction {
    let mut dockerfile = good(&format!("FROM scratch\n{text}"));
    dockerfile.instructions.pop().unwrap()
}

/// The kind of the last instruction as JSON, without its name.
#[track_caller]
fn shown(text: &str) -> String {
    let Value::Object(mut fields) = serde_json::to_value(last(text).kind).unwrap() else {
        panic!("{text}");
    };
    fields.remove("instruction");
    Value::Object(fields).to_string()
}

/// The error in the last instruction: line, column, the marked text, the message.
#[track_caller]
fn refused(text: &str) -> (u32, u32, String, String) {
    let text = format!("FROM scratch\n{text}");
    let error = bad(&text);
    let marked = text.get(error.range()).unwrap_or("?").to_owned();
    (error.line(), error.column(), marked, error.to_string())
}
