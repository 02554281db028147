//! Pure types and decisions: no async, no clock, no randomness, no I/O. `now` is always an argument.

pub mod egress;
pub mod time;
