//! `--chown` and `USER`: a user, a group, or both, by name or number.

use serde::Serialize;

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Principal {
    /// By number: nothing has to be looked up.
    Id(u32),
    /// By name: to be found in the image's `/etc/passwd` or `/etc/group`.
    Name(String),
}

/// `user`, `user:group`, `:group`, by name or number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Ownership {
    /// Before the colon; `None` if nothing stands there.
    pub user: Option<Principal>,
    /// Behind the colon; `None` if there is none, or nothing behind it.
    pub group: Option<Principal>,
}

/// A number that is no user or group id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a user or group id between 0 and 4294967295")]
pub struct ParseOwnershipError(String);

impl Ownership {
    /// Reads expanded text.
    ///
    /// # Errors
    /// A number that is out of range.
    pub fn parse(text: &str) -> Result<Self, ParseOwnershipError> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self {
            user: principal(user)?,
            group: principal(group)?,
        })
    }
}

fn principal(text: &str) -> Result<Option<Principal>, ParseOwnershipError> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let id = text.parse();
        return match id {
            Ok(id) => Ok(Some(Principal::Id(id))),
            Err(_) => Err(ParseOwnershipError(text.chars().take(50).collect())),
        };
    }
    Ok(Some(Principal::Name(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        let id = |id| Some(Principal::Id(id));
        let name = |name: &str| Some(Principal::Name(name.to_owned()));
        for (text, user, group) in [
            ("5", id(5), None),
            ("5:6", id(5), id(6)),
            (":13", None, id(13)),
            ("www", name("www"), None),
            ("www:data", name("www"), name("data")),
            ("www:", name("www"), None),
            ("5:data:x", id(5), name("data:x")),
            ("5a", name("5a"), None),
            ("-1", name("-1"), None),
            ("", None, None),
        ] {
            assert_eq!(
                Ownership::parse(text),
                Ok(Ownership { user, group }),
                "{text}"
            );
        }
        assert!(Ownership::parse("4294967296").is_err());
    }
}
