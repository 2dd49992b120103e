//! What an operation's result depends on, as one digest: the build cache's key.
//!
//! A key covers the layers below, the operation with everything that it sees, and for a copy the
//! content of what is copied, without times. It does not cover where the operation is written, so
//! a changed comment or another spacing changes no key.

use firebuild_core::Digest;
use serde::Serialize;

use crate::operation::{Copy, Directory, Run, Source, Unpack};
use crate::{ModeChange, Mount};

/// Counts up when the meaning of an operation changes, so that old results are not taken for new.
const VERSION: u32 = 2;

/// The layers that something lies on, lowest first, as one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Chain(Digest);

impl Chain {
    /// The chain of these uncompressed layers: the chain id of the OCI image specification, but
    /// for the empty list, which has one here.
    #[must_use]
    pub fn of(layers: &[Digest]) -> Self {
        let first = Digest::of(b"");
        Self(layers.iter().fold(first, |chain, layer| {
            Digest::of(format!("{chain} {layer}").as_bytes())
        }))
    }

    /// The chain with one more layer.
    #[must_use]
    pub fn with(&self, layer: &Digest) -> Self {
        Self(Digest::of(format!("{} {layer}", self.0).as_bytes()))
    }

    /// The chain's digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.0
    }
}

/// The key of a RUN on these layers. `mounted` are the digests of what its bind mounts show, in
/// their order. Secrets, agents and the contents of caches have no part in it.
#[must_use]
pub fn run(parent: &Chain, run: &Run, mounted: &[Digest]) -> Digest {
    let mut seen = run.clone();
    for mount in &mut seen.mounts {
        // What is there counts, not where it comes from.
        match mount {
            Mount::Bind(bind) => (bind.from, bind.path) = (Source::Empty, String::new()),
            Mount::Cache(cache) => (cache.from, cache.path) = (Source::Empty, String::new()),
            Mount::Tmpfs(_) | Mount::Secret(_) | Mount::Ssh(_) => {}
        }
    }
    key(parent, "run", &seen, &mounted)
}

/// The key of a copy on these layers, of sources whose content has this digest.
#[must_use]
pub fn copy(parent: &Chain, copy: &Copy, content: &Digest) -> Digest {
    #[derive(Serialize)]
    struct Seen<'a> {
        destination: &'a str,
        owner: Option<&'a str>,
        mode: Option<&'a ModeChange>,
        unpack: Unpack,
        link: bool,
        from_context: bool,
    }
    let seen = Seen {
        destination: &copy.destination,
        owner: copy.owner.as_deref(),
        mode: copy.mode.as_ref(),
        unpack: copy.unpack,
        link: copy.link,
        from_context: matches!(copy.from, Source::Context | Source::Named(_)),
    };
    let nothing = Chain::of(&[]);
    let parent = if copy.link { &nothing } else { parent };
    key(parent, "copy", &seen, content)
}

/// The key of a result of which everything that is younger than `epoch` is said to be of that time.
#[must_use]
pub fn dated(key: &Digest, epoch: Option<u64>) -> Digest {
    match epoch {
        Some(epoch) => Digest::of(format!("{VERSION} {key} {epoch}").as_bytes()),
        None => *key,
    }
}

/// The key of a directory's making on these layers.
#[must_use]
pub fn directory(parent: &Chain, directory: &Directory) -> Digest {
    key(
        parent,
        "directory",
        &(&directory.path, &directory.user),
        &(),
    )
}

fn key(parent: &Chain, kind: &str, operation: &impl Serialize, inputs: &impl Serialize) -> Digest {
    let parts = (VERSION, kind, parent.digest(), operation, inputs);
    // Structures of strings and numbers always serialise.
    let text = serde_json::to_vec(&parts).unwrap_or_default();
    Digest::of(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::Bind;
    use crate::operation::{Command, Item};
    use crate::{Network, Security};

    fn sample() -> Run {
        Run {
            command: Command::Shell("true".into()),
            shell: vec!["/bin/sh".into(), "-c".into()],
            environment: vec![("A".into(), "1".into())],
            build_args: Vec::new(),
            workdir: "/".into(),
            user: String::new(),
            hostname: "host".into(),
            network: Network::Default,
            security: Security::Sandbox,
            files: Vec::new(),
            mounts: Vec::new(),
        }
    }

    fn bind(from: Source, path: &str) -> Mount {
        Mount::Bind(Bind {
            target: "/t".into(),
            from,
            path: path.into(),
            read_only: true,
        })
    }

    #[test]
    fn everything_that_a_process_sees_is_in_its_key() {
        let base = Chain::of(&[Digest::of(b"base")]);
        let original = run(&base, &sample(), &[]);
        assert_eq!(original, run(&base, &sample(), &[]));
        let changes: [fn(&mut Run); 9] = [
            |run| run.command = Command::Exec(vec!["true".into()]),
            |run| run.shell = vec!["/bin/bash".into()],
            |run| run.environment[0].1 = "2".into(),
            |run| run.build_args.push(("B".into(), String::new())),
            |run| run.workdir = "/x".into(),
            |run| run.user = "1".into(),
            |run| run.hostname = "other".into(),
            |run| run.network = Network::None,
            |run| run.mounts.push(bind(Source::Context, "/")),
        ];
        for change in changes {
            let mut changed = sample();
            change(&mut changed);
            assert_ne!(run(&base, &changed, &[]), original);
        }
        assert_ne!(
            run(&base.with(&Digest::of(b"more")), &sample(), &[]),
            original
        );
    }

    #[test]
    fn a_mounts_content_counts_and_not_its_source() {
        let base = Chain::of(&[]);
        let with = |mount| Run {
            mounts: vec![mount],
            ..sample()
        };
        let (one, other) = ([Digest::of(b"1")], [Digest::of(b"2")]);
        let context = with(bind(Source::Context, "/a"));
        let stage = with(bind(Source::Stage(3), "/b"));
        assert_eq!(run(&base, &context, &one), run(&base, &stage, &one));
        assert_ne!(run(&base, &context, &one), run(&base, &context, &other));
    }

    #[test]
    fn a_linked_copys_key_depends_on_nothing_below() {
        let (base, content) = (Chain::of(&[]), Digest::of(b"content"));
        let more = base.with(&content);
        let (plain, linked) = (
            sample_copy(),
            Copy {
                link: true,
                ..sample_copy()
            },
        );
        assert_ne!(copy(&base, &plain, &content), copy(&more, &plain, &content));
        assert_eq!(
            copy(&base, &linked, &content),
            copy(&more, &linked, &content)
        );
        assert_ne!(
            copy(&base, &linked, &content),
            copy(&base, &plain, &content)
        );
    }

    fn sample_copy() -> Copy {
        Copy {
            from: Source::Context,
            items: vec![Item::Path("a".into())],
            destination: "/d".into(),
            owner: None,
            mode: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            unpack: Unpack::Never,
        }
    }

    #[test]
    fn a_copys_key_is_its_content_and_place_and_not_its_words() {
        let base = Chain::of(&[]);
        let one = sample_copy();
        let other_words = Copy {
            items: vec![Item::Path("./a".into())],
            ..one.clone()
        };
        let other_place = Copy {
            destination: "/e".into(),
            ..one.clone()
        };
        let content = Digest::of(b"content");
        assert_eq!(
            copy(&base, &one, &content),
            copy(&base, &other_words, &content)
        );
        assert_ne!(
            copy(&base, &one, &content),
            copy(&base, &other_place, &content)
        );
        assert_ne!(
            copy(&base, &one, &content),
            copy(&base, &one, &Digest::of(b"other"))
        );
    }
}
