//! How Consul spells it: JSON bodies, query parameters, headers, error texts, durations. Pure.
