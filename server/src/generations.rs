//! A map of bounded size for what may be forgotten.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// A map that forgets the older half when it is full, so that its memory is bounded and nothing is searched for.
pub struct Generations<K, V> {
    max: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Copy> Generations<K, V> {
    /// An empty map of twice `max` entries at most.
    pub fn new(max: usize) -> Self {
        Self { max, young: HashMap::new(), old: HashMap::new() }
    }

    /// The value of a key, unless it was forgotten.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    /// Keeps a value; it is among the young ones then.
    pub fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Forgets a key.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Everything that is kept, the old ones first; what was put again comes twice, its last value behind.
    pub fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.old.iter().chain(&self.young)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let mut map = Generations::new(10);
        for n in 0..1_000 {
            map.put(n, n);
        }
        assert!(map.entries().count() <= 20);
        assert_eq!(map.get(&999), Some(999));
        assert_eq!(map.get(&1), None);
        map.put(999, 5);
        assert_eq!(map.entries().filter(|(key, _)| **key == 999).last(), Some((&999, &5)));
        map.remove(&999);
        assert_eq!(map.get(&999), None);
    }
}
