//! The proxy arguments, which need no ARG and leave no trace.

use std::collections::BTreeMap;

const NAMES: [&str; 5] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];

/// The variables that every RUN sees for the proxy arguments among these build arguments, each in
/// both cases. They are no part of any plan: neither history nor cache know them. A value that is
/// given for an argument that the file declares is an argument like any other beside.
#[must_use]
pub fn proxies(build_args: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut variables = BTreeMap::new();
    for (name, value) in build_args {
        let lower = name.to_ascii_lowercase();
        if NAMES.contains(&lower.as_str()) {
            variables.insert(lower.to_ascii_uppercase(), value.clone());
            variables.insert(lower, value.clone());
        }
    }
    variables.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_seen_in_both_cases() {
        let arguments = [("HTTP_PROXY", "p"), ("no_proxy", "n"), ("OTHER", "o")];
        let arguments = arguments.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let seen = proxies(&arguments.into_iter().collect());
        let expected = [
            ("HTTP_PROXY", "p"),
            ("NO_PROXY", "n"),
            ("http_proxy", "p"),
            ("no_proxy", "n"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(seen, expected);
    }
}
