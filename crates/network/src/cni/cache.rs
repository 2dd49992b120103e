//! The cache of results, in the layout that other runtimes have too:
//! `CACHE/results/NETWORK-CONTAINER-DEVICE`.
//!
//! What must hold: an entry is written before any plugin is asked to add, and removed after all of
//! them have deleted. It has the list as it was, so that what was added can be deleted when the
//! configuration has changed or gone, and outlives a restart of the host, as plugins' own files do.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use firebuild_core::MachineId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::configuration::NetworkList;
use super::error::CniError;
use super::result::Outcome;

const KIND: &str = "cniCacheV1";

/// As long as an entry may be: a list and a result.
const LONGEST: u64 = 8 << 20;

/// An entry as it is in its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    kind: String,
    container_id: String,
    /// The list, in base 64.
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// What other runtimes have not; they leave such fields alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    firebuild: Option<Ours>,
}

/// What firebuild keeps in its entries beyond what other runtimes do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ours {
    /// The state root of the VM.
    owner: PathBuf,
    /// Where the plugins were.
    programs: Vec<PathBuf>,
}

/// One VM's attachment to one network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) list: NetworkList,
    pub(crate) machine: MachineId,
    pub(crate) owner: PathBuf,
    pub(crate) programs: Vec<PathBuf>,
    /// The path of the namespace.
    pub(crate) namespace: String,
    pub(crate) device: String,
    pub(crate) arguments: Vec<(String, String)>,
    pub(crate) capabilities: Map<String, Value>,
    /// The state after the last plugin that has succeeded.
    pub(crate) outcome: Option<Outcome>,
}

/// A directory of results.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    results: PathBuf,
}

impl Cache {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            results: directory.join("results"),
        }
    }

    /// Writes an entry, whole.
    pub(crate) fn write(&self, entry: &Entry) -> Result<(), CniError> {
        let path = self.path(entry);
        let stored = Stored {
            kind: KIND.to_owned(),
            container_id: entry.machine.to_string(),
            config: STANDARD.encode(&entry.list.text),
            if_name: entry.device.clone(),
            network_name: entry.list.name.clone(),
            netns: entry.namespace.clone(),
            cni_args: Some(entry.arguments.clone()),
            capability_args: Some(entry.capabilities.clone()),
            result: entry
                .outcome
                .as_ref()
                .map(|outcome| outcome.write(entry.list.version)),
            firebuild: Some(Ours {
                owner: entry.owner.clone(),
                programs: entry.programs.clone(),
            }),
        };
        let write = || {
            fs_err::create_dir_all(&self.results)?;
            let beside = self.half(&entry.machine);
            let mut file = fs_err::File::create(&beside)?;
            file.write_all(&serde_json::to_vec(&stored)?)?;
            file.sync_all()?;
            fs_err::rename(&beside, &path)
        };
        write().map_err(CniError::writing(&path))
    }

    /// Removes an entry, if it is there.
    pub(crate) fn remove(&self, entry: &Entry) -> Result<(), CniError> {
        let path = self.path(entry);
        let doing = format!("remove `{}`", path.display());
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| CniError::File { doing, source }),
        }
    }

    /// Where an entry of a VM's is until it is whole: a name that no network has, and that is the VM's alone.
    fn half(&self, id: &MachineId) -> PathBuf {
        self.results.join(format!(".{id}.new"))
    }

    /// Whether there is half an entry of a VM, whose owner was killed while it wrote.
    pub(crate) fn has_half(&self, id: &MachineId) -> io::Result<bool> {
        fs_err::exists(self.half(id))
    }

    /// Removes half an entry of a VM, if there is one.
    pub(crate) fn remove_half(&self, id: &MachineId) -> io::Result<()> {
        match fs_err::remove_file(self.half(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The entries of one VM, and what is wrong with those that cannot be read.
    pub(crate) fn of_machine(
        &self,
        id: &MachineId,
    ) -> Result<Vec<Result<Entry, CniError>>, CniError> {
        let named = format!("-{id}-");
        let paths = self.paths()?.into_iter();
        Ok(paths
            .filter(|path| file_name(path).contains(&named))
            .filter_map(|path| read(&path).transpose())
            .filter(|read| read.as_ref().map_or(true, |entry| entry.machine == *id))
            .collect())
    }

    /// The VMs of one state root that have entries.
    pub(crate) fn machines_of(&self, owner: &Path) -> Result<Vec<MachineId>, CniError> {
        let paths = self.paths()?.into_iter();
        Ok(paths
            .filter_map(|path| read(&path).ok()?)
            .filter(|entry| entry.owner == owner)
            .map(|entry| entry.machine)
            .collect())
    }

    /// The attachments to a network that any runtime has here: container and device.
    pub(crate) fn attachments(&self, network: &str) -> Result<Vec<(String, String)>, CniError> {
        let mut attachments = Vec::new();
        for path in self.paths()? {
            if let Some(stored) = stored(&path)?
                && stored.network_name == network
            {
                attachments.push((stored.container_id, stored.if_name));
            }
        }
        Ok(attachments)
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        let Entry {
            list,
            machine,
            device,
            ..
        } = entry;
        self.results
            .join(format!("{}-{machine}-{device}", list.name))
    }

    fn paths(&self) -> Result<Vec<PathBuf>, CniError> {
        let entries = match fs_err::read_dir(&self.results) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(CniError::reading(&self.results))?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let paths: io::Result<Vec<PathBuf>> = paths
            .filter(|path| {
                !path
                    .as_ref()
                    .is_ok_and(|path| file_name(path).starts_with('.'))
            })
            .collect();
        paths.map_err(CniError::reading(&self.results))
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// An entry of firebuild's; none if it is another runtime's, or was removed meanwhile.
fn read(path: &Path) -> Result<Option<Entry>, CniError> {
    let Some(stored) = stored(path)? else {
        return Ok(None);
    };
    let Some(ours) = stored.firebuild else {
        return Ok(None);
    };
    let damaged = |reason: String| CniError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let machine = stored.container_id.parse::<MachineId>();
    let text = STANDARD.decode(&stored.config);
    let text = text.map_err(|error| damaged(error.to_string()))?;
    let list = NetworkList::read(&text).map_err(damaged)?;
    let outcome = stored
        .result
        .map(|result| Outcome::read(result, list.version));
    Ok(Some(Entry {
        machine: machine.map_err(|error| damaged(error.to_string()))?,
        outcome: outcome.transpose().map_err(damaged)?,
        list,
        owner: ours.owner,
        programs: ours.programs,
        namespace: stored.netns,
        device: stored.if_name,
        arguments: stored.cni_args.unwrap_or_default(),
        capabilities: stored.capability_args.unwrap_or_default(),
    }))
}

fn stored(path: &Path) -> Result<Option<Stored>, CniError> {
    let mut text = Vec::new();
    let read = fs_err::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(CniError::reading(path))?,
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| CniError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}
