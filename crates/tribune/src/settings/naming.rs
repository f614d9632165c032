//! What datacenters and domains may be called. Both stand in DNS names, in certificates and in the names of files, so
//! the rules are stricter than those for other names.

use tribune_core::Datacenter;

/// Longest domain: names in it need room too.
const DOMAIN_BYTES_MAX: usize = 200;

/// Longest label of a DNS name.
const LABEL_BYTES_MAX: usize = 63;

/// The name of a datacenter, in lower case. The reason for refusing it follows the name of what was written.
pub(crate) fn datacenter(text: &str) -> Result<Datacenter, String> {
    let name = text.to_lowercase();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(format!("must be made of a-z, 0-9, _ and -, not {text:?}"));
    }
    Datacenter::new(name).map_err(|error| error.to_string())
}

/// A DNS domain, in lower case and without its last dot. The reason for refusing it follows the name of what was
/// written.
pub(crate) fn domain(text: &str) -> Result<String, String> {
    let domain = text.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if !domain.split('.').all(is_label) || domain.len() > DOMAIN_BYTES_MAX {
        return Err(format!("must be a DNS domain such as \"consul.\", not {text:?}"));
    }
    Ok(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datacenters_are_plain_and_in_lower_case() {
        assert_eq!(datacenter("DC_1-a").map(|it| it.to_string()), Ok("dc_1-a".to_owned()));
        for text in ["", "d c", "dc.1", "dc/1", "dcé"] {
            assert!(datacenter(text).is_err_and(|why| why.starts_with("must be made of")), "{text}");
        }
        assert!(datacenter(&"d".repeat(2000)).is_err());
    }

    #[test]
    fn domains_are_made_of_labels() {
        assert_eq!(domain("Consul."), Ok("consul".to_owned()));
        assert_eq!(domain("internal.example_1"), Ok("internal.example_1".to_owned()));
        let long = format!("{}.x", "a".repeat(64));
        for text in ["", ".", "a b", "a..b", ".consul", "../consul", "a/b", long.as_str(), &"a.".repeat(150)]
        {
            assert!(domain(text).is_err_and(|why| why.starts_with("must be a DNS domain")), "{text}");
        }
    }
}
