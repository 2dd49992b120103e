//! "RUN".

use firebuild_dockerfile::mount::Mount;
use firebuild_dockerfile::{Expander, InstructionKind, Run};

use crate::{last, refused, shown};

fn run(text: &str) -> Run {
    match last(text).kind {
        InstructionKind::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn mount(text: &str, environment: &[(&str, &str)]) -> Result<Mount, String> {
    let run = run(&format!("RUN --mount={text} x"));
    let resolved = run.mounts[0].resolve(&Expander::default(), &environment.to_vec());
    resolved.map_err(|error| error.to_string())
}

#[test]
fn mounts_are_typed() {
    let none = r#""uid":null"#;
    let access = format!(r#""access":{{"gid":null,"mode":null,{none}}}"#);
    for (text, fields) in [
        (
            "target=/a",
            r#"{"from":null,"read_only":true,"source":null,"target":"/a","type":"bind"}"#.to_owned(),
        ),
        (
            "type=bind,from=b,src=/c,dst=/a,rw",
            r#"{"from":"b","read_only":false,"source":"/c","target":"/a","type":"bind"}"#.to_owned(),
        ),
        (
            "TYPE=BIND,destination=/a,readonly=false",
            r#"{"from":null,"read_only":false,"source":null,"target":"/a","type":"bind"}"#.to_owned(),
        ),
        (
            "type=cache,target=/c,sharing=LOCKED,mode=0700,uid=5,gid=6",
            r#"{"access":{"gid":6,"mode":448,"uid":5},"from":null,"id":null,"read_only":false,"sharing":"locked","source":null,"target":"/c","type":"cache"}"#.to_owned(),
        ),
        (
            "type=cache,target=/c,id=i,from=f,source=/s,ro=1",
            format!(r#"{{{access},"from":"f","id":"i","read_only":true,"sharing":"shared","source":"/s","target":"/c","type":"cache"}}"#),
        ),
        (
            "type=tmpfs,target=/t,size=1.5m",
            r#"{"read_only":false,"size":1572864,"target":"/t","type":"tmpfs"}"#.to_owned(),
        ),
        (
            "type=secret,id=a/b",
            format!(r#"{{{access},"env":null,"id":"a/b","required":false,"target":"/run/secrets/b","type":"secret"}}"#),
        ),
        (
            "type=secret,target=/x/y,required",
            format!(r#"{{{access},"env":null,"id":"y","required":true,"target":"/x/y","type":"secret"}}"#),
        ),
        (
            "type=secret,src=a,env=TOKEN",
            format!(r#"{{{access},"env":"TOKEN","id":"a","required":false,"target":null,"type":"secret"}}"#),
        ),
        (
            "type=secret,id=a,env=,target=t",
            format!(r#"{{{access},"env":"a","id":"a","required":false,"target":"t","type":"secret"}}"#),
        ),
        (
            "type=ssh",
            format!(r#"{{{access},"id":"default","required":false,"target":null,"type":"ssh"}}"#),
        ),
        (
            "'type=cache,\"target=/a,b\"'",
            format!(r#"{{{access},"from":null,"id":null,"read_only":false,"sharing":"shared","source":null,"target":"/a,b","type":"cache"}}"#),
        ),
    ] {
        let mount = mount(text, &[]).unwrap();
        assert_eq!(serde_json::to_value(mount).unwrap().to_string(), fields, "{text}");
    }
}

#[test]
fn mounts_are_expanded() {
    let environment = [("kind", "cache"), ("dir", "/d"), ("n", "x")];
    let Mount::Cache(cache) = mount("type=$kind,target=${dir}/a,id=\\$x", &environment).unwrap()
    else {
        panic!();
    };
    assert_eq!(cache.target.as_deref(), Some("/d/a"));
    let late = mount("type=cache,target=/a,uid=$n", &environment);
    assert_eq!(late.unwrap_err(), "invalid value `x` of key `uid`");
    let late = mount("type=cache,target=${n:?}${no:?}", &environment);
    assert_eq!(late.unwrap_err(), "no: is not allowed to be unset");
    let run = run("RUN --mount=from=a,target=$b --mount=type=tmpfs,target=/t x");
    let from: Vec<_> = run.mounts.iter().map(|mount| mount.from()).collect();
    assert_eq!(from, [Some("a"), None]);
    assert_eq!(run.flags.len(), 2);
}

#[test]
fn keys_of_mounts_can_be_wrong() {
    for (text, marked, message) in [
        ("type=bnd", "type=bnd", "invalid value `bnd` of key `type`"),
        (
            "type=cache,tarject=/a",
            "tarject=/a",
            "unexpected key `tarject`; did you mean `target`?",
        ),
        ("target", "target", "key `target` must have a value"),
        (
            "from=$a,target=/a",
            "from=$a",
            "`from` doesn't support variable expansion, define an alias stage instead",
        ),
        (
            "target=/a,mode=0700",
            "mode=0700",
            "key `mode` does not go with a mount of type `bind`",
        ),
        (
            "type=tmpfs,target=/a,uid=1",
            "uid=1",
            "key `uid` does not go with a mount of type `tmpfs`",
        ),
        (
            "target=/a,required",
            "required",
            "key `required` does not go with a mount of type `bind`",
        ),
        (
            "type=cache,target=/a,size=1",
            "size=1",
            "key `size` does not go with a mount of type `cache`",
        ),
        (
            "type=bind,target=/a,sharing=shared",
            "sharing=shared",
            "key `sharing` does not go with a mount of type `bind`",
        ),
    ] {
        check(text, marked, message);
    }
}

#[test]
fn values_of_mounts_can_be_wrong() {
    for (text, marked, message) in [
        (
            "type=cache,target=/a,sharing=x",
            "sharing=x",
            "invalid value `x` of key `sharing`",
        ),
        (
            "type=cache,target=/a,mode=8",
            "mode=8",
            "invalid value `8` of key `mode`",
        ),
        (
            "type=tmpfs,target=/a,size=1x",
            "size=1x",
            "invalid value `1x` of key `size`",
        ),
        (
            "target=/a,ro=2",
            "ro=2",
            "invalid value `2` of key `readonly`",
        ),
        (
            "type=secret",
            "type=secret",
            "a secret needs one of id, source and target",
        ),
        (
            "type=secret,id=a,src=b",
            "type=secret,id=a,src=b",
            "both source and id can't be set",
        ),
        (
            "type=secret,id=a,from=b",
            "from=b",
            "key `from` does not go with a mount of type `secret`",
        ),
        (
            "'target=\"/a'",
            "target=\"/a",
            "quotes in a comma-separated list do not match",
        ),
    ] {
        check(text, marked, message);
    }
}

#[track_caller]
fn check(mount: &str, marked: &str, message: &str) {
    let (_, _, found, error) = refused(&format!("RUN --mount={mount} x"));
    assert_eq!(found, marked, "{mount}");
    assert_eq!(error, format!("invalid `--mount`: {message}"), "{mount}");
}

#[test]
fn other_flags() {
    for (text, fields) in [
        (
            "RUN --network=none --security=insecure a",
            r#"{"command":{"shell":"a"},"network":"none","security":"insecure"}"#,
        ),
        (
            "RUN --device=vendor.example/gpu=all,required a",
            r#"{"command":{"shell":"a"},"devices":[{"name":"vendor.example/gpu=all","required":true}]}"#,
        ),
        (
            "RUN --device=name=x,required=false a",
            r#"{"command":{"shell":"a"},"devices":[{"name":"x","required":false}]}"#,
        ),
    ] {
        assert_eq!(shown(text), fields, "{text}");
    }
    for (text, message) in [
        (
            "RUN --network=bridge a",
            "invalid value `bridge` of flag `--network`",
        ),
        (
            "RUN --security=none a",
            "invalid value `none` of flag `--security`",
        ),
        (
            "RUN --device=required a",
            "invalid value `required` of flag `--device`",
        ),
        (
            "RUN --device=a,b a",
            "invalid value `a,b` of flag `--device`",
        ),
    ] {
        assert_eq!(refused(text).3, message, "{text}");
    }
}
