//! Downloads against a server on loopback.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use firebuild_core::{ByteSize, Digest};
use firebuild_store::{Lease, Store};

use super::testing::{Answer, Asked, Server};
use super::{Bounds, Credentials, FetchError, Fetcher, Trust};

/// A store of its own, and a lease on it.
struct Place {
    #[expect(dead_code, reason = "the directory lives as long")]
    directory: tempfile::TempDir,
    lease: Lease,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let lease = store.lease().unwrap();
    Place { directory, lease }
}

fn bounds() -> Bounds {
    Bounds {
        size: ByteSize(1000),
        connect: Duration::from_secs(10),
        silence: Duration::from_secs(30),
        pause: Duration::from_millis(1),
        local: false,
    }
}

fn fetcher() -> Fetcher {
    Fetcher::new(Trust::host(), Credentials::default(), bounds())
}

fn content(place: &Place, digest: &Digest) -> Vec<u8> {
    place.lease.store().blob_bytes(digest).unwrap()
}

/// Nothing half-done may be left.
fn assert_untouched(place: &Place, what: &str) {
    let store = place.lease.store();
    assert_eq!(store.downloads().list().unwrap(), [], "{what}");
    for folder in ["tmp", "images/blobs/sha256"] {
        let left = fs_err::read_dir(store.path().join(folder)).unwrap().count();
        assert_eq!(left, 0, "{what}: {folder}");
    }
}

#[tokio::test]
async fn an_unchanged_file_moves_no_bytes() {
    let modified = "Sun, 06 Nov 1994 08:49:37 GMT";
    let server = Server::start(move |asked| {
        if asked.header("if-none-match") == Some("\"one\"") {
            return Answer::status("304 Not Modified");
        }
        let headers = [("ETag", "\"one\""), ("Last-Modified", modified)];
        Answer::new("200 OK", &headers, b"text")
    });
    let place = place();
    let url = server.url("/file");
    for _ in 0..3 {
        let fetched = fetcher().http(&place.lease, &url, None).await.unwrap();
        assert_eq!(content(&place, &fetched.blob.digest), b"text");
        assert_eq!(fetched.blob.size, 4);
        assert_eq!(fetched.last_modified.unwrap().seconds, 784_111_777);
    }
    let asked = server.asked();
    let conditions: Vec<_> = asked
        .iter()
        .map(|asked| asked.header("if-modified-since"))
        .collect();
    assert_eq!(conditions, [None, Some(modified), Some(modified)]);
    let collected = place.lease.store().clone();
    drop(place.lease);
    collected.collect().unwrap();
    assert!(collected.has_blob(&Digest::of(b"text")).unwrap());
}

#[tokio::test]
async fn a_changed_file_is_fetched_anew() {
    let version = AtomicU32::new(0);
    let server = Server::start(move |_| {
        let version = version.fetch_add(1, Ordering::Relaxed).to_string();
        Answer::new("200 OK", &[("ETag", &version)], version.as_bytes())
    });
    let place = place();
    for expected in ["0", "1"] {
        let url = server.url("/file");
        let fetched = fetcher().http(&place.lease, &url, None).await.unwrap();
        assert_eq!(content(&place, &fetched.blob.digest), expected.as_bytes());
        assert_eq!(fetched.last_modified, None);
    }
}

#[tokio::test]
async fn one_build_asks_once() {
    let server = Server::start(|_| Answer::file(b"text"));
    let (place, fetcher) = (place(), fetcher());
    let url = server.url("/file");
    let one = || fetcher.http(&place.lease, &url, None);
    let (first, second, third) = tokio::join!(one(), one(), one());
    assert_eq!(first.unwrap(), second.unwrap());
    third.unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_known_digest_needs_no_server() {
    let server = Server::start(|_| Answer::file(b"text"));
    let place = place();
    let url = server.url("/file");
    let digest = Digest::of(b"text");
    fetcher()
        .http(&place.lease, &url, Some(&digest))
        .await
        .unwrap();
    drop(server);
    let offline = fetcher();
    for url in [url.as_str(), "http://localhost:1/other"] {
        let known = offline.http(&place.lease, url, Some(&digest)).await;
        assert_eq!(known.unwrap().blob.size, 4);
    }
    let error = fetcher().http(&place.lease, &url, None).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn another_digest_is_refused_and_leaves_nothing() {
    let server = Server::start(|_| Answer::file(b"text"));
    let place = place();
    let wanted = Digest::of(b"other");
    let url = server.url("/file");
    let error = fetcher().http(&place.lease, &url, Some(&wanted)).await;
    let text = error.unwrap_err().to_string();
    assert!(text.contains(&wanted.to_string()), "{text}");
    assert!(text.contains(&Digest::of(b"text").to_string()), "{text}");
    assert_untouched(&place, "mismatch");
    // Nor is it taken from what this build has fetched for somebody else.
    let fetcher = fetcher();
    fetcher.http(&place.lease, &url, None).await.unwrap();
    let error = fetcher.http(&place.lease, &url, Some(&wanted)).await;
    assert!(matches!(error, Err(FetchError::Checksum { .. })));
}

/// What the server does, and what becomes of it.
type Case = (&'static str, fn(&Asked) -> Answer, &'static str, usize);

#[tokio::test]
async fn each_failure_is_one_clear_error() {
    let cases: [Case; 10] = [
        (
            "missing",
            |_| Answer::status("404 Not Found"),
            "answers 404 (it is not there)",
            1,
        ),
        (
            "forbidden",
            |_| Answer::status("403 Forbidden"),
            "answers 403 (it is forbidden)",
            1,
        ),
        (
            "broken",
            |_| Answer::status("503 Unavailable"),
            "answers 503 (the server has failed)",
            2,
        ),
        (
            "changed",
            |_| Answer::status("304 Not Modified"),
            "answers 304",
            1,
        ),
        (
            "loop",
            |_| Answer::redirect("/again"),
            "it redirects more than 10 times",
            11,
        ),
        (
            "elsewhere",
            |_| Answer::redirect("ftp://localhost/x"),
            "that is not http or https",
            1,
        ),
        (
            "short",
            |_| Answer::new("200 OK", &[("Content-Length", "9")], b"text"),
            "the transfer broke off",
            2,
        ),
        (
            "silent",
            |_| Answer::nothing().stalling(),
            "nothing was heard for",
            1,
        ),
        ("closed", |_| Answer::nothing(), "the transfer broke off", 2),
        (
            "stalled",
            |_| Answer::new("200 OK", &[("Content-Length", "9")], b"text").stalling(),
            "nothing was heard for",
            1,
        ),
    ];
    for (name, handler, expected, requests) in cases {
        let server = Server::start(handler);
        let place = place();
        let url = server.url("/file");
        // Only who is to lose patience has little.
        let silence = match name {
            "silent" | "stalled" => Duration::from_millis(200),
            _ => bounds().silence,
        };
        let bounds = Bounds {
            silence,
            ..bounds()
        };
        let fetcher = Fetcher::new(Trust::host(), Credentials::default(), bounds);
        let error = fetcher.http(&place.lease, &url, None).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{name}: {text}");
        assert!(text.contains(&url), "{name}: {text}");
        assert_eq!(server.asked().len(), requests, "{name}");
        assert_untouched(&place, name);
    }
}

#[tokio::test]
async fn a_large_file_is_refused_before_and_while_it_comes() {
    let body = vec![b'x'; 1001];
    let announced = body.clone();
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/announced" => Answer::file(&announced),
        _ => {
            let mut chunked = format!("{:x}\r\n", body.len()).into_bytes();
            chunked.extend(&body);
            chunked.extend(b"\r\n0\r\n\r\n");
            Answer::new("200 OK", &[("Transfer-Encoding", "chunked")], &chunked)
        }
    });
    for path in ["/announced", "/chunked"] {
        let place = place();
        let error = fetcher().http(&place.lease, &server.url(path), None).await;
        assert!(matches!(error, Err(FetchError::TooLarge { .. })), "{path}");
        assert_untouched(&place, path);
    }
}

#[tokio::test]
async fn a_passing_failure_is_tried_once_more() {
    let failures: [fn() -> Answer; 3] = [
        || Answer::status("502 Bad Gateway"),
        Answer::nothing,
        || Answer::new("200 OK", &[("Content-Length", "9")], b"text"),
    ];
    for failure in failures {
        let count = AtomicU32::new(0);
        let server = Server::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => failure(),
            _ => Answer::file(b"text"),
        });
        let place = place();
        let fetched = fetcher().http(&place.lease, &server.url("/"), None).await;
        assert_eq!(content(&place, &fetched.unwrap().blob.digest), b"text");
    }
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let other = Server::start(|_| Answer::file(b"text"));
    let elsewhere = format!("http://127.0.0.1:{}/there", other.port());
    let server = Server::start(move |_| Answer::redirect(&elsewhere));
    let secret = ("HTTP_AUTH_TOKEN_localhost".to_owned(), b"word".to_vec());
    let credentials = Credentials::new([secret]);
    let fetcher = Fetcher::new(Trust::host(), credentials, bounds());
    let place = place();
    let url = server.url("/file");
    fetcher.http(&place.lease, &url, None).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), Some("Bearer word"));
    assert_eq!(other.asked()[0].header("authorization"), None);
    let records = place.lease.store().downloads().list().unwrap();
    assert!(!format!("{records:?} {fetcher:?}").contains("word"));
}

#[tokio::test]
async fn a_password_in_an_address_is_used_and_never_kept() {
    let server = Server::start(|_| Answer::file(b"text"));
    let place = place();
    let url = format!("http://me:word@localhost:{}/file", server.port());
    fetcher().http(&place.lease, &url, None).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), Some("Basic bWU6d29yZA=="));
    let records = place.lease.store().downloads().list().unwrap();
    assert!(!format!("{records:?}").contains("word"), "{records:?}");
}

#[tokio::test]
async fn only_known_authorities_are_believed() {
    let plain = Server::start(|_| Answer::file(b"text"));
    let to_plain = plain.url("/");
    let server = Server::encrypted(move |asked| match asked.path.as_str() {
        "/down" => Answer::redirect(&to_plain),
        _ => Answer::file(b"text"),
    });
    let place = place();
    let url = server.url("/file");
    let error = fetcher().http(&place.lease, &url, None).await.unwrap_err();
    assert!(matches!(error, FetchError::Tls { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("--ca-certificates"));

    let trust = Trust::host().and_pem(server.certificate.as_bytes(), "ca.pem");
    let fetcher = Fetcher::new(trust.unwrap(), Credentials::default(), bounds());
    fetcher.http(&place.lease, &url, None).await.unwrap();
    let down = server.url("/down");
    let error = fetcher.http(&place.lease, &down, None).await.unwrap_err();
    assert!(error.to_string().contains("from https to"), "{error}");
    assert_eq!(plain.asked().len(), 0);
}

/// A label of 64 letters is refused before any server of names is asked.
#[tokio::test]
async fn an_unknown_host_is_said_to_be_one() {
    let place = place();
    let url = format!("http://{}.example/", "a".repeat(64));
    let error = fetcher().http(&place.lease, &url, None).await.unwrap_err();
    assert!(matches!(error, FetchError::Name { .. }), "{error:?}");
    assert_untouched(&place, "name");
}
