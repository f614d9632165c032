//! Between datacenters: the ?dc= layer.
