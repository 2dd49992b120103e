//! User names and passwords: where they come from is the caller's business.

use std::fmt;
use std::pin::Pin;

/// A future that is asked for through a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who a client is.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A user and a password.
    Password {
        /// The user's name.
        user: String,
        /// The password, or an access token in its place.
        password: String,
    },
    /// A token that a token server gives short-lived ones for (OAuth 2's refresh token).
    IdentityToken(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password {{ user: {user:?}, .. }}"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(..)"),
        }
    }
}

/// Why a registry's credentials could not be found out.
pub type LoginError = Box<dyn std::error::Error + Send + Sync>;

/// Tells who a client is, for a registry.
pub trait Logins: fmt::Debug + Send + Sync {
    /// What there is for the registry `HOST[:PORT]`, as references have it. It is asked at most
    /// once for each registry, and only when that wants to know.
    fn login<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Login>, LoginError>>;
}

/// Nobody in particular, anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLogins;

impl Logins for NoLogins {
    fn login<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Login>, LoginError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// The same for one registry.
#[derive(Debug, Clone)]
pub struct FixedLogin {
    /// The registry that it is for.
    pub registry: String,
    /// What is said to it.
    pub login: Login,
}

impl Logins for FixedLogin {
    fn login<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Result<Option<Login>, LoginError>> {
        let login = (registry == self.registry).then(|| self.login.clone());
        Box::pin(std::future::ready(Ok(login)))
    }
}
