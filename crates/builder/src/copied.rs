//! What copies took from layers and archives, as digests that are kept from build to build.
//!
//! Neither ever changes, so the same words find the same files in them: while all is known, nothing
//! is read of them.

use firebuild_core::Digest;
use firebuild_plan::key::Chain;
use firebuild_plan::{Copy, Item};
use firebuild_store::{Remembered, Store};

/// Counts up when the same files get another fingerprint.
const VERSION: u32 = 1;

/// The bytes of a key and of a digest.
const ENTRY: usize = 64;

/// The most copies that are remembered of one list of layers or archives.
const MOST: usize = 1000;

/// One copy from layers or archives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copied {
    /// What of.
    source: Digest,
    copy: Digest,
}

impl Copied {
    /// A copy from these layers. None if its content depends on something else too.
    pub(crate) fn from_layers(layers: &Chain, copy: &Copy) -> Option<Self> {
        let inside = |item: &Item| matches!(item, Item::Path(_) | Item::Inline { .. });
        if !copy.items.iter().all(inside) {
            return None;
        }
        Self::of(*layers.digest(), copy)
    }

    /// A copy of nothing but the files of these archives and downloads, in this order.
    pub(crate) fn from_archives(archives: &[Digest], copy: &Copy) -> Option<Self> {
        let mut source = b"archives".to_vec();
        for digest in archives {
            source.extend(digest.bytes());
        }
        Self::of(Digest::of(&source), copy)
    }

    fn of(source: Digest, copy: &Copy) -> Option<Self> {
        let Copy {
            items,
            exclude,
            parents,
            unpack,
            ..
        } = copy;
        let words = serde_json::to_vec(&(VERSION, items, exclude, parents, unpack)).ok()?;
        Some(Self {
            source,
            copy: Digest::of(&words),
        })
    }

    /// What it took, if that is known.
    pub(crate) fn content(&self, store: &Store) -> Option<Digest> {
        let known = self.known(store);
        let found = known.iter().find(|(copy, _)| *copy == self.copy);
        found.map(|(_, content)| *content)
    }

    /// Keeps what it took.
    pub(crate) fn remember(&self, store: &Store, content: Digest) {
        let mut known = self.known(store);
        known.retain(|(copy, _)| *copy != self.copy);
        let surplus = (known.len() + 1).saturating_sub(MOST);
        known.drain(..surplus);
        known.push((self.copy, content));
        let entries = known.iter();
        let mut bytes: Vec<u8> = entries
            .flat_map(|(copy, content)| [*copy.bytes(), *content.bytes()].concat())
            .collect();
        bytes.extend(Digest::of(&bytes).bytes());
        // What cannot be kept is found out once more.
        let _ = store.remember(Remembered::Layers, &self.source, &bytes);
    }

    /// All that is known of the layers; nothing if it is damaged.
    fn known(&self, store: &Store) -> Vec<(Digest, Digest)> {
        let bytes = store.remembered(Remembered::Layers, &self.source);
        let bytes = bytes.ok().flatten().unwrap_or_default();
        let whole = bytes.split_last_chunk::<32>();
        let Some((bytes, _)) = whole.filter(|(bytes, check)| Digest::of(bytes).bytes() == *check)
        else {
            return Vec::new();
        };
        let digest = |bytes: &[u8]| bytes.first_chunk().copied().map(Digest::from_bytes);
        bytes
            .chunks_exact(ENTRY)
            .filter_map(|entry| digest(entry).zip(digest(&entry[32..])))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use firebuild_plan::{Source, Unpack};

    use super::*;

    fn copy(word: &str) -> Copy {
        Copy {
            from: Source::Stage(0),
            items: vec![Item::Path(word.to_owned())],
            destination: "/".to_owned(),
            owner: None,
            mode: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            unpack: Unpack::Never,
        }
    }

    #[test]
    fn what_was_copied_from_layers_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (one, other) = (Chain::of(&[Digest::of(b"1")]), Chain::of(&[]));
        let copied = |chain: &Chain, copy: &Copy| Copied::from_layers(chain, copy).unwrap();
        let (a, b) = (copied(&one, &copy("a")), copied(&one, &copy("b")));
        assert_eq!(a.content(&store), None);
        a.remember(&store, Digest::of(b"old"));
        a.remember(&store, Digest::of(b"a"));
        b.remember(&store, Digest::of(b"b"));
        assert_eq!(a.content(&store), Some(Digest::of(b"a")));
        assert_eq!(b.content(&store), Some(Digest::of(b"b")));
        // Other layers, other words.
        assert_eq!(copied(&other, &copy("a")).content(&store), None);
        let changes: [fn(&mut Copy); 4] = [
            |copy| copy.parents = true,
            |copy| copy.exclude.push("x".to_owned()),
            |copy| copy.unpack = Unpack::Local,
            |copy| copy.items.push(Item::Path("b".to_owned())),
        ];
        for change in changes {
            let mut changed = copy("a");
            change(&mut changed);
            assert_eq!(copied(&one, &changed).content(&store), None);
        }
        let archives = |digests: &[Digest]| Copied::from_archives(digests, &copy("a")).unwrap();
        let (one_digest, two) = (Digest::of(b"1"), [Digest::of(b"1"), Digest::of(b"2")]);
        archives(&[one_digest]).remember(&store, Digest::of(b"of an archive"));
        let found = archives(&[one_digest]).content(&store);
        assert_eq!(found, Some(Digest::of(b"of an archive")));
        assert_eq!(archives(&two).content(&store), None);
        assert_eq!(archives(&[two[1]]).content(&store), None);
        // Where it goes has no part in what it is.
        let mut elsewhere = copy("a");
        elsewhere.destination = "/x".to_owned();
        assert!(copied(&one, &elsewhere).content(&store).is_some());
        // Damage is as good as nothing.
        let path = directory.path().join("v1/copied").join(one.digest().hex());
        let mut bytes = fs_err::read(&path).unwrap();
        bytes[3] ^= 1;
        fs_err::write(&path, bytes).unwrap();
        assert_eq!(a.content(&store), None);
        a.remember(&store, Digest::of(b"a"));
        assert_eq!(a.content(&store), Some(Digest::of(b"a")));
    }
}
