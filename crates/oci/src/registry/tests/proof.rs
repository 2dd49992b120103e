//! Who is told what: passwords, tokens, certificates.

use super::*;

#[tokio::test]
async fn nobody_else_sees_a_password() {
    let bytes = text(1, 1000);
    let content = bytes.clone();
    let elsewhere = Server::start(move |_| Answer::file(&content));
    let target = elsewhere.url("/blob");
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") => Answer::redirect(&target),
        _ => Answer::new("401 No", &[("WWW-Authenticate", "Basic realm=\"x\"")], b""),
    });
    let client = with_login(&server);
    assert_eq!(read(&client, &server, &bytes).await.unwrap(), bytes);
    assert_eq!(server.asked().len(), 2);
    assert_eq!(elsewhere.asked().len(), 1);
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
    // What is asked for elsewhere is not told there either, when it asks back.
    let elsewhere =
        Server::start(|_| Answer::new("401 No", &[("WWW-Authenticate", "Basic realm=\"x\"")], b""));
    let target = elsewhere.url("/blob");
    let server = Server::start(move |_| Answer::redirect(&target));
    read(&with_login(&server), &server, &bytes)
        .await
        .unwrap_err();
    assert_eq!(elsewhere.asked().len(), 1);
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
}

/// A registry that wants tokens of the server `realm`.
fn wanting(realm: String) -> impl Fn(&Asked) -> Answer {
    move |asked| match asked.header("authorization") {
        Some("Bearer good") => manifest(),
        _ => {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"it\",scope=\"ignored\"");
            Answer::new("401 No", &[("WWW-Authenticate", &challenge)], b"")
        }
    }
}

#[tokio::test]
async fn tokens_are_asked_for_once() {
    let tokens = Server::start(|asked| match asked.header("authorization") {
        Some("Basic bWU6aHVudGVyMg==") => Answer::file(b"{\"access_token\":\"good\"}"),
        _ => Answer::file(b"{\"token\":\"bad\"}"),
    });
    let server = Server::start(wanting(tokens.url("/token")));
    let (client, image) = (with_login(&server), image(&server));
    let one = || client.registry.manifest(&image);
    let (first, second) = tokio::join!(one(), one());
    first.unwrap();
    second.unwrap();
    one().await.unwrap();
    let asked = tokens.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].path,
        "/token?service=it&scope=repository%3Aa%2Fb%3Apull"
    );
    let error = plain().registry.manifest(&image).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Unauthorized { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn an_identity_token_is_a_refresh_token() {
    let tokens = Server::start(|asked| {
        let body = String::from_utf8(asked.body.clone()).unwrap();
        assert_eq!(asked.method, "POST");
        assert!(
            body.contains("refresh_token=long%2Blived&scope=repository%3Aa%2Fb%3Apull"),
            "{body}"
        );
        Answer::file(b"{\"access_token\":\"good\"}")
    });
    let server = Server::start(wanting(tokens.url("/token")));
    let login = FixedLogin {
        registry: registry_name(&server),
        login: Login::IdentityToken("long+lived".to_owned()),
    };
    let client = client(|options| options.logins = Arc::new(login));
    client.registry.manifest(&image(&server)).await.unwrap();
}

#[tokio::test]
async fn odd_token_servers_are_told_nothing() {
    for (realm, reason) in [
        ("nonsense", "which is no address"),
        ("ftp://localhost/token", "which is not http or https"),
        (
            "http://other.example/token",
            "an unencrypted server on another host",
        ),
    ] {
        let server = Server::start(wanting(realm.to_owned()));
        let error = with_login(&server).registry.manifest(&image(&server)).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let tokens = Server::start(|_| Answer::file(b"{\"token\":\"good\"}"));
    let server = Server::encrypted(wanting(tokens.url("/token")));
    let trust = Trust::host()
        .and_pem(server.certificate.as_bytes(), "ca")
        .unwrap();
    let client = client(|options| {
        (options.trust, options.plain_http) = (trust, PlainHttp::Loopback);
    });
    let error = client.registry.manifest(&image(&server)).await.unwrap_err();
    assert!(error.to_string().contains("unencrypted"), "{error}");
    assert_eq!(tokens.asked().len(), 0);
}

#[tokio::test]
async fn token_servers_that_lie() {
    let big = vec![b' '; 2 << 20];
    for (answer, expected) in [
        (Answer::file(b"{\"token\":\"a\\nb\"}"), "wants credentials"),
        (Answer::file(b"{}"), "wants credentials"),
        (Answer::status("401 No"), "wants credentials"),
        (Answer::file(b"nonsense"), "is not valid"),
        (Answer::file(&big), "more than 1048576 bytes"),
        (
            Answer::redirect("/elsewhere"),
            "answers 302 when asked for a token",
        ),
        (
            Answer::status("500 No"),
            "answers 500 when asked for a token",
        ),
    ] {
        let tokens = Server::start(move |_| answer.clone());
        let server = Server::start(wanting(tokens.url("/token")));
        let error = plain().registry.manifest(&image(&server)).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn without_encryption_only_where_that_is_meant() {
    for (name, fits) in [
        ("localhost", true),
        ("localhost:5000", true),
        ("127.1.2.3:80", true),
        ("[::1]:5000", true),
        ("localhost.example", false),
        ("128.0.0.1", false),
        ("[::2]", false),
    ] {
        assert_eq!(super::super::is_loopback(name), fits, "{name}");
    }
    let server = Server::encrypted(|_| manifest());
    let client = client(|options| options.plain_http = PlainHttp::Loopback);
    let error = client.registry.manifest(&image(&server)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }), "{error}");
    assert!(error.hint().unwrap().contains("certs.d"));
}

#[tokio::test]
async fn a_folder_has_a_registry_s_own_authority() {
    let server = Server::encrypted(|_| manifest());
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join(registry_name(&server));
    fs_err::create_dir(&folder).unwrap();
    fs_err::write(folder.join("ca.crt"), &server.certificate).unwrap();
    let client = client(|options| {
        options.plain_http = PlainHttp::Loopback;
        options.certificates = vec![directory.path().to_owned()];
    });
    client.registry.manifest(&image(&server)).await.unwrap();
}

#[test]
fn nothing_secret_is_shown() {
    let login = Login::Password {
        user: "me".to_owned(),
        password: "hunter2".to_owned(),
    };
    let token = Login::IdentityToken("hunter2".to_owned());
    let shown = format!("{login:?} {token:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("me"),
        "{shown}"
    );
}
