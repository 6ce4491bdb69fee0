//! A map that is cheap to copy and cheap to change: many small sorted maps behind shared pointers.

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc};

use crate::command::AccountId;

/// Number of small maps. With 10,000 entries a change copies about 40 of them and this many pointers; with a million
/// about 4,000, still well under a millisecond.
const SHARDS: usize = 256;

/// What shards by.
pub(super) trait ShardKey: Ord {
    fn shard(&self) -> usize;
}

impl ShardKey for str {
    /// FNV-1a: spreads names well enough, and alike in every run.
    fn shard(&self) -> usize {
        let hash = self
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        usize::from((hash ^ (hash >> 32)).to_le_bytes()[0])
    }
}

impl ShardKey for String {
    fn shard(&self) -> usize {
        self.as_str().shard()
    }
}

impl ShardKey for AccountId {
    fn shard(&self) -> usize {
        usize::from(self.0.to_le_bytes()[0])
    }
}

/// The map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shards<V, K: Ord = String> {
    shards: Arc<Vec<Arc<BTreeMap<K, V>>>>,
    len: usize,
}

impl<V, K: Ord> Default for Shards<V, K> {
    fn default() -> Self {
        let empty = Arc::new(BTreeMap::new());
        Self { shards: Arc::new(vec![empty; SHARDS]), len: 0 }
    }
}

impl<V: Clone, K: ShardKey + Clone> Shards<V, K> {
    pub(super) fn get<Q: ShardKey + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[key.shard()].get(key)
    }

    /// Sets, and answers what was there.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let old = self.shard_mut(key.shard()).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(super) fn remove<Q: ShardKey + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let old = self.shard_mut(key.shard()).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// In no order that means anything, but the same in every run.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// Copies what others still use: the pointers, and one small map.
    fn shard_mut(&mut self, shard: usize) -> &mut BTreeMap<K, V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut map: Shards<u32> = Shards::default();
        for number in 0..1_000 {
            assert_eq!(map.insert(format!("name{number}"), number), None);
        }
        let copy = map.clone();
        assert_eq!(map.insert("name7".to_owned(), 70), Some(7));
        assert_eq!(map.remove("name8"), Some(8));
        assert_eq!(map.remove("name8"), None);
        assert_eq!((map.get("name7"), map.get("name8"), map.len()), (Some(&70), None, 999));
        assert_eq!((copy.get("name7"), copy.get("name8"), copy.len()), (Some(&7), Some(&8), 1_000));
        assert_eq!(copy.values().copied().sum::<u32>(), (0..1_000).sum());
        let shared = map.shards.iter().zip(copy.shards.iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!(shared >= SHARDS - 2, "only what changed was copied");
        let fullest = copy.shards.iter().map(|shard| shard.len()).max();
        assert!(fullest < Some(20), "names spread: {fullest:?}");
    }
}
