//! Who one is for registries: the files of `docker login` and `podman login`, and the programs that
//! keep passwords for them (`docker-credential-…`).
//!
//! What must hold: no password gets into an error or onto a command line; a file that cannot be
//! understood is an error, because whoever logged in wants to be known.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firebuild_oci::registry::{BoxFuture, Login, LoginError, Logins};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// The most bytes of such a file.
const LARGEST: u64 = 1 << 20;
/// The most bytes that a program may say.
const LARGEST_ANSWER: u64 = 64 << 10;
/// How long a program may take; it may ask a person.
const HELPER_TIME: Duration = Duration::from_secs(60);
/// The name under which Docker keeps the login for its own registry.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// The user name that says that the password is an identity token.
const TOKEN_USER: &str = "<token>";

/// The files in which logins are kept, the first first.
#[derive(Debug, Clone, Default)]
pub struct LoginFiles(Vec<PathBuf>);

/// Why the logins cannot be known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginFileError {
    /// A file cannot be read.
    #[error("cannot read the file of logins `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has too much in it.
    #[error("the file of logins `{}` is larger than 1 MiB", .0.display())]
    TooLarge(PathBuf),
    /// A file cannot be understood.
    #[error("the file of logins `{}` is not valid", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A login in a file cannot be understood.
    #[error("the login for `{registry}` in `{}` is not valid", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Whose login.
        registry: String,
    },
    /// A program that keeps passwords failed.
    #[error("`{program}` does not tell the login for `{registry}`: {reason}")]
    Helper {
        /// Its name.
        program: String,
        /// Whose login.
        registry: String,
        /// What it did.
        reason: String,
    },
}

/// Docker's `config.json`, as far as it is about logins. Podman's `auth.json` is the same.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

/// What a program that keeps passwords prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    username: String,
    secret: String,
}

impl LoginFiles {
    /// These files; those that do not exist are none.
    #[must_use]
    pub fn at(files: Vec<PathBuf>) -> Self {
        Self(files)
    }

    /// The files where people's tools keep them, for an environment: the one that
    /// `REGISTRY_AUTH_FILE` names, or else Podman's two and Docker's.
    #[must_use]
    pub fn usual(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        if let Some(file) = path("REGISTRY_AUTH_FILE") {
            return Self(vec![file]);
        }
        let home = path("HOME");
        let under = |folder: Option<PathBuf>, rest: &str| folder.map(|folder| folder.join(rest));
        let settings = path("XDG_CONFIG_HOME").or_else(|| under(home.clone(), ".config"));
        let docker = path("DOCKER_CONFIG").or_else(|| under(home.clone(), ".docker"));
        let files = [
            under(path("XDG_RUNTIME_DIR"), "containers/auth.json"),
            under(settings, "containers/auth.json"),
            under(docker, "config.json"),
        ];
        Self(files.into_iter().flatten().collect())
    }

    async fn find(&self, registry: &str) -> Result<Option<Login>, LoginFileError> {
        for path in &self.0 {
            if let Some(config) = read(path)?
                && let Some(login) = config.login(registry, path).await?
            {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl Logins for LoginFiles {
    fn login<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Login>, LoginError>> {
        Box::pin(async move { Ok(self.find(registry).await?) })
    }
}

fn read(path: &Path) -> Result<Option<Config>, LoginFileError> {
    let fail = |source| LoginFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match fs_err::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(fail)?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > LARGEST {
        return Err(LoginFileError::TooLarge(path.to_owned()));
    }
    let config = serde_json::from_slice(&bytes);
    config
        .map(Some)
        .map_err(|source| LoginFileError::Malformed {
            path: path.to_owned(),
            source,
        })
}

impl Config {
    async fn login(&self, registry: &str, path: &Path) -> Result<Option<Login>, LoginFileError> {
        let names = names(registry);
        if let Some((name, helper)) = names.iter().find_map(|name| {
            let helper = self.cred_helpers.get(name)?;
            Some((name, helper))
        }) && let Some(login) = ask(helper, name).await?
        {
            return Ok(Some(login));
        }
        if let Some(helper) = &self.creds_store {
            // Docker Desktop writes this for a program that exists on its own host only.
            match ask(helper, &names[0]).await {
                Ok(Some(login)) => return Ok(Some(login)),
                Err(LoginFileError::Helper { reason, .. }) if reason == MISSING => {}
                other => drop(other?),
            }
        }
        let entries = names.iter().filter_map(|name| self.auths.get(name));
        for entry in entries {
            let wrong = || LoginFileError::Entry {
                path: path.to_owned(),
                registry: registry.to_owned(),
            };
            if let Some(login) = entry.login().map_err(|()| wrong())? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// Entries without anything only say that a program has it.
    fn login(&self) -> Result<Option<Login>, ()> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Login::IdentityToken(token)));
        }
        let Some(auth) = given(&self.auth) else {
            return Ok(None);
        };
        let bytes = STANDARD.decode(auth.trim()).map_err(|_| ())?;
        let text = String::from_utf8(bytes).map_err(|_| ())?;
        // Old versions of Docker ended it with NULs.
        let text = text.trim_end_matches('\0');
        let (user, password) = text.split_once(':').ok_or(())?;
        Ok(Some(Login::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        }))
    }
}

/// The names under which a registry's login may be kept, the one for programs first.
fn names(registry: &str) -> Vec<String> {
    let forms = |host: &str| {
        let host = host.to_owned();
        let with = ["https://", "http://"].map(|scheme| format!("{scheme}{host}"));
        let versions = ["v1/", "v2/"].map(|version| format!("https://{host}/{version}"));
        [host].into_iter().chain(with).chain(versions)
    };
    if registry != "docker.io" {
        return forms(registry).collect();
    }
    let hosts = ["index.docker.io", "docker.io", "registry-1.docker.io"];
    let others = hosts.into_iter().flat_map(forms);
    std::iter::once(DOCKER_KEY.to_owned())
        .chain(others)
        .collect()
}

/// What is said of a program that is not installed.
const MISSING: &str = "it is not installed";

/// Asks a program that keeps passwords: it reads a name and prints JSON.
async fn ask(helper: &str, name: &str) -> Result<Option<Login>, LoginFileError> {
    let program = format!("docker-credential-{helper}");
    let fail = |reason: String| LoginFileError::Helper {
        program: program.clone(),
        registry: name.to_owned(),
        reason,
    };
    if helper.contains('/') {
        return Err(fail("its name is a path".to_owned()));
    }
    let spawned = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let child = spawned.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => fail(MISSING.to_owned()),
        _ => fail(error.to_string()),
    })?;
    let answer = tokio::time::timeout(HELPER_TIME, converse(child, name)).await;
    let answer = answer.map_err(|_| fail("it takes longer than a minute".to_owned()))?;
    let (success, text) = answer.map_err(|error| fail(error.to_string()))?;
    if !success {
        // This is how it says that it has none.
        let none = text.contains("credentials not found");
        return if none {
            Ok(None)
        } else {
            Err(fail("it fails".to_owned()))
        };
    }
    let kept: Kept = serde_json::from_str(&text)
        .map_err(|_| fail("it prints what cannot be understood".to_owned()))?;
    Ok(Some(match kept.username.as_str() {
        TOKEN_USER => Login::IdentityToken(kept.secret),
        _ => Login::Password {
            user: kept.username,
            password: kept.secret,
        },
    }))
}

async fn converse(mut child: Child, name: &str) -> io::Result<(bool, String)> {
    if let Some(mut input) = child.stdin.take() {
        // One that does not want to know answers all the same.
        let _ = input.write_all(name.as_bytes()).await;
    }
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        output
            .take(LARGEST_ANSWER)
            .read_to_string(&mut text)
            .await?;
    }
    Ok((child.wait().await?.success(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str, password: &str) -> Option<Login> {
        Some(Login::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    async fn found(text: &str, registry: &str) -> Result<Option<Login>, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        fs_err::write(&file, text).unwrap();
        let absent = directory.path().join("absent.json");
        let found = LoginFiles::at(vec![absent, file]).login(registry).await;
        found.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn files_of_logins() {
        for (text, registry, expected) in [
            (
                r#"{"auths":{"a.example":{"auth":"bWU6d29yZA=="}}}"#,
                "a.example",
                password("me", "word"),
            ),
            (
                r#"{"auths":{"https://a.example/v2/":{"auth":"bWU6YTpi"}}}"#,
                "a.example",
                password("me", "a:b"),
            ),
            (
                r#"{"auths":{"a.example":{"auth":"bWU6d29yZA=="}}}"#,
                "a.example:5000",
                None,
            ),
            (
                r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6d29yZA=="}}}"#,
                "docker.io",
                password("me", "word"),
            ),
            (
                r#"{"auths":{"a.example":{"auth":"bWU6d29yZA==","identitytoken":"long"}}}"#,
                "a.example",
                Some(Login::IdentityToken("long".to_owned())),
            ),
            (
                r#"{"auths":{"a.example":{}},"HttpHeaders":{}}"#,
                "a.example",
                None,
            ),
            (
                r#"{"auths":{"a.example":{"auth":"bWU6d29yZA=="}},"credsStore":"firebuild-has-none"}"#,
                "a.example",
                password("me", "word"),
            ),
            ("{}", "a.example", None),
        ] {
            assert_eq!(found(text, registry).await, Ok(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_said() {
        for (text, expected) in [
            ("nonsense", "is not valid"),
            (
                r#"{"auths":{"a.example":{"auth":"%"}}}"#,
                "the login for `a.example` in",
            ),
            (
                r#"{"auths":{"a.example":{"auth":"bWU="}}}"#,
                "the login for `a.example` in",
            ),
            (
                r#"{"credHelpers":{"a.example":"firebuild-has-none"}}"#,
                MISSING,
            ),
            (
                r#"{"credHelpers":{"a.example":"../sh"}}"#,
                "its name is a path",
            ),
        ] {
            let error = found(text, "a.example").await.unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let large = " ".repeat((1 << 20) + 1);
        assert!(
            found(&large, "a")
                .await
                .unwrap_err()
                .contains("larger than 1 MiB")
        );
    }

    /// A program in a directory of its own, asked as [`ask`] does, but by its path.
    async fn helper(script: &str) -> (bool, String) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("helper");
        fs_err::write(&program, script).unwrap();
        let child = Command::new("/bin/sh")
            .arg(&program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        converse(child.unwrap(), "a.example").await.unwrap()
    }

    #[tokio::test]
    async fn programs_are_told_the_name_and_bounded() {
        let script = r#"read name; echo "{\"asked\":\"$1 $name\"}""#;
        let answer = helper(script).await;
        assert_eq!(answer, (true, "{\"asked\":\"get a.example\"}\n".to_owned()));
        let (success, text) = helper("yes; exit 1").await;
        assert_eq!((success, text.len() as u64), (false, LARGEST_ANSWER));
    }

    #[test]
    fn files_are_where_tools_keep_them() {
        let files = |variables: &[(&str, &str)]| {
            let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
            let usual = LoginFiles::usual(|name| variables.get(name).map(OsString::from));
            let shown = usual.0.iter().map(|path| path.display().to_string());
            shown.collect::<Vec<_>>()
        };
        assert_eq!(
            files(&[("REGISTRY_AUTH_FILE", "/a"), ("HOME", "/h")]),
            ["/a"]
        );
        assert_eq!(
            files(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]),
            [
                "/r/containers/auth.json",
                "/h/.config/containers/auth.json",
                "/h/.docker/config.json"
            ]
        );
        assert_eq!(
            files(&[("DOCKER_CONFIG", "/d"), ("HOME", "")]),
            ["/d/config.json"]
        );
    }
}
