//! Questions about what is registered in a datacenter: `/v1/catalog/…`.

use std::collections::BTreeMap;

use crate::question::Question;
use crate::request::Request;

/// The names of all known datacenters, the nearest first. Cannot be watched.
pub fn datacenters() -> Question<Vec<String>> {
    Question::new(Request::get(&["catalog", "datacenters"]))
}

/// All services with the tags that their instances have.
pub fn services() -> Question<BTreeMap<String, Vec<String>>> {
    Question::new(Request::get(&["catalog", "services"]))
}
