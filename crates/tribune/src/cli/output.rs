//! What commands print: columns, JSON, and the words for what went wrong. Data goes to standard output, the rest
//! to standard error.

use std::io::{self, Write};

use anyhow::anyhow;
use tribune_client::{Error, Failure};

pub(super) use crate::columns::columns;

/// Writes data to standard output. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(data: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(data.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A row of [`columns`].
pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

/// JSON text laid out in lines with four blanks per level, values as they are and in their order.
pub(super) fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut letters = json.trim().chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        (0..depth).for_each(|_| text.push_str("    "));
    };
    while let Some(letter) = letters.next() {
        if in_string {
            text.push(letter);
            in_string = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '{' | '[' => {
                text.push(letter);
                while letters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(letter);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            blank if blank.is_ascii_whitespace() => {}
            letter => {
                in_string = letter == '"';
                text.push(letter);
            }
        }
    }
    text.push('\n');
    text
}

/// JSON text on one line without blanks, values as they are and in their order.
pub(super) fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let kept = |letter: &char| {
        let keeps = in_string || !letter.is_ascii_whitespace();
        if in_string {
            in_string = escaped || *letter != '"';
            escaped = !escaped && *letter == '\\';
        } else {
            in_string = *letter == '"';
        }
        keeps
    };
    json.chars().filter(kept).collect()
}

/// What a command says when the agent did not give what it was asked for: `Error listing nodes: …`.
pub(super) fn failed(doing: &str, error: &Error) -> anyhow::Error {
    anyhow!("Error {doing}: {}", told(error))
}

/// An error in the words that scripts look for.
pub(super) fn told(error: &Error) -> String {
    match error {
        Error::Refused { status, message }
        | Error::Unknown(Failure::Answered { status, message })
        | Error::Unavailable { last: Failure::Answered { status, message }, .. } => {
            format!("Unexpected response code: {status} ({message})")
        }
        Error::Unavailable { last: Failure::Connect { address, reason }, .. } => {
            let reason = reason.split(" (os error").next().unwrap_or(reason);
            let reason = reason[..reason.len().min(1)].to_lowercase() + &reason[reason.len().min(1)..];
            format!(
                "cannot connect to {address}: {reason}; is an agent running there? \
                 -http-addr or CONSUL_HTTP_ADDR names another"
            )
        }
        Error::Unavailable { last: last @ Failure::Broken { .. }, .. }
        | Error::Unknown(last @ Failure::Broken { .. }) => {
            format!("{last}{}", why_broken(last))
        }
        Error::Unavailable { last, .. } => last.to_string(),
        other => other.to_string(),
    }
}

/// What is usually behind a connection that the agent closes at once.
fn why_broken(failure: &Failure) -> &'static str {
    match failure {
        Failure::Broken { address, .. } if address.starts_with("https") => {
            "; if the agent asks for a certificate (verify_incoming_https), name one with -client-cert and -client-key \
             (`tribune tls cert create -cli`)"
        }
        Failure::Broken { reason, .. } if reason.contains("HTTP version") => {
            "; if that port serves HTTPS, write https:// before the address"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_order_and_its_spelling() {
        let text = r#"{"b":[],"a":["x, y: {z}","\"\\"],"n":{"m":1.50,"o":{ }},"u":"\u003c"}"#;
        let expected = r#"{
    "b": [],
    "a": [
        "x, y: {z}",
        "\"\\"
    ],
    "n": {
        "m": 1.50,
        "o": {}
    },
    "u": "\u003c"
}
"#;
        assert_eq!(indented(text), expected);
        assert_eq!(indented(expected), expected);
        assert_eq!(compact(expected), text.replace("{ }", "{}"));
        assert_eq!(indented("null"), "null\n");
    }

    #[test]
    fn refusals_and_refused_connections_have_the_words_that_scripts_look_for() {
        let refused = Error::Refused { status: 404, message: "No such service".into() };
        assert_eq!(
            failed("enabling service maintenance", &refused).to_string(),
            "Error enabling service maintenance: Unexpected response code: 404 (No such service)"
        );
        let last = Failure::Connect {
            address: "http://127.0.0.1:1".into(),
            reason: "Connection refused (os error 111)".into(),
        };
        let text = failed("listing nodes", &Error::Unavailable { attempts: 1, last }).to_string();
        assert!(
            text.starts_with(
                "Error listing nodes: cannot connect to http://127.0.0.1:1: connection refused;"
            )
        );
    }
}
