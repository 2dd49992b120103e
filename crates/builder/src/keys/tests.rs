//! Keys as OpenSSH and OpenSSL write them; OpenSSH's own client judges the signatures.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::*;

/// Serves a keyring at a socket, one client at a time, until the test ends.
fn serve(keyring: Keyring, socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut length = [0; 4];
            while connection.read_exact(&mut length).is_ok() {
                let mut request = vec![0; u32::from_be_bytes(length) as usize];
                connection.read_exact(&mut request).unwrap();
                let answer = keyring.answer(&request);
                connection.write_all(&strings(&[&answer])).unwrap();
            }
        }
    });
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a key and its public half beside it.
fn generate(path: &Path, arguments: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    run(command
        .args(["-q", "-N", "", "-C", "someone@somewhere", "-f"])
        .arg(path)
        .args(arguments));
}

#[test]
fn every_kind_of_key_signs_what_openssh_believes() {
    let directory = tempfile::tempdir().unwrap();
    for (number, arguments) in [
        &["-t", "ed25519"][..],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "3072"],
        &["-t", "rsa", "-b", "2048", "-m", "PEM"],
        &["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
        &["-t", "ecdsa", "-b", "256", "-m", "PEM"],
        &["-t", "ecdsa", "-b", "384", "-m", "PEM"],
        &["-t", "ecdsa", "-b", "256", "-m", "PKCS8"],
        &["-t", "ecdsa", "-b", "384", "-m", "PKCS8"],
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.path().join(number.to_string());
        generate(&path, arguments);
        let keyring = Keyring::read([path.as_path()]).unwrap();
        let socket = directory.path().join(format!("{number}.socket"));
        serve(keyring, &socket);
        let public = path.with_extension("pub");
        let add = |argument: &str| {
            let mut command = Command::new("ssh-add");
            command.env("SSH_AUTH_SOCK", &socket).arg(argument);
            command
        };
        let listed = run(&mut add("-L"));
        let expected = fs_err::read_to_string(&public).unwrap();
        let two = |line: &str| {
            line.split(' ')
                .take(2)
                .map(|word| word.trim().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(two(&listed), two(&expected), "{arguments:?}");
        assert!(!listed.contains("someone"), "{listed}");
        let data = directory.path().join(format!("{number}.data"));
        fs_err::write(&data, "what is signed").unwrap();
        let mut sign = Command::new("ssh-keygen");
        sign.env("SSH_AUTH_SOCK", &socket)
            .args(["-Y", "sign", "-n", "file", "-f"]);
        run(sign.arg(&public).arg(&data));
        let mut check = Command::new("ssh-keygen");
        check.args(["-Y", "check-novalidate", "-n", "file", "-s"]);
        check.arg(data.with_extension("data.sig"));
        run(check.stdin(fs_err::File::open(&data).unwrap().into_file()));
    }
}

#[test]
fn a_request_names_a_key_and_a_way_that_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["rsa", "ed25519"].map(|kind| directory.path().join(kind));
    for path in &paths {
        let kind = path.file_name().unwrap().to_str().unwrap();
        generate(path, &["-t", kind]);
    }
    let keyring = Keyring::read(paths.iter().map(PathBuf::as_path)).unwrap();
    let [rsa, ed25519] = &keyring.0[..] else {
        panic!("{keyring:?}");
    };
    let sign = |public: &[u8], flags: &[u8]| {
        let request = strings(&[public, b"data"]);
        keyring.answer(&[&[SIGN_REQUEST], &request[..], flags].concat())
    };
    for (public, flags, expected) in [
        (rsa.public(), &[0, 0, 0, 2][..], Some(&b"rsa-sha2-256"[..])),
        (rsa.public(), &[0, 0, 0, 4], Some(b"rsa-sha2-512")),
        (rsa.public(), &[0, 0, 0, 6], Some(b"rsa-sha2-512")),
        // SHA-1.
        (rsa.public(), &[0; 4], None),
        (ed25519.public(), &[0; 4], Some(b"ssh-ed25519")),
        (ed25519.public(), &[0; 3], None),
        (b"another", &[0; 4], None),
        (b"", &[0; 4], None),
    ] {
        let answer = sign(public, flags);
        match expected {
            None => assert_eq!(answer, [FAILURE], "{flags:?}"),
            Some(kind) => {
                assert_eq!(answer[0], SIGN_RESPONSE);
                let mut signature = Reader(Reader(&answer[1..]).string().unwrap());
                assert_eq!(signature.string(), Some(kind));
            }
        }
    }
    for request in [
        &[][..],
        &[SIGN_REQUEST],
        &[19],
        &[SIGN_REQUEST, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(keyring.answer(request), [FAILURE], "{request:?}");
    }
}

#[test]
fn what_cannot_be_used_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    generate(&at("locked"), &["-t", "ed25519"]);
    generate(&at("locked-pem"), &["-t", "rsa", "-m", "PEM"]);
    for name in ["locked", "locked-pem"] {
        let mut lock = Command::new("ssh-keygen");
        run(lock
            .args(["-q", "-p", "-P", "", "-N", "secret", "-f"])
            .arg(at(name)));
    }
    generate(&at("p521"), &["-t", "ecdsa", "-b", "521"]);
    generate(&at("small"), &["-t", "rsa", "-b", "1024"]);
    fs_err::write(at("large"), vec![b' '; 100 * 1024 + 1]).unwrap();
    for (name, expected) in [
        ("locked", Some(Unusable::Encrypted)),
        ("locked-pem", Some(Unusable::Encrypted)),
        ("p521", Some(Unusable::Kind)),
        ("p521.pub", Some(Unusable::Public)),
        ("small", Some(Unusable::Kind)),
        ("large", None),
        ("missing", None),
        (".", None),
    ] {
        let error = Keyring::read([at(name).as_path()]).unwrap_err();
        match (error, expected) {
            (KeyError::Unusable { path, why }, Some(expected)) => {
                assert_eq!((path, why), (at(name), expected));
            }
            (KeyError::Read { path, .. }, None) => assert_eq!(path, at(name)),
            (error, _) => panic!("{name}: {error:?}"),
        }
    }
}
