//! Rules from files as people have them for their other tools: `containers-registries.conf(5)`,
//! version 2.
//!
//! Of it `[[registry]]` and its mirrors are read. What is about names without a registry
//! (`unqualified-search-registries`, `short-name-mode`, aliases) is passed over on purpose: here such a
//! name is always Docker's, so that the same Dockerfile means the same everywhere. Other keys that are
//! not known are told.

use std::io;
use std::path::{Path, PathBuf};

use firebuild_core::Reference;
use toml::{Table, Value};

use super::rules::{AskedFor, Prefix, Rule, RuleMirror, Rules};

/// The host's own file, and the directory of those that are read after it.
const HOST: (&str, &str) = (
    "/etc/containers/registries.conf",
    "/etc/containers/registries.conf.d",
);

/// Bytes of a file at most.
const LARGEST: u64 = 1 << 20;

/// Keys that are about names without a registry.
const SHORT_NAMES: [&str; 3] = [
    "unqualified-search-registries",
    "short-name-mode",
    "aliases",
];

/// Why a file of rules cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfError {
    /// It cannot be read.
    #[error("cannot read the registries' configuration `{}`", .file.display())]
    Read {
        /// The file, or the directory of them.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than any such file.
    #[error("the registries' configuration `{}` has more than {LARGEST} bytes", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It is not written in TOML.
    #[error("`{}` is not valid: line {line}: {reason}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A value is none that its key may have.
    #[error("`{key}` in `{}` {reason}", .file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key, with the tables that it is in.
        key: String,
        /// What it must be.
        reason: &'static str,
    },
}

impl Rules {
    /// The rules of the host, if it has any. `warn` is told of what is passed over.
    ///
    /// # Errors
    /// [`ConfError`].
    pub fn of_host(warn: &mut dyn FnMut(String)) -> Result<Self, ConfError> {
        Self::of_places(Path::new(HOST.0), Path::new(HOST.1), warn)
    }

    fn of_places(
        main: &Path,
        directory: &Path,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self, ConfError> {
        let mut rules = Self::default();
        let mut files = vec![main.to_owned()];
        files.extend(parts(directory)?);
        for file in files {
            match rules.read(&file, warn) {
                Err(ConfError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                }
                other => other?,
            }
        }
        Ok(rules)
    }

    /// The rules of one file.
    ///
    /// # Errors
    /// [`ConfError`].
    pub fn of_file(file: &Path, warn: &mut dyn FnMut(String)) -> Result<Self, ConfError> {
        let mut rules = Self::default();
        rules.read(file, warn)?;
        Ok(rules)
    }

    fn read(&mut self, file: &Path, warn: &mut dyn FnMut(String)) -> Result<(), ConfError> {
        let text = text(file)?;
        let table: Table = text.parse().map_err(|error| syntax(file, &text, &error))?;
        let mut conf = Conf { file, warn };
        for rule in conf.rules(table)? {
            self.add(rule);
        }
        Ok(())
    }
}

/// The files of a directory that are read, in order.
fn parts(directory: &Path) -> Result<Vec<PathBuf>, ConfError> {
    let listed = fs_err::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files: Vec<PathBuf> = match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(|source| ConfError::Read {
            file: directory.to_owned(),
            source,
        })?,
    };
    files.retain(|file| file.extension().is_some_and(|ending| ending == "conf"));
    files.sort();
    Ok(files)
}

fn text(file: &Path) -> Result<String, ConfError> {
    let mut text = String::new();
    let read = fs_err::File::open(file).and_then(|opened| {
        let mut limited = io::Read::take(opened, LARGEST + 1);
        io::Read::read_to_string(&mut limited, &mut text)
    });
    read.map_err(|source| ConfError::Read {
        file: file.to_owned(),
        source,
    })?;
    match text.len() as u64 > LARGEST {
        true => Err(ConfError::TooLarge {
            file: file.to_owned(),
        }),
        false => Ok(text),
    }
}

fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> ConfError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.as_bytes().iter().take(at);
    ConfError::Syntax {
        file: file.to_owned(),
        line: 1 + before.filter(|byte| **byte == b'\n').count(),
        reason: error.message().to_owned(),
    }
}

/// A file whose values are taken one by one; what is left is not known.
struct Conf<'a> {
    file: &'a Path,
    warn: &'a mut dyn FnMut(String),
}

impl Conf<'_> {
    fn rules(&mut self, mut table: Table) -> Result<Vec<Rule>, ConfError> {
        for key in SHORT_NAMES {
            table.remove(key);
        }
        let mut rules = Vec::new();
        for (number, registry) in self
            .tables(&mut table, "", "registry")?
            .into_iter()
            .enumerate()
        {
            rules.push(self.rule(registry, &format!("registry[{number}]"))?);
        }
        self.left(&table, "");
        Ok(rules)
    }

    fn rule(&mut self, mut table: Table, at: &str) -> Result<Rule, ConfError> {
        let prefix = self.string(&mut table, at, "prefix")?;
        let location = self.location(&mut table, at)?;
        let prefix = match (prefix.filter(|prefix| !prefix.is_empty()), &location) {
            (Some(prefix), _) => prefix,
            (None, Some(location)) => location.clone(),
            (None, None) => {
                let reason = "needs a `prefix` or a `location`";
                return Err(self.wrong(at, "", reason));
            }
        };
        let prefix = match prefix.strip_prefix('*') {
            Some(domain) if domain.starts_with('.') => Prefix::Domain(domain.to_owned()),
            Some(_) => return Err(self.wrong(at, "prefix", "must begin with `*.` or a name")),
            None => Prefix::Name(prefix.trim_end_matches('/').to_owned()),
        };
        let digests = self.flag(&mut table, at, "mirror-by-digest-only")?;
        let mut mirrors = Vec::new();
        for (number, mirror) in self
            .tables(&mut table, at, "mirror")?
            .into_iter()
            .enumerate()
        {
            let at = format!("{at}.mirror[{number}]");
            mirrors.push(self.mirror(mirror, &at, digests)?);
        }
        let rule = Rule {
            prefix,
            location,
            insecure: self.flag(&mut table, at, "insecure")?,
            blocked: self.flag(&mut table, at, "blocked")?,
            mirrors,
        };
        self.left(&table, at);
        Ok(rule)
    }

    fn mirror(
        &mut self,
        mut table: Table,
        at: &str,
        digests: bool,
    ) -> Result<RuleMirror, ConfError> {
        let location = self.location(&mut table, at)?;
        let location = location.ok_or_else(|| self.wrong(at, "location", "is missing"))?;
        let when = self.string(&mut table, at, "pull-from-mirror")?;
        let asked_for = match when.as_deref() {
            None if digests => AskedFor::Digests,
            None | Some("all" | "") => AskedFor::All,
            Some("digest-only") => AskedFor::Digests,
            Some("tag-only") => AskedFor::Tags,
            Some(_) => {
                let reason = "must be `all`, `digest-only` or `tag-only`";
                return Err(self.wrong(at, "pull-from-mirror", reason));
            }
        };
        let insecure = self.flag(&mut table, at, "insecure")?;
        self.left(&table, at);
        Ok(RuleMirror {
            location,
            insecure,
            asked_for,
        })
    }

    /// What can stand before an image's name.
    fn location(&self, table: &mut Table, at: &str) -> Result<Option<String>, ConfError> {
        let Some(location) = self.string(table, at, "location")? else {
            return Ok(None);
        };
        let location = location.trim_end_matches('/');
        if location.is_empty() {
            return Ok(None);
        }
        let example = format!("{location}/x").parse::<Reference>().ok();
        if example.as_ref().map(Reference::registry) != location.split('/').next() {
            return Err(self.wrong(at, "location", "must have the form HOST[:PORT][/PATH]"));
        }
        Ok(Some(location.to_owned()))
    }

    fn string(&self, table: &mut Table, at: &str, key: &str) -> Result<Option<String>, ConfError> {
        match table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(at, key, "must be a string")),
        }
    }

    fn flag(&self, table: &mut Table, at: &str, key: &str) -> Result<bool, ConfError> {
        match table.remove(key) {
            None => Ok(false),
            Some(Value::Boolean(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(at, key, "must be `true` or `false`")),
        }
    }

    fn tables(&self, table: &mut Table, at: &str, key: &str) -> Result<Vec<Table>, ConfError> {
        let wrong = || self.wrong(at, key, "must be a list of tables");
        let values = match table.remove(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(_) => return Err(wrong()),
        };
        let tables = values.into_iter().map(|value| match value {
            Value::Table(table) => Ok(table),
            _ => Err(wrong()),
        });
        tables.collect()
    }

    /// Tells of what nobody took.
    fn left(&mut self, table: &Table, at: &str) {
        for key in table.keys() {
            let (key, file) = (joined(at, key), self.file.display());
            (self.warn)(format!(
                "`{key}` in `{file}` is not known and is passed over"
            ));
        }
    }

    fn wrong(&self, at: &str, key: &str, reason: &'static str) -> ConfError {
        ConfError::Value {
            file: self.file.to_owned(),
            key: joined(at, key),
            reason,
        }
    }
}

/// A key with the tables that it is in.
fn joined(at: &str, key: &str) -> String {
    match (at, key) {
        ("", name) | (name, "") => name.to_owned(),
        (at, key) => format!("{at}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file says, with what was warned of.
    fn read(text: &str) -> (Result<Rules, ConfError>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("registries.conf");
        fs_err::write(&file, text).unwrap();
        let mut warnings = Vec::new();
        let rules = Rules::of_file(&file, &mut |text| warnings.push(text));
        (rules, warnings)
    }

    #[test]
    fn what_people_have_is_understood() {
        let (rules, warnings) = read(
            r#"
            unqualified-search-registries = ["docker.io"]
            short-name-mode = "permissive"
            [aliases]
            "debian" = "docker.io/library/debian"
            [[registry]]
            prefix = "example.com/foo"
            insecure = false
            blocked = false
            location = "internal.example/bar/"
            [[registry.mirror]]
            location = "mirror-0.local/for-foo"
            [[registry.mirror]]
            location = "mirror-1.local"
            insecure = true
            pull-from-mirror = "tag-only"
            [[registry]]
            location = "blocked.example"
            blocked = true
            [[registry]]
            prefix = "*.lab.example"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "lab-mirror.local:5000"
            "#,
        );
        assert_eq!(warnings, [""; 0]);
        let mirror = |location: &str, insecure, asked_for| RuleMirror {
            location: location.to_owned(),
            insecure,
            asked_for,
        };
        let mut expected = Rules::default();
        expected.add(Rule {
            prefix: Prefix::Name("example.com/foo".to_owned()),
            location: Some("internal.example/bar".to_owned()),
            insecure: false,
            blocked: false,
            mirrors: vec![
                mirror("mirror-0.local/for-foo", false, AskedFor::All),
                mirror("mirror-1.local", true, AskedFor::Tags),
            ],
        });
        expected.add(Rule {
            prefix: Prefix::Name("blocked.example".to_owned()),
            location: Some("blocked.example".to_owned()),
            insecure: false,
            blocked: true,
            mirrors: Vec::new(),
        });
        expected.add(Rule {
            prefix: Prefix::Domain(".lab.example".to_owned()),
            location: None,
            insecure: false,
            blocked: false,
            mirrors: vec![mirror("lab-mirror.local:5000", false, AskedFor::Digests)],
        });
        assert_eq!(rules.unwrap(), expected);
    }

    #[test]
    fn what_is_not_known_is_told_and_what_is_wrong_is_an_error() {
        let (rules, warnings) = read(
            "new = 1\n[[registry]]\nlocation = \"a.b\"\nsigned = true\n[[registry.mirror]]\nlocation = \"c.d\"\nspeed = 1\n",
        );
        assert!(rules.is_ok());
        let keys: Vec<&str> = warnings
            .iter()
            .map(|text| text.split('`').nth(1).unwrap())
            .collect();
        assert_eq!(
            keys,
            ["registry[0].mirror[0].speed", "registry[0].signed", "new"]
        );
        for (text, expected) in [
            ("registry = 1", "`registry` in `"),
            ("[[registry]]\nblocked = true", "`registry[0]` in `"),
            ("[[registry]]\nlocation = 1", "`registry[0].location` in `"),
            (
                "[[registry]]\nlocation = \"https://a\"",
                "must have the form",
            ),
            (
                "[[registry]]\nlocation = \"a.b\"\nblocked = 1",
                "`true` or `false`",
            ),
            ("[[registry]]\nprefix = \"*\"", "`registry[0].prefix` in `"),
            (
                "[[registry]]\nprefix = \"a.b\"\n[[registry.mirror]]\ninsecure = true",
                "`registry[0].mirror[0].location` in `",
            ),
            (
                "[[registry]]\nprefix = \"a.b\"\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"never\"",
                "`registry[0].mirror[0].pull-from-mirror` in `",
            ),
            ("a = 1\nb = \n", "line 2"),
        ] {
            let error = read(text).0.unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("registries.conf`"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let large = "#".repeat(2 << 20);
        assert!(matches!(read(&large).0, Err(ConfError::TooLarge { .. })));
    }

    #[test]
    fn later_files_come_before_earlier_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, prefix: &str, location: &str| {
            let text = format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\n");
            fs_err::write(path(name), text).unwrap();
        };
        fs_err::create_dir(path("d")).unwrap();
        write("main.conf", "a.example", "main.example");
        write("d/2.conf", "a.example", "two.example");
        write("d/1.conf", "a.example", "one.example");
        write("d/3.txt", "a.example", "three.example");
        write("d/4.conf", "b.example", "four.example");
        let places = |directory: &str| {
            let mut warn = |text: String| panic!("{text}");
            let rules = Rules::of_places(&path("main.conf"), &path(directory), &mut warn).unwrap();
            ["a.example/x:1", "b.example/x:1"]
                .map(|image| rules.place(&image.parse().unwrap()).unwrap().to_string())
        };
        assert_eq!(places("d"), ["two.example/x:1", "four.example/x:1"]);
        assert_eq!(places("none"), ["main.example/x:1", "b.example/x:1"]);
    }
}
