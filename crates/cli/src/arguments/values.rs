//! Parsers of flags' values that several commands have, and what they say: always what is accepted.

use std::net::{IpAddr, Ipv4Addr};

/// A whole number from `least` to `most`.
pub(crate) fn whole<T>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: TryFrom<u64> + Send + Sync + Clone + 'static,
{
    move |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| digits);
        let number = number.filter(|number| (least..=most).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("a whole number from {least} to {most} is needed"))
    }
}

/// An address of a network.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let error = |_| "an address is needed, such as 10.0.0.53 or fd00::53".to_owned();
    text.parse().map_err(error)
}

/// An address of IPv4.
pub(crate) fn address4(text: &str) -> Result<Ipv4Addr, String> {
    let error = |_| "an address of IPv4 is needed, such as 10.0.0.53".to_owned();
    text.parse().map_err(error)
}

/// A text of which it is only checked that `parse` takes it: what it stands for may depend on other flags.
pub(crate) fn form<T>(
    parse: impl Fn(&str) -> anyhow::Result<T> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static {
    move |text: &str| match parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let said: Vec<String> = error.chain().map(ToString::to_string).collect();
            let hint = crate::error::hint_of(&error);
            Err(said.into_iter().chain(hint).collect::<Vec<_>>().join("; "))
        }
    }
}

/// `USER[:GROUP]`, each a name or a number.
pub(crate) fn user(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"/\\:'\"`,;*?".contains(&byte);
    let one = |part: &str| {
        let number = part.bytes().all(|byte| byte.is_ascii_digit());
        let known = if number {
            part.parse::<u32>().is_ok_and(|id| id != u32::MAX)
        } else {
            part.len() <= 256 && !part.starts_with('-') && part.bytes().all(fits)
        };
        known && !part.is_empty()
    };
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    if one(user) && one(group) {
        return Ok(text.to_owned());
    }
    Err("a user is needed, and perhaps a group: names, or numbers up to 4294967294, such as `app` or `1000:1000`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_within_bounds() {
        let parse = whole::<u8>(1, 32);
        assert_eq!((parse("1"), parse("32")), (Ok(1), Ok(32)));
        for text in [
            "",
            "0",
            "33",
            "+1",
            "-1",
            "1.0",
            "1 ",
            "٣",
            "256",
            "18446744073709551616",
        ] {
            let refused = parse(text).unwrap_err();
            assert_eq!(refused, "a whole number from 1 to 32 is needed", "{text}");
        }
    }

    #[test]
    fn users_are_names_or_numbers() {
        for text in [
            "root",
            "1000",
            "1000:1000",
            "www-data:www-data",
            "a.b_c$",
            "0:wheel",
        ] {
            assert_eq!(user(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            ":",
            "a:",
            ":b",
            "-a",
            "a b",
            "a:b:c",
            "4294967295",
            "é",
            "a\nb",
            "../x",
        ] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
