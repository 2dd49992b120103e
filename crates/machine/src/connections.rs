//! A listener for one hostile guest: no more connections at once than it is worth.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long to wait when the host is out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Gives `most` connections at once to `serve`; more wait in the kernel's queue. Goes on until it is
/// dropped, and its connections end with it.
pub(crate) async fn serve<F>(listener: TcpListener, most: usize, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = serve(stream);
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            // For the moment, or the connection is gone already.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
