//! `build --timeline`, as a browser shows it.

use std::path::Path;
use std::process::Command;

use crate::session as fresh;
use crate::session::{Outcome, Session};

/// Two stages and a third that waits for both, with a file whose name would be a program.
const TEXT: &str = "FROM scratch AS files\nCOPY one /\nCOPY two /<img/src=x/onerror=alert(1)>\n\
     FROM scratch AS other\nCOPY two /\n\
     FROM scratch\nCOPY --from=files / /files/\nCOPY --from=other / /other/\n";

/// What the browser makes of the page, and what it has to say about it.
fn browsed(session: &Session, page: &Path, arguments: &[&str]) -> Outcome {
    let profile = session.path("profile");
    let mut chromium = Command::new("chromium");
    chromium
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * 127.0.0.1",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .env("HOME", session.path("home"));
    Outcome::of(&mut chromium).success()
}

#[test]
fn a_browser_shows_stages_bars_and_the_critical_path() {
    let (session, _root) = fresh();
    session.write("context/one", vec![7; 40 << 20]);
    session.write("context/two", "2");
    session.write("context/Dockerfile", TEXT);
    session.ok(&["build", "context"]);
    session.write("context/two", "changed");
    let page = session.path("page.html");
    let built = session.build(TEXT, &["-t", "shown", "--timeline", "page.html"]);
    let digest = built.success().stdout;
    let shown = browsed(&session, &page, &["--dump-dom"]);
    assert!(!shown.stderr.contains("CONSOLE"), "{}", shown.stderr);
    let dom = &shown.stdout;
    let count = |what: &str| dom.matches(what).count();
    assert!(
        dom.contains("<h1>shown:latest</h1>") || dom.contains("<h1>shown</h1>"),
        "{dom}"
    );
    assert!(dom.contains(digest.trim_end()), "{dom}");
    assert_eq!(count("<g class=\"stage\">"), 3, "{dom}");
    assert_eq!(count("<g class=\"bar "), 8, "{dom}");
    assert_eq!(count("<g class=\"bar cached"), 1, "{dom}");
    assert_eq!(count("<tr class=\""), 8, "{dom}");
    assert!(count("<rect class=\"critical\"") >= 1, "{dom}");
    assert!(dom.contains("&lt;img/src=x"), "{dom}");
    assert_eq!(count("<img"), 0, "{dom}");
    let picture = session.path("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    browsed(&session, &page, &[&screenshot, "--window-size=1300,900"]);
    let bytes = fs_err::read(&picture).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000);
}

#[test]
fn the_browser_would_tell_of_what_the_page_must_not_have() {
    let (session, _root) = fresh();
    session.write("context/one", "1");
    let text = "FROM scratch\nCOPY one /\n";
    session.build(text, &["--timeline", "page.html"]).success();
    let page = fs_err::read_to_string(session.path("page.html")).unwrap();
    let with = page.replace("</main>", "<script>document.title = 'x'</script></main>");
    let with = session.write("with.html", with);
    let shown = browsed(&session, &with, &["--dump-dom"]);
    assert!(shown.stderr.contains("CONSOLE"), "{}", shown.stderr);
    assert!(
        !shown.stdout.contains("<title>x</title>"),
        "{}",
        shown.stdout
    );
}

#[test]
fn a_failed_build_has_a_timeline_too() {
    let (session, _root) = fresh();
    session.write("context/one", "1");
    let text = "FROM scratch\nCOPY one /\nCOPY missing /\n";
    session.build(text, &["--timeline", "page.html"]).failure();
    let page = fs_err::read_to_string(session.path("page.html")).unwrap();
    assert!(page.contains("The build failed."), "{page}");
    assert!(page.contains("<g class=\"bar failed"), "{page}");
    let nowhere = session.build(text, &["--timeline", "no/such/page.html"]);
    assert!(nowhere.failure().contains("no/such/page.html"));
}
