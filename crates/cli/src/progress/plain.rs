//! One line for everything that happens, each with its stage and step in front: stages come mixed.

use std::time::Duration;

use firebuild_builder::progress::{Event, Place, Progress, StageRef};
use firebuild_core::ByteSize;

use super::{mark, printable, time, waiting};
use crate::logging::Level;
use crate::terminal;

/// Plain lines, without colours.
pub(super) struct Lines;

impl Progress for Lines {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Step { place, text, .. } => say(place, &printable(text.as_bytes())),
            Event::Cached { place, .. } => say(place, "cached"),
            Event::Done {
                place,
                duration,
                size: Some(size),
            } => {
                let took = time(duration);
                say(place, &format!("done in {took}, {}", ByteSize(size)));
            }
            Event::Failed { place, .. } => say(place, "failed"),
            Event::Line { place, line, .. } => say(place, &printable(line)),
            Event::Waiting { stage, wait } => about(Some(stage), &waiting(wait)),
            Event::VmStarting { stage, id } => {
                about(Some(stage), &format!("starting build VM {id}"));
            }
            Event::Fetching {
                source, bytes: 0, ..
            } => about(None, &format!("fetching {}", printable(source.as_bytes()))),
            Event::Sending {
                source, bytes: 0, ..
            } => about(None, &format!("sending {}", printable(source.as_bytes()))),
            Event::Fetched {
                source,
                bytes: Some(bytes),
                duration,
            } => moved("fetched", source, (bytes, duration)),
            Event::Sent {
                source,
                bytes: Some(bytes),
                duration,
            } => moved("sent", source, (bytes, duration)),
            Event::Sent { source, .. } => {
                about(None, &format!("{} is there", printable(source.as_bytes())));
            }
            Event::Fetched { source, .. } => {
                let source = printable(source.as_bytes());
                about(None, &format!("{source} has not changed"));
            }
            Event::Note { stage, text } => about(stage, &printable(text.as_bytes())),
            Event::Warning { stage, text } => {
                let text = format!("warning: {}", printable(text.as_bytes()));
                terminal::say_at(Level::Warn, &told(stage, &text));
            }
            Event::Build { .. }
            | Event::Fetching { .. }
            | Event::Sending { .. }
            | Event::StageStarted { .. }
            | Event::StageDone { .. }
            | Event::Waited { .. }
            | Event::VmReady { .. }
            | Event::VmEnded { .. }
            | Event::Debugging { .. }
            | Event::Done { size: None, .. } => {}
        }
    }
}

fn moved(how: &str, source: &str, (bytes, took): (u64, Duration)) {
    let (source, took) = (printable(source.as_bytes()), time(took));
    let text = format!("{how} {source}: {} in {took}", ByteSize(bytes));
    about(None, &text);
}

fn say(place: Place<'_>, text: &str) {
    terminal::say(format_args!("{} {text}", mark(place)));
}

fn about(stage: Option<StageRef<'_>>, text: &str) {
    terminal::say_at(Level::Info, &told(stage, text));
}

fn told(stage: Option<StageRef<'_>>, text: &str) -> String {
    match stage {
        Some(stage) => format!("[{}] {text}", printable(stage.name.as_bytes())),
        None => text.to_owned(),
    }
}
