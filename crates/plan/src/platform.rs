//! Platforms as people name them: `linux/amd64`, `arm64`, `linux`, `linux/x86_64`.

use firebuild_core::Platform;

const SYSTEMS: [&str; 11] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

const ARCHITECTURES: [&str; 12] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
];

/// Reads a platform; `None` if it is none.
#[must_use]
pub fn parse(text: &str) -> Option<Platform> {
    let parts: Vec<&str> = text.split('/').collect();
    let word = |text: &&str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        !text.is_empty() && text.chars().all(fits)
    };
    if !parts.iter().all(word) {
        return None;
    }
    let host = Platform::host();
    let lower = parts[0].to_ascii_lowercase();
    let (os, architecture, variant) = match parts[..] {
        [_] if SYSTEMS.contains(&lower.as_str()) => (lower, host.architecture, None),
        [_] if ARCHITECTURES.contains(&usual(&lower)) => ("linux".to_owned(), lower, None),
        [_, architecture] => (lower, architecture.to_ascii_lowercase(), None),
        [_, architecture, variant] => (lower, architecture.to_ascii_lowercase(), Some(variant)),
        _ => return None,
    };
    Some(Platform {
        architecture: usual(&architecture).to_owned(),
        os,
        variant: variant.map(str::to_owned),
    })
}

/// Whether `wanted` runs where `own` does: a variant that every processor of its architecture has
/// says nothing.
#[must_use]
pub fn is_same(wanted: &Platform, own: &Platform) -> bool {
    let variant = |platform: &Platform| {
        let variant = platform.variant.clone()?;
        let every = [("amd64", "v1"), ("arm64", "v8"), ("arm64", "8")];
        (!every.contains(&(&platform.architecture, &variant))).then_some(variant)
    };
    (&wanted.os, &wanted.architecture) == (&own.os, &own.architecture)
        && variant(wanted) == variant(own)
}

/// An architecture by the name that images have for it.
fn usual(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        "i386" => "386",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_in_all_their_forms() {
        let host = format!("linux/{}", Platform::host().architecture);
        for (text, read) in [
            ("linux/amd64", Some("linux/amd64")),
            ("Linux/X86_64", Some("linux/amd64")),
            ("linux/arm64/v8", Some("linux/arm64/v8")),
            ("aarch64", Some("linux/arm64")),
            ("arm", Some("linux/arm")),
            ("linux", Some(host.as_str())),
            ("windows/amd64", Some("windows/amd64")),
            ("", None),
            ("nonsense", None),
            ("linux/", None),
            ("a/b/c/d", None),
            ("linux/a b", None),
        ] {
            let found = parse(text).map(|platform| platform.to_string());
            assert_eq!(found.as_deref(), read, "{text}");
        }
    }

    #[test]
    fn platforms_are_compared_by_what_they_mean() {
        for (one, other, same) in [
            ("linux/amd64", "amd64", true),
            ("linux/amd64/v1", "linux/x86_64", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/amd64/v3", "linux/amd64", false),
            ("linux/arm/v7", "linux/arm", false),
            ("linux/arm/v7", "linux/arm/v7", true),
            ("windows/amd64", "linux/amd64", false),
        ] {
            let (one, other) = (parse(one).unwrap(), parse(other).unwrap());
            assert_eq!(is_same(&one, &other), same, "{one} {other}");
        }
    }
}
