//! What truly differs between the databases: appending, checkpoints, connecting, the lease. Written natively.

pub(super) mod postgres;
pub(super) mod sqlite;

/// Whether `channels.options` has a label with a value: the pieces of a condition, before the label's name, between it
/// and the value, and after that. Both are bound, whatever they contain.
pub(super) const fn has_metadata(on_postgres: bool) -> [&'static str; 3] {
    if on_postgres {
        ["(channels.options::jsonb -> 'metadata' ->> ", ") = ", ""]
    } else {
        // A path cannot name every key; a row of `json_each` can.
        ["exists (select 1 from json_each(channels.options, '$.metadata') where key = ", " and value = ", ")"]
    }
}
