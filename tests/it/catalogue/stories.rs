//! Cases that need more than a line.
