//! How registries are asked: as whom, whom to believe, and whether without encryption.

use std::sync::Arc;

use firebuild_builder::logins::LoginFiles;
use firebuild_oci::Trust;
use firebuild_oci::registry::Options;

/// What holds for every registry: the logins of people's other tools, and these authorities.
pub(crate) fn options(trust: Trust) -> Options {
    Options {
        trust,
        logins: Arc::new(LoginFiles::usual(|name| std::env::var_os(name))),
        ..Options::default()
    }
}
