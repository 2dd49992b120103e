//! Names that say that their values are secret.

/// A part of a name that says so.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "passwd",
    "pword",
    "secret",
    "token",
];

/// A part of a name that says that it only names, counts or publishes the secret.
const HARMLESS: [&str; 3] = ["file", "public", "version"];

/// Whether the value of a variable is probably secret: the parts of its name, between underscores
/// and in any case, tell.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| name.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_tell() {
        for (name, secret) in [
            ("PASSWORD", true),
            ("db_password", true),
            ("Db_Passwd", true),
            ("PWORD", true),
            ("API_KEY", true),
            ("APIKEY", true),
            ("apikey_a", true),
            ("AUTH", true),
            ("x_auth_y", true),
            ("GITHUB_TOKEN", true),
            ("TOKEN_TTL", true),
            ("SECRET_MESSAGE", true),
            ("GIT_CREDENTIALS", true),
            ("credential", true),
            ("__KEY__", true),
            ("MYPASSWORD", false),
            ("KEYBOARD", false),
            ("MONKEY", false),
            ("AUTHOR", false),
            ("SECRETS", false),
            ("TOKENS", false),
            ("POSTGRES_PASSWORD_FILE", false),
            ("PUBLIC_KEY", false),
            ("KEY_VERSION", false),
            ("TOKEN_FILE_NAME", false),
            ("KEYFILE", false),
            ("", false),
        ] {
            assert_eq!(is_secret(name), secret, "{name}");
        }
    }
}
