//! The chart: stages as rows, steps as bars over time, in SVG.

use std::fmt::Write as _;
use std::time::Duration;

use super::model::{Outcome, Piece, Span, Stage, Step, Timeline};
use super::page::escaped;
use crate::progress::time;

/// The drawing's width, and what is left free at its sides.
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 12.0;

/// Heights: the axis above the rows, a row, its title, and its bars.
const AXIS: f64 = 30.0;
const ROW: f64 = 62.0;
const TITLE: f64 = 22.0;
const BAR: f64 = 28.0;

/// The narrowest that a bar is drawn.
const NARROWEST: f64 = 3.0;

/// How many marks of time there are at most.
const MARKS: u32 = 10;

/// From times to places.
struct Scale {
    end: f64,
}

impl Scale {
    fn x(&self, time: Duration) -> f64 {
        MARGIN + (WIDTH - 2.0 * MARGIN) * (time.as_secs_f64() / self.end).min(1.0)
    }

    fn width(&self, span: Span) -> f64 {
        self.x(span.end) - self.x(span.start)
    }
}

/// The chart as an `svg` element.
pub(super) fn chart(timeline: &Timeline, path: &[Piece]) -> String {
    let scale = Scale {
        end: timeline.end.as_secs_f64().max(0.001),
    };
    let rows = u32::try_from(timeline.stages.len()).map_or(0.0, f64::from);
    let height = AXIS + ROW * rows + 6.0;
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"stages and steps over time\">\n\
         <defs><pattern id=\"waiting\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <rect class=\"wait-ground\" width=\"6\" height=\"6\"/><rect class=\"wait-line\" width=\"2\" height=\"6\"/></pattern></defs>\n"
    );
    axis(&mut svg, &scale, height);
    let mut y = AXIS;
    for (index, stage) in timeline.stages.iter().enumerate() {
        row(&mut svg, &scale, (index, stage), path, y);
        y += ROW;
    }
    svg.push_str("</svg>\n");
    svg
}

/// Round times, and lines through all rows at them.
fn axis(svg: &mut String, scale: &Scale, height: f64) {
    let every = interval(scale.end);
    for mark in 0..=MARKS {
        let at = every * mark;
        if at.as_secs_f64() > scale.end {
            break;
        }
        let x = scale.x(at);
        // Writing to memory does not fail.
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"20\" x2=\"{x:.1}\" y2=\"{height}\"/>\
             <text class=\"mark\" x=\"{:.1}\" y=\"14\">{}</text>",
            x + 3.0,
            label(at)
        );
    }
}

/// A round time of which the whole has no more than [`MARKS`].
fn interval(end: f64) -> Duration {
    let round = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000,
        120_000, 300_000, 600_000, 1_200_000, 1_800_000, 3_600_000,
    ];
    let mut all = round.into_iter().map(Duration::from_millis);
    let fits = |every: &Duration| every.as_secs_f64() * f64::from(MARKS) >= end;
    let hours = Duration::from_secs(3600);
    all.find(fits)
        .unwrap_or_else(|| hours.mul_f64((end / 3600.0 / f64::from(MARKS)).ceil()))
}

fn label(at: Duration) -> String {
    match at.as_millis() {
        0 => "0".to_owned(),
        millis @ 1..1000 => format!("{millis} ms"),
        _ if at.subsec_millis() > 0 => format!("{:.1} s", at.as_secs_f64()),
        _ if at.as_secs() < 60 => format!("{} s", at.as_secs()),
        _ => format!("{}:{:02} min", at.as_secs() / 60, at.as_secs() % 60),
    }
}

fn row(svg: &mut String, scale: &Scale, (index, stage): (usize, &Stage), path: &[Piece], y: f64) {
    let name = escaped(&stage.name);
    let length = time(stage.span.length());
    let _ = writeln!(
        svg,
        "<g class=\"stage\"><text class=\"name\" x=\"{MARGIN}\" y=\"{:.1}\">{name} <tspan class=\"length\">{length}</tspan></text>",
        y + 15.0
    );
    let top = y + TITLE;
    for step in &stage.steps {
        let critical = Timeline::on_path(path, index, step);
        bar(svg, scale, (step, stage.idle_until(step)), critical, top);
    }
    for vm in &stage.vms {
        let boot = Span {
            start: vm.span.start,
            end: vm.ready.unwrap_or(vm.span.end),
        };
        let title = format!("VM {} boots, {}", escaped(&vm.id), time(boot.length()));
        part(svg, scale, ("boot", boot, &title), top);
    }
    for wait in &stage.waits {
        let title = format!("{}, {}", escaped(&wait.what), time(wait.span.length()));
        part(svg, scale, ("wait", wait.span, &title), top);
    }
    for piece in path.iter().filter(|piece| piece.stage == index) {
        let _ = writeln!(
            svg,
            "<rect class=\"critical\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"4\" rx=\"2\"><title>critical path, {}</title></rect>",
            scale.x(piece.span.start),
            top + BAR + 3.0,
            scale.width(piece.span).max(NARROWEST),
            time(piece.span.length())
        );
    }
    svg.push_str("</g>\n");
}

/// How a step's result is called.
pub(super) fn kind(step: &Step) -> &'static str {
    match step.result {
        Outcome::Unfinished => "unfinished",
        Outcome::Done(_) => "done",
        Outcome::Cached(_) => "cached",
        Outcome::Failed => "failed",
    }
}

fn bar(svg: &mut String, scale: &Scale, (step, free): (&Step, Duration), critical: bool, top: f64) {
    let (x, width) = (scale.x(step.span.start), scale.width(step.span));
    let text = escaped(&step.text);
    let how = match step.result {
        Outcome::Unfinished => "not finished".to_owned(),
        Outcome::Done(worked) => time(worked),
        Outcome::Cached(saved) => format!("cached, saved {}", time(saved)),
        Outcome::Failed => "failed".to_owned(),
    };
    let on = if critical { " on-path" } else { "" };
    let _ = writeln!(
        svg,
        "<svg x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\"><g class=\"bar {}{on}\"><title>{text}\n{how}</title>\
         <rect width=\"100%\" height=\"100%\" rx=\"3\"/>",
        (width - 1.0).max(NARROWEST),
        kind(step)
    );
    // The text stands where nothing will be drawn over it.
    let before = scale.x(free) - x;
    if width - before > 40.0 {
        let at = before + 7.0;
        let _ = write!(svg, "<text x=\"{at:.1}\" y=\"18\">{text}</text>");
    }
    svg.push_str("</g></svg>\n");
}

/// A part of a bar in which something else happened.
fn part(svg: &mut String, scale: &Scale, (class, span, title): (&str, Span, &str), top: f64) {
    let width = scale.width(span) - 1.0;
    if width < 1.0 {
        return;
    }
    let x = scale.x(span.start);
    let _ = writeln!(
        svg,
        "<svg x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\"><g class=\"part {class}\"><title>{title}</title>\
         <rect width=\"100%\" height=\"100%\" rx=\"3\"/>",
    );
    let label = if class == "boot" { "VM boot" } else { title };
    if width > 60.0 {
        let _ = write!(svg, "<text x=\"7\" y=\"18\">{label}</text>");
    }
    svg.push_str("</g></svg>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_some_marks_and_not_too_many() {
        for (end, every) in [
            (0.001, "1 ms"),
            (0.9, "100 ms"),
            (4.2, "500 ms"),
            (33.0, "5 s"),
            (90.0, "10 s"),
            (3000.0, "5:00 min"),
            (50_000.0, "120:00 min"),
        ] {
            assert_eq!(label(interval(end)), every, "{end}");
        }
    }
}
