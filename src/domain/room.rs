//! Room in what is remembered of strangers: it is bounded, however many there are. Used by whoever counts or caches what
//! others do.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash},
};

/// Makes room for `key` among at most `max`: what is over is forgotten first, and where that is not enough, all.
pub fn make_room<K, Q, V, S>(map: &mut HashMap<K, V, S>, key: &Q, max: usize, is_over: impl Fn(&V) -> bool)
where
    K: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
    S: BuildHasher,
{
    if map.len() < max || map.contains_key(key) {
        return;
    }
    map.retain(|_, value| !is_over(value));
    if map.len() >= max {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_goes_before_the_rest() {
        let map = |values: [u8; 3]| -> HashMap<u8, u8> { (0..).zip(values).collect() };
        let left = |values, key: u8, max| {
            let mut map = map(values);
            make_room(&mut map, &key, max, |value| *value == 0);
            map.len()
        };
        assert_eq!(left([0, 0, 1], 9, 4), 3, "there is room");
        assert_eq!(left([0, 0, 1], 2, 3), 3, "it is there already");
        assert_eq!(left([0, 0, 1], 9, 3), 1);
        assert_eq!(left([1, 1, 1], 9, 3), 0);
    }
}
