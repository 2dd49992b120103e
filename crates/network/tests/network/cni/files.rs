//! Configurations as they are found on hosts, and as nobody should write them.

use std::time::Instant;

use firebuild_network::Error;
use firebuild_network::cni::CniError;
use serde_json::json;

use super::{configure, driver, request, write};
use crate::rig::{Host, on_host};

/// What is wrong with the network `alpine` as it is configured.
fn trouble(host: &Host) -> String {
    match driver(host).validate(&request(1, &[])) {
        Ok(()) => "nothing".to_owned(),
        Err(Error::Cni(error)) => error.to_string(),
        Err(error) => unreachable!("{error}"),
    }
}

#[test]
fn a_network_is_found_by_name_lists_before_single_plugins_in_the_order_of_files() {
    on_host(|host| {
        let of = |plugin: &str| json!({"name": "alpine", "plugins": [{"type": plugin}]});
        let needs = |plugin: &str| format!("CNI network `alpine` needs the plugin `{plugin}`, ");
        let found = |plugin: &str| {
            let trouble = trouble(host);
            assert!(trouble.starts_with(&needs(plugin)), "{trouble}");
        };
        configure(
            host,
            "net.d/a.json",
            &json!({"name": "alpine", "type": "seventh"}),
        );
        found("seventh");
        configure(
            host,
            "conf.d/b.json",
            &json!({"name": "alpine", "type": "sixth"}),
        );
        found("sixth");
        configure(
            host,
            "conf.d/a.conf",
            &json!({"name": "alpine", "type": "fifth"}),
        );
        found("fifth");
        configure(host, "net.d/a.conflist", &of("fourth"));
        found("fourth");
        configure(host, "conf.d/c.conflist", &of("third"));
        found("third");
        configure(host, "conf.d/b.conflist", &of("second"));
        found("second");
        // None of these is it.
        configure(
            host,
            "conf.d/a.conflist",
            &json!({"name": "alpine2", "plugins": [{"type": "x"}]}),
        );
        configure(host, "conf.d/a.conflist.bak", &of("backup"));
        configure(host, "conf.d/a", &of("nothing"));
        write(host, "conf.d/0.conflist", b"[");
        found("second");
        let known = driver(host).networks().unwrap();
        let named = known
            .iter()
            .filter(|file| file.network.as_deref() == Ok("alpine"));
        assert_eq!((known.len(), named.count()), (8, 6));
    });
}

#[test]
fn what_is_no_configuration_is_one_clear_error() {
    on_host(|host| {
        let deep = [vec![b'['; 1 << 18], vec![b']'; 1 << 18]].concat();
        let many =
            json!({"name": "alpine", "plugins": vec![json!({"type": "bridge"}); 65]}).to_string();
        let long = format!("{{\"name\":\"alpine\",\"x\":\"{}\"}}", "a".repeat(2 << 20));
        let cases: [(&[u8], &str); 20] = [
            (b"", "EOF while parsing"),
            (b"{", "EOF while parsing"),
            (b"\xff\xfe", "expected value"),
            (b"7", "it is no JSON object"),
            (b"{}", "it has neither `plugins` nor `type`"),
            (&deep, "recursion limit exceeded"),
            (long.as_bytes(), "it is longer than 1048576 bytes"),
            (br#"{"plugins":[]}"#, "it has no `name`"),
            (br#"{"name":7,"plugins":[]}"#, "it has no `name`"),
            (
                br#"{"name":"../x","plugins":[{"type":"a"}]}"#,
                "`../x` cannot name a network",
            ),
            (
                br#"{"name":"","plugins":[{"type":"a"}]}"#,
                "`` cannot name a network",
            ),
            (br#"{"name":"alpine","plugins":{}}"#, "`plugins` is no list"),
            (
                br#"{"name":"alpine","plugins":[]}"#,
                "it has 0 plugins, and 1 to 64 can be",
            ),
            (many.as_bytes(), "it has 65 plugins, and 1 to 64 can be"),
            (
                br#"{"name":"alpine","plugins":[7]}"#,
                "one of its plugins is no JSON object",
            ),
            (
                br#"{"name":"alpine","plugins":[{}]}"#,
                "one of its plugins has no `type`",
            ),
            (
                br#"{"name":"alpine","plugins":[{"type":"../../bin/sh"}]}"#,
                "`../../bin/sh` cannot name a plugin",
            ),
            (
                br#"{"name":"alpine","plugins":[{"type":".."}]}"#,
                "`..` cannot name a plugin",
            ),
            (
                br#"{"name":"alpine","cniVersion":"9.9","plugins":[{"type":"a"}]}"#,
                "version `9.9` of CNI is not among those known here",
            ),
            (
                br#"{"name":"alpine","disableCheck":"maybe","plugins":[{"type":"a"}]}"#,
                "`disableCheck` is neither true nor false",
            ),
        ];
        for (text, expected) in cases {
            write(host, "conf.d/alpine.conflist", text);
            let trouble = trouble(host);
            assert!(
                trouble.starts_with("no CNI network is called `alpine`"),
                "{trouble}"
            );
            assert!(trouble.contains(expected), "{trouble}");
            assert!(trouble.len() < 1_000, "{trouble}");
        }
    });
}

#[test]
fn a_pipe_or_a_directory_in_place_of_a_file_holds_nobody_up() {
    on_host(|host| {
        write(host, "conf.d/beside.txt", b"");
        fs_err::create_dir(host.path("conf.d/a.conflist")).unwrap();
        nix::unistd::mkfifo(
            &host.path("conf.d/b.conflist"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .unwrap();
        fs_err::os::unix::fs::symlink("/dev/zero", host.path("conf.d/c.conflist")).unwrap();
        fs_err::os::unix::fs::symlink("nothing", host.path("conf.d/d.conflist")).unwrap();
        let begun = Instant::now();
        let trouble = trouble(host);
        for file in ["a", "b", "c"] {
            let expected = format!("{file}.conflist` cannot be used: it is no file");
            assert!(trouble.contains(&expected), "{trouble}");
        }
        assert!(begun.elapsed().as_secs() < 30);
    });
}

#[test]
fn a_missing_directory_is_a_network_that_is_not_there() {
    on_host(|host| {
        let error = driver(host).validate(&request(1, &[])).unwrap_err();
        assert!(
            matches!(error, Error::Cni(CniError::NoNetwork { .. })),
            "{error}"
        );
        assert!(driver(host).networks().unwrap().is_empty());
    });
}
