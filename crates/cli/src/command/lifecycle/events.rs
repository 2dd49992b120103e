//! `firebuild events`: what happens to microVMs.

use std::str::FromStr;

use clap::Args;
use firebuild_core::printable;
use firebuild_machine::events::{Event, Events};
use jiff::Timestamp;

use super::moment::Moment;
use crate::command::{Format, Global};
use crate::terminal;

#[derive(Debug, Args)]
#[command(after_help = "\
Events: create, start, kill, stop, pause, unpause, die (with exitCode or reason), restart, rename, update,
destroy. The last thousands of them are kept. Without --until, goes on until it is interrupted; without
--since, begins with now.

  firebuild events --since 1h --until 0s
  firebuild events --filter event=die --filter vm=web --format json")]
pub(crate) struct EventsCommand {
    /// Begin with those of this moment: 10m (ago), 2026-11-21T10:00:00Z, or seconds since 1970
    #[arg(long, value_name = "MOMENT")]
    since: Option<Moment>,
    /// End with this moment
    #[arg(long, value_name = "MOMENT")]
    until: Option<Moment>,
    /// Only those with event=NAME, vm=NAME or image=NAME; of one kind any, of several kinds all (may be repeated)
    #[arg(long, short, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// How to print; JSON is one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Event,
    Vm,
    Image,
}

/// What an event has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    key: Key,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let key = match key {
            "event" => Key::Event,
            "vm" | "container" => Key::Vm,
            "image" => Key::Image,
            _ => {
                let text: String = text.chars().take(100).collect();
                return Err(format!(
                    "`{text}` is not a filter; write event=NAME, vm=NAME or image=NAME"
                ));
            }
        };
        let value = value.to_owned();
        Ok(Self { key, value })
    }
}

impl Filter {
    fn lets(&self, event: &Event) -> bool {
        let name = event.name.as_ref().map(ToString::to_string);
        match self.key {
            Key::Event => event.action == self.value,
            Key::Vm => {
                name.as_ref() == Some(&self.value)
                    || (!self.value.is_empty() && event.id.as_str().starts_with(&self.value))
            }
            Key::Image => event.image.as_ref() == Some(&self.value),
        }
    }
}

/// Whether all kinds of filters let an event through: of each kind, one has to.
fn passes(filters: &[Filter], event: &Event) -> bool {
    filters.iter().all(|filter| {
        let mut same = filters.iter().filter(|other| other.key == filter.key);
        same.any(|other| other.lets(event))
    })
}

impl EventsCommand {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let begin = Timestamp::now();
        let since = self.since.map_or(begin, |moment| moment.0);
        let until = self.until.map(|moment| moment.0);
        let mut events = Events::of(&global.store()?, until.is_none_or(|end| end > begin))?;
        loop {
            for event in events.next_ones()? {
                let in_time = event.time >= since && until.is_none_or(|end| event.time <= end);
                if in_time && passes(&self.filter, &event) {
                    self.show(&event)?;
                }
            }
            if !events.wait(until)? {
                return Ok(());
            }
        }
    }

    fn show(&self, event: &Event) -> anyhow::Result<()> {
        if self.format == Format::Json {
            return terminal::print(format_args!("{}\n", serde_json::to_string(event)?));
        }
        terminal::print(line(event))
    }
}

fn line(event: &Event) -> String {
    let mut more: Vec<String> = Vec::new();
    let name = event.name.as_ref().map(ToString::to_string);
    let named = [("image", &event.image), ("name", &name)];
    for (key, value) in named {
        more.extend(value.as_ref().map(|value| format!("{key}={value}")));
    }
    for (key, value) in &event.attributes {
        more.push(format!("{key}={value}"));
    }
    let text = format!("{} {} ({})", event.action, event.id, more.join(", "));
    format!("{} {}\n", event.time, printable(&text, usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, name: &str) -> Event {
        let attributes = [("exitCode".to_owned(), "1\u{1b}".to_owned())];
        Event {
            time: "2026-11-21T10:00:00Z".parse().unwrap(),
            action: action.to_owned(),
            id: "abcdefghijklmnopqrst".parse().unwrap(),
            name: name.parse().ok(),
            image: Some("org/app:1".to_owned()),
            attributes: attributes.into(),
        }
    }

    #[test]
    fn filters_of_a_kind_are_alternatives() {
        let passing = |filters: &[&str], event: &Event| {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            passes(&filters, event)
        };
        let die = event("die", "web");
        assert!(passing(&[], &die));
        assert!(passing(&["event=die", "event=start", "vm=web"], &die));
        assert!(passing(&["vm=abcdef", "image=org/app:1"], &die));
        assert!(!passing(&["event=start"], &die) && !passing(&["vm="], &die));
        assert!(!passing(&["event=die", "vm=db"], &die));
        assert!("color=red".parse::<Filter>().is_err());
    }

    #[test]
    fn a_line_has_all_of_it_and_nothing_that_a_terminal_obeys() {
        let text = line(&event("die", "web"));
        let expected =
            "2026-11-21T10:00:00Z die abcdefghijklmnopqrst (image=org/app:1, name=web, exitCode=1";
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
