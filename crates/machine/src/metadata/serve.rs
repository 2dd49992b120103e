//! The metadata service's listener: one connection after the other from one hostile guest.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::{Service, answer};
use crate::connections;

/// How many connections are served at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 4;

/// How long a connection may last in all: a guest asks for a token and reads its metadata.
const LIFETIME: Duration = Duration::from_secs(60);

/// How long the headers of one request may take.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// The least buffer that hyper takes, and the most that a request's head may have.
const HEAD_LIMIT: usize = 8 << 10;

/// How many header lines a request may have.
const HEADER_LINES: usize = 32;

impl Service {
    /// Serves the guest until the future is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let serve = |stream| {
            let service = self.clone();
            async move {
                // A connection that is not done by then is dropped, and so closed.
                let _ = tokio::time::timeout(LIFETIME, service.connection(stream)).await;
            }
        };
        connections::serve(listener, CONNECTIONS, serve).await;
    }

    async fn connection(self, stream: TcpStream) {
        let answer = service_fn(|request: Request<Incoming>| {
            // The body is never read: hyper closes a connection on which one is left.
            let (head, _) = request.into_parts();
            let now = Instant::now();
            let response = answer::answer(&self, &head.method, head.uri.path(), &head.headers, now);
            std::future::ready(Ok::<Response<String>, Infallible>(response))
        });
        // What goes wrong here is between the guest and its own requests.
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEAD_LIMIT)
            .max_headers(HEADER_LINES)
            .serve_connection(TokioIo::new(stream), answer)
            .await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::metadata::tests::sample;

    async fn ask(address: std::net::SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The service may close before it has read everything.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn speaks_http_and_bounds_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(Service::new(sample()).unwrap().serve(listener));
        let token = ask(
            address,
            b"PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-metadata-token-ttl-seconds: 9\r\n\r\n",
        )
        .await;
        assert!(token.starts_with("HTTP/1.1 200 OK\r\n"), "{token}");
        assert!(
            token.contains("\r\nx-metadata-token-ttl-seconds: 9\r\n"),
            "{token}"
        );
        let token = token.rsplit("\r\n").next().unwrap();
        let get =
            format!("GET /latest/meta-data/hostname HTTP/1.0\r\nX-metadata-token: {token}\r\n\r\n");
        assert!(ask(address, get.as_bytes()).await.ends_with("\r\n\r\nweb"));

        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD_LIMIT));
        assert!(
            ask(address, long.as_bytes())
                .await
                .starts_with("HTTP/1.1 431")
        );
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "X: y\r\n".repeat(HEADER_LINES + 1)
        );
        assert!(
            ask(address, many.as_bytes())
                .await
                .starts_with("HTTP/1.1 431")
        );
        assert!(
            ask(address, b"nonsense\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400")
        );
        served.abort();
    }

    #[tokio::test]
    async fn idle_connections_do_not_keep_others_out() {
        tokio::time::pause();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(Service::new(sample()).unwrap().serve(listener));
        let mut idle = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(
            ask(address, b"GET / HTTP/1.0\r\n\r\n")
                .await
                .starts_with("HTTP/1.0 401")
        );
        served.abort();
    }
}
