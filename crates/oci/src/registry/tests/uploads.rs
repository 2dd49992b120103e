//! Blobs on their way to a registry.

use super::*;

/// A registry that takes blobs, as `refuse` allows it.
struct Taking {
    server: Server,
    taken: Arc<Mutex<Vec<u8>>>,
}

fn taking(refuse: impl Fn(&Asked, u32) -> Option<Answer> + Send + Sync + 'static) -> Taking {
    let taken = Arc::<Mutex<Vec<u8>>>::default();
    let (there, turn) = (Arc::clone(&taken), AtomicU32::new(0));
    let server = Server::start(move |asked| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        if let Some(answer) = refuse(asked, turn) {
            return answer;
        }
        let mut taken = there.lock().unwrap();
        match asked.method.as_str() {
            "HEAD" => return Answer::status("404 No"),
            "POST" => taken.clear(),
            _ => taken.extend(&asked.body),
        }
        let status = match asked.method.as_str() {
            "PUT" => "201 Created",
            "GET" => "204 There",
            _ => "202 Accepted",
        };
        let range = format!("0-{}", taken.len().saturating_sub(1));
        Answer::new(
            status,
            &[("Location", "/upload?state=1"), ("Range", &range)],
            b"",
        )
    });
    Taking { server, taken }
}

async fn push(client: &Client, server: &Server, bytes: &[u8]) -> Result<Pushed, RegistryError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let blob = Blob {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    let (repository, file) = (repository(server), Arc::new(file));
    let push = client
        .registry
        .push_blob(&repository, blob, &file, Some("c/d"), None);
    push.await
}

#[tokio::test]
async fn blobs_are_sent_whole_or_in_pieces() {
    let bytes = text(9, 1000);
    let digest = Digest::of(&bytes).to_string().replace(':', "%3A");
    for (piece, expected) in [
        (1000, &["HEAD", "POST", "PUT"][..]),
        (400, &["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PUT"]),
    ] {
        let taking = taking(|_, _| None);
        let client = client(|options| options.piece = piece);
        let pushed = push(&client, &taking.server, &bytes).await.unwrap();
        assert_eq!(pushed, Pushed::Sent);
        assert!(*taking.taken.lock().unwrap() == bytes);
        let asked = taking.server.asked();
        let methods: Vec<&str> = asked.iter().map(|asked| &*asked.method).collect();
        assert_eq!(methods, expected);
        assert_eq!(
            asked[1].path,
            format!("/v2/a/b/blobs/uploads/?mount={digest}&from=c%2Fd")
        );
        assert_eq!(
            asked.last().unwrap().path,
            format!("/upload?state=1&digest={digest}")
        );
        let ranges: Vec<_> = asked
            .iter()
            .filter_map(|asked| asked.header("content-range"))
            .collect();
        assert_eq!(ranges.len(), expected.len() - 3);
        assert!(
            ranges
                .iter()
                .zip(["0-399", "400-799", "800-999"])
                .all(|(one, other)| *one == other)
        );
    }
}

#[tokio::test]
async fn what_is_there_is_not_sent() {
    for (answer, expected, asked) in [
        (("HEAD", "200 OK"), Pushed::There, 1),
        (("POST", "201 Created"), Pushed::Mounted, 2),
    ] {
        let taking =
            taking(move |asked, _| (asked.method == answer.0).then(|| Answer::status(answer.1)));
        let pushed = push(&plain(), &taking.server, b"bytes").await.unwrap();
        assert_eq!((pushed, taking.server.asked().len()), (expected, asked));
    }
}

#[tokio::test]
async fn an_upload_that_fails_is_repeated_or_goes_on() {
    let bytes = text(11, 1000);
    // The whole blob once more, from the beginning.
    let taking_whole = taking(|asked, turn| {
        (asked.method == "PUT" && turn < 4).then(|| Answer::status("503 Later"))
    });
    push(&plain(), &taking_whole.server, &bytes).await.unwrap();
    assert!(*taking_whole.taken.lock().unwrap() == bytes);
    // A piece that got lost, once more.
    let lost = taking(|asked, turn| (asked.method == "PATCH" && turn == 3).then(Answer::nothing));
    let client = client(|options| options.piece = 400);
    push(&client, &lost.server, &bytes).await.unwrap();
    assert!(*lost.taken.lock().unwrap() == bytes);
    let methods: Vec<String> = lost
        .server
        .asked()
        .into_iter()
        .map(|asked| asked.method)
        .collect();
    assert_eq!(
        methods,
        [
            "HEAD", "POST", "PATCH", "PATCH", "GET", "PATCH", "PATCH", "PUT"
        ]
    );
}

#[tokio::test]
async fn a_registry_may_want_smaller_pieces() {
    let bytes = text(13, 20 << 20);
    let small =
        taking(|asked, _| (asked.body.len() > 16 << 20).then(|| Answer::status("413 Too Large")));
    push(&plain(), &small.server, &bytes).await.unwrap();
    assert!(*small.taken.lock().unwrap() == bytes);
}

#[tokio::test]
async fn an_upload_elsewhere_takes_no_password_along() {
    let elsewhere = Server::start(|_| Answer::status("201 Created"));
    let target = elsewhere.url("/upload");
    let server =
        Server::start(
            move |asked| match (asked.header("authorization"), &*asked.method) {
                (None, _) => {
                    Answer::new("401 No", &[("WWW-Authenticate", "Basic realm=\"x\"")], b"")
                }
                (_, "HEAD") => Answer::status("404 No"),
                _ => Answer::new("202 Accepted", &[("Location", &target)], b""),
            },
        );
    push(&with_login(&server), &server, b"bytes").await.unwrap();
    let asked = &elsewhere.asked()[0];
    assert_eq!(
        (asked.header("authorization"), &asked.body[..]),
        (None, &b"bytes"[..])
    );
}

#[tokio::test]
async fn a_registry_that_understood_other_bytes_is_found_out() {
    let other = Digest::of(b"other").to_string();
    let lying = taking(move |asked, _| {
        (asked.method == "PUT")
            .then(|| Answer::new("201 Created", &[("Docker-Content-Digest", &other)], b""))
    });
    let error = push(&plain(), &lying.server, b"bytes").await.unwrap_err();
    assert!(
        error.to_string().contains("as the registry has it"),
        "{error}"
    );
}
