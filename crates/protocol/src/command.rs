//! What a build VM is told to do: the JSON of `Bootstrap.Commands`.

use serde::{Deserialize, Serialize};

/// One command. COPY and ADD arrive as finished layers: what they mean was resolved on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "instruction", rename_all = "UPPERCASE")]
pub enum Command {
    /// Execute a process; its change is one layer.
    Run(Run),
    /// Lay a finished layer on.
    Copy(Lay),
    /// Lay a finished layer on.
    Add(Lay),
}

/// A process to execute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    /// Counts up within one VM, from 0, over all commands.
    pub index: u32,
    /// The instruction as it was written.
    pub original: String,
    /// What to execute.
    pub form: Form,
    /// The shell of the shell form: program and arguments that precede the command.
    pub shell: Vec<String>,
    /// The environment without the build arguments: names and values, each name once.
    pub environment: Vec<(String, String)>,
    /// Build arguments, which the process sees as environment too; these win.
    pub build_args: Vec<(String, String)>,
    /// An absolute path in the image; made if it is missing.
    pub workdir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty means root.
    pub user: String,
    /// Files that the process sees and the layer does not hold.
    #[serde(default)]
    pub files: Vec<File>,
}

/// Shell form or exec form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Text for the shell.
    Shell(String),
    /// Program and arguments.
    Exec(Vec<String>),
}

/// A file that one process sees, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// An absolute path below `/dev/pipes/`.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// The content.
    pub content: String,
}

/// A finished layer to lay on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lay {
    /// Counts up within one VM, from 0, over all commands.
    pub index: u32,
    /// The instruction as it was written.
    pub original: String,
    /// The path of the resource that is the layer, an uncompressed archive.
    pub resource: String,
}

impl Command {
    /// The command's number in its VM.
    #[must_use]
    pub fn index(&self) -> u32 {
        match self {
            Self::Run(run) => run.index,
            Self::Copy(lay) | Self::Add(lay) => lay.index,
        }
    }
}

impl Run {
    /// Program and arguments, with the shell in front of the shell form.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        match &self.form {
            Form::Shell(text) => self
                .shell
                .iter()
                .chain(std::iter::once(text))
                .cloned()
                .collect(),
            Form::Exec(arguments) => arguments.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_apart_by_their_instruction() {
        let text =
            r#"[{"instruction":"COPY","index":1,"original":"COPY a b","resource":"layers/x"}]"#;
        let commands: Vec<Command> = serde_json::from_str(text).unwrap();
        assert_eq!(commands[0].index(), 1);
        assert_eq!(serde_json::to_string(&commands).unwrap(), text);
    }
}
