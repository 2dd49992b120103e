//! Values that nobody types in good faith, for every flag and every word of every command: each gets one
//! clear error of bounded length, and no terminal is made to obey them.
//!
//! The flags are those of docs/cli.md, which is made of the commands' definitions. What kind of value a
//! flag takes is told by the name that its value has there: a flag with a new one is to be put into
//! [`kind`], or the test fails.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::sync::Mutex;

use crate::session;
use crate::session::Session;

/// The reference of all commands.
const REFERENCE: &str = include_str!("../../docs/cli.md");

/// Most that is said about one value, in characters.
const MOST: usize = 2_000;

/// One flag or word of a command.
#[derive(Debug, Clone)]
struct Place {
    /// The command, and what else it needs.
    command: Vec<String>,
    /// `--flag`, or nothing where it is a word.
    flag: Option<String>,
    /// What its value is called.
    value: String,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One of a grammar that has none of the hostile values in it, but for those named.
    Strict(&'static [&'static str]),
    /// Any text: a path, a command, a variable.
    Free,
}

/// What the value of a flag may be.
fn kind(place: &Place) -> Option<Kind> {
    use Kind::{Free, Strict};
    /// Names are letters and digits, and so are some of the values.
    const NAMES: Kind = Strict(&["NaN", "1e400", "4294967296", "18446744073709551616"]);
    let flag = place.flag.as_deref().unwrap_or_default();
    Some(match (flag, place.value.as_str()) {
        (_, "FILE" | "DIR" | "PATH" | "FILE.html" | "CONTEXT" | "COMMAND" | "CMD" | "PROGRAM")
        | (_, "NAME[=VALUE]" | "NAME=VALUE" | "COLUMN" | "SOURCE" | "DESTINATION" | "KEY=VALUE")
        | (_, "STAGE" | "USER:PASSWORD" | "COMMAND.FLAG=VALUE" | "TO" | "SHELL" | "SECRET")
        | (_, "host¦FILE" | "NAME=CONTEXT" | "ID[=SOCKET¦KEY,…]" | "CACHE" | "PUBKEY" | "REF")
        | (_, "VM" | "VMS" | "NAMES" | "IMAGE" | "IMAGE [COMMAND]" | "NEW_NAME" | "DISTRIBUTION")
        | (
            _,
            "PKG,PKG" | "DISTRIBUTION:SUITE" | "OS/ARCH" | "PLATFORM" | "HASH" | "URL" | "UUID",
        )
        | (_, "SECONDS¦NAME")
        | ("--kernel-args", "WORDS")
        | ("--jailer-cgroup", "FILE=VALUE") => Free,
        ("--cpu-template", _) => Strict(&[""]),
        ("--ssh-user", _) => NAMES,
        ("--user", _) => Strict(&["NaN", "1e400"]),
        ("", "ID") => Free,
        ("--dns-option" | "--dns-search", _) => Strict(&[
            "--",
            "NaN",
            "1e400",
            "4294967296",
            "18446744073709551616",
            "-1",
        ]),
        (_, "NAME" | "ID" | "NAME[:TAG]" | "TAG" | "HOST[:PORT]") => NAMES,
        (_, "NAME[:ip=ADDRESS][,mac=ADDRESS]") => NAMES,
        (_, "SIZE" | "MOMENT" | "LINES" | "N") => Strict(&["4294967296"]),
        (
            _,
            "WEIGHT" | "TIME" | "DURATION" | "SECONDS" | "MIB" | "BYTES" | "UID" | "GID" | "NODE",
        )
        | (_, "LIMIT" | "FACTOR" | "POLICY" | "RULE" | "SIGNAL" | "PORT" | "ADDRESS")
        | (_, "ADDRESS:PORT")
        | (_, "CIDR" | "HOST:PORT" | "REGISTRY=MIRROR" | "NAME:ADDRESS" | "KEYS")
        | (_, "NAME=SOFT[:HARD]" | "USER[:GROUP]" | "VERSION" | "VMM" | "LEVEL" | "PROGRESS")
        | (_, "FORMAT" | "WHEN" | "WHAT" | "KIND" | "COMPRESSION" | "BOOL" | "/PATH[:OPTIONS]")
        | (_, "[SOURCE:]/PATH[:ro¦:snapshot]" | "WORDS" | "FILE=VALUE")
        | (_, "id=ID,src=FILE¦env=NAME[,target=…][,mode=…][,uid=…][,gid=…]") => {
            Strict(&[])
        }
        _ => return None,
    })
}

/// Values that nobody types in good faith.
fn hostile() -> Vec<OsString> {
    let mut values: Vec<OsString> = [
        "",
        "-1",
        "18446744073709551616",
        "4294967296",
        "NaN",
        "1e400",
        "１０",
        "\u{202e}gnp.1",
        "\u{1b}[31mred\u{7}\u{1b}]0;title\u{7}",
        "a\nb\r\tc\u{9b}2J",
        "../../../etc/passwd",
        "=,;:@/%00",
        "--",
    ]
    .iter()
    .map(OsString::from)
    .collect();
    values.push("9".repeat(5_000).into());
    values.push("a".repeat(5_000).into());
    values.push("\u{1f600},".repeat(2_500).into());
    values.push(OsStr::from_bytes(b"\xff\xfe").to_owned());
    values
}

/// What a command needs besides the flag, so that it looks at that at all.
fn needed(command: &[&str], usage: &str) -> Vec<String> {
    let words: &[&str] = match command {
        ["run"] => &["nosuch:1"],
        ["build" | "baseos"] => &["context"],
        ["rootfs"] => &["--dockerfile", "context/Dockerfile"],
        ["pull"] => &["127.0.0.1:1/nosuch:1"],
        ["exec"] => &["nosuch", "true"],
        ["cp"] => &["nosuch:/a", "b"],
        ["events"] => &["--until", "1"],
        ["kill"] => &["nosuch"],
        ["system", "install" | "uninstall"] => &["--print"],
        ["rename"] => &["nosuch", "other"],
        ["tag"] | ["image", "tag"] => &["nosuch:1", "other:1"],
        _ => {
            let first = usage.contains('<').then(|| "nosuch".to_owned());
            return first.into_iter().collect();
        }
    };
    words.iter().map(ToString::to_string).collect()
}

/// Every flag with a value, once for each way in which its value is described.
fn places() -> Vec<Place> {
    let mut places = BTreeMap::new();
    let (mut command, mut usage): (Vec<&str>, &str) = (Vec::new(), "");
    for line in REFERENCE.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            let name = name.strip_prefix("firebuild ").unwrap_or("ls");
            command = name.split(' ').collect();
        } else if line.starts_with("firebuild ") {
            usage = line;
        }
        let Some(cells) = line.strip_prefix("| ") else {
            continue;
        };
        let cells = cells.replace("\\|", "¦");
        let shown = cells.split(" | ").next().unwrap_or_default();
        let help = cells.rsplit(" | ").next();
        let shown = shown.rsplit('`').nth(1).unwrap_or_default();
        let Some(from) = shown.find('<') else {
            continue;
        };
        let (flag, value) = shown.split_at(from);
        let flag = flag.trim_end_matches('[').trim_end();
        let value = value.trim_end_matches(['.', ']']).trim_matches(['<', '>']);
        let flag = flag.trim_end_matches('=');
        let place = Place {
            command: command
                .iter()
                .map(ToString::to_string)
                .chain(
                    needed(&command, usage)
                        .into_iter()
                        .filter(|_| !flag.is_empty()),
                )
                .collect(),
            flag: (!flag.is_empty()).then(|| flag.to_owned()),
            value: value.to_owned(),
        };
        let key = match &place.flag {
            Some(flag) => format!("{flag} {value} {}", help.unwrap_or_default()),
            None => format!("{} {value}", command.join(" ")),
        };
        places.entry(key).or_insert(place);
    }
    places.into_values().collect()
}

impl Place {
    /// The whole command line with a value.
    fn with(&self, value: &OsStr) -> Vec<OsString> {
        let mut words: Vec<OsString> = self.command.iter().map(OsString::from).collect();
        let mut joined = OsString::new();
        if let Some(flag) = &self.flag {
            joined.push(flag);
            joined.push("=");
        }
        joined.push(value);
        match &self.flag {
            // Before the words, of which the last may take all that follows.
            Some(_) => words.insert(self.depth(), joined),
            None => words.push(joined),
        }
        words
    }

    /// How many words name the command.
    fn depth(&self) -> usize {
        let groups = [
            "image",
            "kernel",
            "network",
            "profile",
            "system",
            "volume",
            "build-cache",
        ];
        let first = self.command.first().map(String::as_str).unwrap_or_default();
        1 + usize::from(groups.contains(&first))
    }
}

/// What is wrong with what is said about a value; nothing if all is right.
fn fault(session: &Session, place: &Place, value: &OsStr) -> Option<String> {
    let mut command = session.command(&place.with(value));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status.code();
    let error = said.lines().find(|line| line.starts_with("error: "));
    let wrong = if !matches!(status, Some(0 | 1 | 125)) {
        "the status"
    } else if said
        .chars()
        .any(|letter| letter.is_control() && letter != '\n')
    {
        "a terminal may obey this"
    } else if said.chars().count() > MOST {
        "too much is said"
    } else if status == Some(125) && error.is_none() {
        "no error is told"
    } else {
        let refused = error.is_some_and(|error| {
            (place.flag.as_deref()).is_none_or(|flag| error.contains(flag))
                || error.contains("UTF-8")
        });
        match kind(place) {
            None => "there is a new kind of value",
            Some(Kind::Strict(fine)) if !refused && !fine.iter().any(|fine| value == *fine) => {
                "it is not refused by the flag's name"
            }
            _ => return None,
        }
    };
    let shown: String = value.to_string_lossy().chars().take(30).collect();
    let said: String = said.chars().take(400).collect();
    Some(format!(
        "{:?} {:?} <{}> {shown:?}: {wrong}: {status:?}: {said:?}",
        place.command, place.flag, place.value
    ))
}

#[test]
fn every_value_that_is_none_gets_one_clear_error() {
    let (session, _root) = session();
    session.write("context/Dockerfile", "FROM scratch\nLABEL a=b\n");
    let (places, values) = (places(), hostile());
    assert!(places.len() > 150, "{}", places.len());
    let work = Mutex::new(
        places
            .iter()
            .flat_map(|place| values.iter().map(move |value| (place, value))),
    );
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((place, value)) = work.lock().unwrap().next() else {
                        return;
                    };
                    let fault = fault(&session, place, value);
                    faults.lock().unwrap().extend(fault);
                }
            });
        }
    });
    let mut faults = faults.into_inner().unwrap();
    faults.sort();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}
