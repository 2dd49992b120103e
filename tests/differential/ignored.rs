//! `.dockerignore`.

use std::fmt::Write as _;

use crate::judge::Judge;

const FILES: [&str; 13] = [
    "a.txt",
    "b.md",
    "dir/a.txt",
    "dir/b.md",
    "dir/sub/a.txt",
    "dir/sub/deep/c.log",
    "node_modules/x/index.js",
    "node_modules/keep/index.js",
    "src/node_modules/y.js",
    "src/main.rs",
    "src/test/main.rs",
    "temp1",
    "temp12",
];

/// Ignore files, and what buildah 1.28 makes of them otherwise.
const CASES: [(&str, &[&str]); 44] = [
    ("", &[]),
    ("a.txt", &[]),
    ("/a.txt", &[]),
    ("*.txt", &[]),
    ("**/*.txt", &[]),
    ("*/*.txt", &[]),
    ("*/a.txt", &[]),
    ("dir", &[]),
    ("dir/", &[]),
    ("/dir/", &[]),
    ("./dir", &[]),
    ("dir/../a.txt", &[]),
    ("dir/sub", &[]),
    ("dir/*", &[]),
    ("dir/**", &[]),
    ("**/sub", &[]),
    ("**/deep/**", &[]),
    ("**/node_modules", &[]),
    ("node_modules", &[]),
    ("temp?", &[]),
    ("temp??", &[]),
    ("temp*", &[]),
    ("[ab].*", &[]),
    ("[^a]*", &[]),
    ("[a-c].??", &[]),
    ("*\n!a.txt", &[]),
    ("*\n!dir/sub", &[]),
    ("*\n!dir/sub/deep/c.log", &[]),
    // BuildKit enters directories that are left out if something below may be taken in again.
    (
        "**\n!**/*.md",
        &[
            "+ c/dir/b.md: 644 0:0 file of 4 bytes 982d9e3eb996",
            "+ c/dir: 755 0:0 directory",
        ],
    ),
    ("dir\n!dir/a.txt", &[]),
    ("dir\n!dir/sub/**", &[]),
    ("*.txt\n!a.txt\na.txt", &[]),
    ("!a.txt\n*.txt", &[]),
    ("node_modules\n!node_modules/keep", &[]),
    ("# remark\na.txt", &[]),
    (" a.txt \n\n\tb.md", &[]),
    ("\u{feff}a.txt", &[]),
    ("a.txt\r\nb.md\r\n", &[]),
    ("src/**/main.rs", &[]),
    ("s*/*.rs", &[]),
    ("**/main.rs\n!src/main.rs", &[]),
    ("**/a*\n**/b*", &[]),
    ("dir/**/c.log", &[]),
    ("*/sub/*.txt", &[]),
];

#[test]
fn ignore_files_are_read_as_by_buildah() {
    let judge = Judge::new();
    for path in FILES {
        let path = judge.context().join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, "text").unwrap();
    }
    let mut wrong = String::new();
    for (ignore, differs) in CASES {
        fs_err::write(
            judge.context().join(".dockerignore"),
            format!("{ignore}\n.dockerignore\n"),
        )
        .unwrap();
        let found = judge.differences(ignore, "FROM scratch\nCOPY . /c/\n");
        if !found.iter().map(String::as_str).eq(differs.iter().copied()) {
            let _ = writeln!(wrong, "{ignore:?} differs in {found:#?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
