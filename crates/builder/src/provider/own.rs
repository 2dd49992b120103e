//! The store itself as a provider: what it has is there, and what is built is kept by being built.

use firebuild_core::Reference;
use firebuild_store::{Error, KernelId, Store};

use super::{Brought, Keep, Kept, Listed, Provider, ProviderError};

/// The store that is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Own;

impl Provider for Own {
    fn bring_image(&self, store: &Store, name: &Reference) -> Result<Brought, ProviderError> {
        Ok(match store.tags().get(name)? {
            Some(_) => Brought::Known,
            None => Brought::Nothing,
        })
    }

    fn bring_kernel(&self, store: &Store, id: &KernelId) -> Result<Brought, ProviderError> {
        match store.kernels().get(id) {
            Ok(_) => Ok(Brought::Known),
            Err(Error::NoKernel(_)) => Ok(Brought::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    fn keep_image(&self, _: &Store, _: &Keep<'_>) -> Result<Kept, ProviderError> {
        Ok(Kept::Already)
    }

    fn images(&self, store: &Store) -> Result<Vec<Result<Listed, ProviderError>>, ProviderError> {
        let lease = store.lease()?;
        let tags = lease.store().tags().list()?;
        let named = tags.into_iter().filter_map(|tagged| {
            let name = tagged.reference?;
            let image = firebuild_oci::read_image(store, &tagged.descriptor);
            Some(match image {
                Ok(image) => Ok(Listed {
                    name,
                    digest: Some(image.manifest.digest),
                    created: image.config.created,
                    size: image.layers.iter().map(|layer| layer.size).sum(),
                }),
                Err(source) => Err(ProviderError::NotWhole {
                    name: Box::new(name),
                    source: Box::new(source),
                }),
            })
        });
        Ok(named.collect())
    }
}
