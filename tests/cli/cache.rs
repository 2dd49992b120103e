//! What is built anew, and what is not.

use std::time::{Duration, SystemTime};

use crate::session as fresh;
use crate::session::{Outcome, Session};

const TEXT: &str = "FROM scratch\nCOPY one /one\nCOPY two /two\n";

fn prepared(session: &Session) -> String {
    session.write("context/one", "1");
    session.write("context/two", "2");
    let first = session.build(TEXT, &["-t", "cached"]).success();
    assert_eq!(cached(&first), Vec::<&str>::new());
    first.stdout
}

/// The steps that were cached, such as `2/3`.
fn cached(outcome: &Outcome) -> Vec<&str> {
    outcome
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("[stage-0 ")?.strip_suffix("] cached"))
        .collect()
}

#[test]
fn the_same_again_is_all_cached() {
    let (session, _root) = fresh();
    let first = prepared(&session);
    let second = session.build(TEXT, &["-t", "cached"]).success();
    assert_eq!(cached(&second), ["2/3", "3/3"]);
    assert_eq!(second.stdout, first);
    let anew = session.build(TEXT, &["--no-cache"]).success();
    assert_eq!(cached(&anew), Vec::<&str>::new());
}

#[test]
fn times_and_comments_do_not_matter() {
    let (session, _root) = fresh();
    let first = prepared(&session);
    let file = fs_err::File::options()
        .append(true)
        .open(session.path("context/one"))
        .unwrap();
    file.file()
        .set_modified(SystemTime::now() - Duration::from_secs(86_400))
        .unwrap();
    let touched = session.build(TEXT, &[]).success();
    assert_eq!(cached(&touched), ["2/3", "3/3"]);
    let commented = format!("# What this is.\n{TEXT}# The end.\n");
    let commented = session.build(&commented, &[]).success();
    assert_eq!(cached(&commented), ["2/3", "3/3"]);
    assert_eq!(commented.stdout, first);
    session.write("context/unrelated", "never copied");
    let beside = session.build(TEXT, &[]).success();
    assert_eq!(cached(&beside), ["2/3", "3/3"]);
}

#[test]
fn changed_content_is_built_anew_from_where_it_is_read() {
    let (session, _root) = fresh();
    let first = prepared(&session);
    session.write("context/two", "two");
    let second = session.build(TEXT, &[]).success();
    assert_eq!(cached(&second), ["2/3"]);
    assert_ne!(second.stdout, first);
    session.write("context/two", "2");
    let back = session.build(TEXT, &[]).success();
    assert_eq!(cached(&back), ["2/3", "3/3"]);
    assert_eq!(back.stdout, first);
    session.write("context/one", "one");
    let above = session.build(TEXT, &[]).success();
    assert_eq!(cached(&above), Vec::<&str>::new());
}

#[test]
fn the_same_twice_at_once_is_the_same_image_twice() {
    let (session, _root) = fresh();
    session.write("context/one", vec![7; 3 << 20]);
    session.write("context/two", "2");
    session.write("context/Dockerfile", TEXT);
    let builds: Vec<_> = ["first", "second", "third"]
        .map(|name| {
            let mut command = session.command(&["build", "-t", name, "context"]);
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .into();
    for build in builds {
        Outcome::from(build.wait_with_output().unwrap()).success();
    }
    let layers = |name| session.json(&["image", "inspect", name])["Layers"].clone();
    assert_eq!(layers("first"), layers("second"));
    assert_eq!(layers("first"), layers("third"));
    session.run(&["purge"]).success();
    assert_eq!(session.build(TEXT, &[]).success().stdout.lines().count(), 1);
}

#[test]
fn the_cache_is_listed_and_pruned_and_images_keep_what_they_have() {
    let (session, _root) = fresh();
    session.write("context/file", "content");
    let kept = session
        .build("FROM scratch\nCOPY file /kept\n", &["-t", "kept:1"])
        .success();
    session
        .build("FROM scratch\nCOPY file /lost\n", &[])
        .success();
    let steps = |session: &Session| -> Vec<String> {
        let listed = session.json(&["build", "cache", "ls", "--format", "json"]);
        let listed = listed.as_array().unwrap().iter();
        listed
            .map(|entry| entry["Step"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(steps(&session), ["COPY file /lost", "COPY file /kept"]);
    session.ok(&["rmi", "kept:1"]);
    session
        .build("FROM scratch\nCOPY file /kept\n", &["-t", "kept:1"])
        .success();
    assert_eq!(steps(&session), ["COPY file /kept", "COPY file /lost"]);
    session.ok(&["build", "cache", "prune", "--older-than", "1h"]);
    assert_eq!(steps(&session).len(), 2);
    session.ok(&["build", "cache", "prune"]);
    let listed = steps(&session);
    assert!(listed.contains(&"COPY file /kept".to_owned()), "{listed:?}");
    let again = session.json(&["image", "inspect", "kept:1", "--format", "json"]);
    assert_eq!(again["Digest"], kept.stdout.trim_end());
}

#[test]
fn another_machine_takes_what_this_one_has_done() {
    let (here, _root) = fresh();
    let cache = here.path("exported").display().to_string();
    let text = "FROM scratch AS beside\nCOPY one /dir/beside\nFROM scratch\nCOPY two /two\nCOPY --from=beside /dir/beside /\n";
    let prepare = |session: &Session| {
        session.write("context/one", "1");
        session.write("context/two", "2");
    };
    prepare(&here);
    let to = |mode: &str| format!("type=local,dest={cache},mode={mode}");
    let from = format!("type=local,src={cache}");
    let first = here
        .build(text, &["--cache-to", &to("min"), "--cache-from", &from])
        .success();
    assert!(first.stderr.contains("wrote 2 results"), "{}", first.stderr);
    assert!(
        first.stderr.contains("there is no cache in"),
        "{}",
        first.stderr
    );
    let steps = |session: &Session| {
        let listed = session.json(&["build", "cache", "ls", "--format", "json"]);
        listed.as_array().unwrap().len()
    };
    for (mode, results) in [("min", 2), ("max", 3)] {
        let exported = here.build(text, &["--cache-to", &to(mode)]).success();
        assert_eq!(exported.stdout, first.stdout);
        let (there, _other) = fresh();
        prepare(&there);
        let imported = there.build(text, &["--cache-from", &from]).success();
        assert_eq!(imported.stdout, first.stdout, "{imported}");
        let expected = format!("wrote {results} results");
        assert!(exported.stderr.contains(&expected), "{}", exported.stderr);
        let known = imported.stderr.matches("] cached").count();
        assert_eq!((known, steps(&there)), (results, 3), "{imported}");
    }
    fs_err::write(here.path("exported/index.json"), "{}x").unwrap();
    let shown = here.build(text, &["--cache-from", &from]).failure();
    assert!(
        shown.contains("index.json") && shown.contains("is not valid"),
        "{shown}"
    );
}

#[test]
fn an_export_that_fails_leaves_the_older_archive() {
    let (session, _root) = fresh();
    let file = session.write("old.tar", "precious");
    let arguments = ["build", "cache", "export", "none", "-o", "old.tar"];
    session.run(&arguments).failure();
    assert_eq!(fs_err::read_to_string(file).unwrap(), "precious");
    let beside = fs_err::read_dir(session.path("")).unwrap().count();
    assert_eq!(beside, 1);
}
