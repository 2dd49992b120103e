//! From keys and values to a typed mount: what goes with what, and what is there by default.

use super::flag::{Field, Key};
use super::{
    Access, BindMount, CacheMount, Mount, MountErrorKind, SecretMount, Sharing, SshMount,
    TmpfsMount,
};
use crate::directive::go_bool;
use crate::expand::{Environment, Expander};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Type {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl Type {
    const ALL: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

/// The keys of a mount, collected.
#[derive(Debug, Default)]
pub(super) struct Parts {
    kind: Type,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    env: Option<String>,
    read_only: Option<bool>,
    required: bool,
    size: Option<u64>,
    sharing: Option<Sharing>,
    access: Access,
}

impl Parts {
    pub(super) fn set(
        &mut self,
        field: &Field,
        expander: &Expander,
        environment: &dyn Environment,
    ) -> Result<(), MountErrorKind> {
        let key = field.key;
        // `required` and `size` are refused at once where the type, which has to come first,
        // does not have them.
        match (key, self.kind) {
            (Key::Required, Type::Secret | Type::Ssh) | (Key::Size, Type::Tmpfs) => {}
            (Key::Required | Key::Size, _) => return Err(self.not_for_type(key)),
            _ => {}
        }
        let Some(value) = &field.value else {
            match key {
                Key::ReadOnly => self.read_only = Some(true),
                Key::ReadWrite => self.read_only = Some(false),
                _ => self.required = true,
            }
            return Ok(());
        };
        let value = match key {
            Key::From => value.clone(),
            _ => {
                let expanded = expander.text(value, environment);
                expanded
                    .map_err(|error| MountErrorKind::Expand(error.kind))?
                    .value
            }
        };
        self.set_value(key, &value)
            .ok_or_else(|| MountErrorKind::Value {
                key: key.name(),
                value: value.chars().take(100).collect(),
            })
    }

    /// `None` if the key cannot have that value.
    fn set_value(&mut self, key: Key, value: &str) -> Option<()> {
        let text = || Some(value.to_owned()).filter(|text| !text.is_empty());
        match key {
            Key::Type => {
                let lower = value.to_lowercase();
                self.kind = Type::ALL.iter().find(|(name, _)| *name == lower)?.1;
            }
            Key::From => self.from = text(),
            Key::Source => self.source = text(),
            Key::Target => self.target = text(),
            Key::Id => self.id = text(),
            Key::Env => self.env = Some(value.to_owned()),
            Key::ReadOnly => self.read_only = Some(go_bool(value)?),
            Key::ReadWrite => self.read_only = Some(!go_bool(value)?),
            Key::Required => self.required = go_bool(value)?,
            Key::Size => self.size = Some(size(value)?),
            Key::Sharing => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return None,
                });
            }
            Key::Mode => self.access.mode = Some(number(value, 8)?),
            Key::Uid => self.access.uid = Some(number(value, 10)?),
            Key::Gid => self.access.gid = Some(number(value, 10)?),
        }
        Some(())
    }

    fn not_for_type(&self, key: Key) -> MountErrorKind {
        MountErrorKind::NotForType {
            key: key.name(),
            kind: self.kind.name(),
        }
    }

    pub(super) fn mount(self) -> Result<Mount, MountErrorKind> {
        self.check()?;
        let read_only = self.read_only;
        Ok(match self.kind {
            Type::Bind => Mount::Bind(BindMount {
                from: self.from,
                source: self.source,
                target: self.target,
                read_only: read_only.unwrap_or(true),
            }),
            Type::Cache => Mount::Cache(CacheMount {
                id: self.id,
                from: self.from,
                source: self.source,
                target: self.target,
                read_only: read_only.unwrap_or(false),
                sharing: self.sharing.unwrap_or_default(),
                access: self.access,
            }),
            Type::Tmpfs => Mount::Tmpfs(TmpfsMount {
                target: self.target,
                size: self.size,
                read_only: read_only.unwrap_or(false),
            }),
            Type::Secret => Mount::Secret(self.secret()?),
            Type::Ssh => Mount::Ssh(SshMount {
                id: self
                    .id
                    .or(self.source)
                    .unwrap_or_else(|| "default".to_owned()),
                target: self.target,
                required: self.required,
                access: self.access,
            }),
        })
    }

    /// Keys that do not go with the type.
    fn check(&self) -> Result<(), MountErrorKind> {
        let is = |kinds: &[Type]| kinds.contains(&self.kind);
        let owned = is(&[Type::Cache, Type::Secret, Type::Ssh]);
        for (set, fits, key) in [
            (self.access.mode.is_some(), owned, Key::Mode),
            (self.access.uid.is_some(), owned, Key::Uid),
            (self.access.gid.is_some(), owned, Key::Gid),
            (self.sharing.is_some(), is(&[Type::Cache]), Key::Sharing),
            (self.env.is_some(), is(&[Type::Secret]), Key::Env),
            (self.from.is_some(), !is(&[Type::Secret]), Key::From),
        ] {
            if set && !fits {
                return Err(self.not_for_type(key));
            }
        }
        Ok(())
    }

    fn secret(self) -> Result<SecretMount, MountErrorKind> {
        let base = |path: &str| {
            let path = path.trim_end_matches('/');
            path.rsplit('/').next().unwrap_or(path).to_owned()
        };
        let id = match (self.source, self.id, &self.target) {
            (Some(_), Some(_), _) => return Err(MountErrorKind::SecretWithTwoIds),
            (Some(id), None, _) | (None, Some(id), _) => id,
            (None, None, Some(target)) => base(target),
            (None, None, None) => return Err(MountErrorKind::SecretWithoutId),
        };
        if id.is_empty() {
            return Err(MountErrorKind::SecretWithoutId);
        }
        let target = match (self.target, &self.env) {
            (None, None) => Some(format!("/run/secrets/{}", base(&id))),
            (target, _) => target,
        };
        Ok(SecretMount {
            env: self
                .env
                .map(|env| if env.is_empty() { id.clone() } else { env }),
            id,
            target,
            required: self.required,
            access: self.access,
        })
    }
}

/// `strconv.ParseUint`: digits only.
fn number(text: &str, radix: u32) -> Option<u32> {
    let digits = !text.starts_with('+');
    digits.then(|| u32::from_str_radix(text, radix).ok())?
}

/// Bytes with an optional unit, in powers of 1024: `64k`, `1.5g`, `10MiB`.
fn size(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let prefix = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, binary) = match prefix.strip_suffix('i') {
        Some(prefix) => (prefix, true),
        None => (prefix, false),
    };
    let shift = match prefix {
        "" if !binary => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    let fraction = fraction.get(..fraction.len().min(15))?;
    let numerator = fraction.parse::<u128>().ok()? << shift;
    let part = numerator / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_add(u64::try_from(part).ok()?)
}
