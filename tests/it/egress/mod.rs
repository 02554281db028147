//! The one gate to the outside, from without: what is refused, wherever an address is given or used, and that no
//! connection is made to what is refused.

mod connect;
mod consent;
mod names;
mod proxy;
mod vectors;
