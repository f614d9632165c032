//! Paths as Consul's router sees them: cleaned, decoded, checked for characters nobody can print.

use std::borrow::Cow;

use tribune_api::ApiError;
use tribune_api::params::decode_path;

/// What to do with the path of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Path<'a> {
    /// Look for its route.
    Clean(Cow<'a, str>),
    /// Send the client to this path, its clean form.
    Moved(String),
}

/// Decodes a path and cleans it.
pub(crate) fn read(raw: &str) -> Result<Path<'_>, ApiError> {
    if is_plain(raw) {
        return Ok(Path::Clean(Cow::Borrowed(raw)));
    }
    let path = if raw.contains('%') { decode_path(raw)? } else { raw.to_owned() };
    if path.chars().any(unprintable) {
        return Err(ApiError::bad_request(""));
    }
    let clean = clean(&path);
    Ok(if clean == path { Path::Clean(Cow::Owned(path)) } else { Path::Moved(encode(&clean)) })
}

/// Whether there is nothing to decode and nothing to clean, as in nearly all paths.
fn is_plain(raw: &str) -> bool {
    let mut last = b' ';
    raw.starts_with('/')
        && raw.bytes().all(|byte| {
            let harmless =
                byte.is_ascii_graphic() && byte != b'%' && !(last == b'/' && matches!(byte, b'/' | b'.'));
            last = byte;
            harmless
        })
}

/// What Go calls unprintable, as far as it can come in a path.
fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
        || (c.is_whitespace() && c != ' ')
}

/// Without empty, `.` and `..` segments; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for segment in &segments {
        clean.push('/');
        clean.push_str(segment);
    }
    if clean.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// Escapes what may not stand in a `Location`.
pub(crate) fn encode(path: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~$&+,:;=@!*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_like_gos() {
        for path in ["/", "/v1/kv/a", "/v1/kv/", "/v1/kv/a..b/.c"] {
            assert_eq!(read(path), Ok(Path::Clean(Cow::Borrowed(path))));
        }
        assert_eq!(read("/v1/kv/a%20b%c3%a4"), Ok(Path::Clean("/v1/kv/a bä".into())));
        for (raw, moved) in [
            ("/v1//kv", "/v1/kv"),
            ("/v1/./kv/", "/v1/kv/"),
            ("/v1/kv/a/../b", "/v1/kv/b"),
            ("/../..", "/"),
            ("//", "/"),
            ("/v1/kv/a%2f%2fb%20c", "/v1/kv/a/b%20c"),
            ("/v1/%2e%2e/kv", "/kv"),
        ] {
            assert_eq!(read(raw), Ok(Path::Moved(moved.to_owned())), "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for raw in ["/v1/kv/%01", "/a%0a", "/a%7f", "/%e2%80%a8"] {
            let error = read(raw).unwrap_err();
            assert_eq!((error.status, error.message.as_str()), (400, ""), "{raw}");
        }
        assert_eq!(read("/%zz").unwrap_err().status, 400);
        assert_eq!(read("/%ff").unwrap_err().status, 400);
    }
}
