//! What a VM asks of one network: `NAME[:ip=ADDRESS][,mac=ADDRESS]`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Mac, NetworkName};

/// A network that a VM is to be in, and what it asks of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Join {
    /// The network.
    pub network: NetworkName,
    /// The address that the VM has to have there.
    pub address: Option<Ipv4Addr>,
    /// The hardware address that its device has to have.
    pub mac: Option<Mac>,
}

/// A text that does not tell how to join a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not name a network: {reason}")]
pub struct ParseJoinError {
    text: String,
    reason: String,
}

const FORM: &str = "the form is NAME[:ip=ADDRESS][,mac=ADDRESS], as in backend:ip=10.9.0.7";

impl FromStr for Join {
    type Err = ParseJoinError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseJoinError {
            text: text.chars().take(100).collect(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Join, String> {
    let (name, options) = match text.split_once(':') {
        Some((name, options)) => (name, Some(options)),
        None => (text, None),
    };
    let mut join = Join {
        network: name.parse().map_err(|error| format!("{error}"))?,
        ..Join::default()
    };
    for option in options.iter().flat_map(|options| options.split(',')) {
        let form = || FORM.to_owned();
        match option.split_once('=').ok_or_else(form)? {
            ("ip", address) if join.address.is_none() => {
                let parsed = address.parse();
                let reason = |_| format!("`{address}` is not an IPv4 address");
                join.address = Some(parsed.map_err(reason)?);
            }
            ("mac", address) if join.mac.is_none() => {
                let mac: Mac = address.parse().map_err(|error| format!("{error}"))?;
                if !mac.is_for_guests() {
                    return Err(format!("`{mac}` is not the address of one device"));
                }
                join.mac = Some(mac);
            }
            _ => return Err(form()),
        }
    }
    Ok(join)
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.network)?;
        let mut sign = ':';
        if let Some(address) = self.address {
            write!(f, "{sign}ip={address}")?;
            sign = ',';
        }
        match self.mac {
            Some(mac) => write!(f, "{sign}mac={mac}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Join {
    type Error = ParseJoinError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Join> for String {
    fn from(join: Join) -> Self {
        join.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for (text, shown) in [
            ("backend", "backend"),
            ("backend:ip=10.9.0.7", "backend:ip=10.9.0.7"),
            ("a:mac=02:00:00:00:00:01", "a:mac=02:00:00:00:00:01"),
            (
                "a:mac=02:00:00:00:00:01,ip=10.0.0.2",
                "a:ip=10.0.0.2,mac=02:00:00:00:00:01",
            ),
        ] {
            let join: Join = text.parse().unwrap();
            assert_eq!(join.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(join));
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "A",
            "a:",
            "a,ip=1.2.3.4",
            "a:ip=",
            "a:ip=::1",
            "a:ip=1.2.3.4,ip=1.2.3.5",
            "a:ip=1.2.3.4,",
            "a:mac=01:00:00:00:00:01",
            "a:mac=00:00:00:00:00:00",
            "a:name=x",
        ] {
            assert!(text.parse::<Join>().is_err(), "{text}");
        }
    }
}
