//! What happens now, redrawn all the time, below what has happened.
//!
//! A finished step becomes a line that stays. Below those lies an area with one line for every step
//! at work and the last lines of what it writes. The area is drawn from [`View`] as it is at that
//! moment, with the terminal's size of that moment; events only change the view, so a process that
//! writes much costs little.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firebuild_builder::progress::{Event, Place, Progress};
use firebuild_core::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{amount, mark, printable, time, waiting};
use crate::terminal;

/// How many lines of a process's output are shown at most.
const LINES: usize = 6;

/// How often the area is drawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// The widest that lines get: what belongs together should not be at two ends of a wide screen.
const WIDEST: usize = 120;

/// A live view on a terminal. It goes when it is dropped; finished steps stay.
pub(super) struct Live {
    area: ProgressBar,
    view: Arc<Mutex<View>>,
    size: Size,
}

/// Rows and columns of the terminal.
type Size = fn() -> (usize, usize);

impl Live {
    /// A view on standard error.
    pub(super) fn new(colours: bool) -> Self {
        let size = || {
            let (rows, columns) = console::Term::stderr().size();
            (usize::from(rows), usize::from(columns))
        };
        Self::on(ProgressDrawTarget::stderr(), size, colours)
    }

    fn on(target: ProgressDrawTarget, size: Size, colours: bool) -> Self {
        let view = Arc::new(Mutex::new(View::new(colours)));
        let drawn = Arc::clone(&view);
        let draw = move |_: &ProgressState, output: &mut dyn std::fmt::Write| {
            // Writing to memory does not fail.
            let _ = output.write_str(&lock(&drawn).area(size(), Instant::now()));
        };
        let style = ProgressStyle::with_template("{area}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
        let area = ProgressBar::with_draw_target(None, target);
        area.set_style(style.with_key("area", draw));
        area.enable_steady_tick(INTERVAL);
        Self { area, view, size }
    }
}

impl Progress for Live {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Debugging { .. }) {
            self.area.finish_and_clear();
        }
        let (_, width) = (self.size)();
        let line = lock(&self.view).event(event, width);
        match line {
            // Without the area, nothing is to be kept clear of it.
            Some(line) if self.area.is_finished() => terminal::say(line),
            Some(line) => self.area.println(line),
            None => {}
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.area.finish_and_clear();
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is shown.
#[derive(Debug)]
struct View {
    colours: bool,
    began: Instant,
    /// The number of all steps, and of those that are done.
    steps: (usize, usize),
    /// The steps at work, by the position of their stages.
    rows: BTreeMap<usize, Row>,
    /// What is fetched or sent.
    moving: BTreeMap<String, Moving>,
}

/// What is fetched or sent.
#[derive(Debug)]
struct Moving {
    verb: &'static str,
    /// How much there is of it.
    amount: String,
    began: Instant,
}

/// A step at work.
#[derive(Debug)]
struct Row {
    title: String,
    began: Instant,
    /// What it is waiting for.
    waiting: Option<String>,
    /// The last lines that it wrote.
    lines: VecDeque<String>,
}

impl View {
    fn new(colours: bool) -> Self {
        Self {
            colours,
            began: Instant::now(),
            steps: (0, 0),
            rows: BTreeMap::new(),
            moving: BTreeMap::new(),
        }
    }

    /// Takes in an event. The result is a line that stays.
    fn event(&mut self, event: Event<'_>, width: usize) -> Option<String> {
        match event {
            Event::Build { steps, .. } => self.steps.0 = steps,
            Event::Step { place, text, .. } => {
                let row = Row {
                    title: format!("{} {}", mark(place), printable(text.as_bytes())),
                    began: Instant::now(),
                    waiting: None,
                    lines: VecDeque::new(),
                };
                self.rows.insert(place.stage.index, row);
            }
            Event::Cached { place, .. } => return self.end(place, "CACHED", width),
            Event::Done {
                place,
                duration,
                size,
            } => {
                let took = match size {
                    Some(size) => format!("{}  {:>6}", ByteSize(size), time(duration)),
                    None if duration < INTERVAL => String::new(),
                    None => time(duration),
                };
                return self.end(place, &took, width);
            }
            Event::Failed { place, .. } => return self.end(place, "FAILED", width),
            Event::Waiting { stage, wait } => self.wait(stage.index, Some(waiting(wait))),
            Event::VmStarting { stage, .. } => {
                self.wait(stage.index, Some("starting a build VM".to_owned()));
            }
            Event::Waited { stage, .. } | Event::VmReady { stage, .. } => {
                self.wait(stage.index, None);
            }
            Event::Line { place, line, .. } => self.line(place, line),
            Event::Fetching {
                source,
                bytes,
                size,
            } => self.moving("fetching", source, amount(bytes, size)),
            Event::Sending {
                source,
                bytes,
                size,
            } => self.moving("sending", source, amount(bytes, size)),
            Event::Fetched {
                source,
                bytes,
                duration,
            } => return self.moved(("fetched", source), bytes, duration, width),
            Event::Sent {
                source,
                bytes,
                duration,
            } => return self.moved(("sent", source), bytes, duration, width),
            Event::Note { text, .. } => return Some(cut(&printable(text.as_bytes()), width)),
            Event::Warning { text, .. } => {
                return Some(format!("warning: {}", printable(text.as_bytes())));
            }
            Event::StageStarted { .. }
            | Event::StageDone { .. }
            | Event::VmEnded { .. }
            | Event::Debugging { .. } => {}
        }
        None
    }

    fn moving(&mut self, verb: &'static str, source: &str, amount: String) {
        let began = Instant::now();
        let row = self.moving.entry(source.to_owned());
        let row = row.or_insert_with(|| Moving {
            verb,
            amount: String::new(),
            began,
        });
        row.amount = amount;
    }

    /// Only before the first step the line stays: a step's own says the same.
    fn moved(
        &mut self,
        (how, source): (&str, &str),
        bytes: Option<u64>,
        duration: Duration,
        width: usize,
    ) -> Option<String> {
        self.moving.remove(source);
        let bytes = bytes.filter(|_| self.rows.is_empty())?;
        let title = format!("{how} {}", printable(source.as_bytes()));
        let end = format!("{}  {}", ByteSize(bytes), time(duration));
        Some(self.row(&title, &end, width))
    }

    fn wait(&mut self, stage: usize, what: Option<String>) {
        if let Some(row) = self.rows.get_mut(&stage) {
            row.waiting = what;
        }
    }

    fn line(&mut self, place: Place<'_>, line: &[u8]) {
        if let Some(row) = self.rows.get_mut(&place.stage.index) {
            if row.lines.len() == LINES {
                row.lines.pop_front();
            }
            // Nobody has a wider terminal than this.
            let line = &line[..line.len().min(4096)];
            row.lines.push_back(printable(line).replace('\t', "    "));
        }
    }

    fn end(&mut self, place: Place<'_>, how: &str, width: usize) -> Option<String> {
        self.steps.1 += 1;
        let row = self.rows.remove(&place.stage.index)?;
        Some(self.row(&row.title, how, width))
    }

    /// A title, and what there is to say of it at the other end of the line.
    fn row(&self, title: &str, end: &str, width: usize) -> String {
        // A full last column makes some terminals begin a new line.
        let width = width.clamp(2, WIDEST) - 1;
        let end = cut(end, width);
        let taken = console::measure_text_width(&end);
        let title = cut(title, width.saturating_sub(taken + 2));
        let used = console::measure_text_width(&title) + taken;
        let gap = " ".repeat(width.saturating_sub(used));
        let end = match end.as_ref() {
            "CACHED" => self.coloured("36", &end),
            "FAILED" => self.coloured("31", &end),
            _ => self.coloured("2", &end),
        };
        format!("{title}{gap}{end}").trim_end().to_owned()
    }

    fn coloured(&self, code: &str, text: &str) -> String {
        match self.colours && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// The area, for a terminal of this size.
    fn area(&self, (rows, columns): (usize, usize), now: Instant) -> String {
        let mut text = String::new();
        let room = rows.saturating_sub(2);
        let lines = room / self.rows.len().max(1);
        let lines = lines.saturating_sub(1).min(LINES);
        for row in self.rows.values().take(room) {
            let took = time(now.saturating_duration_since(row.began));
            let end = match &row.waiting {
                Some(waiting) => format!("{waiting}  {took}"),
                None => took,
            };
            let _ = writeln!(text, "{}", self.row(&row.title, &end, columns));
            for line in row.lines.iter().skip(row.lines.len().saturating_sub(lines)) {
                let line = cut(line, columns.saturating_sub(3));
                let _ = writeln!(text, "  {}", self.coloured("2", &line));
            }
        }
        let left = room.saturating_sub(text.lines().count());
        for (source, moving) in self.moving.iter().take(left) {
            let took = time(now.saturating_duration_since(moving.began));
            let title = format!("{} {}", moving.verb, printable(source.as_bytes()));
            let end = format!("{}  {took}", moving.amount);
            let _ = writeln!(text, "{}", self.row(&title, end.trim_start(), columns));
        }
        let (all, done) = self.steps;
        if all == 0 {
            return text.trim_end().to_owned();
        }
        let took = time(now.saturating_duration_since(self.began));
        text + &self.row(&format!("{done} of {all} steps"), &took, columns)
    }
}

/// As much of a text as there is room for.
fn cut(text: &str, width: usize) -> String {
    console::truncate_str(text, width, "…").into_owned()
}

#[cfg(test)]
mod tests {
    use firebuild_builder::progress::{Output, StageRef, Wait};
    use indicatif::InMemoryTerm;

    use super::*;

    fn place(index: usize, name: &'static str, step: usize) -> Place<'static> {
        Place {
            stage: StageRef { index, name },
            step,
            steps: 5,
        }
    }

    fn step(place: Place<'static>, text: &'static str) -> Event<'static> {
        let line = 1;
        Event::Step { place, line, text }
    }

    fn line(place: Place<'static>, line: &'static [u8]) -> Event<'static> {
        let output = Output::Stdout;
        Event::Line {
            place,
            output,
            line,
        }
    }

    /// What stays and what the area is after these events.
    fn shown(events: &[Event<'_>], size: (usize, usize), colours: bool) -> (Vec<String>, String) {
        let mut view = View::new(colours);
        let stay = |event: &Event<'_>| view.event(*event, size.1);
        let stay = events.iter().filter_map(stay).collect();
        for row in view.rows.values_mut() {
            row.began = view.began;
        }
        for moving in view.moving.values_mut() {
            moving.began = view.began;
        }
        (stay, view.area(size, view.began + Duration::from_secs(61)))
    }

    #[test]
    fn steps_at_work_are_shown_with_their_last_lines() {
        let (a, b) = (place(0, "a", 2), place(1, "b", 3));
        let wait = Wait::Stage(a.stage);
        let many: [&[u8]; 8] = [b"1", b"2", b"3", b"4", b"5\rfive", b"6", b"\t7", b"8"];
        let mut events = vec![
            Event::Build {
                stages: 2,
                steps: 10,
                jobs: 2,
            },
            step(place(0, "a", 1), "FROM debian"),
            Event::Done {
                place: place(0, "a", 1),
                duration: Duration::ZERO,
                size: None,
            },
            step(a, "RUN make"),
            step(b, "COPY --from=a /x /"),
            Event::Waiting {
                stage: b.stage,
                wait,
            },
        ];
        events.extend(many.map(|text| line(a, text)));
        let (stay, area) = shown(&events, (24, 50), false);
        assert_eq!(stay, ["[a 1/5] FROM debian"]);
        let expected = "\
[a 2/5] RUN make                       1 min 01 s
  3
  4
  five
  6
      7
  8
[b 3/5] COPY …  waiting for stage `a`  1 min 01 s
1 of 10 steps                          1 min 01 s";
        assert_eq!(area, expected);
        // A small terminal has room for the steps first.
        let (_, small) = shown(&events, (6, 50), false);
        let lines: Vec<&str> = small.lines().collect();
        assert_eq!(lines.len(), 4, "{small}");
        assert_eq!(lines[1], "  8");
    }

    #[test]
    fn what_is_fetched_is_shown_while_it_comes() {
        let source = "https://host.example/context.tar";
        let fetching = |bytes, size| Event::Fetching {
            source,
            bytes,
            size,
        };
        let begun = fetching(0, None);
        for (events, expected) in [
            (
                &[begun][..],
                "fetching https://host.example/contex…  1 min 01 s",
            ),
            (
                &[begun, fetching(1 << 20, None)],
                "fetching https://host.examp…  1.0 MiB  1 min 01 s",
            ),
            (
                &[begun, fetching(1 << 20, Some(3 << 20))],
                "fetching https:/…  1.0 MiB of 3.0 MiB  1 min 01 s",
            ),
        ] {
            let (stay, area) = shown(events, (24, 50), false);
            assert_eq!((stay, area.as_str()), (Vec::new(), expected));
        }
        let fetched = |bytes| Event::Fetched {
            source,
            bytes,
            duration: Duration::from_secs(2),
        };
        let (stay, area) = shown(&[begun, fetched(Some(3 << 20))], (24, 60), false);
        let expected = "fetched https://host.example/context.tar     3.0 MiB  2.0 s";
        assert_eq!((stay, area.as_str()), (vec![expected.to_owned()], ""));
        let (stay, _) = shown(&[begun, fetched(None)], (24, 60), false);
        assert_eq!(stay, [""; 0]);
        let begun = [step(place(0, "a", 1), "ADD x /"), begun];
        let (stay, area) = shown(&[begun[0], begun[1], fetched(Some(1))], (24, 60), false);
        assert_eq!(stay, [""; 0]);
        assert!(!area.contains("fetch"), "{area}");
    }

    #[test]
    fn nothing_is_wider_than_the_terminal_or_moves_its_cursor() {
        let at = place(0, "stage", 2);
        let text = "RUN echo \u{1b}]0;title\u{7} 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字";
        let events = [
            step(at, text),
            line(
                at,
                "\u{1b}[2J\u{9b}5A漢字漢字漢字漢字漢字漢字漢字漢字漢字".as_bytes(),
            ),
        ];
        let ended = Event::Failed {
            place: at,
            duration: Duration::ZERO,
        };
        for width in [1, 2, 10, 20, 37, 80, 500] {
            for colours in [false, true] {
                let (_, area) = shown(&events, (24, width), colours);
                let (stay, _) = shown(&[events[0], ended], (24, width), colours);
                for line in area.lines().chain(stay.iter().map(String::as_str)) {
                    let columns = console::measure_text_width(line);
                    assert!(columns <= width.max(3), "{width}: {columns}: {line}");
                    let plain = console::strip_ansi_codes(line);
                    assert!(!plain.contains(char::is_control), "{line:?}");
                    assert!(colours || !line.contains('\u{1b}'), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn finished_steps_stay_above_and_the_area_goes() {
        let screen = InMemoryTerm::new(10, 40);
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let live = Live::on(target, || (10, 40), false);
        let (first, second) = (place(0, "a", 1), place(0, "a", 2));
        live.event(step(first, "COPY . /a/very/long/destination/indeed"));
        live.event(Event::Cached {
            place: first,
            saved: Duration::from_secs(3),
            size: Some(1),
        });
        live.event(step(second, "RUN make"));
        // It is drawn again soon, whatever happens.
        let patience = Instant::now() + Duration::from_secs(60);
        while !screen.contents().contains("[a 2/5] RUN make") {
            assert!(Instant::now() < patience, "{}", screen.contents());
            std::thread::yield_now();
        }
        live.event(Event::Done {
            place: second,
            duration: Duration::from_millis(1500),
            size: Some(3 << 20),
        });
        drop(live);
        assert_eq!(
            screen.contents(),
            "[a 1/5] COPY . /a/very/long/de…  CACHED\n\
             [a 2/5] RUN make        3.0 MiB   1.5 s"
        );
    }

    #[test]
    fn the_area_makes_room_for_a_look_into_a_step() {
        let screen = InMemoryTerm::new(10, 40);
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let live = Live::on(target, || (10, 40), false);
        let (failing, other) = (place(0, "a", 1), place(1, "b", 1));
        live.event(step(failing, "RUN false"));
        live.event(step(other, "RUN sleep 10"));
        live.event(Event::Failed {
            place: failing,
            duration: Duration::from_secs(1),
        });
        live.event(Event::Debugging {
            stage: failing.stage,
        });
        let shown = "[a 1/5] RUN false                FAILED";
        assert_eq!(screen.contents(), shown);
        // Nothing is drawn any more.
        live.event(line(other, b"late"));
        live.area.tick();
        assert_eq!(screen.contents(), shown);
    }
}
