//! Putting what was built to where it is kept, if that is not the store alone.

use clap::Args;
use firebuild_builder::provider::{BuildConfig, Keep, Kept, Kind};
use firebuild_core::{ByteSize, Reference};
use firebuild_store::Store;

use crate::arguments::values;
use crate::command::storage::StorageArguments;
use crate::terminal;

/// What is said to whom a size does nothing for.
const SIZE_UNUSED: &str = "note: `--filesystem-size-mbs` is for `--storage-provider directory` only; \
    `run --disk-size` says how much a VM can write";

/// The original tool's size of a file system, in MiB.
const USUAL_SIZE: u64 = 500;

#[derive(Debug, Args)]
#[command(next_help_heading = "Storage")]
pub(super) struct KeepArguments {
    #[command(flatten)]
    storage: StorageArguments,
    /// How large the file systems are at least that `--storage-provider directory` keeps
    /// [default: 500]; a microVM's own disk has its size from `run --disk-size`
    #[arg(long, value_name = "MIB", env = "FIREBUILD_FILESYSTEM_SIZE_MBS", value_parser = values::whole::<u64>(1, 16 << 20))]
    filesystem_size_mbs: Option<u64>,
}

impl KeepArguments {
    /// Where images come from and go to.
    pub(super) fn storage(&self) -> &StorageArguments {
        &self.storage
    }

    /// Keeps an image under all of its names.
    pub(super) fn keep(
        &self,
        store: &Store,
        tags: &[Reference],
        (kind, made): (Kind, BuildConfig),
        parent: Option<&Reference>,
    ) -> anyhow::Result<()> {
        let provider = self.storage.provider()?;
        for name in tags {
            let kept = provider.keep_image(
                store,
                &Keep {
                    name,
                    kind,
                    made: made.clone(),
                    parent,
                    size: ByteSize::mib(self.filesystem_size_mbs.unwrap_or(USUAL_SIZE)),
                },
            )?;
            match kept {
                Kept::At(place) => {
                    let name = name.familiar();
                    terminal::say(format_args!("kept `{name}` in `{place}`"));
                }
                Kept::Already if self.filesystem_size_mbs.is_some() => {
                    terminal::say(SIZE_UNUSED);
                    break;
                }
                Kept::Already => {}
            }
        }
        Ok(())
    }
}
