//! Secrets go with the guest's first call.
//!
//! What must hold: they are gone before anybody answers that call. A workload that the answer starts
//! could read them else, for as long as it takes the VM's owner to hear of the call.

use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use tonic::codegen::Service as Calls;

use super::Service;

/// Calls of a guest; with the first of them the metadata lose their secrets.
#[derive(Clone)]
pub(crate) struct Withdrawing<S> {
    inner: S,
    metadata: Service,
    first: Arc<Once>,
}

impl<S> Withdrawing<S> {
    /// `inner` answers.
    pub(crate) fn new(inner: S, metadata: Service) -> Self {
        Self {
            inner,
            metadata,
            first: Arc::new(Once::new()),
        }
    }
}

impl<R, S: Calls<R>> Calls<R> for Withdrawing<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.first.call_once(|| self.metadata.withdraw_secrets());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::sample;

    /// Answers whether the metadata had secrets when it was called.
    #[derive(Clone)]
    struct Looking(Service);

    impl Calls<()> for Looking {
        type Response = bool;
        type Error = std::convert::Infallible;
        type Future = std::future::Ready<Result<bool, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            let metadata = self.0.document().latest.metadata;
            std::future::ready(Ok(metadata.session.is_some()))
        }
    }

    #[tokio::test]
    async fn they_are_gone_before_the_first_call_is_answered() {
        let metadata = Service::new(sample()).unwrap();
        let looking = Looking(metadata.clone());
        assert!(looking.clone().call(()).await.unwrap());
        let mut calls = Withdrawing::new(looking, metadata);
        for _ in 0..2 {
            assert!(!calls.clone().call(()).await.unwrap());
            assert!(!calls.call(()).await.unwrap());
        }
    }
}
