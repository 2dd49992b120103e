//! The page around the chart. Nothing in it is a program, and its policy lets nothing in.

use std::fmt::Write as _;
use std::time::Duration;

use firebuild_core::ByteSize;

use super::Facts;
use super::chart::{chart, kind};
use super::model::{Outcome, Piece, Step, Timeline};
use crate::progress::{printable, time};

const STYLE: &str = include_str!("page.css");

/// A text as HTML shows it: texts come from Dockerfiles, which may be hostile.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text.as_bytes()).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The whole page.
pub(super) fn page(timeline: &Timeline, facts: &Facts<'_>) -> String {
    let path = timeline.critical_path();
    let title = escaped(facts.title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title} – firebuild</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{title}</h1>\n{}{}{}<div class=\"scroll\">\n{}</div>\n{}</main>\n</body>\n</html>\n",
        result(facts),
        figures(timeline, facts),
        LEGEND,
        chart(timeline, &path),
        table(timeline, &path),
    )
}

const LEGEND: &str = "<ul class=\"legend\">\
    <li class=\"done\">executed</li><li class=\"cached\">cached</li><li class=\"boot\">VM boot</li>\
    <li class=\"wait\">waiting</li><li class=\"failed\">failed</li>\
    <li class=\"critical\">critical path</li></ul>\n";

fn result(facts: &Facts<'_>) -> String {
    match facts.built {
        Some(built) => format!("<p class=\"digest\">{}</p>\n", built.digest),
        None => "<p class=\"digest no-image\">The build failed.</p>\n".to_owned(),
    }
}

fn figures(timeline: &Timeline, facts: &Facts<'_>) -> String {
    let steps = || timeline.stages.iter().flat_map(|stage| &stage.steps);
    let saved: Duration = steps()
        .filter_map(|step| match step.result {
            Outcome::Cached(saved) => Some(saved),
            _ => None,
        })
        .sum();
    let cached = steps().filter(|step| matches!(step.result, Outcome::Cached(_)));
    let (cached, all) = (cached.count(), steps().count());
    let vms: usize = timeline.stages.iter().map(|stage| stage.vms.len()).sum();
    let mut figures = vec![
        ("total time", time(timeline.end)),
        ("saved by the cache", time(saved)),
        ("steps", format!("{all}, {cached} cached")),
        ("stages", timeline.stages.len().to_string()),
        ("build VMs", format!("{vms}, {} at once", timeline.jobs)),
    ];
    if let Some(built) = facts.built {
        figures.push(("image", built.size.to_string()));
    }
    let mut list = "<dl class=\"figures\">".to_owned();
    for (name, value) in figures {
        // Writing to memory does not fail.
        let _ = write!(list, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    list + "</dl>\n"
}

fn table(timeline: &Timeline, path: &[Piece]) -> String {
    let mut table = "<table>\n<thead><tr><th>stage</th><th class=\"n\">step</th><th class=\"n\">line</th>\
                     <th>instruction</th><th class=\"n\">start</th><th class=\"n\">duration</th><th>result</th>\
                     <th class=\"n\">layer</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for (index, stage) in timeline.stages.iter().enumerate() {
        for step in &stage.steps {
            let on = match Timeline::on_path(path, index, step) {
                true => " on-path",
                false => "",
            };
            let _ = writeln!(
                table,
                "<tr class=\"{}{on}\"><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td><code>{}</code></td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
                kind(step),
                escaped(&stage.name),
                step.number,
                step.line,
                escaped(&step.text),
                time(step.span.start),
                time(step.worked()),
                said(step),
                step.size
                    .map(|size| ByteSize(size).to_string())
                    .unwrap_or_default(),
            );
        }
    }
    table + "</tbody>\n</table>\n"
}

/// How a step ended, in words.
fn said(step: &Step) -> String {
    match step.result {
        Outcome::Cached(saved) if saved > Duration::ZERO => {
            format!("cached, saved {}", time(saved))
        }
        Outcome::Done(worked) => {
            let waited = step.span.length().saturating_sub(worked);
            match waited.as_millis() {
                0..50 => String::new(),
                _ => format!("waited {}", time(waited)),
            }
        }
        Outcome::Unfinished => "not finished".to_owned(),
        Outcome::Cached(_) | Outcome::Failed => kind(step).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::Span;
    use super::super::model::tests::stage;
    use super::*;

    #[test]
    fn hostile_texts_stay_texts() {
        let hostile = "</title><script>alert(1)</script><svg onload='x'>&amp;\"\u{1b}[2J\u{202e}";
        let mut stages = vec![stage(hostile, 0, 2)];
        for result in [
            Outcome::Done(Duration::from_secs(1)),
            Outcome::Cached(Duration::ZERO),
            Outcome::Failed,
            Outcome::Unfinished,
        ] {
            stages[0].steps.push(Step {
                number: 1,
                line: 1,
                text: hostile.to_owned(),
                span: Span {
                    start: Duration::ZERO,
                    end: Duration::from_secs(2),
                },
                result,
                size: Some(1),
            });
        }
        stages[0].waits = vec![super::super::model::Waited {
            what: hostile.to_owned(),
            ..super::super::model::tests::wait(0, 1, super::super::model::Reason::Other)
        }];
        let timeline = Timeline {
            stages,
            jobs: 1,
            end: Duration::from_secs(2),
        };
        let facts = Facts {
            title: hostile,
            built: None,
        };
        let page = page(&timeline, &facts);
        assert!(page.contains("&lt;script&gt;alert(1)"));
        for forbidden in [
            "<script", "onload='", "\u{1b}", "\u{202e}", "http:", "https:",
        ] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(
            page.matches("<title>").count(),
            page.matches("</title>").count()
        );
    }
}
