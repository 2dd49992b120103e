//! Guests that do what no agent does: each ends the build with one clear error, and leaves nothing.

use crate::place::Place;

#[test]
fn a_layer_that_is_not_what_it_says_is_refused() {
    let place = Place::new();
    for (what, expected) in [
        (
            "parent",
            "`../../escape` at byte 0 of the layer is not valid: its path has a `..` part",
        ),
        ("absolute", "its path has a `..` part"),
        ("terabyte", "ends"),
        ("link", "missing"),
        ("nonsense", "not valid"),
        ("large", "more than 8388608 bytes came"),
        ("truncated", "without its last chunk"),
        (
            "chunk",
            "the checksum of the chunk at byte 600 does not match",
        ),
        ("whole", "the checksum of the whole does not match"),
        ("checksum-length", "the checksum of the chunk at byte 0"),
        ("after-end", "a chunk came after the last one"),
        ("empty-chunk", "an empty chunk"),
        ("no-chunk", "a message without a chunk"),
        ("mixed", "mixed the layers of two commands"),
        ("other", "a command that does not run"),
        ("none", "the stream ended after 0 bytes"),
    ] {
        let text = format!("FROM scratch\nRUN touch one\nRUN bad-layer {what}\n");
        let error = place.failure(&text);
        println!("{error}");
        assert!(
            error.contains("the build VM broke the protocol: "),
            "{error}"
        );
        assert!(error.contains(expected), "{what}: {error}");
        assert_eq!(place.cached(), 1, "{what}");
    }
}

#[test]
fn a_guest_that_speaks_of_other_commands_is_refused() {
    let place = Place::new();
    for (command, expected) in [
        ("no-how", "did not say how a command ended"),
        ("finish-other", "a command that does not run"),
        ("say-other", "a command that does not run"),
    ] {
        let error = place.failure(&format!("FROM scratch\nRUN touch one\nRUN {command}\n"));
        assert!(error.contains("broke the protocol"), "{error}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(place.cached(), 1);
    }
}

#[test]
fn only_what_was_offered_can_be_read() {
    let place = Place::new();
    let told = place.build("FROM scratch\nRUN touch one\n");
    let layer = firebuild_oci::find_image(&place.host.store, &crate::place::name())
        .unwrap()
        .config
        .rootfs
        .diff_ids[0];
    told.result.unwrap();
    for path in [
        "../../etc/passwd".to_owned(),
        "/etc/passwd".to_owned(),
        "layers/../../../etc/passwd".to_owned(),
        String::new(),
        // It is in the store, but this VM has no use for it.
        format!("layers/{layer}"),
    ] {
        let told = place.build(&format!("FROM scratch\nRUN touch two\nRUN fetch {path}\n"));
        let line = told
            .events
            .iter()
            .find(|event| event.contains(" 3 Stdout: "));
        let line = line.unwrap();
        assert!(line.contains("is not a resource of this build"), "{line}");
    }
}

#[test]
fn what_a_guest_can_make_the_host_keep_is_bounded() {
    // Memory is the whole process's, so this has one of its own.
    if std::env::var_os("FIREBUILD_TEST_ALONE").is_none() {
        let name = "hostile::what_a_guest_can_make_the_host_keep_is_bounded";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", name, "--nocapture"]);
        alone.env("FIREBUILD_TEST_ALONE", "1");
        assert!(alone.status().unwrap().success());
        return;
    }
    let place = Place::new();
    let before = peak();
    let error = place.failure("FROM scratch\nRUN flood\n");
    assert!(
        error.ends_with("the command exited with status 1"),
        "{error}"
    );
    let grown = peak() - before;
    println!("a flood of 200 MB took {} MiB", grown >> 20);
    assert!(grown < 64 << 20, "{grown}");
    let error = place.failure("FROM scratch\nRUN empty-lines 2000000\n");
    assert!(
        error.contains("more than 131072 lines in one message"),
        "{error}"
    );
    let grown = peak() - before;
    println!("two million lines in one message took {} MiB", grown >> 20);
    assert!(grown < 192 << 20, "{grown}");
    let told = place.build("FROM scratch\nRUN empty-lines 60000\n");
    assert!(told.result.is_ok());
    let lines = told
        .events
        .iter()
        .filter(|event| event.ends_with("Stderr: "));
    assert_eq!(lines.count(), 60_000);
}

/// The most memory that this process ever had, in bytes.
fn peak() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_ascii_whitespace().nth(1).unwrap();
    number.parse::<u64>().unwrap() * 1024
}
