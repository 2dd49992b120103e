//! `metadata.json`, as the original tool writes it beside a root file system.
//!
//! What it has no fields for (health checks, signals, ONBUILD, the exact form of a command) stands in a
//! field `Firebuild`, which the original tool passes over; so what comes from here goes back there as it
//! was. Of the rest, reading takes null and absent fields for empty ones.

use std::collections::BTreeMap;

use firebuild_core::config::{Empty, History, ProcessConfig};
use firebuild_core::{Digest, ImageConfig, Platform, Reference};
use firebuild_oci::Image;
use serde::{Deserialize, Deserializer, Serialize};

use super::entrypoint::EntrypointInfo;
use super::place::Place;
use crate::time;

/// What a root file system is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Others are made from it.
    BaseOs,
    /// An application's.
    Rootfs,
}

/// How an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BuildConfig {
    /// Build arguments.
    #[serde(deserialize_with = "null_as_default")]
    pub build_args: BTreeMap<String, String>,
    /// Where the Dockerfile was.
    #[serde(deserialize_with = "null_as_default")]
    pub dockerfile: String,
    /// The image that was taken in place of a Dockerfile.
    #[serde(deserialize_with = "null_as_default")]
    pub docker_image: String,
    /// What that was made from.
    #[serde(deserialize_with = "null_as_default")]
    pub docker_image_base: String,
    /// Commands before all others.
    #[serde(deserialize_with = "null_as_default")]
    pub pre_build_commands: Vec<String>,
    /// Commands after all others.
    #[serde(deserialize_with = "null_as_default")]
    pub post_build_commands: Vec<String>,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Metadata {
    #[serde(rename = "Type")]
    kind: Kind,
    /// Seconds since 1970.
    #[serde(rename = "CreatedAtUTC", default, deserialize_with = "null_as_default")]
    created_at: i64,
    #[serde(default, deserialize_with = "null_as_default")]
    image: ImageName,
    #[serde(default, deserialize_with = "null_as_default")]
    labels: BTreeMap<String, String>,
    #[serde(flatten, default)]
    rootfs: RootfsFields,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    firebuild: Option<Extension>,
}

/// What only metadata of the type `rootfs` have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RootfsFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    build_config: Option<BuildConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint_info: Option<EntrypointInfo>,
    /// The metadata of what it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageName {
    #[serde(deserialize_with = "null_as_default")]
    org: String,
    #[serde(deserialize_with = "null_as_default")]
    image: String,
    #[serde(deserialize_with = "null_as_default")]
    version: String,
}

/// What the original tool does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Extension {
    name: Reference,
    /// The image's manifest in the store that it comes from.
    digest: Digest,
    platform: Platform,
    config: ProcessConfig,
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What is told of an image that is kept.
pub(super) struct Told<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a Reference,
    pub(super) place: &'a Place,
    pub(super) image: &'a Image,
    pub(super) made: BuildConfig,
    pub(super) parent: Option<serde_json::Value>,
}

impl Metadata {
    pub(super) fn of(told: Told<'_>) -> Self {
        let config = &told.image.config.config;
        let words = |set: &BTreeMap<String, Empty>| Some(set.keys().cloned().collect());
        let rootfs = match told.kind {
            Kind::BaseOs => RootfsFields::default(),
            Kind::Rootfs => RootfsFields {
                build_config: Some(told.made),
                entrypoint_info: Some(EntrypointInfo::of(config)),
                parent: told.parent,
                ports: words(&config.exposed_ports),
                tag: Some(told.place.to_string()),
                volumes: words(&config.volumes),
            },
        };
        Self {
            kind: told.kind,
            created_at: created(told.image),
            image: ImageName::of(told.place),
            labels: config.labels.clone(),
            rootfs,
            firebuild: Some(Extension {
                name: told.name.clone(),
                digest: told.image.manifest.digest,
                platform: told.image.config.platform.clone(),
                config: config.clone(),
            }),
        }
    }

    /// What is told of the image that another was made from.
    pub(super) fn of_parent(place: &Place, image: &Image) -> serde_json::Value {
        serde_json::json!({
            "Type": Kind::BaseOs,
            "CreatedAtUTC": created(image),
            "Image": ImageName::of(place),
            "Labels": image.config.config.labels,
        })
    }

    /// The name that the image has, at `place`, by what is said here. Text that names no image at
    /// `place` is the error.
    pub(super) fn name(&self, place: &Place) -> Result<Option<Reference>, String> {
        let is_there = |name: &Reference| Place::of(name).as_ref() == Some(place);
        if let Some(Extension { name, .. }) = &self.firebuild {
            return is_there(name)
                .then(|| Some(name.clone()))
                .ok_or_else(|| name.familiar());
        }
        if let Some(tag) = self.rootfs.tag.as_ref().filter(|tag| !tag.is_empty()) {
            let name = tag.parse().ok().filter(is_there);
            return name.map(Some).ok_or_else(|| shown(tag));
        }
        let ImageName {
            org,
            image,
            version,
        } = &self.image;
        if image.is_empty() || Place::at(org, image, version).as_ref() == Some(place) {
            return Ok(place.name());
        }
        Err(shown(&format!("{org}/{image}:{version}")))
    }

    /// The manifest's digest in the store that the image comes from.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.firebuild.as_ref().map(|extension| extension.digest)
    }

    /// When it was made, in seconds since 1970.
    pub(super) fn created(&self) -> u64 {
        u64::try_from(self.created_at).unwrap_or(0)
    }

    /// The configuration of an image that was made of this root file system; or what in it cannot be.
    pub(super) fn config(&self) -> Result<ImageConfig, String> {
        let mut config = ImageConfig::scratch(Platform::host());
        config.created = Some(time::rfc3339(self.created()));
        config.history = vec![History {
            created: config.created.clone(),
            created_by: Some("taken from a storage provider".to_owned()),
            ..History::default()
        }];
        if let Some(extension) = &self.firebuild {
            config.platform.clone_from(&extension.platform);
            config.config = extension.config.clone();
        } else {
            config.config = self.process()?;
        }
        let text = serde_json::to_string(&config.config).unwrap_or_default();
        if text.contains("\\u0000") {
            return Err("a text has a NUL in it".to_owned());
        }
        Ok(config)
    }

    /// What the original tool knows of the process.
    fn process(&self) -> Result<ProcessConfig, String> {
        let mut config = match &self.rootfs.entrypoint_info {
            Some(info) => info.process()?,
            None => ProcessConfig::default(),
        };
        let set = |words: &Option<Vec<String>>| {
            let words = words.iter().flatten();
            words.map(|word| (word.clone(), Empty {})).collect()
        };
        config.exposed_ports = set(&self.rootfs.ports);
        config.volumes = set(&self.rootfs.volumes);
        config.labels.clone_from(&self.labels);
        Ok(config)
    }
}

impl ImageName {
    fn of(place: &Place) -> Self {
        Self {
            org: place.org.clone(),
            image: place.image.clone(),
            version: place.version.clone(),
        }
    }
}

fn created(image: &Image) -> i64 {
    i64::try_from(time::parse(image.config.created.as_deref())).unwrap_or_default()
}

/// A foreign text in an error message.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: serde_json::Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    fn place(name: &str) -> Place {
        Place::of(&name.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_the_original_tool_writes_is_understood() {
        let metadata = read(json!({
            "BuildConfig": {
                "BuildArgs": {"A": "b"}, "Dockerfile": "/x/Dockerfile", "DockerImage": "",
                "DockerImageBase": "", "PreBuildCommands": null, "PostBuildCommands": [],
            },
            "CreatedAtUTC": 1_620_000_000,
            "EntrypointInfo": {
                "Cmd": ["--port", "80"], "EntryPoint": ["/bin/server"], "Env": {"B": "2", "A": "1"},
                "Shell": ["/bin/sh", "-c"], "User": "5:6", "Workdir": "/srv",
            },
            "Image": {"Org": "org", "Image": "app", "Version": "1.0"},
            "Labels": {"a": "b"},
            "Parent": {"Type": "baseos"},
            "Ports": ["80/tcp"], "Tag": "org/app:1.0", "Type": "rootfs", "Volumes": ["/data"],
            "Later": [1],
        }));
        assert_eq!(
            metadata.name(&place("org/app:1.0")),
            Ok("org/app:1.0".parse().ok())
        );
        assert_eq!(
            metadata.name(&place("org/app:1.1")),
            Err("org/app:1.0".to_owned())
        );
        let config = metadata.config().unwrap();
        assert_eq!(config.created.as_deref(), Some("2021-05-03T00:00:00Z"));
        let config = serde_json::to_value(config.config).unwrap();
        let expected = json!({
            "User": "5:6", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1", "B=2"],
            "Entrypoint": ["/bin/server"], "Cmd": ["--port", "80"], "Volumes": {"/data": {}},
            "WorkingDir": "/srv", "Labels": {"a": "b"}, "Shell": ["/bin/sh", "-c"],
        });
        assert_eq!(config, expected);
    }

    #[test]
    fn a_base_has_less() {
        let base = read(json!({
            "Type": "baseos", "CreatedAtUTC": 1, "Labels": null,
            "Image": {"Org": "_", "Image": "alpine", "Version": "3.13"},
        }));
        assert_eq!(
            base.name(&place("alpine:3.13")),
            Ok("alpine:3.13".parse().ok())
        );
        assert_eq!(
            base.name(&place("alpine:3.14")),
            Err("_/alpine:3.13".to_owned())
        );
        assert_eq!(base.config().unwrap().config, ProcessConfig::default());
        let bare = read(json!({"Type": "baseos"}));
        assert_eq!(bare.name(&place("a/b:1")), Ok("a/b:1".parse().ok()));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for value in [
            json!({}),
            json!([]),
            json!({"Type": "run"}),
            json!({"Type": "rootfs", "Ports": {"80": {}}}),
            json!({"Type": "rootfs", "EntrypointInfo": {"EntryPoint": [1]}}),
            json!({"Type": "rootfs", "CreatedAtUTC": "now"}),
        ] {
            assert!(serde_json::from_value::<Metadata>(value).is_err());
        }
        for info in [
            json!({"Env": {"": "x"}}),
            json!({"Env": {"A=B": "x"}}),
            json!({"Env": {"A": "x\u{0}"}}),
            json!({"EntryPoint": ["a\u{0}"]}),
        ] {
            let metadata = read(json!({"Type": "rootfs", "EntrypointInfo": info}));
            assert!(metadata.config().is_err(), "{metadata:?}");
        }
    }
}
