//! The only code that talks HTTP to the outside.
