//! How git is started.
//!
//! What must hold, whoever wrote the repository and its address: git reads no configuration but
//! what stands here, asks nobody for anything, executes no hook and no filter, and speaks http,
//! https, ssh and git only. What comes from outside stands behind `--`, and credentials stand in
//! the environment, where no list of processes shows them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use firebuild_core::ByteSize;
use firebuild_plan::GitSource;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use url::Url;

use super::super::telling::Telling;
use super::super::{Cause, FetchError, Fetcher};
use super::failure;

/// The most that is taken of what git writes, in bytes: names of all references of a repository.
const MOST_OUTPUT: u64 = 64 << 20;

/// The most that is kept of what git complains about, in bytes.
const MOST_COMPLAINT: u64 = 64 << 10;

/// The longest that one call of git may take.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often it is looked how much git has written.
const LOOK: Duration = Duration::from_millis(200);

/// What git takes of this process's environment: where programs are, whose home, agent and proxies
/// are meant.
const KEPT: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The user's ssh, but it never asks.
const SSH: &str =
    "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4";

/// The whole configuration.
const CONFIGURATION: [(&str, &str); 15] = [
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("protocol.git.allow", "always"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    // Objects go to disk as they come, where they are counted, and not to memory first.
    ("fetch.unpackLimit", "1"),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "main"),
    ("http.lowSpeedLimit", "1"),
    ("safe.directory", "*"),
];

/// Starts git for one repository.
pub(super) struct Program<'a> {
    /// The address that git gets: without a password.
    remote: String,
    /// The address for people.
    address: String,
    /// A directory that is ours.
    scratch: PathBuf,
    /// The most that git may write there while it fetches.
    limit: ByteSize,
    configuration: Vec<(String, String)>,
    telling: &'a Telling<'a>,
}

impl<'a> Program<'a> {
    pub(super) fn new(
        fetcher: &Fetcher,
        source: &GitSource,
        scratch: &Path,
        telling: &'a Telling<'a>,
    ) -> Result<Self, FetchError> {
        let address = super::shown(source);
        check(&source.remote, fetcher.bounds.local, &address)?;
        let fixed = CONFIGURATION.iter();
        let mut configuration: Vec<(String, String)> = fixed
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let silence = fetcher.bounds.silence.as_secs().max(1);
        configuration.push(("http.lowSpeedTime".to_owned(), silence.to_string()));
        if fetcher.bounds.local {
            configuration.push(("protocol.file.allow".to_owned(), "always".to_owned()));
        }
        if fetcher.trust.is_extended() {
            let bundle = scratch.join("authorities.pem");
            fs_err::write(&bundle, fetcher.trust.bundle()).map_err(|source| {
                firebuild_store::Error::Io {
                    doing: "keep the authorities' certificates".to_owned(),
                    source,
                }
            })?;
            let bundle = bundle.to_string_lossy().into_owned();
            configuration.push(("http.sslCAInfo".to_owned(), bundle));
        }
        let (remote, header) = authorization(fetcher, &source.remote);
        configuration.extend(header);
        Ok(Self {
            remote,
            address,
            scratch: scratch.to_owned(),
            limit: fetcher.bounds.size,
            configuration,
            telling,
        })
    }

    /// Who is told of it.
    pub(super) fn telling(&self) -> &Telling<'a> {
        self.telling
    }

    /// The repository's address, for git.
    pub(super) fn remote(&self) -> &str {
        &self.remote
    }

    /// The repository's address, for people.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Where the commit's files go.
    pub(super) fn work(&self) -> PathBuf {
        self.scratch.join("work")
    }

    /// Runs git and gives what it wrote. `doing` says to people what it does.
    pub(super) async fn output(
        &self,
        doing: &'static str,
        arguments: &[&str],
    ) -> Result<Vec<u8>, FetchError> {
        let (status, output, complaint) = self.run(arguments).await?;
        if status.success() && output.len() as u64 <= MOST_OUTPUT {
            return Ok(output);
        }
        Err(failure::of(&self.address, doing, &complaint))
    }

    /// As [`Self::output`], but git's refusal is an answer too: none.
    pub(super) async fn try_output(
        &self,
        arguments: &[&str],
    ) -> Result<Option<Vec<u8>>, FetchError> {
        let (status, output, _) = self.run(arguments).await?;
        Ok(status.success().then_some(output))
    }

    /// Runs git; at most one byte more than [`MOST_OUTPUT`] is taken of what it writes.
    async fn run(&self, arguments: &[&str]) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), FetchError> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => FetchError::NoGit,
            _ => FetchError::Client(Cause::of(error)),
        };
        let mut child = self.command(arguments).spawn().map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let all = async {
            let (output, complaint) =
                tokio::join!(some(stdout, MOST_OUTPUT), some(stderr, MOST_COMPLAINT));
            Ok((child.wait().await?, output?, complaint?))
        };
        let address = self.address.clone();
        tokio::select! {
            result = all => result.map_err(failed),
            () = self.outgrown() => Err(FetchError::TooLarge {
                address,
                limit: self.limit,
            }),
            () = tokio::time::sleep(LONGEST) => Err(FetchError::Silent {
                address,
                silence: LONGEST,
            }),
        }
    }

    /// Ends when more was fetched than may be: git has no bound of its own.
    async fn outgrown(&self) {
        let repository = self.work().join(".git");
        loop {
            let written = written(&repository);
            if written > self.limit.0 {
                return;
            }
            if written > 0 {
                self.telling.more(written, None);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Git with these arguments in the directory of the checkout, or above it while that is not
    /// there.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear();
        let kept = KEPT.iter();
        command.envs(kept.filter_map(|name| Some((*name, std::env::var_os(name)?))));
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", SSH);
        }
        for (name, value) in [
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS_REQUIRE", "never"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_ATTR_NOSYSTEM", "1"),
        ] {
            command.env(name, value);
        }
        command.env("GIT_CEILING_DIRECTORIES", &self.scratch);
        command.env("GIT_CONFIG_COUNT", self.configuration.len().to_string());
        for (number, (name, value)) in self.configuration.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), name);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        let work = self.work();
        command.current_dir(if work.is_dir() { &work } else { &self.scratch });
        command.args(arguments.iter().map(OsStr::new).map(OsString::from));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        log::debug!("run {}", firebuild_core::words(command.as_std()));
        command
    }
}

/// The bytes of all files in a directory, as far as they are there at the time.
fn written(directory: &Path) -> u64 {
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(status) if status.is_dir() => written(&entry.path()),
        Ok(status) => status.len(),
        Err(_) => 0,
    });
    sizes.fold(0, u64::saturating_add)
}

/// Up to one byte more than `most` of what comes; what comes behind is dropped.
async fn some(stream: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let mut bounded = (&mut stream).take(most + 1);
        bounded.read_to_end(&mut kept).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

/// Takes the addresses that git would understand as we do.
fn check(remote: &str, local: bool, address: &str) -> Result<(), FetchError> {
    let known = match remote.split_once("://") {
        Some(("http" | "https" | "ssh" | "git", _)) => true,
        Some(("file", _)) => local,
        Some(_) => false,
        // `user@host:path`, but not `protocol::address`.
        None => remote.contains('@') && remote.contains(':') && !remote.contains("::"),
    };
    let reason = if remote.starts_with('-') || !known {
        "git is only asked by http, https, ssh and git"
    } else if remote.chars().any(char::is_control) {
        "it has control characters"
    } else {
        return Ok(());
    };
    Err(FetchError::Address {
        address: address.to_owned(),
        reason: reason.to_owned(),
    })
}

/// The address without a password, and the configuration that proves to its server, and to no
/// other, who asks: by a secret, or by what stood in the address.
fn authorization(fetcher: &Fetcher, remote: &str) -> (String, Option<(String, String)>) {
    let Ok(mut url) = Url::parse(remote) else {
        return (remote.to_owned(), None);
    };
    if !matches!(url.scheme(), "http" | "https") {
        return (remote.to_owned(), None);
    }
    let written = url.password().map(|password| {
        let decode = |text: &str| {
            let decoded = url::form_urlencoded::parse(text.replace('+', "%2B").as_bytes())
                .next()
                .map(|(name, _)| name.into_owned());
            decoded.unwrap_or_default()
        };
        super::super::credentials::basic(&decode(url.username()), &decode(password))
    });
    let value = written.or_else(|| fetcher.credentials.git(&url));
    if url.password().is_some() {
        // Such an address has a host, so neither fails.
        let _ = url.set_password(None);
        let _ = url.set_username("");
    }
    let header = value.map(|value| {
        let server = url.origin().ascii_serialization();
        let name = format!("http.{server}/.extraHeader");
        (name, format!("Authorization: {value}"))
    });
    let remote = if header.is_some() {
        url.to_string()
    } else {
        remote.to_owned()
    };
    (remote, header)
}
