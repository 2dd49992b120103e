//! One JSON object for everything that happens: docs/progress.md is its description.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use firebuild_builder::Built;
use firebuild_builder::progress::{Event, Output, Place, Progress, StageRef, Wait};
use serde::Serialize;

use crate::terminal;

/// JSON lines.
pub(super) struct Json {
    began: Instant,
}

impl Json {
    pub(super) fn new(began: Instant) -> Self {
        Self { began }
    }
}

impl Progress for Json {
    fn event(&self, event: Event<'_>) {
        let record = Record {
            time: self.began.elapsed().as_secs_f64(),
            ..Record::of(event)
        };
        // Strings and numbers always serialise.
        terminal::event(serde_json::to_string(&record).unwrap_or_default());
    }
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Record<'a> {
    event: &'static str,
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stages: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// Tells that the build is done.
pub(crate) fn built(built: &Built, began: Instant) {
    let record = Record {
        time: began.elapsed().as_secs_f64(),
        ..Record::of_built(built)
    };
    terminal::event(serde_json::to_string(&record).unwrap_or_default());
}

impl<'a> Record<'a> {
    fn of_built(built: &Built) -> Self {
        Self {
            size: Some(built.size.0),
            saved: Some(built.saved.as_secs_f64()),
            digest: Some(built.digest.to_string()),
            ..Self::new("built")
        }
    }

    fn of(event: Event<'a>) -> Self {
        match event {
            Event::Build {
                stages,
                steps,
                jobs,
            } => Self {
                stages: Some(stages),
                steps: Some(steps),
                jobs: Some(jobs),
                ..Self::new("build")
            },
            Event::StageStarted { stage } => Self::new("stage-started").about(Some(stage)),
            Event::StageDone { stage, duration } => {
                Self::new("stage-done").about(Some(stage)).took(duration)
            }
            Event::Waiting { stage, wait } => Self::new("waiting").about(Some(stage)).wait(wait),
            Event::Waited {
                stage,
                wait,
                duration,
            } => Self::new("waited")
                .about(Some(stage))
                .wait(wait)
                .took(duration),
            Event::VmStarting { stage, id } => Self::new("vm-starting").about(Some(stage)).vm(id),
            Event::VmReady {
                stage,
                id,
                duration,
            } => Self::new("vm-ready")
                .about(Some(stage))
                .vm(id)
                .took(duration),
            Event::VmEnded {
                stage,
                id,
                duration,
            } => Self::new("vm-ended")
                .about(Some(stage))
                .vm(id)
                .took(duration),
            Event::Fetching { .. }
            | Event::Fetched { .. }
            | Event::Sending { .. }
            | Event::Sent { .. } => Self::of_moving(event),
            Event::Debugging { stage } => Self::new("debugging").about(Some(stage)),
            Event::Note { stage, text } => Self::new("note").about(stage).text(text),
            Event::Warning { stage, text } => Self::new("warning").about(stage).text(text),
            Event::Step { place, line, text } => Self {
                line: Some(line),
                ..Self::new("step").at(place).text(text)
            },
            Event::Cached { place, saved, size } => {
                Self::new("cached").at(place).took(saved).size(size)
            }
            Event::Done {
                place,
                duration,
                size,
            } => Self::new("done").at(place).took(duration).size(size),
            Event::Failed { place, duration } => Self::new("failed").at(place).took(duration),
            Event::Line {
                place,
                output,
                line,
            } => Self::new(name(output))
                .at(place)
                .text(String::from_utf8_lossy(line)),
        }
    }

    /// What is fetched or sent.
    fn of_moving(event: Event<'a>) -> Self {
        match event {
            Event::Fetching {
                source,
                bytes,
                size,
            } => Self::new("fetching")
                .of_source(source, Some(bytes))
                .size(size),
            Event::Fetched {
                source,
                bytes,
                duration,
            } => Self::new("fetched").of_source(source, bytes).took(duration),
            Event::Sending {
                source,
                bytes,
                size,
            } => Self::new("sending")
                .of_source(source, Some(bytes))
                .size(size),
            Event::Sent {
                source,
                bytes,
                duration,
            } => Self::new("sent").of_source(source, bytes).took(duration),
            _ => Self::default(),
        }
    }

    fn new(event: &'static str) -> Self {
        Self {
            event,
            ..Self::default()
        }
    }

    fn about(self, stage: Option<StageRef<'a>>) -> Self {
        Self {
            stage: stage.map(|stage| stage.name),
            index: stage.map(|stage| stage.index),
            ..self
        }
    }

    fn at(self, place: Place<'a>) -> Self {
        Self {
            step: Some(place.step),
            steps: Some(place.steps),
            ..self.about(Some(place.stage))
        }
    }

    fn wait(self, wait: Wait<'a>) -> Self {
        let (reason, other) = match wait {
            Wait::Stage(other) => ("stage", Some(other.name)),
            Wait::Step => ("step", None),
            Wait::Slot => ("slot", None),
            Wait::Cache(id) => ("cache", Some(id)),
        };
        Self {
            reason: Some(reason),
            other,
            ..self
        }
    }

    fn vm(self, id: &'a str) -> Self {
        Self {
            vm: Some(id),
            ..self
        }
    }

    fn text(self, text: impl Into<Cow<'a, str>>) -> Self {
        Self {
            text: Some(text.into()),
            ..self
        }
    }

    fn of_source(self, source: &'a str, bytes: Option<u64>) -> Self {
        Self {
            source: Some(source),
            bytes,
            ..self
        }
    }

    fn size(self, size: Option<u64>) -> Self {
        Self { size, ..self }
    }

    fn took(self, duration: Duration) -> Self {
        Self {
            seconds: Some(duration.as_secs_f64()),
            ..self
        }
    }
}

/// The event of a line on this output.
fn name(output: Output) -> &'static str {
    match output {
        Output::Stdout => "stdout",
        Output::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// One of every event, with every field that it can have.
    fn every() -> Vec<Event<'static>> {
        let stage = StageRef {
            index: 1,
            name: "b",
        };
        let other = StageRef {
            index: 0,
            name: "a",
        };
        let (id, text, duration) = ("vm", "text", Duration::from_secs(1));
        let place = Place {
            stage,
            step: 1,
            steps: 2,
        };
        let wait = Wait::Stage(other);
        let line = |output| Event::Line {
            place,
            output,
            line: b"text",
        };
        vec![
            Event::Build {
                stages: 2,
                steps: 4,
                jobs: 1,
            },
            Event::StageStarted { stage },
            Event::StageDone { stage, duration },
            Event::Waiting { stage, wait },
            Event::Waited {
                stage,
                wait,
                duration,
            },
            Event::VmStarting { stage, id },
            Event::VmReady {
                stage,
                id,
                duration,
            },
            Event::VmEnded {
                stage,
                id,
                duration,
            },
            Event::Step {
                place,
                line: 3,
                text,
            },
            Event::Cached {
                place,
                saved: duration,
                size: Some(1),
            },
            Event::Done {
                place,
                duration,
                size: Some(1),
            },
            Event::Failed { place, duration },
            line(Output::Stdout),
            line(Output::Stderr),
            Event::Debugging { stage },
            Event::Note {
                stage: Some(stage),
                text,
            },
            Event::Warning {
                stage: Some(stage),
                text,
            },
        ]
    }

    fn motions() -> [Event<'static>; 4] {
        let source = "text";
        let (bytes, size) = (1, Some(2));
        let duration = Duration::from_secs(1);
        [
            Event::Fetching {
                source,
                bytes,
                size,
            },
            Event::Fetched {
                source,
                bytes: size,
                duration,
            },
            Event::Sending {
                source,
                bytes,
                size,
            },
            Event::Sent {
                source,
                bytes: size,
                duration,
            },
        ]
    }

    /// What docs/progress.md says: `| event | fields | …`.
    fn documented() -> BTreeMap<String, Vec<String>> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/progress.md");
        let text = fs_err::read_to_string(path).unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let names = |cell: &str| -> Vec<String> {
                cell.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect()
            };
            (names(cells[1]).concat(), names(cells[2]))
        })
        .collect()
    }

    #[test]
    fn every_event_is_documented_with_its_fields() {
        let mut documented = documented();
        let built = Built {
            digest: firebuild_core::Digest::of(b""),
            size: firebuild_core::ByteSize(1),
            duration: Duration::from_secs(1),
            saved: Duration::from_secs(1),
            keys: Default::default(),
            own_keys: Default::default(),
        };
        let records = every().into_iter().chain(motions()).map(Record::of);
        for record in records.chain([Record::of_built(&built)]) {
            let record = serde_json::to_value(record).unwrap();
            let name = record["event"].as_str().unwrap();
            let fields = documented.remove(name);
            let mut fields = fields.unwrap_or_else(|| panic!("`{name}` is not documented"));
            let mut found: Vec<String> = record
                .as_object()
                .unwrap()
                .keys()
                .filter(|key| !["event", "time"].contains(&key.as_str()))
                .cloned()
                .collect();
            fields.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, fields, "{name}");
        }
        assert!(documented.is_empty(), "{documented:?} never happens");
    }
}
