//! Questions about the datacenter's agreement: `/v1/status/…`.

use crate::question::Question;
use crate::request::Request;

/// The address of the leader, or an empty text while there is none.
pub fn leader() -> Question<String> {
    Question::new(Request::get(&["status", "leader"]))
}

/// The addresses of all servers that vote.
pub fn peers() -> Question<Vec<String>> {
    Question::new(Request::get(&["status", "peers"]))
}
