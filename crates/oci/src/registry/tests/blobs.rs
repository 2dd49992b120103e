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
