//! One call of a kind at a time, and a few where a kind needs them.
//!
//! A message is read and taken apart before its handler sees it, which takes several times its
//! size. So that a guest cannot make the host keep many of them, a call is refused while another
//! of the same method is under way, with nothing of its body read; an agent makes none. (To let it
//! wait would be no kindness: what has come of its body holds up the connection that the call
//! before it needs.)

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};

use super::agent;

/// The methods, and how many calls of each there may be; any other path shares the last one's turn.
/// A call with a stream as its answer is under way until that begins.
const METHODS: [(&str, usize); 11] = [
    ("Commands", 1),
    ("ResourceChunk", 1),
    ("Layer", 1),
    ("Finished", 1),
    ("StdOut", 1),
    ("StdErr", 1),
    ("Agent", agent::CONNECTIONS),
    ("Terminal", 1),
    ("Ping", 1),
    ("Abort", 1),
    ("Success", 1),
];

/// A service whose calls take turns.
#[derive(Debug, Clone)]
pub(crate) struct Turns<S> {
    service: S,
    turns: Arc<[Semaphore; METHODS.len()]>,
}

impl<S> Turns<S> {
    pub(crate) fn new(service: S) -> Self {
        Self {
            service,
            turns: Arc::new(std::array::from_fn(|index| {
                Semaphore::new(METHODS[index].1)
            })),
        }
    }
}

impl<S, B> Service<Request<B>> for Turns<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services that tonic generates are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut service = self.service.clone();
        let turns = Arc::clone(&self.turns);
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let position = METHODS.iter().position(|(known, _)| *known == method);
        let position = position.unwrap_or(METHODS.len() - 1);
        Box::pin(async move {
            match turns[position].try_acquire() {
                Ok(_turn) => service.call(request).await,
                Err(_) => {
                    let what = format!("another call of `{}` is under way", METHODS[position].0);
                    Ok(Status::resource_exhausted(what).into_http())
                }
            }
        })
    }
}
