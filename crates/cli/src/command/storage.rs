//! `--storage-provider`: where images and kernels are kept beside the store.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use firebuild_builder::provider::{Brought, Directory, Own, Provider, ProviderError};
use firebuild_store::{KernelId, Store};

use crate::terminal;

/// The original tool's words for storage.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub(crate) struct StorageArguments {
    /// Where images and kernels are kept beside the store: looked for first, and what is built is put
    /// there
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        env = "FIREBUILD_STORAGE_PROVIDER",
        default_value_t
    )]
    storage_provider: ProviderName,
    /// Where the provider `directory` is: `rootfs-storage-root=DIR`, `kernel-storage-root=DIR` (may be
    /// repeated)
    #[arg(
        long = "storage-provider-property-string",
        value_name = "NAME=VALUE",
        env = "FIREBUILD_STORAGE_PROVIDER_PROPERTY_STRING",
        value_delimiter = ','
    )]
    properties: Vec<Property>,
    /// The same for numbers, of which no provider has any so far
    #[arg(
        long = "storage-provider-property-int64",
        value_name = "NAME=NUMBER",
        env = "FIREBUILD_STORAGE_PROVIDER_PROPERTY_INT64",
        value_delimiter = ',',
        hide = true
    )]
    numbers: Vec<Property>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ProviderName {
    /// Nowhere: the store has everything
    #[default]
    Store,
    /// Directories in the original tool's layout
    Directory,
}

/// `NAME=VALUE`
#[derive(Debug, Clone)]
struct Property(String, String);

impl FromStr for Property {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self(name.to_owned(), value.to_owned())),
            _ => Err("a property has the form NAME=VALUE"),
        }
    }
}

impl StorageArguments {
    /// The provider that was chosen.
    pub(crate) fn provider(&self) -> Result<Box<dyn Provider>, ProviderError> {
        let properties = self.properties.iter().chain(&self.numbers);
        let properties: BTreeMap<String, String> = properties
            .map(|Property(name, value)| (name.clone(), value.clone()))
            .collect();
        match (self.storage_provider, properties.keys().next()) {
            (ProviderName::Directory, _) => Ok(Box::new(Directory::new(&properties)?)),
            (ProviderName::Store, None) => Ok(Box::new(Own)),
            (ProviderName::Store, Some(name)) => Err(ProviderError::Property {
                provider: "store",
                name: name.clone(),
                known: &[],
            }),
        }
    }

    /// Sees that a kernel is in the store, if the provider has it.
    pub(crate) fn bring_kernel(&self, store: &Store, id: Option<&KernelId>) -> anyhow::Result<()> {
        let Some(id) = id else {
            return Ok(());
        };
        if self.provider()?.bring_kernel(store, id)? == Brought::Taken {
            terminal::say(format_args!("took kernel `{id}` from its storage"));
        }
        Ok(())
    }
}
