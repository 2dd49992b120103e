//! Flags, JSON forms and the values of single instructions, whatever they hold, are read as their
//! formats say or refused.

use firebuild_dockerfile::chmod::ModeChange;
use firebuild_dockerfile::expose;
use firebuild_dockerfile::mount::Mount;
use firebuild_dockerfile::ownership::Ownership;
use firebuild_dockerfile::signal::Signal;
use firebuild_dockerfile::{
    CheckOptions, Command, Expander, InstructionKind, Run, parse_trigger, source,
};

pub fn values(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    json(text);
    mount(text);
    let _ = CheckOptions::parse(text);
    let _ = source::classify(text);
    let _ = Ownership::parse(text);
    if let Ok(signal) = text.parse::<Signal>() {
        assert!((1..=64).contains(&signal.number()));
    }
    if let Ok(mode) = ModeChange::parse(text) {
        for before in [0, 0o644, 0o755, 0o7777] {
            assert!(mode.apply(before, false) <= 0o7777);
            assert!(mode.apply(before, true) <= 0o7777);
        }
    }
    ports(text);
}

/// Each port that comes out reads as itself.
fn ports(text: &str) {
    let Ok(ports) = expose::parse(text) else {
        return;
    };
    assert!((1..=65_536).contains(&ports.len()));
    for port in ports.iter().take(4) {
        assert_eq!(expose::parse(&port.to_string()), Ok(vec![*port]));
    }
}

/// What another JSON decoder takes for strings is taken for the same strings.
fn json(text: &str) {
    if text.contains(['\n', '\r', '\\']) && text.lines().count() > 1 {
        return;
    }
    let line = format!("CMD {text}");
    let other: Option<Vec<String>> = serde_json::from_str(text.trim()).ok();
    let read = match parse_trigger(&line).map(|instruction| instruction.kind) {
        Ok(InstructionKind::Cmd(line)) => match line.command {
            Command::Exec(strings) => Some(strings),
            Command::Shell(_) => None,
        },
        _ => None,
    };
    if let Some(other) = other {
        assert_eq!(read, Some(other), "{line:?}");
    }
}

/// A mount says the same before and after it is printed, and never what its type cannot have.
fn mount(text: &str) {
    let Ok(instruction) = parse_trigger(&format!("RUN --mount={text} true")) else {
        return;
    };
    let InstructionKind::Run(Run { mounts, .. }) = instruction.kind else {
        panic!("{text:?} is no RUN");
    };
    let environment = [("a", "1"), ("b", "")];
    for mount in mounts {
        let expander = Expander::default();
        let Ok(resolved) = mount.resolve(&expander, &environment.to_vec()) else {
            continue;
        };
        match &resolved {
            Mount::Secret(secret) => {
                assert!(!secret.id.is_empty());
                assert!(secret.target.is_some() || secret.env.is_some());
            }
            Mount::Bind(bind) => assert_eq!(bind.from.as_deref(), mount.from()),
            Mount::Cache(cache) => assert_eq!(cache.from.as_deref(), mount.from()),
            Mount::Tmpfs(_) | Mount::Ssh(_) => {}
        }
    }
}
