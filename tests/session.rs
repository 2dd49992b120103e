//! The built `firebuild` with a state directory, and what one call of it gave.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A state directory, and a directory to work in. Both go with the session.
#[derive(Debug)]
pub(crate) struct Session {
    directory: tempfile::TempDir,
    root: PathBuf,
}

impl Session {
    /// A session that keeps its state in `root`.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            root: root.to_owned(),
        }
    }

    /// Where all state is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the directory to work in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, with the directories that it needs.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, content).unwrap();
        path
    }

    /// `firebuild`, to be started in the directory to work in, untouched by this environment.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firebuild"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FIREBUILD_") && name != "FIREBUILD_MIRROR" {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .env("FIREBUILD_ROOT", &self.root)
            // Tests talk to this host only, unless one of them says otherwise.
            .env("FIREBUILD_PULL", "never")
            .env("FIREBUILD_PROFILE_CONF_DIR", self.root.join("profiles"))
            // Nor do they look at how this host's tools are told to talk to others.
            .env("FIREBUILD_REGISTRIES_CONF", "/dev/null")
            .current_dir(self.directory.path());
        command
    }

    /// What `firebuild` does with these arguments.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.command(arguments);
        Outcome::of(&mut command)
    }

    /// What `firebuild` prints with these arguments; it has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).success().stdout
    }

    /// The same as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Builds the Dockerfile `text` with the context `context`, which is a directory to work in.
    pub(crate) fn build(&self, text: &str, arguments: &[&str]) -> Outcome {
        self.write("context/Dockerfile", text);
        let mut all = vec!["build"];
        all.extend(arguments);
        all.push("context");
        self.run(&all)
    }
}

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit status.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// The same outcome, if it is a success.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.status, 0, "{self}");
        self
    }

    /// Standard error, if the status is firebuild's own failure and nothing was printed.
    #[track_caller]
    pub(crate) fn failure(self) -> String {
        assert_eq!((self.status, self.stdout.as_str()), (125, ""), "{self}");
        self.stderr
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "status {status}\n--- stdout\n{stdout}--- stderr\n{stderr}"
        )
    }
}

/// What another program prints; it has to be there and to succeed.
pub(crate) fn output_of<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("TZ", "UTC");
    match command.output() {
        Ok(output) => Outcome::from(output).success().stdout,
        Err(error) => panic!("cannot start `{program}`: {error}"),
    }
}
