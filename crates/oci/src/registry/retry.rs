//! How often things are tried, and how long is waited in between.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::BoxFuture;

/// How long and how often things are tried.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How long a connection may take.
    pub connect: Duration,
    /// How long a server may say nothing.
    pub silence: Duration,
    /// How long a document may take, from the question to its last byte.
    pub document: Duration,
    /// How often a thing is tried in all.
    pub attempts: u32,
    /// The first pause between two tries; each is twice the one before.
    pub pause: Duration,
    /// The longest pause, also of those that a server asks for.
    pub longest: Duration,
    /// What lets time pass.
    pub(crate) sleep: Sleep,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            document: Duration::from_secs(120),
            attempts: 5,
            pause: Duration::from_millis(500),
            longest: Duration::from_secs(60),
            sleep: Sleep(Arc::new(|time| Box::pin(tokio::time::sleep(time)))),
        }
    }
}

type Sleeping = dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync;

/// Lets time pass; tests only write down how much.
#[derive(Clone)]
pub(crate) struct Sleep(pub(crate) Arc<Sleeping>);

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleep")
    }
}

impl Patience {
    /// Waits before the next try, the `failures`-th having failed (from 1).
    pub(super) async fn wait(&self, failures: u32, asked: Option<Duration>) {
        let doublings = failures.saturating_sub(1).min(16);
        let own = self.pause.saturating_mul(1 << doublings);
        let time = asked.unwrap_or_default().max(own).min(self.longest);
        (self.sleep.0)(time).await;
    }
}

/// How long a server asks its client to wait: seconds or a date (RFC 9110, 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = moment.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            let found = retry_after(&headers, now);
            assert_eq!(found, seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[tokio::test]
    async fn pauses_double_up_to_the_longest() {
        let slept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = Arc::clone(&slept);
        let patience = Patience {
            pause: Duration::from_secs(1),
            longest: Duration::from_secs(5),
            sleep: Sleep(Arc::new(move |time| {
                log.lock().unwrap().push(time.as_secs());
                Box::pin(std::future::ready(()))
            })),
            ..Patience::default()
        };
        for failures in 1..=4 {
            patience.wait(failures, None).await;
        }
        patience.wait(1, Some(Duration::from_secs(3))).await;
        patience.wait(u32::MAX, Some(Duration::MAX)).await;
        assert_eq!(*slept.lock().unwrap(), [1, 2, 4, 5, 3, 5]);
    }
}
