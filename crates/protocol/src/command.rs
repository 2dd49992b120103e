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
    /// Send what a cache's disk holds; it is one layer.
    Save(Save),
    /// Put an archive into a new cache's disk.
    Fill(Fill),
    /// Execute a process where the last RUN failed.
    Shell(Shell),
}

/// A cache to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Save {
    /// Counts up within one VM, from 0, over all commands.
    pub index: u32,
    /// The disk's serial.
    pub disk: String,
}

/// A cache to be filled. What it holds already stays as it is, and nothing is put into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fill {
    /// Counts up within one VM, from 0, over all commands.
    pub index: u32,
    /// The disk's serial.
    pub disk: String,
    /// The path of the resource that is the archive, uncompressed.
    pub resource: String,
}

/// A process for a person (`Bootstrap.Terminal`), in the root of the RUN that failed last and was to
/// be kept, with all that it mounts, as it left them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shell {
    /// Counts up within one VM, from 0, over all commands.
    pub index: u32,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// The terminal that it gets; pipes if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
}

/// A person's terminal, as it is when a process starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Terminal {
    /// The kind, for `TERM`.
    pub kind: String,
    /// Lines of text.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
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
    /// What the process's machine is called; the VM's own name if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Whether the process has a network of its own, with a loopback interface and nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// Whether the process has all capabilities rather than those of every container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// Whether its root is kept for a [`Shell`] if it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// Files that the process sees and the layer does not hold.
    #[serde(default)]
    pub files: Vec<File>,
    /// What is mounted, in this order; no layer holds any of it, nor the places where it is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
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

/// Something that one process sees. Targets are absolute paths in the image, not `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Mount {
    /// Files that the host has.
    Bind {
        /// Where they are mounted.
        target: String,
        /// The resource that is an uncompressed archive of them. The same resource is always the
        /// same files.
        resource: String,
        /// Whether it is one file, which the archive calls [`SINGLE`], and not a directory, which
        /// is the archive's root.
        single: bool,
        /// Whether nothing can be written. What is written otherwise is dropped after the step.
        read_only: bool,
    },
    /// A directory on a disk that outlives the VM.
    Cache {
        /// Where it is mounted.
        target: String,
        /// The disk's serial.
        disk: String,
        /// Whether nothing can be written.
        read_only: bool,
        /// The resource that is an archive of what a new one begins with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<String>,
        /// Mode and owner of a new one.
        #[serde(flatten)]
        access: Access,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Where it is mounted.
        target: String,
        /// The most bytes that it holds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Whether nothing can be written.
        read_only: bool,
    },
    /// A file in memory: a secret, or a bundle of certificates.
    File {
        /// Where it is mounted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        /// The environment variable that holds its content.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variable: Option<String>,
        /// The resource that is its content.
        resource: String,
        /// Mode and owner.
        #[serde(flatten)]
        access: Access,
    },
    /// A socket, whose connections the agent passes on to the host (`Bootstrap.Agent`).
    Agent {
        /// Where it is.
        target: String,
        /// Which agent; none of the host's, and nothing listens, if empty. `SSH_AUTH_SOCK` is set
        /// to the first one's target in any case.
        id: String,
        /// Mode and owner.
        #[serde(flatten)]
        access: Access,
    },
}

/// The name of the one entry of an archive that is a single file.
pub const SINGLE: &str = "file";

/// Mode and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Permission bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
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
            Self::Save(save) => save.index,
            Self::Fill(fill) => fill.index,
            Self::Shell(shell) => shell.index,
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
