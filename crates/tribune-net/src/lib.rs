//! How nodes speak: listeners with limits.
