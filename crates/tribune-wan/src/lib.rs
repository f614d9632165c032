//! Between datacenters: the `?dc=` layer.
//!
//! [`DcLayer`] is wrapped around the HTTP service of a node and is the only place that looks at `?dc`. Handlers
//! behind it know one datacenter: their own.

mod layer;

pub use layer::{DcLayer, DcService};
