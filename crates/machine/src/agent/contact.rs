//! Whether the guest is connected, and when it was last heard.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;

/// Where the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// The guest has not called yet.
    Waiting,
    /// The guest has proved who it is and has called.
    Connected,
    /// The guest has said nothing for longer than it may.
    Silent,
}

/// Notes what is heard. Clones mean the same.
#[derive(Debug, Clone)]
pub(super) struct Ear {
    contact: watch::Sender<Contact>,
    start: Instant,
    last: Arc<AtomicU64>,
}

impl Ear {
    pub(super) fn new() -> (Self, watch::Receiver<Contact>) {
        let (contact, receiver) = watch::channel(Contact::Waiting);
        let ear = Self {
            contact,
            start: Instant::now(),
            last: Arc::default(),
        };
        (ear, receiver)
    }

    /// A call has come from a guest that has proved who it is.
    pub(super) fn called(&self) {
        self.contact.send_if_modified(|contact| {
            let first = *contact == Contact::Waiting;
            if first {
                *contact = Contact::Connected;
            }
            first
        });
    }

    fn heard(&self) {
        let since = self.start.elapsed().as_millis();
        self.last
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns when the guest, once connected, has said nothing for as long as `limit`.
    pub(super) async fn silence(self, limit: Duration) {
        let mut contact = self.contact.subscribe();
        if contact.wait_for(|c| *c != Contact::Waiting).await.is_err() {
            return;
        }
        loop {
            let last = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if last.elapsed() >= limit {
                self.contact.send_replace(Contact::Silent);
                return;
            }
            tokio::time::sleep_until(last + limit).await;
        }
    }
}

/// A connection on which all that the guest says is noted.
pub(super) struct Heard<T> {
    inner: T,
    ear: Ear,
}

impl<T> Heard<T> {
    pub(super) fn new(inner: T, ear: Ear) -> Self {
        Self { inner, ear }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.ear.heard();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
