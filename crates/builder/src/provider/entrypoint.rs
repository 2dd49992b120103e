//! The process of a root file system, as the original tool's metadata tell it.
//!
//! Its guest executes the entrypoint as a line of a shell script, and quotes the command behind it. So
//! an entrypoint of one word that is more than a word to a shell is a line for one; any other is the
//! program and its arguments.

use std::collections::BTreeMap;

use firebuild_core::config::ProcessConfig;
use serde::{Deserialize, Deserializer, Serialize};

/// What executes a line if nothing else is said.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct EntrypointInfo {
    #[serde(deserialize_with = "null_as_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    entry_point: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    env: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_as_default")]
    shell: Vec<String>,
    #[serde(deserialize_with = "null_as_default")]
    user: String,
    #[serde(deserialize_with = "null_as_default")]
    workdir: String,
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl EntrypointInfo {
    /// What is told of a process.
    pub(super) fn of(config: &ProcessConfig) -> Self {
        let variables = config.env.iter().filter_map(|entry| entry.split_once('='));
        let words = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
        let or = |text: &str, default: &str| match text {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        Self {
            cmd: words(&config.cmd),
            entry_point: words(&config.entrypoint),
            env: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            shell: match &config.shell {
                Some(shell) => shell.clone(),
                None => SHELL.map(str::to_owned).to_vec(),
            },
            user: or(&config.user, "0:0"),
            workdir: or(&config.working_dir, "/"),
        }
    }

    /// The process that is told of; or what in it cannot be.
    pub(super) fn process(&self) -> Result<ProcessConfig, String> {
        if let Some(name) = self
            .env
            .keys()
            .find(|name| name.is_empty() || name.contains('='))
        {
            let name: String = name.chars().take(100).collect();
            return Err(format!("`{name}` names a variable"));
        }
        let env = self
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let given = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
        let (entrypoint, cmd) = match &self.entry_point[..] {
            [line] if !is_word(line) => (Some(self.line(line)), None),
            words => (given(words), given(&self.cmd)),
        };
        Ok(ProcessConfig {
            user: self.user.clone(),
            env: env.collect(),
            entrypoint,
            cmd,
            working_dir: self.workdir.clone(),
            shell: given(&self.shell),
            ..ProcessConfig::default()
        })
    }

    /// A line for the shell, with the command quoted behind it.
    fn line(&self, line: &str) -> Vec<String> {
        let mut words = match &self.shell[..] {
            [] => SHELL.map(str::to_owned).to_vec(),
            shell => shell.to_vec(),
        };
        let quoted = self
            .cmd
            .iter()
            .map(|word| format!(" '{}'", word.replace('\'', r"'\''")));
        words.push(quoted.fold(line.to_owned(), |line, word| line + &word));
        words
    }
}

/// Whether a text is one word to a shell, and means itself.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-./+:,@%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().copied().map(str::to_owned).collect()
    }

    fn process(entry_point: &[&str], cmd: &[&str], shell: &[&str]) -> ProcessConfig {
        let info = EntrypointInfo {
            cmd: words(cmd),
            entry_point: words(entry_point),
            shell: words(shell),
            ..EntrypointInfo::default()
        };
        info.process().unwrap()
    }

    #[test]
    fn a_line_is_the_shells_and_words_are_words() {
        let exec = process(&["/bin/top", "a b"], &["-c"], &["/bin/bash", "-c"]);
        assert_eq!(exec.entrypoint, Some(words(&["/bin/top", "a b"])));
        assert_eq!(exec.cmd, Some(words(&["-c"])));
        assert_eq!(
            process(&["/bin/top"], &[], &[]).entrypoint,
            Some(words(&["/bin/top"]))
        );
        let line = process(&["exec $X -a"], &["it's"], &["/bin/bash", "-c"]);
        let expected = words(&["/bin/bash", "-c", r"exec $X -a 'it'\''s'"]);
        assert_eq!((line.entrypoint, line.cmd), (Some(expected), None));
        let line = process(&["a;b"], &[], &[]);
        assert_eq!(line.entrypoint, Some(words(&["/bin/sh", "-c", "a;b"])));
        assert_eq!(process(&[], &["x"], &[]).cmd, Some(words(&["x"])));
    }

    #[test]
    fn a_process_comes_back() {
        let config = ProcessConfig {
            user: "5".to_owned(),
            env: words(&["A=1", "B=x=y"]),
            entrypoint: Some(words(&["/bin/a", "b c"])),
            cmd: Some(words(&["d"])),
            working_dir: "/w".to_owned(),
            shell: Some(words(&["/bin/bash"])),
            ..ProcessConfig::default()
        };
        assert_eq!(EntrypointInfo::of(&config).process(), Ok(config));
    }
}
