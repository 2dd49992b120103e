//! Secrets, agents, certificates: what one process sees, and what is kept nowhere.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use firebuild_plan::mount;

use crate::error::StepError;
use crate::keys::Keyring;

/// Where a RUN sees the bundle of certificates: below a directory that no image has anything in.
pub(super) const CERTIFICATES: &str = "/dev/firebuild/ca-certificates.crt";

/// The variables in which tools look for such a bundle: OpenSSL and what is made with it, curl,
/// Python's requests and pip, Node, git, the AWS tools, cargo, Deno, Nix, Perl.
pub(super) const CERTIFICATE_VARIABLES: [&str; 11] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "NIX_SSL_CERT_FILE",
    "PERL_LWP_SSL_CA_FILE",
];

/// The most bytes that a secret may have: BuildKit's limit.
const LARGEST_SECRET: u64 = 500 << 10;

/// What is shorter is not looked for in output: too much else would be hidden.
const SHORTEST_MASKED: usize = 6;

/// The secrets that a build's RUNs may ask for.
#[derive(Debug, Clone, Default)]
pub struct Secrets(BTreeMap<String, SecretSource>);

/// Where a secret is. It is read when a RUN asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In a variable of this process's environment.
    Variable(String),
}

/// A secret's content. It is shown nowhere.
pub(super) struct Secret(pub(super) Vec<u8>);

impl Secrets {
    /// Adds a secret, in place of an earlier one of that id.
    pub fn insert(&mut self, id: String, source: SecretSource) {
        self.0.insert(id, source);
    }

    /// What a mount shows; nothing if there is no such secret and the RUN can do without.
    pub(super) fn read(&self, mount: &mount::Secret) -> Result<Option<Secret>, StepError> {
        let id = &mount.id;
        let failed = |source| StepError::SecretFile {
            id: id.clone(),
            source,
        };
        let content = match self.0.get(id) {
            Some(SecretSource::File(path)) => {
                let file = fs_err::File::open(path).map_err(failed)?;
                let mut content = Vec::new();
                let mut file = file.take(LARGEST_SECRET + 1);
                file.read_to_end(&mut content).map_err(failed)?;
                Some(content)
            }
            Some(SecretSource::Variable(name)) => std::env::var_os(name).map(OsStringExt::into_vec),
            None => None,
        };
        match content {
            Some(content) if content.len() as u64 > LARGEST_SECRET => {
                Err(StepError::LargeSecret(id.clone()))
            }
            Some(content) => Ok(Some(Secret(content))),
            None if mount.required => Err(StepError::NoSecret(id.clone())),
            None => Ok(None),
        }
    }
}

/// The agents that a build's RUNs may ask for.
#[derive(Debug, Clone, Default)]
pub struct Agents(BTreeMap<String, Agent>);

/// What answers a RUN that talks to an SSH agent.
#[derive(Debug, Clone)]
pub enum Agent {
    /// An agent on the host, by the path of its socket.
    Socket(PathBuf),
    /// The build itself, with these keys.
    Keys(Arc<Keyring>),
}

impl Agents {
    /// Adds an agent, in place of an earlier one of that id.
    pub fn insert(&mut self, id: String, agent: Agent) {
        self.0.insert(id, agent);
    }

    /// The agent of that id.
    pub(super) fn get(&self, id: &str) -> Option<&Agent> {
        self.0.get(id)
    }

    /// What the guest is told for a mount: nothing if there is no such agent and the RUN can do
    /// without.
    pub(super) fn id(&self, mount: &mount::Ssh) -> Result<String, StepError> {
        if self.0.contains_key(&mount.id) {
            Ok(mount.id.clone())
        } else if mount.required {
            Err(StepError::NoAgent(mount.id.clone()))
        } else {
            Ok(String::new())
        }
    }
}

/// The lines of a secret that are hidden where a process writes them.
pub(super) fn masks(secret: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let lines = secret.split(|byte| *byte == b'\n');
    let lines = lines.map(<[u8]>::trim_ascii);
    lines
        .filter(|line| line.len() >= SHORTEST_MASKED)
        .map(<[u8]>::to_vec)
}

/// A line of output without secrets.
pub(crate) fn masked(line: Vec<u8>, secrets: &[Vec<u8>]) -> Vec<u8> {
    secrets.iter().fold(line, |line, secret| {
        let found = |line: &[u8]| {
            line.windows(secret.len())
                .position(|part| part == &secret[..])
        };
        let mut rest = &line[..];
        let Some(mut at) = found(rest) else {
            return line;
        };
        let mut hidden = Vec::new();
        loop {
            hidden.extend_from_slice(&rest[..at]);
            hidden.extend_from_slice(b"***");
            rest = &rest[at + secret.len()..];
            match found(rest) {
                Some(next) => at = next,
                None => break,
            }
        }
        hidden.extend_from_slice(rest);
        hidden
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebuild_plan::mount::Access;

    fn mount(id: &str, required: bool) -> mount::Secret {
        mount::Secret {
            id: id.to_owned(),
            target: None,
            variable: None,
            required,
            access: Access {
                mode: 0o400,
                uid: 0,
                gid: 0,
            },
        }
    }

    #[test]
    fn what_a_process_writes_of_a_secret_is_hidden() {
        let secrets: Vec<Vec<u8>> = masks(b"hunter2-hunter2\n  second line \nx\n").collect();
        assert_eq!(secrets, [&b"hunter2-hunter2"[..], b"second line"]);
        let shown = |line: &str| String::from_utf8(masked(line.into(), &secrets)).unwrap();
        assert_eq!(shown("nothing"), "nothing");
        assert_eq!(shown("a hunter2-hunter2 b"), "a *** b");
        assert_eq!(shown("hunter2-hunter2hunter2-hunter2"), "******");
        assert_eq!(shown("second line, x"), "***, x");
    }

    #[test]
    fn secrets_are_read_when_they_are_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let mut secrets = Secrets::default();
        secrets.insert("file".to_owned(), SecretSource::File(path.clone()));
        secrets.insert(
            "unset".to_owned(),
            SecretSource::Variable("NO_SUCH_VARIABLE_HERE".to_owned()),
        );
        assert!(matches!(
            secrets.read(&mount("file", false)),
            Err(StepError::SecretFile { .. })
        ));
        fs_err::write(&path, "content\n").unwrap();
        let read = secrets.read(&mount("file", true)).unwrap().unwrap();
        assert_eq!(read.0, b"content\n");
        for id in ["unset", "none"] {
            assert!(secrets.read(&mount(id, false)).unwrap().is_none());
            let missing = secrets.read(&mount(id, true));
            assert!(matches!(missing, Err(StepError::NoSecret(missing)) if missing == id));
        }
        fs_err::write(&path, vec![0; 500 * 1024 + 1]).unwrap();
        assert!(matches!(
            secrets.read(&mount("file", true)),
            Err(StepError::LargeSecret(_))
        ));
    }
}
