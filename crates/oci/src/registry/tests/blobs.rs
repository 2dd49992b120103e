//! Failures that pass and that last; blobs on their way here.

use super::*;

/// A server that gives these answers in turn, and the last one for ever.
fn in_turn(answers: Vec<Answer>) -> Server {
    let turn = AtomicU32::new(0);
    Server::start(move |_| {
        let turn = turn.fetch_add(1, Ordering::Relaxed) as usize;
        answers[turn.min(answers.len() - 1)].clone()
    })
}

#[tokio::test]
async fn passing_failures_pass() {
    let limited = |after| Answer::new("429 Slow", &[("Retry-After", after)], b"");
    for (answers, pauses) in [
        (vec![limited("7"), manifest()], &[7][..]),
        (
            vec![
                Answer::status("503 No"),
                Answer::status("500 No"),
                manifest(),
            ],
            &[1, 2],
        ),
        (vec![Answer::nothing(), manifest()], &[1]),
        (vec![manifest().cut(300), manifest()], &[1]),
    ] {
        let server = in_turn(answers);
        let client = plain();
        client.registry.manifest(&image(&server)).await.unwrap();
        assert_eq!(*client.pauses.lock().unwrap(), pauses);
    }
}

#[tokio::test]
async fn lasting_failures_end() {
    let limited = |after| Answer::new("429 Slow", &[("Retry-After", after)], b"");
    for (answer, asked, expected) in [
        (
            limited("3600"),
            1,
            "asked too often; it wants to be left alone for 3600 s",
        ),
        (
            limited("1"),
            3,
            "asked too often; it wants to be left alone for 1 s",
        ),
        (Answer::status("502 No"), 3, "the registry answers 502"),
        (Answer::nothing(), 3, "broke off"),
        (Answer::nothing().stalling(), 3, "nothing was heard"),
        (manifest().cut(300).stalling(), 3, "nothing was heard"),
    ] {
        let server = in_turn(vec![answer]);
        let client = client(|options| {
            options.patience.connect = Duration::from_millis(100);
            options.patience.silence = Duration::from_millis(100);
            options.patience.document = Duration::from_millis(100);
        });
        let error = client.registry.manifest(&image(&server)).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(server.asked().len(), asked, "{error}");
    }
}

/// A server of one blob that breaks off after `most` bytes each time, and knows ranges.
fn breaking(bytes: Vec<u8>, most: usize, ranges: bool) -> Server {
    Server::start(move |asked| {
        let from = asked.header("range").filter(|_| ranges);
        let from = from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let from: usize = from.map_or(0, |from| from.parse().unwrap());
        let whole = bytes.len();
        let length = (whole - from).to_string();
        let range = format!("bytes {from}-{}/{whole}", whole - 1);
        let status = if from > 0 { "206 Partial" } else { "200 OK" };
        let headers = [("Content-Length", &*length), ("Content-Range", &*range)];
        let kept = &bytes[from..whole.min(from + most)];
        Answer::new(status, &headers, kept)
    })
}

#[tokio::test]
async fn a_blob_goes_on_where_it_broke_off() {
    let bytes = text(3, 5 << 20);
    let server = breaking(bytes.clone(), 2 << 20, true);
    assert!(read(&plain(), &server, &bytes).await.unwrap() == bytes);
    let asked = server.asked();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.header("range")).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    assert!(ranges[2].unwrap() > ranges[1].unwrap());
    // Without ranges it begins anew, and what is known is not given twice.
    let twice = {
        let whole = Answer::file(&bytes);
        in_turn(vec![whole.clone().cut(3 << 20), whole])
    };
    assert!(read(&plain(), &twice, &bytes).await.unwrap() == bytes);
    // One that never gets further is given up.
    let stuck = breaking(bytes.clone(), 1 << 10, false);
    let error = read(&plain(), &stuck, &bytes).await.unwrap_err();
    assert!(matches!(error, RegistryError::Broken { .. }), "{error}");
    assert_eq!(stuck.asked().len(), 3);
}

/// What a server sends for the rest of a blob of 3 MiB, of which 2 MiB came before it broke off, must be
/// that rest.
#[tokio::test]
async fn a_rest_that_is_another_is_found_out() {
    let bytes = text(3, 3 << 20);
    let rest = |status: &str, range: &str, body: &[u8]| {
        Answer::new(status, &[("Content-Range", range)], body)
    };
    let good = "bytes 2097152-3145727/3145728";
    let end = &bytes[2 << 20..];
    let other = vec![7; 1 << 20];
    for (answer, expected) in [
        (rest("206 Partial", good, end), None),
        (
            rest("206 Partial", good, &bytes[(2 << 20) + 1..]),
            Some("has 3145727 bytes, but 3145728 were expected"),
        ),
        (
            rest("206 Partial", good, &bytes[1 << 20..]),
            Some("has 4194304 bytes, but 3145728 were expected"),
        ),
        (
            rest("206 Partial", "bytes 1048576-3145727/3145728", end),
            Some("the registry answers 206"),
        ),
        (rest("206 Partial", "all of it", end), Some("answers 206")),
        (rest("206 Partial", good, &other), Some("has the digest")),
        (Answer::status("416 No"), Some("the registry answers 416")),
        // One that knows no ranges and has another blob by now.
        (
            Answer::file(&bytes[1 << 20..]),
            Some("has 2097152 bytes, but 3145728 were expected"),
        ),
        (Answer::endless(&[]), Some("bytes, but 3145728 were")),
        (Answer::nothing(), Some("broke off")),
    ] {
        let turn = AtomicU32::new(0);
        let beginning = {
            let length = bytes.len().to_string();
            Answer::new("200 OK", &[("Content-Length", &length)], &bytes[..2 << 20])
        };
        let server = Server::start(move |asked| {
            let first = turn.fetch_add(1, Ordering::Relaxed) == 0;
            assert_eq!(asked.header("range").is_none(), first);
            if first {
                beginning.clone()
            } else {
                answer.clone()
            }
        });
        let found = read(&plain(), &server, &bytes).await;
        match (found, expected) {
            (Ok(found), None) => assert!(found == bytes),
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            (found, expected) => panic!("{:?} is not {expected:?}", found.map(|_| ())),
        }
        // At most a few tries.
        assert!(server.asked().len() <= 4);
    }
}

#[tokio::test]
async fn pauses_between_tries_grow_and_are_what_the_server_asks_for() {
    let bytes = text(3, 1000);
    let limited = Answer::new("429 Slow", &[("Retry-After", "9")], b"");
    let server = in_turn(vec![
        Answer::status("503 No"),
        limited,
        Answer::file(&bytes),
    ]);
    let client = plain();
    assert!(read(&client, &server, &bytes).await.unwrap() == bytes);
    assert_eq!(*client.pauses.lock().unwrap(), [1, 9]);
    // Asked to wait longer than anybody would, nobody does.
    let limited = Answer::new("429 Slow", &[("Retry-After", "3600")], b"");
    let server = in_turn(vec![limited]);
    let client = plain();
    let error = read(&client, &server, &bytes).await.unwrap_err();
    assert!(error.to_string().contains("for 3600 s"), "{error}");
    assert_eq!(*client.pauses.lock().unwrap(), [0; 0]);
    // One that sends a byte now and then says next to nothing.
    let dripping = Answer::file(&bytes).cut(200).stalling();
    let server = in_turn(vec![dripping]);
    let client = client_of_little_patience();
    let error = read(&client, &server, &bytes).await.unwrap_err();
    assert!(error.to_string().contains("nothing was heard"), "{error}");
}

fn client_of_little_patience() -> Client {
    client(|options| {
        options.patience.connect = Duration::from_millis(100);
        options.patience.silence = Duration::from_millis(100);
    })
}

#[tokio::test]
async fn the_rest_of_a_blob_is_enough() {
    let bytes = text(5, 1000);
    let server = breaking(bytes.clone(), 1000, true);
    let blob = (Digest::of(&bytes), 1000);
    let client = plain();
    let mut stream = client.registry.blob_after(&repository(&server), blob, 400);
    let mut rest = Vec::new();
    while let Some(piece) = stream.next().await.unwrap() {
        rest.extend_from_slice(&piece);
    }
    assert_eq!(rest, bytes[400..]);
}

#[tokio::test]
async fn blobs_that_are_others() {
    let bytes = text(7, 1000);
    let chunked = |body: &[u8]| {
        let mut encoded = format!("{:x}\r\n", body.len()).into_bytes();
        encoded.extend(body);
        encoded.extend(b"\r\n0\r\n\r\n");
        Answer::new("200 OK", &[("Transfer-Encoding", "chunked")], &encoded)
    };
    let (longer, shorter) = (text(7, 2000), text(7, 999));
    for (answer, expected) in [
        (Answer::file(&text(8, 1000)), "has the digest"),
        (
            Answer::file(&longer),
            "has 2000 bytes, but 1000 were expected",
        ),
        (
            Answer::file(&shorter),
            "has 999 bytes, but 1000 were expected",
        ),
        (chunked(&longer), "has 2000 bytes, but 1000 were expected"),
        (chunked(&shorter), "bytes, but 1000 were expected"),
        (
            Answer::new(
                "206 Partial",
                &[("Content-Range", "bytes 5-9/10")],
                b"12345",
            ),
            "answers 206",
        ),
        (Answer::status("404 No"), "the registry has no blob"),
        (Answer::file(b""), "has 0 bytes"),
    ] {
        let server = Server::start(move |_| answer.clone());
        let error = read(&plain(), &server, &bytes)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_empty_blob_is_one() {
    let server = Server::start(|_| Answer::file(b""));
    assert_eq!(read(&plain(), &server, b"").await.unwrap(), b"");
    assert_eq!(server.asked().len(), 1);
}
