//! What an operation changes of an image's configuration.

use firebuild_core::ImageConfig;
use firebuild_core::config::Empty;
use serde::Serialize;

/// One change. Values are final: nothing is left to expand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Sets an environment variable.
    Environment {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
    },
    /// Sets a label.
    Label {
        /// The label.
        name: String,
        /// Its value.
        value: String,
    },
    /// Sets the user.
    User {
        /// As it was written.
        user: String,
    },
    /// Sets the working directory.
    WorkingDirectory {
        /// An absolute path.
        path: String,
    },
    /// Sets the shell of shell forms.
    Shell {
        /// Program and arguments.
        shell: Vec<String>,
    },
    /// Sets the entrypoint.
    Entrypoint {
        /// Program and arguments.
        arguments: Vec<String>,
        /// Whether it also takes the inherited command away.
        clears_command: bool,
    },
    /// Sets the command.
    Command {
        /// Program and arguments, or arguments to the entrypoint.
        arguments: Vec<String>,
    },
    /// Declares a port.
    Expose {
        /// `PORT/PROTOCOL`.
        port: String,
    },
    /// Declares a volume.
    Volume {
        /// Its path.
        path: String,
    },
    /// Sets the signal that asks the process to end.
    StopSignal {
        /// A name or a number.
        signal: String,
    },
    /// Sets how health is checked, in the form of the image configuration.
    Healthcheck {
        /// The value of `Healthcheck`.
        check: serde_json::Value,
    },
    /// Adds an instruction for images that are built from this one.
    OnBuild {
        /// The instruction.
        trigger: String,
    },
    /// Sets who made the image.
    Author {
        /// As it was written.
        author: String,
    },
}

impl Change {
    /// Does it.
    pub fn apply(&self, image: &mut ImageConfig) {
        let config = &mut image.config;
        match self {
            Self::Environment { name, value } => config.set_variable(name, value),
            Self::Label { name, value } => {
                config.labels.insert(name.clone(), value.clone());
            }
            Self::User { user } => config.user.clone_from(user),
            Self::WorkingDirectory { path } => config.working_dir.clone_from(path),
            Self::Shell { shell } => config.shell = Some(shell.clone()),
            Self::Entrypoint {
                arguments,
                clears_command,
            } => {
                config.entrypoint = Some(arguments.clone());
                if *clears_command {
                    config.cmd = None;
                }
            }
            Self::Command { arguments } => config.cmd = Some(arguments.clone()),
            Self::Expose { port } => {
                config.exposed_ports.insert(port.clone(), Empty {});
            }
            Self::Volume { path } => {
                config.volumes.insert(path.clone(), Empty {});
            }
            Self::StopSignal { signal } => config.stop_signal = Some(signal.clone()),
            Self::Healthcheck { check } => config.healthcheck = Some(check.clone()),
            Self::OnBuild { trigger } => config.on_build.push(trigger.clone()),
            Self::Author { author } => image.author = Some(author.clone()),
        }
    }
}
