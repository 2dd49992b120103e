//! Where images really are: who has what another registry's names stand for, and what nobody may have.
//!
//! As `containers-registries.conf(5)`, version 2, says it, of which this is the meaning: of all rules
//! whose prefix an image's name begins with, the one with the longest holds. Its mirrors are asked
//! before its location; what a name has after the prefix comes after each of them. A registry's port
//! is a part of its name: a rule of `HOST` is none of `HOST:PORT`.

use firebuild_core::Reference;

use super::{RegistryError, Repository};

/// Where images really are. Without any rules, where their names say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(Vec<Rule>);

/// What holds for the images whose names begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// How they begin.
    pub prefix: Prefix,
    /// Where they are: the prefix itself if none.
    pub location: Option<String>,
    /// Whether it may be spoken to without encryption if it understands nothing else.
    pub insecure: bool,
    /// Whether nobody may have them.
    pub blocked: bool,
    /// Who else has them, in the order in which they are asked.
    pub mirrors: Vec<RuleMirror>,
}

/// How names begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prefix {
    /// With this registry, `HOST[:PORT]`, and perhaps this part of the path after it.
    Name(String),
    /// With a registry in this domain, which is written with a dot in front.
    Domain(String),
}

/// Who has the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMirror {
    /// `HOST[:PORT][/PATH]`
    pub location: String,
    /// As [`Rule::insecure`].
    pub insecure: bool,
    /// What it is asked for.
    pub asked_for: AskedFor,
}

/// Which images a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskedFor {
    /// All.
    #[default]
    All,
    /// Those that are named by a digest.
    Digests,
    /// Those that are named by a tag.
    Tags,
}

impl Rules {
    /// Adds a rule, in place of one with the same prefix.
    pub fn add(&mut self, rule: Rule) {
        self.0.retain(|known| known.prefix != rule.prefix);
        self.0.push(rule);
    }

    /// Where an image is.
    pub(super) fn place(&self, image: &Reference) -> Result<Reference, RegistryError> {
        let Some((rule, rest)) = self.of(image) else {
            return Ok(image.clone());
        };
        if rule.blocked {
            return Err(RegistryError::Blocked {
                image: image.familiar(),
            });
        }
        match &rule.location {
            None => Ok(image.clone()),
            Some(location) => moved(location, &rest).ok_or_else(|| RegistryError::NotARegistry {
                registry: location.clone(),
                reason: format!("no image is named `{location}{rest}`"),
            }),
        }
    }

    /// Where else an image is, in the order in which they are asked.
    pub(super) fn mirrors(&self, image: &Reference) -> Vec<Reference> {
        let Some((rule, rest)) = self.of(image) else {
            return Vec::new();
        };
        let pinned = image.digest().is_some();
        let asked = rule.mirrors.iter().filter(|mirror| match mirror.asked_for {
            AskedFor::All => true,
            AskedFor::Digests => pinned,
            AskedFor::Tags => !pinned,
        });
        let named = asked.filter_map(|mirror| moved(&mirror.location, &rest));
        named.collect()
    }

    /// Whether a repository may be spoken to without encryption.
    pub(super) fn is_insecure(&self, repository: &Repository) -> bool {
        let name = repository.to_string();
        let begins = |location: &str| Prefix::Name(location.to_owned()).length_in(&name).is_some();
        self.0.iter().any(|rule| {
            let own = rule.insecure
                && match &rule.location {
                    Some(location) => begins(location),
                    None => rule.prefix.length_in(&name).is_some(),
                };
            let mirrors = &mut rule.mirrors.iter();
            own || mirrors.any(|mirror| mirror.insecure && begins(&mirror.location))
        })
    }

    /// The rule for an image, and what its name has after the prefix.
    fn of(&self, image: &Reference) -> Option<(&Rule, String)> {
        let mut name = format!("{}/{}", image.registry(), image.repository());
        if let Some(tag) = image.tag() {
            name.push_str(&format!(":{tag}"));
        }
        if let Some(digest) = image.digest() {
            name.push_str(&format!("@{digest}"));
        }
        let fitting = self.0.iter();
        let fitting = fitting.filter_map(|rule| Some((rule, rule.prefix.length_in(&name)?)));
        let (rule, length) = fitting.max_by_key(|(_, length)| *length)?;
        Some((rule, name.split_off(length)))
    }
}

impl Prefix {
    /// How much of a name is this prefix, if it begins with it.
    fn length_in(&self, name: &str) -> Option<usize> {
        match self {
            Self::Name(prefix) => {
                let rest = name.strip_prefix(prefix.as_str())?;
                let ends = match rest.chars().next() {
                    None | Some('/' | '@') => true,
                    // What begins with a colon is a tag, or another registry's port.
                    Some(':') => prefix.contains('/'),
                    Some(_) => false,
                };
                ends.then_some(prefix.len())
            }
            Self::Domain(domain) => {
                let host = name.split('/').next()?;
                host.ends_with(domain.as_str()).then_some(host.len())
            }
        }
    }
}

/// An image at a location.
fn moved(location: &str, rest: &str) -> Option<Reference> {
    format!("{location}{rest}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, location: Option<&str>) -> Rule {
        Rule {
            prefix: match prefix.strip_prefix('*') {
                Some(domain) => Prefix::Domain(domain.to_owned()),
                None => Prefix::Name(prefix.to_owned()),
            },
            location: location.map(str::to_owned),
            insecure: false,
            blocked: false,
            mirrors: Vec::new(),
        }
    }

    fn mirror(location: &str, asked_for: AskedFor) -> RuleMirror {
        RuleMirror {
            location: location.to_owned(),
            insecure: false,
            asked_for,
        }
    }

    #[test]
    fn the_longest_prefix_holds() {
        let mut rules = Rules::default();
        rules.add(rule("docker.io", Some("hub.example/all")));
        rules.add(rule("docker.io/library", Some("ours.example:5000")));
        rules.add(rule("docker.io/library/app", Some("one.example/the/app")));
        rules.add(rule("*.corp.example", Some("cache.example/corp")));
        rules.add(rule("plain.example", Some("other.example")));
        for (image, expected) in [
            ("team/app:1", "hub.example/all/team/app:1"),
            ("debian", "ours.example:5000/debian:latest"),
            ("app:2", "one.example/the/app:2"),
            ("apple:2", "ours.example:5000/apple:2"),
            ("a.corp.example/x/y:1", "cache.example/corp/x/y:1"),
            ("corp.example/x:1", "corp.example/x:1"),
            ("plain.example/x:1", "other.example/x:1"),
            ("plain.example:5000/x:1", "plain.example:5000/x:1"),
            ("plain.example.org/x:1", "plain.example.org/x:1"),
        ] {
            let place = rules.place(&image.parse().unwrap()).unwrap();
            let expected: Reference = expected.parse().unwrap();
            assert_eq!(place, expected, "{image}");
        }
        // A later rule of the same prefix stands for the earlier one.
        rules.add(rule("docker.io/library", None));
        let place = rules.place(&"debian".parse().unwrap()).unwrap();
        assert_eq!(place, "debian".parse().unwrap());
    }

    #[test]
    fn mirrors_and_blocks() {
        let mut rules = Rules::default();
        let mut hub = rule("docker.io", None);
        hub.mirrors = vec![
            mirror("one.example/hub", AskedFor::All),
            mirror("two.example", AskedFor::Digests),
            mirror("three.example", AskedFor::Tags),
        ];
        rules.add(hub);
        let blocked = Rule {
            blocked: true,
            ..rule("docker.io/evil", None)
        };
        rules.add(blocked);
        let mirrors = |image: &str| -> Vec<String> {
            let mirrors = rules.mirrors(&image.parse().unwrap());
            mirrors.iter().map(ToString::to_string).collect()
        };
        let digest = firebuild_core::Digest::of(b"");
        assert_eq!(
            mirrors("app:1"),
            [
                "one.example/hub/library/app:1",
                "three.example/library/app:1"
            ]
        );
        assert_eq!(
            mirrors(&format!("app@{digest}")),
            [
                format!("one.example/hub/library/app@{digest}"),
                format!("two.example/library/app@{digest}")
            ]
        );
        assert_eq!(mirrors("evil/app"), [""; 0]);
        let error = rules.place(&"evil/app".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("`evil/app"), "{error}");
    }

    #[test]
    fn only_what_is_said_to_be_is_insecure() {
        let mut rules = Rules::default();
        let mut hub = rule("docker.io", None);
        hub.mirrors = vec![RuleMirror {
            insecure: true,
            ..mirror("one.example/hub", AskedFor::All)
        }];
        rules.add(hub);
        rules.add(Rule {
            insecure: true,
            ..rule("two.example/team", Some("three.example:5000"))
        });
        rules.add(Rule {
            insecure: true,
            ..rule("*.lab.example", None)
        });
        for (image, expected) in [
            ("app", false),
            ("one.example/hub/app", true),
            ("one.example/other/app", false),
            ("two.example/team/app", false),
            ("three.example:5000/app", true),
            ("three.example/app", false),
            ("a.lab.example/app", true),
        ] {
            let image: Reference = image.parse().unwrap();
            assert_eq!(rules.is_insecure(&(&image).into()), expected, "{image}");
        }
    }
}
