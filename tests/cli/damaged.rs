//! VMs whose files cannot be understood: they are named, can be removed, and are in nobody's way.

use crate::session;
use crate::session::Session;

const IDS: [&str; 2] = ["aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb"];

/// Two VMs that have ended: of one not even its name is known, of the other only that.
fn hurt(session: &Session) {
    let files = [
        (IDS[0], "{\"id\":", "{}"),
        (
            IDS[1],
            r#"{"id":"bbbbbbbbbbbbbbbbbbbb","name":"web"}"#,
            r#"{"Newer":1}"#,
        ),
    ];
    for (id, identity, record) in files {
        let directory = session.root().join("v1/machines").join(id);
        fs_err::create_dir_all(&directory).unwrap();
        fs_err::write(directory.join("identity.json"), identity).unwrap();
        fs_err::write(directory.join("record.json"), record).unwrap();
    }
}

#[test]
fn they_are_listed() {
    let (session, _root) = session();
    session.ok(&["images"]);
    hurt(&session);
    let shown = session.ok(&["ls", "-a"]);
    let rows: Vec<Vec<&str>> = shown
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [vec![IDS[0], "damaged"], vec![IDS[1], "web", "damaged"]]
    );
    assert_eq!(session.ok(&["ls"]).lines().count(), 1);
    let shown = session.json(&["ls", "-a", "--format", "json"]);
    assert_eq!(shown[1]["Id"], IDS[1]);
    assert_eq!(shown[1]["State"]["Status"], "Damaged");
    let reason = shown[1]["State"]["Reason"].to_string();
    assert!(reason.contains("cannot be understood"), "{reason}");
    for others in [
        &["images"][..],
        &["system", "df"],
        &["metrics"],
        &["stats", "--no-stream"],
        &["volume", "ls"],
        &["system", "prune", "--force", "--dry-run"],
    ] {
        session.ok(others);
    }
}

#[test]
fn every_command_about_one_says_what_to_type() {
    let (session, _root) = session();
    session.ok(&["images"]);
    hurt(&session);
    for arguments in [
        &["inspect"][..],
        &["start"],
        &["stop"],
        &["kill"],
        &["logs"],
        &["wait"],
        &["pause"],
        &["top"],
        &["port"],
    ] {
        let said = session.run(&[arguments, &["web"]].concat()).failure();
        assert!(
            said.contains(&format!(
                "error: the record of VM `{}` cannot be understood\n",
                IDS[1]
            )) && said.contains(&format!("`firebuild rm {}` removes it", IDS[1])),
            "{arguments:?}: {said}"
        );
    }
    let said = session.run(&["rename", IDS[0], "new"]).failure();
    assert!(said.contains("the identity of VM"), "{said}");
    assert!(said.contains("`firebuild rm`"), "{said}");
}

#[test]
fn they_can_be_removed() {
    let (session, _root) = session();
    session.ok(&["images"]);
    for arguments in [
        &["rm", IDS[0], "web"][..],
        &["rm", "--force", IDS[0], "web"],
        &["purge"],
    ] {
        hurt(&session);
        assert_eq!(session.ok(arguments).lines().count(), 2);
        assert_eq!(session.ok(&["ls", "-a"]).lines().count(), 1);
        let left = fs_err::read_dir(session.root().join("v1/machines")).unwrap();
        assert_eq!(left.count(), 0, "{arguments:?}");
    }
}
