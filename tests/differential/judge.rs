//! Builds with both, and compares.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::listing;
use crate::ready::{self, BASE};
use crate::session::{Outcome, Session};

/// What one of the two has and the other has not, in every image.
const EVERYWHERE: [(&str, &str); 6] = [
    (
        "+ config Env: PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "BuildKit gives an image from scratch this path; buildah gives none",
    ),
    (
        "+ config WorkingDir: /",
        "BuildKit says where it is; buildah leaves it open",
    ),
    (
        "- config Labels io.buildah.version: 1.28.2",
        "buildah's own",
    ),
    (
        "- etc/hostname: 755 0:0 file of 0 bytes e3b0c44298fc",
        "a RUN's own files leave nothing in BuildKit's images",
    ),
    (
        "- etc/hosts: 755 0:0 file of 0 bytes e3b0c44298fc",
        "as above",
    ),
    (
        "- etc/resolv.conf: 755 0:0 file of 0 bytes e3b0c44298fc",
        "as above",
    ),
];

/// A Dockerfile that both build.
pub(crate) struct Case<'a> {
    /// What is tried, for people.
    pub(crate) name: &'a str,
    pub(crate) dockerfile: &'a str,
    /// What is different: `+` for lines that only firebuild has, `-` for buildah's.
    pub(crate) differs: &'a [&'a str],
    /// Why firebuild's is right; empty if nothing differs.
    pub(crate) because: &'a str,
}

/// Two builders and a context.
pub(crate) struct Judge {
    session: Session,
    _root: Option<tempfile::TempDir>,
}

impl Judge {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let session = Session::at(&root.path().join("firebuild"));
        fs_err::create_dir(session.path("context")).unwrap();
        Self {
            session,
            _root: Some(root),
        }
    }

    /// Builders that can execute commands, and have [`BASE`].
    pub(crate) fn with_base() -> Self {
        let session = ready::session();
        fs_err::create_dir(session.path("context")).unwrap();
        let (_, tag) = BASE.split_once(':').unwrap();
        let archive = session.path("base").display().to_string();
        session.ok(&["image", "export", BASE, "--type", "oci-dir", "-o", &archive]);
        let judge = Self {
            session,
            _root: None,
        };
        let pulled = judge.buildah(&["pull", "--quiet", &format!("oci:base:{tag}")]);
        let id = pulled.unwrap().stdout;
        let tagged = judge.buildah(&["tag", id.trim_end(), &format!("docker.io/library/{BASE}")]);
        tagged.unwrap();
        fs_err::remove_dir_all(archive).unwrap();
        judge
    }

    /// The context's directory.
    pub(crate) fn context(&self) -> std::path::PathBuf {
        self.session.path("context")
    }

    /// Builds with both, and says what is different.
    #[track_caller]
    pub(crate) fn differences(&self, name: &str, dockerfile: &str) -> BTreeSet<String> {
        self.session.write("Dockerfile", dockerfile);
        let built = |how: Result<BTreeSet<String>, Outcome>| match how {
            Ok(lines) => lines,
            Err(outcome) => panic!("{name}: {outcome}"),
        };
        // Each keeps one processor busy.
        let (ours, theirs) = std::thread::scope(|scope| {
            let ours = scope.spawn(|| self.ours());
            let theirs = self.theirs();
            (ours.join().unwrap(), theirs)
        });
        let (ours, theirs) = (built(ours), built(theirs));
        let only = |mark: &str, these: &BTreeSet<String>, those: &BTreeSet<String>| {
            let lines: Vec<String> = these
                .difference(those)
                .map(|line| format!("{mark} {line}"))
                .collect();
            lines
        };
        let mut differences: BTreeSet<String> = only("+", &ours, &theirs).into_iter().collect();
        differences.extend(only("-", &theirs, &ours));
        for (line, _) in EVERYWHERE {
            differences.remove(line);
        }
        differences
    }

    /// Builds every case, and fails with all that is not as it should be.
    pub(crate) fn compare(&self, cases: &[Case<'_>]) {
        let mut wrong = String::new();
        for case in cases {
            assert_eq!(
                case.differs.is_empty(),
                case.because.is_empty(),
                "{}",
                case.name
            );
            let found = self.differences(case.name, case.dockerfile);
            let expected: BTreeSet<String> =
                case.differs.iter().map(|line| (*line).to_owned()).collect();
            if found != expected {
                wrong += &format!(
                    "{}: differs in {found:#?}, and not in {expected:#?}\n",
                    case.name
                );
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    fn ours(&self) -> Result<BTreeSet<String>, Outcome> {
        let out = self.session.path("ours");
        let _ = fs_err::remove_dir_all(&out);
        let to = out.to_str().unwrap();
        for arguments in [
            &[
                "build",
                "--no-cache",
                "-t",
                "judged",
                "-f",
                "Dockerfile",
                "context",
            ][..],
            &["image", "export", "judged", "--type", "oci-dir", "-o", to],
        ] {
            succeeded(self.session.run(arguments))?;
        }
        Ok(self.listed(&out))
    }

    fn theirs(&self) -> Result<BTreeSet<String>, Outcome> {
        let out = self.session.path("theirs");
        let _ = fs_err::remove_dir_all(&out);
        self.buildah(&[
            "build",
            "--isolation",
            "chroot",
            "--format",
            "docker",
            "--pull-never",
            "--cap-add=CAP_MKNOD",
            "-t",
            "judged",
            "-f",
            "Dockerfile",
            "context",
        ])?;
        self.buildah(&["push", "judged", &format!("oci:{}:judged", out.display())])?;
        let mut lines = self.listed(&out);
        // What an OCI configuration has no words for does not survive the push.
        let inspected = self.buildah(&["inspect", "--type", "image", "judged"])?;
        let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
        lines.retain(|line| !line.starts_with("config "));
        lines.extend(listing::configuration(&inspected["Docker"]));
        // Its storage is one of whole copies.
        self.buildah(&["rmi", "--force", "judged"])?;
        Ok(lines)
    }

    fn buildah(&self, arguments: &[&str]) -> Result<Outcome, Outcome> {
        let mut command = Command::new("buildah");
        for (flag, directory) in [("--root", "buildah"), ("--runroot", "buildah-run")] {
            command.arg(flag).arg(self.session.path(directory));
        }
        command.args(["--storage-driver", "vfs"]).args(arguments);
        let here = self.session.path("context");
        command.current_dir(here.parent().unwrap());
        succeeded(Outcome::of(&mut command))
    }

    /// The lines of a layout, which is gone then.
    fn listed(&self, layout: &Path) -> BTreeSet<String> {
        let store = tempfile::tempdir_in(self.session.root().parent().unwrap()).unwrap();
        let lines = listing::of(layout, store.path());
        fs_err::remove_dir_all(layout).unwrap();
        lines
    }
}

fn succeeded(outcome: Outcome) -> Result<Outcome, Outcome> {
    match outcome.status {
        0 => Ok(outcome),
        _ => Err(outcome),
    }
}
