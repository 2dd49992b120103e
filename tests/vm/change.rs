//! A RUN's layer is exactly its change, as GNU tar reads it.

use crate::session as ready;
use std::collections::BTreeSet;

use crate::BASE;
use crate::session::{Session, output_of};

/// Layer `index` of an image, counted from the base, as GNU tar lists it: mode, owner, the time's
/// year and the name.
fn layer(session: &Session, image: &str, index: usize) -> (String, Vec<String>) {
    let inspected = session.json(&["image", "inspect", image]);
    let digest = inspected["Layers"][index]["Digest"].as_str().unwrap();
    let blob = session
        .root()
        .join("v1/images/blobs")
        .join(digest.replace(':', "/"));
    let blob = blob.to_str().unwrap().to_owned();
    let options = ["--numeric-owner", "--full-time", "-tvf", &blob];
    let lines = output_of("tar", &options)
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        })
        .collect();
    (blob, lines)
}

const TEXT: &str = r#"
FROM debian:bookworm-slim
RUN mkdir -p /t/old/sub /t/gone && cd /t && touch old/a old/sub/b gone/c replaced && echo kept > kept && echo long > linked
RUN <<'SCRIPT'
set -e
cd /t
rm -r gone
rm -r old && mkdir old && echo new > old/n
rm replaced && mkdir replaced
chmod 0600 kept
echo made > file && ln file hard && chown 12:34 file && chmod 4755 file
ln -s nowhere link
mkdir -m 1777 sticky
mkfifo -m 0640 fifo
touch -d '2001-09-09 01:46:40 UTC' dated
echo x > "name with blanks"
touch user capable
perl -e '
  my ($file, $name, $value) = ("user", "user.comment", "hello");
  syscall(188, $file, $name, $value, 5, 0) == 0 or die "user: $!";
  ($file, $name, $value) = ("capable", "security.capability", pack("V5", 0x02000001, 0x400, 0, 0, 0));
  syscall(188, $file, $name, $value, 20, 0) == 0 or die "capable: $!";
'
truncate -s 1M sparse
SCRIPT
RUN true
"#;

#[test]
fn a_layer_is_exactly_the_change() {
    let session = ready();
    session
        .build(TEXT, &["--no-cache", "-t", "test/change"])
        .success();
    let (blob, files) = layer(&session, "test/change", 2);
    assert_eq!(
        files,
        [
            "drwxr-xr-x 0/0 t/",
            "-rw-r--r-- 0/0 t/capable",
            "-rw-r--r-- 0/0 t/dated",
            "prw-r----- 0/0 t/fifo",
            "-rwsr-xr-x 12/34 t/file",
            "---------- 0/0 t/.wh.gone",
            "hrwsr-xr-x 12/34 t/hard link to t/file",
            "-rw------- 0/0 t/kept",
            "lrwxrwxrwx 0/0 t/link -> nowhere",
            "-rw-r--r-- 0/0 t/name with blanks",
            "drwxr-xr-x 0/0 t/old/",
            "---------- 0/0 t/old/.wh..wh..opq",
            "-rw-r--r-- 0/0 t/old/n",
            "drwxr-xr-x 0/0 t/replaced/",
            "---------- 0/0 t/replaced/.wh..wh..opq",
            "-rw-r--r-- 0/0 t/sparse",
            "drwxrwxrwt 0/0 t/sticky/",
            "-rw-r--r-- 0/0 t/user",
        ]
    );
    let attributes = output_of("tar", &["--xattrs", "--xattrs-include=*", "-tvvf", &blob]);
    assert!(attributes.contains("x: 5 user.comment"), "{attributes}");
    assert!(
        attributes.contains("x: 20 security.capability"),
        "{attributes}"
    );
    let dated = output_of("tar", &["--full-time", "-tvf", &blob, "t/dated"]);
    assert!(dated.contains("2001-09-09 01:46:40"), "{dated}");
    let kept = output_of("tar", &["-xOf", &blob, "t/kept", "t/old/n"]);
    assert_eq!(kept, "kept\nnew\n");
    // `RUN true` changed nothing, so it is no layer.
    let layers = session.json(&["image", "inspect", "test/change"])["Layers"].clone();
    assert_eq!(layers.as_array().unwrap().len(), 3);
    merged(&session);
}

/// The same through `image export`, where the layers are one: the base's files and those of the
/// commands, and nothing of firebuild's own.
fn merged(session: &Session) {
    let names = |image: &str| -> BTreeSet<String> {
        let archive = session.path("export.tar");
        let archive = archive.to_str().unwrap();
        session.ok(&[
            "image",
            "export",
            image,
            "--type",
            "rootfs-tar",
            "-o",
            archive,
        ]);
        let names = output_of("tar", &["-tf", archive]);
        names
            .lines()
            .map(|name| name.trim_start_matches("./").to_owned())
            .collect()
    };
    let (base, changed) = (names(BASE), names("test/change"));
    assert_eq!(base.difference(&changed).next(), None);
    let added: Vec<&str> = changed.difference(&base).map(String::as_str).collect();
    assert_eq!(
        added,
        [
            "t/",
            "t/capable",
            "t/dated",
            "t/fifo",
            "t/file",
            "t/hard",
            "t/kept",
            "t/link",
            "t/linked",
            "t/name with blanks",
            "t/old/",
            "t/old/n",
            "t/replaced/",
            "t/sparse",
            "t/sticky/",
            "t/user",
        ]
    );
}
