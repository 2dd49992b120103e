//! "Config instructions".

use firebuild_dockerfile::{Expander, InstructionKind, expose};

use crate::{last, refused, shown};

#[test]
fn env_and_label_have_pairs() {
    let one = |name: &str, value: &str| {
        format!(r#"{{"assignments":[{{"name":"{name}","value":"{value}"}}]}}"#)
    };
    let legacy = |name: &str, value: &str| {
        format!(r#"{{"assignments":[{{"name":"{name}","value":"{value}"}}],"legacy":true}}"#)
    };
    for keyword in ["ENV", "LABEL"] {
        for (text, fields) in [
            ("a=b", one("a", "b")),
            ("a=", one("a", "")),
            ("a=b\\ c", one("a", "b\\\\ c")),
            ("a='b c'", one("a", "'b c'")),
            ("a=b=c", one("a", "b=c")),
            ("a=$b", one("a", "$b")),
            ("a=b\\", one("a", "b")),
            ("'a b'=c", one("'a b'", "c")),
            ("a b", legacy("a", "b")),
            ("a  b  c=d ", legacy("a", "b  c=d")),
            ("a \\\n  b", legacy("a", "b")),
            ("a 'b", legacy("a", "'b")),
        ] {
            assert_eq!(
                shown(&format!("{keyword} {text}")),
                fields,
                "{keyword} {text}"
            );
        }
        for (text, message) in [
            ("", format!("{keyword} requires at least one argument")),
            (
                "a",
                format!("{keyword} must have two arguments, a name and its value"),
            ),
            ("a=b c", "can't find = in `c`".to_owned()),
            ("=b", format!("{keyword} names can not be blank")),
            ("a=b =c", format!("{keyword} names can not be blank")),
        ] {
            assert_eq!(refused(&format!("{keyword} {text}")).3, message, "{text}");
        }
    }
    let several = shown("ENV a=1 \\\n  b=\"2 3\" \\\n c=\\\"");
    assert_eq!(
        several,
        r#"{"assignments":[{"name":"a","value":"1"},{"name":"b","value":"\"2 3\""},{"name":"c","value":"\\\""}]}"#
    );
}

#[test]
fn some_have_one_value() {
    for (text, fields) in [
        ("WORKDIR  a b ", r#"{"path":"a b"}"#),
        ("USER $a:b", r#"{"user":"$a:b"}"#),
        ("STOPSIGNAL $SIG", r#"{"signal":"$SIG"}"#),
        ("MAINTAINER A B <c@d>", r#"{"author":"A B <c@d>"}"#),
    ] {
        assert_eq!(shown(text), fields, "{text}");
        let keyword = text.split(' ').next().unwrap();
        let message = format!("{keyword} requires exactly one argument");
        assert_eq!(refused(keyword).3, message);
    }
}

#[test]
fn commands_may_not_be_missing() {
    for keyword in ["CMD", "ENTRYPOINT", "RUN", "SHELL"] {
        let message = format!("{keyword} requires at least one argument");
        assert_eq!(refused(keyword).3, message);
    }
    assert_eq!(shown("ENTRYPOINT []"), r#"{"command":{"exec":[]}}"#);
    let form = "SHELL requires the arguments to be in JSON form";
    assert_eq!(refused("SHELL sh -c").3, form);
    assert_eq!(
        refused("SHELL []").3,
        "SHELL requires at least one argument"
    );
}

#[test]
fn expose_keeps_its_words() {
    assert_eq!(shown("EXPOSE 80  $p/udp"), r#"{"ports":["80","$p/udp"]}"#);
    assert_eq!(refused("EXPOSE").3, "EXPOSE requires at least one argument");
    let InstructionKind::Expose(instruction) = last("EXPOSE $ports 90").kind else {
        panic!();
    };
    let environment = vec![("ports", "80/UDP 81-82")];
    let ports = instruction.ports.iter().flat_map(|word| {
        let words = Expander::default().words(word, &environment).unwrap();
        words
            .value
            .into_iter()
            .flat_map(|word| expose::parse(&word).unwrap())
    });
    let ports: Vec<_> = ports.map(|port| port.to_string()).collect();
    assert_eq!(ports, ["80/udp", "81/tcp", "82/tcp", "90/tcp"]);
}

#[test]
fn volumes_have_names() {
    assert_eq!(shown("VOLUME /a $b"), r#"{"paths":["/a","$b"]}"#);
    assert_eq!(
        shown(r#"VOLUME [" /a "]"#),
        r#"{"json":true,"paths":["/a"]}"#
    );
    for text in [r#"VOLUME [""]"#, r#"VOLUME ["/a", " "]"#] {
        assert_eq!(
            refused(text).3,
            "VOLUME specified can not be an empty string"
        );
    }
    for text in ["VOLUME", "VOLUME []"] {
        assert_eq!(refused(text).3, "VOLUME requires at least one argument");
    }
}

#[test]
fn healthchecks() {
    let text = "HEALTHCHECK --interval=1m30s --timeout=0 --start-period=1ms \
                --start-interval=.5s --retries=3 cmd  a $b";
    assert_eq!(
        shown(text),
        r#"{"command":{"shell":"a $b"},"interval_ns":90000000000,"retries":3,"start_interval_ns":500000000,"start_period_ns":1000000,"timeout_ns":0,"type":"CMD"}"#
    );
    assert_eq!(shown("HEALTHCHECK none"), r#"{"type":"NONE"}"#);
    for (text, message) in [
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "missing command after HEALTHCHECK CMD"),
        (
            "HEALTHCHECK CMD []",
            "missing command after HEALTHCHECK CMD",
        ),
        ("HEALTHCHECK curl x", "unknown type `curl` in HEALTHCHECK"),
        (
            "HEALTHCHECK --interval=5 CMD a",
            "invalid value of flag `--interval`: `5` has no unit",
        ),
        (
            "HEALTHCHECK --timeout=1us CMD a",
            "invalid value of flag `--timeout`: `1us` is less than 1ms",
        ),
        (
            "HEALTHCHECK --retries=-1 CMD a",
            "invalid value `-1` of flag `--retries`",
        ),
        (
            "HEALTHCHECK --retrys=1 CMD a",
            "unknown flag `--retrys` of HEALTHCHECK; did you mean `--retries`?",
        ),
    ] {
        assert_eq!(refused(text).3, message, "{text}");
    }
}

#[test]
fn onbuild_holds_an_instruction() {
    let InstructionKind::Onbuild(onbuild) = last("ONBUILD  copy --from=a b \\\n  $c").kind else {
        panic!();
    };
    assert_eq!(onbuild.expression, "copy --from=a b   $c");
    assert_eq!(onbuild.inner.kind.name(), "COPY");
    assert_eq!(onbuild.inner.span.start.column, 10);
    for (text, column, message) in [
        ("ONBUILD", 8, "ONBUILD requires at least one argument"),
        (
            "ONBUILD ONBUILD RUN a",
            9,
            "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "ONBUILD FROM a",
            9,
            "FROM isn't allowed as an ONBUILD trigger",
        ),
        (
            "ONBUILD maintainer a",
            9,
            "MAINTAINER isn't allowed as an ONBUILD trigger",
        ),
        (
            "ONBUILD RNU a",
            9,
            "unknown instruction `RNU`; did you mean `RUN`?",
        ),
        (
            "ONBUILD ENV a",
            13,
            "ENV must have two arguments, a name and its value",
        ),
        ("ONBUILD --x RUN a", 9, "unknown flag `--x` of ONBUILD"),
    ] {
        let (_, at, _, error) = refused(text);
        assert_eq!((at, error.as_str()), (column, message), "{text}");
    }
}
