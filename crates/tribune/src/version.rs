//! Which build this is, and which Consul it takes the place of.

/// Version of this program.
pub(crate) const TRIBUNE: &str = env!("CARGO_PKG_VERSION");

/// The Consul whose interfaces this program offers. Clients decide by this number what they may ask for, so it is
/// what the API and the members say; people are shown [`TRIBUNE`].
pub(crate) const CONSUL: &str = "1.8.7";

/// Revision of the source, when the build was told (`TRIBUNE_REVISION`).
pub(crate) const REVISION: &str = match option_env!("TRIBUNE_REVISION") {
    Some(revision) => revision,
    None => "",
};
