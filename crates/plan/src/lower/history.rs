//! The `created_by` texts of an image's history, as BuildKit writes them.

use std::time::Duration;

use crate::operation::{Command, Copy, Item, Run};

/// Of a RUN: the declared arguments, counted, then the whole command.
pub(crate) fn run(run: &Run, declared: &[(String, String)]) -> String {
    let arguments = match declared.len() {
        0 => String::new(),
        count => {
            let values: Vec<String> = declared
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("|{count} {} ", values.join(" "))
        }
    };
    let command = match &run.command {
        Command::Shell(text) => format!("{} {text}", run.shell.join(" ")),
        Command::Exec(arguments) => arguments.join(" "),
    };
    format!("RUN {arguments}{command} # buildkit")
}

/// Of a COPY or an ADD, whose destination was written as `destination`; `mode` is the flag's value.
pub(crate) fn copy(name: &str, copy: &Copy, mode: Option<&str>, destination: &str) -> String {
    let mut text = name.to_owned();
    let mut word = |prefix: &str, word: &str| {
        text.push(' ');
        text.push_str(prefix);
        text.push_str(word);
    };
    if copy.parents {
        word("--parents", "");
    }
    if let Some(owner) = &copy.owner {
        word("--chown=", owner);
    }
    if let Some(mode) = mode {
        word("--chmod=", mode);
    }
    for item in &copy.items {
        match item {
            Item::Path(path) => word("", path),
            Item::Http { url, .. } => word("", url),
            Item::Git { written, .. } => word("", written),
            Item::Inline { .. } => {}
        }
    }
    for item in &copy.items {
        if let Item::Inline { name, .. } = item {
            word("<<", name);
        }
    }
    word("", destination);
    text.push_str(" # buildkit");
    text
}

/// Of a list in exec form: Go's `%q`.
pub(crate) fn quoted(instruction: &str, arguments: &[String]) -> String {
    let quoted: Vec<String> = arguments
        .iter()
        .map(|argument| format!("{argument:?}"))
        .collect();
    format!("{instruction} [{}]", quoted.join(" "))
}

/// Of a plain list: Go's `%v`.
pub(crate) fn list(instruction: &str, words: &[String]) -> String {
    format!("{instruction} [{}]", words.join(" "))
}

/// Of a health check in the form of the image configuration: Go's `%+v`.
pub(crate) fn health(check: &serde_json::Value) -> String {
    let test = check["Test"].as_array().map(Vec::as_slice);
    let test: Vec<&str> = test
        .unwrap_or_default()
        .iter()
        .filter_map(serde_json::Value::as_str)
        .collect();
    let time = |name: &str| go_duration(Duration::from_nanos(check[name].as_u64().unwrap_or(0)));
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        test.join(" "),
        time("Interval"),
        time("Timeout"),
        time("StartPeriod"),
        time("StartInterval"),
        check["Retries"].as_u64().unwrap_or(0),
    )
}

/// A duration as Go's `time.Duration` prints it: `1h2m3.5s`, `1.5ms`, `0s`.
fn go_duration(duration: Duration) -> String {
    let nanoseconds = duration.subsec_nanos();
    let seconds = duration.as_secs();
    if seconds == 0 {
        return match nanoseconds {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanoseconds}ns"),
            1_000..1_000_000 => fraction(nanoseconds.into(), 1_000, "µs"),
            _ => fraction(nanoseconds.into(), 1_000_000, "ms"),
        };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = seconds % 60 * 1_000_000_000 + u64::from(nanoseconds);
    let rest = fraction(rest, 1_000_000_000, "s");
    match (hours, minutes) {
        (0, 0) => rest,
        (0, _) => format!("{minutes}m{rest}"),
        _ => format!("{hours}h{minutes}m{rest}"),
    }
}

/// `value` in units of `unit` with the decimals that it needs.
fn fraction(value: u64, unit: u64, name: &str) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (1_000_000, "1ms"),
            (1_050_000, "1.05ms"),
            (10_000_000_000, "10s"),
            (30_500_000_000, "30.5s"),
            (60_000_000_000, "1m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (36_000_000_000_000, "10h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanoseconds)), text);
        }
    }

    #[test]
    fn health_checks_are_written_as_go_does() {
        let check =
            serde_json::json!({ "Test": ["CMD-SHELL", "true x"], "Interval": 30_000_000_000_u64 });
        assert_eq!(
            health(&check),
            "HEALTHCHECK {Test:[CMD-SHELL true x] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}"
        );
    }
}
