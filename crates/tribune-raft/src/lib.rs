//! How a datacenter agrees and remembers: openraft on redb; offers Replica.
