//! What an image says about the process that runs from it: the OCI image configuration, with the
//! fields that Docker adds to it (`Shell`, `Healthcheck`, `OnBuild`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Digest, Platform};

/// The `PATH` of images that set none, as BuildKit gives it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image configuration: `config.md` of the OCI image specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, in the form of RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Architecture, operating system and variant.
    #[serde(flatten)]
    pub platform: Platform,
    /// How a process from this image is started.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config: ProcessConfig,
    /// The layers, lowest first.
    pub rootfs: RootFs,
    /// One entry for each instruction that led to the image.
    #[serde(default, deserialize_with = "null_as_default")]
    pub history: Vec<History>,
}

/// The layers of an image, by the digests of their uncompressed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, in the form of RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark; BuildKit names its Dockerfile frontend here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True for a step that made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// How a process from an image is started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProcessConfig {
    /// `user`, `uid`, `user:group` or `uid:gid`; empty means root.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub user: String,
    /// Ports that the process listens on: `5432/tcp`.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`, in the order in which the names were first set.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub env: Vec<String>,
    /// The program and its first arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments to the entrypoint, or the whole command where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Directories that hold data of their own.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub volumes: BTreeMap<String, Empty>,
    /// The directory in which the process starts; empty means `/`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub working_dir: String,
    /// Arbitrary names and values.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the process to end: a name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// The shell of shell-form instructions (Docker's addition).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// How health is checked (Docker's addition), kept as it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
    /// Instructions for images built from this one (Docker's addition).
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub on_build: Vec<String>,
}

/// The empty object that Go's JSON makes of a set's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Empty {}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ImageConfig {
    /// The configuration of an image without layers: what `FROM scratch` starts from.
    #[must_use]
    pub fn scratch(platform: Platform) -> Self {
        Self {
            created: None,
            author: None,
            platform,
            config: ProcessConfig {
                env: vec![format!("PATH={DEFAULT_PATH}")],
                working_dir: "/".to_owned(),
                ..ProcessConfig::default()
            },
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: Vec::new(),
            },
            history: Vec::new(),
        }
    }
}

impl ProcessConfig {
    /// The value of an environment variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .find_map(|entry| entry.split_once('=').filter(|(n, _)| *n == name))
            .map(|(_, value)| value)
    }

    /// Sets an environment variable, in its old place if it had one.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let old = self
            .env
            .iter_mut()
            .find(|old| old.split_once('=').map_or(old.as_str(), |(n, _)| n) == name);
        match old {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes_and_writes_it_back() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=1","B"],"Cmd":null,"Entrypoint":["/x"],"Labels":null,"Volumes":{"/v":{}}},"rootfs":{"type":"layers","diff_ids":[]},"history":null,"container":"ignored"}"#;
        let mut config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(
            config.config.entrypoint.as_deref(),
            Some(&["/x".to_owned()][..])
        );
        assert_eq!(config.config.variable("A"), Some("1"));
        config.config.set_variable("A", "2");
        config.config.set_variable("B", "3");
        config.config.set_variable("C", "");
        assert_eq!(config.config.env, ["A=2", "B=3", "C="]);
        let again: ImageConfig =
            serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
}
