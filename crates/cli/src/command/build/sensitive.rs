//! `--secret` and `--ssh`: what one RUN may see and nothing else ever does.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use firebuild_builder::fetch::{Credentials, Trust};
use firebuild_builder::keys::{KeyError, Keyring, Unusable};
use firebuild_builder::{Agent, Agents, SecretSource, Secrets};

use crate::error::{hinted, hinted_by};

#[derive(Debug, Args)]
pub(crate) struct SensitiveArguments {
    /// Let RUNs with `--mount=type=secret,id=ID` see a secret: `id=ID,src=FILE` or `id=ID,env=NAME`
    #[arg(long = "secret", value_name = "SECRET", help_heading = "Secrets")]
    pub(super) secrets: Vec<SecretArgument>,
    /// Let RUNs with `--mount=type=ssh` use an agent: `default`, or `ID=SOCKET` or `ID=KEY,…`
    #[arg(
        long = "ssh",
        value_name = "ID[=SOCKET|KEY,…]",
        help_heading = "Secrets"
    )]
    pub(super) agents: Vec<AgentArgument>,
    /// Let every RUN, and firebuild's own downloads, trust these certificates too: `host` for
    /// those that this host trusts, or a file (PEM). The image gets nothing of it
    #[arg(long, env = "FIREBUILD_CA_CERTIFICATES", value_name = "host|FILE")]
    ca_certificates: Option<PathBuf>,
    /// What BuildKit has to be allowed to do; here every RUN has a machine of its own, and nothing
    /// is opened by it
    #[arg(long, hide = true, value_name = "ENTITLEMENT")]
    allow: Vec<String>,
}

/// Where distributions keep the certificates that they trust, in one file.
const HOST_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl SensitiveArguments {
    /// The secrets of this build.
    pub(super) fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for SecretArgument { id, source } in &self.secrets {
            let source = match source {
                SecretPlace::File(path) => SecretSource::File(path.clone()),
                SecretPlace::Variable(name) => SecretSource::Variable(name.clone()),
            };
            secrets.insert(id.clone(), source);
        }
        secrets
    }

    /// The agents of this build.
    pub(super) fn agents(&self) -> anyhow::Result<Agents> {
        let mut agents = Agents::default();
        for AgentArgument { id, paths } in &self.agents {
            let agent = match &paths[..] {
                [] => Agent::Socket(std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).ok_or_else(|| {
                    let what = format!("there is no SSH agent for `--ssh {id}`: `SSH_AUTH_SOCK` is not set");
                    hinted(what, format!("start one with `eval $(ssh-agent)` and `ssh-add`, or give its socket with `--ssh {id}=SOCKET`, or a key with `--ssh {id}=KEY`"))
                })?),
                [socket] if is_socket(socket) => Agent::Socket(socket.clone()),
                keys => Agent::Keys(Arc::new(keyring(id, keys)?)),
            };
            agents.insert(id.clone(), agent);
        }
        Ok(agents)
    }

    /// The authorities that firebuild's own downloads believe.
    pub(super) fn trust(&self) -> anyhow::Result<Trust> {
        let (trust, place) = (Trust::host(), self.ca_certificates.as_ref());
        match (self.certificates()?, place) {
            (Some(bundle), Some(place)) => {
                Ok(trust.and_pem(&bundle, &place.display().to_string())?)
            }
            _ => Ok(trust),
        }
    }

    /// What the secrets say about servers that are asked for downloads and repositories.
    pub(super) fn credentials(&self) -> anyhow::Result<Credentials> {
        let mut found = Vec::new();
        for SecretArgument { id, source } in &self.secrets {
            if !Credentials::concerns(id) {
                continue;
            }
            let value = match source {
                SecretPlace::File(path) => {
                    Some(fs_err::read(path).with_context(|| format!("cannot read secret `{id}`"))?)
                }
                SecretPlace::Variable(name) => std::env::var_os(name).map(OsString::into_vec),
            };
            found.extend(value.map(|value| (id.clone(), value)));
        }
        Ok(Credentials::new(found))
    }

    /// The certificates that are to be trusted.
    pub(super) fn certificates(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(place) = &self.ca_certificates else {
            return Ok(None);
        };
        let path = if place.as_os_str() == "host" {
            let bundle = HOST_BUNDLES.iter().map(PathBuf::from);
            bundle
                .into_iter()
                .find(|path| path.exists())
                .ok_or_else(|| {
                    let hint = "install the package `ca-certificates`, or name a file";
                    hinted(
                        "this host keeps no bundle of certificates where one is known to be",
                        hint,
                    )
                })?
        } else {
            place.clone()
        };
        let bundle = fs_err::read(&path).context("cannot read the certificates")?;
        let begin = b"-----BEGIN CERTIFICATE-----";
        if !bundle.windows(begin.len()).any(|part| part == begin) {
            let hint = "certificates in the form PEM are needed";
            return Err(hinted(
                format!("`{}` holds no certificate", path.display()),
                hint,
            ));
        }
        Ok(Some(bundle))
    }
}

/// The keys of these files.
fn keyring(id: &str, paths: &[PathBuf]) -> anyhow::Result<Keyring> {
    for path in paths {
        if is_socket(path) {
            let what = format!(
                "`--ssh {id}` names `{}`, a socket, among others",
                path.display()
            );
            return Err(hinted(what, "an agent is one socket, or one or more keys"));
        }
    }
    Keyring::read(paths.iter().map(PathBuf::as_path)).map_err(|error| {
        let hint = match &error {
            KeyError::Unusable { path, why: Unusable::Public } => {
                let private = path.with_extension("");
                format!("name the private key, such as `--ssh {id}={}`", private.display())
            }
            KeyError::Unusable { path, why: Unusable::Encrypted | Unusable::Kind } => format!(
                "give it to an agent with `eval $(ssh-agent)` and `ssh-add {}`, and name no key: `--ssh {id}`",
                path.display()
            ),
            _ => "an agent's socket or private keys are needed".to_owned(),
        };
        let what = format!("there is no SSH agent for `--ssh {id}`");
        hinted_by(what, hint, error)
    })
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    fs_err::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// A secret and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretArgument {
    pub(super) id: String,
    pub(super) source: SecretPlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretPlace {
    File(PathBuf),
    Variable(String),
}

impl FromStr for SecretArgument {
    type Err = String;

    /// As buildx reads it: without a type and a source, the variable of that name if it is set, or
    /// else the file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
        for field in text.split(',') {
            let Some((key, value)) = field.split_once('=') else {
                return Err(format!("`{field}` is not of the form KEY=VALUE"));
            };
            let place = match key.to_ascii_lowercase().as_str() {
                "id" => &mut id,
                "type" => &mut kind,
                "src" | "source" => &mut file,
                "env" => &mut variable,
                _ => {
                    return Err(format!(
                        "unexpected key `{key}`; there are id, src, env and type"
                    ));
                }
            };
            *place = Some(value.to_owned());
        }
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return Err("a secret needs `id=`".to_owned());
        };
        let source = match (kind.as_deref(), file, variable) {
            (None | Some("file"), Some(file), None) => SecretPlace::File(file.into()),
            (None | Some("env"), None, Some(variable)) => SecretPlace::Variable(variable),
            (Some("env"), Some(variable), None) => SecretPlace::Variable(variable),
            (Some("env"), None, None) => SecretPlace::Variable(id.clone()),
            (Some("file"), None, None) => SecretPlace::File(id.clone().into()),
            (None, None, None) if std::env::var_os(&id).is_some() => {
                SecretPlace::Variable(id.clone())
            }
            (None, None, None) => SecretPlace::File(id.clone().into()),
            (Some(kind), ..) if !matches!(kind, "file" | "env") => {
                return Err(format!(
                    "`{kind}` is no type of secret; there are file and env"
                ));
            }
            _ => return Err("a secret has one source: `src=FILE` or `env=NAME`".to_owned()),
        };
        Ok(Self { id, source })
    }
}

/// An agent, or keys for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentArgument {
    pub(super) id: String,
    /// Empty for the agent that the environment names.
    pub(super) paths: Vec<PathBuf>,
}

impl FromStr for AgentArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        if id.is_empty() {
            return Err("an agent needs a name, such as `default`".to_owned());
        }
        let paths = paths.split(',').filter(|path| !path.is_empty());
        Ok(Self {
            id: id.to_owned(),
            paths: paths.map(PathBuf::from).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let file = |id: &str, path: &str| (id.to_owned(), SecretPlace::File(path.into()));
        let variable = |id: &str, name: &str| (id.to_owned(), SecretPlace::Variable(name.into()));
        for (text, (id, source)) in [
            ("id=a,src=f", file("a", "f")),
            ("source=/x/y,id=a", file("a", "/x/y")),
            ("id=a,env=V", variable("a", "V")),
            ("id=a,type=env,src=V", variable("a", "V")),
            ("id=a,type=env", variable("a", "a")),
            (
                "id=no-such-variable",
                file("no-such-variable", "no-such-variable"),
            ),
            ("id=PATH", variable("PATH", "PATH")),
            ("type=file,id=PATH", file("PATH", "PATH")),
        ] {
            assert_eq!(text.parse(), Ok(SecretArgument { id, source }), "{text}");
        }
        for text in [
            "",
            "id=",
            "src=f",
            "id=a,src=f,env=V",
            "id=a,type=x",
            "id=a,mode=1",
            "a",
        ] {
            assert!(text.parse::<SecretArgument>().is_err(), "{text}");
        }
    }

    #[test]
    fn agents_are_sockets_or_keys() {
        let agent = |text: &str| {
            let agent: AgentArgument = text.parse().unwrap();
            let paths = agent.paths.iter().map(|path| path.display().to_string());
            (agent.id, paths.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(agent("default"), ("default".into(), String::new()));
        assert_eq!(agent("a=/s"), ("a".into(), "/s".into()));
        assert_eq!(agent("a=k1,k2"), ("a".into(), "k1 k2".into()));
        assert!("=x".parse::<AgentArgument>().is_err());
    }
}
