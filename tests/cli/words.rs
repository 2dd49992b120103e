//! What teaches: help of every command, and `firebuild` alone.

use crate::session;

/// The commands that a help text lists: all before its options.
fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| !line.starts_with("Usage: "))
        .skip(1)
        .take_while(|line| !line.starts_with("Options") && !line.starts_with("Arguments"))
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_help() {
    let (session, _root) = session();
    let mut seen = Vec::new();
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = session.run(&arguments).success();
        assert_eq!(help.stderr, "", "{arguments:?}");
        let usage = format!("Usage: firebuild {}", path.join(" "));
        assert!(help.stdout.contains(usage.trim_end()), "{}", help.stdout);
        for command in commands(&help.stdout) {
            if command != "help" {
                waiting.push(path.iter().cloned().chain([command]).collect());
            }
        }
        seen.push(path.join(" "));
    }
    for wanted in [
        "baseos",
        "build",
        "images",
        "image import",
        "image export",
        "image history",
        "image prune",
        "history",
        "system df",
        "system prune",
        "system verify",
        "kernel pull",
        "kernel import",
        "run",
        "ls",
        "inspect",
        "logs",
        "stop",
        "kill",
        "rm",
        "purge",
    ] {
        assert!(seen.iter().any(|path| path == wanted), "{wanted}: {seen:?}");
    }
    assert!(!seen.iter().any(|path| path == "supervise"));
}

#[test]
fn alone_it_teaches() {
    let (session, _root) = session();
    let taught = session.run(&[]).failure();
    for part in [
        "Usage: firebuild",
        "First steps:",
        "firebuild kernel pull debian:bookworm",
        "Build an image from a Dockerfile",
    ] {
        assert!(taught.contains(part), "{taught}");
    }
    assert!(!taught.contains("supervise"), "{taught}");
    // Nothing is wrong, so nothing says so.
    assert!(taught.starts_with("Build root file systems"), "{taught}");
    let group = session.run(&["image"]).failure();
    assert!(group.starts_with("Manage images"), "{group}");
}
