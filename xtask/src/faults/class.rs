//! Which points are the same place in the code: the same kind of process makes the same call on the same
//! kind of object. Ids, numbers and digests in the names of objects do not tell kinds apart.

use std::collections::BTreeSet;

/// How long a VM's id is, and the part of it that names of devices have room for.
const ID: usize = 20;
const SHORT: usize = 8;

/// Turns names of objects into names of kinds of objects.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// The beginnings of ids that were seen.
    known: BTreeSet<String>,
}

impl Classes {
    /// The kind of what is called `name`: each part that tells it from its like is `#`.
    pub(super) fn of(&mut self, name: &str) -> String {
        let mut class = String::with_capacity(name.len());
        let mut word = String::new();
        for letter in name.chars() {
            if letter.is_ascii_alphanumeric() {
                word.push(letter);
            } else {
                self.end(&mut word, &mut class);
                class.push(letter);
            }
        }
        self.end(&mut word, &mut class);
        class
    }

    fn end(&mut self, word: &mut String, class: &mut String) {
        let is_lower = |word: &str| {
            word.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
        if word.len() == ID && is_lower(word) {
            self.known.insert(word[..SHORT].to_owned());
        }
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let is_random = word.len() >= SHORT && is_lower(word) && has_digit;
        let holds_known = self.known.iter().any(|known| word.contains(known.as_str()));
        if is_number || is_random || holds_known || word.len() == ID && is_lower(word) {
            class.push('#');
        } else {
            class.push_str(word);
        }
        word.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_left_out() {
        let mut classes = Classes::default();
        for (name, class) in [
            ("/mnt/w/store/v1/tmp/123-4", "/mnt/w/store/v1/tmp/#-#"),
            (
                "/store/v1/machines/abcdefghijklmnopqrst/record.json",
                "/store/v1/machines/#/record.json",
            ),
            // Known by now.
            ("/run/netns/fb-abcdefgh", "/run/netns/fb-#"),
            (
                "/blobs/sha256/0a5ff0c1aa58b5c4a4cb5d1d5e7a9e9b",
                "/blobs/sha256/#",
            ),
            ("socket:[4711]", "socket:[#]"),
            (
                "/proc/sys/net/ipv4/ip_forward",
                "/proc/sys/net/ipv4/ip_forward",
            ),
            ("", ""),
        ] {
            assert_eq!(classes.of(name), class);
        }
    }
}
