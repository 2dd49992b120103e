use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command, CommandFactory as _};

use super::*;
use crate::profile::ProfileName;
use crate::profile::schema::Schema;

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

fn profile(text: &str) -> Profile {
    let name: ProfileName = "p".parse().unwrap();
    Profile::parse(&name, text, &Schema::of(Cli::command)).unwrap()
}

fn resolved(line: &str, text: &str) -> Result<ArgMatches, clap::Error> {
    let arguments = words(line);
    let scanned = Scanned::read(&Cli::command(), &arguments).unwrap();
    resolve(Cli::command(), &arguments, &scanned, Some(&profile(text)))
}

/// What a flag of `run` is in the end.
fn raw(matches: &ArgMatches, id: &str) -> Vec<String> {
    let (_, run) = matches.subcommand().unwrap();
    let values = run.get_raw(id).unwrap_or_default();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_is_typed_wins_over_the_section_and_that_over_the_top() {
    let text = "mem = 200\ncpu = 2\n[run]\ncpu = 3\nenv = ['A=1', 'B=2']\n[build]\nmem = 999\n";
    for (line, id, expected) in [
        ("firebuild run a", "mem", &["200"][..]),
        ("firebuild run a", "cpu", &["3"]),
        ("firebuild run --cpu 4 a", "cpu", &["4"]),
        ("firebuild run a", "env", &["A=1", "B=2"]),
        ("firebuild run --env C=3 a", "env", &["C=3"]),
        ("firebuild run a", "disk_size", &["10G"]),
    ] {
        assert_eq!(raw(&resolved(line, text).unwrap(), id), expected, "{line}");
    }
}

#[test]
fn a_profiles_flag_gives_way_to_a_typed_one_that_excludes_it() {
    let text = "[inspect]\nvmm-id = 'old'\n";
    let matches = resolved("firebuild inspect other", text).unwrap();
    let (_, inspect) = matches.subcommand().unwrap();
    assert_eq!(inspect.get_one::<String>("vm").unwrap(), "other");
    assert!(inspect.get_raw("vmm_id").is_none());
}

#[test]
fn a_switch_in_a_section_turns_one_at_the_top_off() {
    for (text, expected) in [
        ("detach = true\n", true),
        ("detach = true\n[run]\ndetach = false\n", false),
        ("daemonize = true\n", true),
        ("", false),
    ] {
        let matches = resolved("firebuild run a", text).unwrap();
        let (_, run) = matches.subcommand().unwrap();
        assert_eq!(run.get_flag("detach"), expected, "{text}");
    }
}

#[test]
fn a_switch_that_is_on_elsewhere_can_be_said_no_to() {
    let text = "detach = true\ntracing-enable = true\n";
    for (line, expected) in [
        ("firebuild run a", (true, true)),
        ("firebuild run --detach=false a", (false, true)),
        ("firebuild run --daemonize=no a", (false, true)),
        ("firebuild --tracing-enable=off run a", (true, false)),
        (
            "firebuild run --tracing-enable=false -d a b --detach=false",
            (true, false),
        ),
        ("firebuild run --detach=true a", (true, true)),
    ] {
        let matches = resolved(line, text).unwrap();
        let (_, run) = matches.subcommand().unwrap();
        let found = (run.get_flag("detach"), run.get_flag("tracing_enable"));
        assert_eq!(found, expected, "{line}");
    }
    for line in [
        "firebuild run --detach=maybe a",
        "firebuild run --mem=false a",
    ] {
        assert!(resolved(line, text).is_err(), "{line}");
    }
    let error = resolved("firebuild ls --al", text).unwrap_err();
    assert!(error.to_string().contains("'--all'"), "{error}");
    // A space does not make it a value.
    let matches = resolved("firebuild run --rm false", "").unwrap();
    let (_, run) = matches.subcommand().unwrap();
    assert_eq!(raw(&matches, "words"), ["false"]);
    assert!(run.get_flag("rm"));
}

#[test]
fn a_global_flag_may_stand_before_or_behind_the_command_or_in_the_profile() {
    let text = "root = '/from/profile'\n";
    for (line, expected) in [
        ("firebuild ls", "/from/profile"),
        ("firebuild --root /a ls", "/a"),
        ("firebuild ls --root /b", "/b"),
        ("firebuild ls --run-cache /c", "/c"),
    ] {
        let matches = resolved(line, text).unwrap();
        assert_eq!(raw(&matches, "root"), [expected], "{line}");
    }
}

fn each(command: &Command, visit: &mut impl FnMut(&Command, &Arg)) {
    for arg in command.get_arguments() {
        visit(command, arg);
    }
    for below in command.get_subcommands() {
        each(below, visit);
    }
}

#[test]
fn every_flag_has_a_variable_and_shows_no_value_of_it() {
    let mut flags = 0;
    each(&super::command(), &mut |command, arg| {
        if let Some(long) = arg.get_long() {
            flags += 1;
            let shown = arg.get_env().map(|name| name.to_str().unwrap().to_owned());
            let own = environment::variable(long);
            let aliases = arg.get_all_aliases().unwrap_or_default();
            let also: Vec<String> = aliases.into_iter().map(environment::variable).collect();
            let known = shown.as_ref().is_some_and(|shown| {
                *shown == own
                    || also.contains(shown)
                    || shown == "SOURCE_DATE_EPOCH"
                    || shown.starts_with("FIREBUILD_")
                    || shown.starts_with("OTEL_")
            });
            assert!(known, "--{long} of {}: {shown:?}", command.get_name());
            assert!(arg.is_hide_env_values_set(), "--{long}");
        }
    });
    assert!(flags > 150, "{flags}");
}

/// Values of which nearly every flag takes one; where a new flag takes none, add one that it takes.
const VALUES: &[&str] = &[
    "1",
    "64",
    "x",
    "name",
    "/tmp",
    "a/b:1",
    "10.0.0.2",
    "8080:80",
    "K=V",
    "10s",
    "1G",
    "x=64",
    "debian:bookworm",
    "ctrl-p,ctrl-q",
    "10.0.0.0/8",
    "memory.max=1G",
    "256",
    "ops=100",
    "10.0.0.0/24",
    "type=local,dest=/tmp",
    "id=a,src=/tmp/x",
    "id=a,env=HOME",
    "no",
    "always",
    "deny",
    "on-failure:3",
    "a:/b",
    "/a:/b",
    "host:10.0.0.1",
    "SIGTERM",
    "2026-01-01T00:00:00Z",
    "02:00:00:00:00:01",
    "50000 100000",
    "50%",
    "/dev/sda:1M",
    "default 100",
    "100M",
    "1000:1000",
    "status=running",
    "127.0.0.1:4317",
    "fsize=1048576",
    "cpu.shares=10",
    "allow 10.0.0.0/8",
    "read=1M",
    "1M,1M",
    "0-1",
    "T2",
    "1500",
    "type=tmpfs,target=/x",
];

fn value_for(flag: &Arg) -> Option<String> {
    if !flag.get_action().takes_values() {
        return Some("true".to_owned());
    }
    let own = flag.get_possible_values();
    let own = own.iter().map(|value| value.get_name().to_owned());
    let hash = "0".repeat(64);
    let tried = VALUES.iter().map(|value| (*value).to_owned()).chain([hash]);
    own.chain(tried).find(|value| {
        let given = Given::Values(vec![value.clone()]);
        crate::profile::schema::check(flag, &given).is_ok()
    })
}

#[test]
fn every_flag_of_every_command_may_stand_in_a_profile() {
    let schema = Schema::of(Cli::command);
    let mut unknown = Vec::new();
    for (path, flags) in schema.commands() {
        for flag in flags {
            let long = flag.get_long().unwrap();
            let Some(value) = value_for(flag) else {
                unknown.push(format!("{} --{long}", path.join(" ")));
                continue;
            };
            let shown = match flag.get_action().takes_values() {
                true => format!("'{value}'"),
                false => value.clone(),
            };
            let text = format!("[{}]\n{long} = {shown}\n", path.join("."));
            let profile = profile(&text);
            let given = profile.value(&path, long).and_then(defaults);
            assert_eq!(given, Some(vec![value.clone()]), "{text}");
            let mut line = vec!["firebuild".to_owned()];
            line.extend(path.iter().cloned());
            let line: Vec<OsString> = line.into_iter().map(OsString::from).collect();
            let scanned = Scanned::read(&Cli::command(), &line).unwrap();
            let filled = sources::fill(described(Cli::command()), &scanned, Some(&profile));
            let leaf = path
                .iter()
                .try_fold(&filled, |at, name| at.find_subcommand(name));
            let arg = leaf
                .unwrap()
                .get_arguments()
                .find(|arg| arg.get_id() == flag.get_id());
            assert_eq!(
                arg.unwrap().get_default_values(),
                [value.as_str()],
                "{text}"
            );
        }
    }
    assert!(
        unknown.len() <= 4,
        "no value of the test's fits {unknown:?}"
    );
}

#[test]
fn the_definitions_are_sound() {
    super::command().debug_assert();
}

#[test]
fn the_other_commands_are_left_away_and_only_then() {
    let flags_of_build = |line: &str| {
        let command = outermost::alone(Cli::command(), &words(line));
        let build = command.find_subcommand("build").unwrap();
        build.get_arguments().count()
    };
    let all = flags_of_build("firebuild");
    assert!(all > 10);
    for line in [
        "firebuild run a",
        "firebuild --root build run build",
        "firebuild --log-as-json=false ps",
    ] {
        assert_eq!(flags_of_build(line), 0, "{line}");
    }
    for line in [
        "firebuild build .",
        "firebuild --root ls build",
        "firebuild help run",
        "firebuild --help",
        "firebuild no-such-command",
        "firebuild --no-such-flag ls",
    ] {
        assert_eq!(flags_of_build(line), all, "{line}");
    }
}
