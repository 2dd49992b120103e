//! Users and groups as an image's `/etc/passwd` and `/etc/group` have them.
//!
//! The rules are those of container runtimes (`passwd(5)` and `group(5)` for the files): a number
//! needs no entry, a name does. Nothing is read here; the files' bytes are given, and are hostile:
//! lines that are no entries are passed over.

/// The largest passwd or group file that is believed, in bytes.
pub const LARGEST_FILE: u64 = 10 << 20;

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Supplementary groups, ascending, without `gid`.
    pub groups: Vec<u32>,
    /// The home directory; `/` for a user without an entry.
    pub home: String,
}

/// A user or group that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No entry has the name.
    #[error("no user `{0}` in the image's /etc/passwd")]
    NoUser(String),
    /// No entry has the name.
    #[error("no group `{0}` in the image's /etc/group")]
    NoGroup(String),
}

/// Who `USER spec` is: `user`, `uid`, `user:group`, `uid:gid`, `:group`; empty means root.
///
/// A user alone gets the primary group of its entry and the groups that name it; with a group,
/// only that one. A number without an entry gets group 0.
///
/// # Errors
/// [`UserError`] for a name without an entry.
pub fn process_user(spec: &str, passwd: &[u8], group: &[u8]) -> Result<User, UserError> {
    let (name, group_name) = split(spec);
    let name = if name.is_empty() { "0" } else { name };
    let entry = find(passwd, name);
    let number = name.parse::<u32>().ok();
    let uid = entry.and_then(|entry| field_number(entry, 2)).or(number);
    let uid = uid.ok_or_else(|| UserError::NoUser(shown(name)))?;
    let mut user = User {
        uid,
        gid: entry.and_then(|entry| field_number(entry, 3)).unwrap_or(0),
        groups: Vec::new(),
        home: entry
            .and_then(|entry| field(entry, 5))
            .filter(|home| !home.is_empty())
            .map_or_else(|| "/".to_owned(), shown_bytes),
    };
    if group_name.is_empty() {
        if let Some(own) = entry.and_then(|entry| field(entry, 0)) {
            user.groups = memberships(group, own, user.gid);
        }
    } else {
        user.gid = group_number(group, group_name)?;
    }
    Ok(user)
}

/// Who `--chown=spec` makes the owner. Unlike a process, a number alone is its own group, and a
/// group alone goes with user 0.
///
/// # Errors
/// [`UserError`] for a name without an entry.
pub fn owner(spec: &str, passwd: &[u8], group: &[u8]) -> Result<(u32, u32), UserError> {
    let (name, group_name) = split(spec);
    let number = name.parse::<u32>().ok();
    let (uid, primary) = match (name, number) {
        ("", _) => (0, 0),
        (_, Some(uid)) => (uid, uid),
        (name, None) => {
            let entry = find(passwd, name);
            let uid = entry.and_then(|entry| field_number(entry, 2));
            let gid = entry.and_then(|entry| field_number(entry, 3));
            uid.zip(gid).ok_or_else(|| UserError::NoUser(shown(name)))?
        }
    };
    let gid = if group_name.is_empty() {
        primary
    } else {
        group_number(group, group_name)?
    };
    Ok((uid, gid))
}

fn split(spec: &str) -> (&str, &str) {
    spec.split_once(':').unwrap_or((spec, ""))
}

fn group_number(group: &[u8], name: &str) -> Result<u32, UserError> {
    let found = find(group, name).and_then(|entry| field_number(entry, 2));
    found
        .or_else(|| name.parse().ok())
        .ok_or_else(|| UserError::NoGroup(shown(name)))
}

/// The first entry whose name or number is `wanted`.
fn find<'a>(file: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let number = wanted.parse::<u32>().ok();
    lines(file).find(|entry| {
        field(entry, 0) == Some(wanted.as_bytes())
            || number.is_some() && field_number(entry, 2) == number
    })
}

fn memberships(group: &[u8], user: &[u8], primary: u32) -> Vec<u32> {
    let names_user = |entry: &&[u8]| {
        field(entry, 3).is_some_and(|members| {
            members
                .split(|byte| *byte == b',')
                .any(|member| member == user)
        })
    };
    let mut groups: Vec<u32> = lines(group)
        .filter(names_user)
        .filter_map(|entry| field_number(entry, 2))
        .filter(|gid| *gid != primary)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
}

fn field(entry: &[u8], index: usize) -> Option<&[u8]> {
    entry.split(|byte| *byte == b':').nth(index)
}

fn field_number(entry: &[u8], index: usize) -> Option<u32> {
    std::str::from_utf8(field(entry, index)?).ok()?.parse().ok()
}

fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

fn shown_bytes(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# a remark\nbroken\nweb:x:33:34::/var/www:\nn41:x:41:99::/n:\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:34:\nlog:x:4:web,other\nssl:x:3:web\nstaff:x:50:\n";

    #[test]
    fn processes() {
        let cases: [(&str, u32, u32, &[u32], &str); 9] = [
            ("", 0, 0, &[], "/root"),
            ("web", 33, 34, &[3, 4], "/var/www"),
            ("33", 33, 34, &[3, 4], "/var/www"),
            ("web:staff", 33, 50, &[], "/var/www"),
            ("web:7", 33, 7, &[], "/var/www"),
            ("77", 77, 0, &[], "/"),
            ("77:88", 77, 88, &[], "/"),
            (":10", 0, 10, &[], "/root"),
            ("root:", 0, 0, &[], "/root"),
        ];
        for (spec, uid, gid, groups, home) in cases {
            let user = process_user(spec, PASSWD, GROUP).unwrap();
            assert_eq!(
                (user.uid, user.gid, &user.groups[..], user.home.as_str()),
                (uid, gid, groups, home),
                "{spec}"
            );
        }
        assert_eq!(process_user("", b"", b"").unwrap().home, "/");
        assert_eq!(
            process_user("nobody", PASSWD, GROUP),
            Err(UserError::NoUser("nobody".into()))
        );
        assert_eq!(
            process_user("web:none", PASSWD, GROUP),
            Err(UserError::NoGroup("none".into()))
        );
        assert_eq!(
            process_user("-1", PASSWD, GROUP),
            Err(UserError::NoUser("-1".into()))
        );
    }

    #[test]
    fn owners() {
        for (spec, expected) in [
            ("web", (33, 34)),
            ("5", (5, 5)),
            ("41", (41, 41)),
            (":13", (0, 13)),
            ("web:log", (33, 4)),
            ("5:6", (5, 6)),
        ] {
            assert_eq!(owner(spec, PASSWD, GROUP), Ok(expected), "{spec}");
        }
        assert!(owner("none", PASSWD, GROUP).is_err());
        assert!(owner("web:none", PASSWD, GROUP).is_err());
    }
}
