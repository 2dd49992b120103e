//! What `run` takes about secrets, and about who may come in by SSH.

use std::path::{Path, PathBuf};

use clap::Args;
use firebuild_machine::secret::{SecretFile, Source};
use firebuild_machine::spec::SshAccess;

use crate::arguments::values;
use crate::error::hinted;

/// Where secrets are if nobody says otherwise.
const DIRECTORY: &str = "/run/secrets";

/// What a public key begins with.
const KINDS: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];

const FORM: &str = "write id=NAME,src=FILE or id=NAME,env=VARIABLE; beside it target=/path, mode=0400, uid=0, gid=0";

/// Secrets and keys.
#[derive(Debug, Args)]
pub(super) struct SecretArguments {
    /// Give the workload a file that is in memory only, /run/secrets/ID if no target is said (may be
    /// repeated)
    #[arg(
        long = "secret",
        value_name = "id=ID,src=FILE|env=NAME[,target=…][,mode=…][,uid=…][,gid=…]",
        value_parser = values::form(secret),
        help_heading = "Secrets"
    )]
    secrets: Vec<String>,
    /// Start the image's SSH server beside the workload, for this user
    #[arg(long, value_name = "USER", value_parser = login, help_heading = "Secrets")]
    ssh_user: Option<String>,
    /// Let who has the key to this public key in by SSH (may be repeated)
    #[arg(long, value_name = "PUBKEY", help_heading = "Secrets")]
    identity_file: Vec<PathBuf>,
}

impl SecretArguments {
    /// The secrets.
    pub(super) fn secrets(&self) -> anyhow::Result<Vec<SecretFile>> {
        self.secrets.iter().map(|text| secret(text)).collect()
    }

    /// Who may come in, if anybody.
    pub(super) fn ssh(&self) -> anyhow::Result<Option<SshAccess>> {
        let Some(user) = &self.ssh_user else {
            return match self.identity_file.is_empty() {
                true => Ok(None),
                false => Err(hinted(
                    "keys were given, and nobody who comes in with them",
                    "say who: `--ssh-user root`",
                )),
            };
        };
        if self.identity_file.is_empty() {
            return Err(hinted(
                "nobody could come in by SSH without a key",
                "give a public key: `--identity-file ~/.ssh/id_ed25519.pub`",
            ));
        }
        let mut keys = Vec::new();
        for file in &self.identity_file {
            keys.extend(public_keys(file)?);
        }
        let identities = self.identity_file.iter().map(std::path::absolute);
        Ok(Some(SshAccess {
            user: user.clone(),
            keys,
            identities: identities.collect::<Result<_, _>>()?,
        }))
    }
}

/// A user of the image by name, who may log in.
fn login(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let bounded = (1..=256).contains(&text.len());
    if bounded && !text.starts_with('-') && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err("a user of the image is needed by name, such as `root`".to_owned())
}

fn public_keys(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs_err::read_to_string(file)?;
    let shown = file.display();
    if text.contains("PRIVATE KEY") {
        return Err(hinted(
            format!("`{shown}` is a private key, which stays with its owner"),
            format!("give its public half: `--identity-file {shown}.pub`"),
        ));
    }
    let lines = text.lines().map(str::trim);
    let keys: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let is_key =
        |key: &String| KINDS.iter().any(|kind| key.starts_with(kind)) && key.len() < 16 << 10;
    if keys.is_empty() || keys.len() > 64 || !keys.iter().all(is_key) {
        return Err(hinted(
            format!("`{shown}` is no public key"),
            "make a pair with `ssh-keygen -t ed25519`, and give the file that ends with `.pub`",
        ));
    }
    Ok(keys)
}

fn secret(text: &str) -> anyhow::Result<SecretFile> {
    let no = |why: String| hinted(format!("`{text}` is no secret: {why}"), FORM);
    let (mut id, mut source, mut target) = (None, None, None);
    let (mut mode, mut uid, mut gid) = (0o400, 0, 0);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let number = || {
            value
                .parse()
                .map_err(|_| no(format!("`{value}` is no number")))
        };
        match key {
            "id" => id = Some(value),
            "src" | "source" => source = Some(Source::File(std::path::absolute(value)?)),
            "env" => source = Some(Source::Environment(value.to_owned())),
            "target" | "dst" => target = Some(value.to_owned()),
            "mode" => {
                let parsed = u16::from_str_radix(value, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777);
                mode = parsed.ok_or_else(|| no(format!("`{value}` is no mode")))?;
            }
            "uid" => uid = number()?,
            "gid" => gid = number()?,
            "type" if matches!(value, "file" | "env") => {}
            _ => return Err(no(format!("`{key}` is not known"))),
        }
    }
    let id = id.filter(|id| !id.is_empty() && !id.contains('/') && !id.starts_with('.'));
    let target = match (target, id) {
        (Some(target), _) if target.starts_with('/') => target,
        (Some(_), _) => return Err(no("its target is no path in the guest".to_owned())),
        (None, Some(id)) => format!("{DIRECTORY}/{id}"),
        (None, None) => return Err(no("it has no id".to_owned())),
    };
    Ok(SecretFile {
        source: source.ok_or_else(|| no("it has no source".to_owned()))?,
        target,
        mode,
        uid,
        gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_variables() {
        let found = secret("id=db,src=/etc/db.key,mode=440,uid=33,gid=34").unwrap();
        assert_eq!(found.target, "/run/secrets/db");
        assert_eq!((found.mode, found.uid, found.gid), (0o440, 33, 34));
        assert_eq!(found.source, Source::File("/etc/db.key".into()));
        let found = secret("id=t,env=TOKEN,target=/etc/token").unwrap();
        assert_eq!(found.source, Source::Environment("TOKEN".to_owned()));
        assert_eq!(found.target, "/etc/token");
        for text in [
            "",
            "id=a",
            "src=/x",
            "id=a/b,src=/x",
            "id=..,src=/x",
            "id=a,src=/x,mode=9",
            "id=a,src=/x,uid=me",
            "id=a,env=B,target=rel",
            "id=a,what=1",
        ] {
            assert!(secret(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_public_keys_are_taken() {
        let directory = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = directory.path().join("key");
            fs_err::write(&path, text).unwrap();
            public_keys(&path)
        };
        assert_eq!(
            file("# me\nssh-ed25519 AAAA me\n\n").unwrap(),
            ["ssh-ed25519 AAAA me"]
        );
        let error = file("-----BEGIN OPENSSH PRIVATE KEY-----\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("is a private key"), "{error}");
        for text in ["", "hello", "command=\"x\" ssh-rsa AAAA"] {
            assert!(file(text).is_err(), "{text}");
        }
    }
}
