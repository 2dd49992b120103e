//! `firebuild image rm`: names of images go, and what only they needed.

use clap::Args;
use firebuild_core::Reference;
use firebuild_store::Store;

use super::digest;
use crate::command::Global;
use crate::error::hinted;
use crate::terminal;

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The images, by name or by the beginning of the digest
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove an image named by its digest although it has several names, and do not mind images that
    /// are not there
    #[arg(long, short)]
    force: bool,
}

impl Rm {
    pub(crate) fn run(self, global: &Global) -> anyhow::Result<()> {
        let store = global.store()?;
        let mut missing = Vec::new();
        let mut first_error = None;
        for image in &self.images {
            match self.remove(&store, image) {
                Ok(true) => {}
                Ok(false) => missing.push(format!("`{}`", familiar(image))),
                // The others go all the same.
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        firebuild_builder::care::unneeded(&store)?;
        if let Some(error) = first_error {
            return Err(error);
        }
        if missing.is_empty() || self.force {
            return Ok(());
        }
        Err(hinted(
            format!("no image {}", missing.join(", ")),
            "see `firebuild image ls`",
        ))
    }

    /// Whether there was such an image.
    fn remove(&self, store: &Store, image: &str) -> anyhow::Result<bool> {
        let name = image.parse::<Reference>();
        if let Ok(name) = &name
            && store.tags().remove(name)?.is_some()
        {
            terminal::print(format_args!("{}\n", name.familiar()))?;
            return Ok(true);
        }
        let entries = digest::find(store, image)?;
        let Some(entry) = entries.first() else {
            // What can be neither is said to be no name.
            return match name {
                Err(error) if !image.starts_with("sha256:") => Err(error.into()),
                _ => Ok(false),
            };
        };
        let names = entries.iter().filter_map(|entry| entry.reference.as_ref());
        let names: Vec<String> = names.map(Reference::familiar).collect();
        if names.len() > 1 && !self.force {
            return Err(hinted(
                format!("image `{image}` has several names: {}", names.join(", ")),
                "write the names that are to go, or `--force` for all",
            ));
        }
        let digest = entry.descriptor.digest;
        store.tags().remove_digest(&digest)?;
        match &names[..] {
            [] => terminal::print(format_args!("{digest}\n"))?,
            names => terminal::print(format_args!("{}\n", names.join("\n")))?,
        }
        Ok(true)
    }
}

fn familiar(image: &str) -> String {
    match image.parse::<Reference>() {
        Ok(name) => name.familiar(),
        Err(_) => image.to_owned(),
    }
}
