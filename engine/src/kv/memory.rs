//! The model store: sorted maps in memory, with crash images and faults on demand.
//!
//! It says what a store must do in the fewest lines, so the conformance suite compares RocksDB with it. Tests of the
//! engine use it to die at every write and to meet a full disk: [`MemoryKv::crash_image`] gives the store as the disk
//! would look after a power cut, [`MemoryKv::fail_write`] and [`MemoryKv::fail_until_healed`] refuse writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Bound, ControlFlow},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{Batch, Change, Durability, Family, Kv, KvError, Read, Visit};

type Rows = BTreeMap<Bytes, Bytes>;

/// The rows of every family. Cloning is cheap: families are shared until one of the copies changes.
#[derive(Clone, Debug, Default)]
struct Image {
    families: [Arc<Rows>; Family::ALL.len()],
}

impl Image {
    fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::Put(family, key, value) => {
                    self.rows_mut(*family).insert(key.clone(), value.clone());
                }
                Change::Delete(family, key) => {
                    self.rows_mut(*family).remove(key);
                }
                Change::DeleteRange(family, from, to) => self.delete_range(*family, from, to),
            }
        }
    }

    fn delete_range(&mut self, family: Family, from: &[u8], to: &[u8]) {
        if from >= to {
            return;
        }
        let rows = self.rows_mut(family);
        let gone: Vec<Bytes> =
            rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))).map(|(key, _)| key.clone()).collect();
        for key in gone {
            rows.remove(&key);
        }
    }

    fn rows(&self, family: Family) -> &Rows {
        &self.families[family.index()]
    }

    fn rows_mut(&mut self, family: Family) -> &mut Rows {
        Arc::make_mut(&mut self.families[family.index()])
    }
}

impl Read for Image {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.rows(family).get(key).cloned())
    }

    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, KvError> {
        Ok(keys.iter().map(|key| self.rows(family).get(*key).cloned()).collect())
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        if from < to {
            for (key, value) in self.rows(family).range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
                if visit(key, value) == ControlFlow::Break(()) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        if from < to {
            for (key, value) in self.rows(family).range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))).rev() {
                if visit(key, value) == ControlFlow::Break(()) {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What a recording store remembers of its writes.
#[derive(Debug)]
struct History {
    start: Image,
    writes: Vec<(Batch, Durability)>,
}

#[derive(Debug, Default)]
struct State {
    now: Image,
    history: Option<History>,
    /// Writes still to succeed before the fault strikes once.
    fault_once: Option<(usize, KvError)>,
    /// Every write fails with this until healed.
    fault_lasting: Option<KvError>,
}

impl State {
    fn fault(&mut self) -> Option<KvError> {
        if let Some(error) = &self.fault_lasting {
            return Some(error.clone());
        }
        match self.fault_once.take()? {
            (0, error) => Some(error),
            (left, error) => {
                self.fault_once = Some((left - 1, error));
                None
            }
        }
    }
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryKv {
    state: Mutex<State>,
}

impl MemoryKv {
    /// An empty store that forgets its past.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that records every write, so that it can yield crash images.
    pub fn recording() -> Self {
        Self::from_image(Image::default())
    }

    fn from_image(image: Image) -> Self {
        let history = History { start: image.clone(), writes: Vec::new() };
        let state = State { now: image, history: Some(history), ..State::default() };
        Self { state: Mutex::new(state) }
    }

    /// Number of writes that succeeded since recording began; zero for a store that does not record.
    pub fn writes(&self) -> usize {
        self.state().history.as_ref().map_or(0, |history| history.writes.len())
    }

    /// The writes recorded so far: the points at which a machine can die. `true` marks a synced one.
    pub fn synced_writes(&self) -> Vec<bool> {
        let state = self.state();
        let writes = state.history.as_ref().map(|history| history.writes.as_slice()).unwrap_or_default();
        writes.iter().map(|(_, durability)| *durability == Durability::Synced).collect()
    }

    /// The families that writes from this number on have touched.
    pub fn families_written(&self, from: usize) -> BTreeSet<Family> {
        let state = self.state();
        let writes = state.history.as_ref().and_then(|history| history.writes.get(from..)).unwrap_or_default();
        let family = |change: &Change| match change {
            Change::Put(family, ..) | Change::Delete(family, _) | Change::DeleteRange(family, ..) => *family,
        };
        writes.iter().flat_map(|(batch, _)| batch.changes.iter().map(family)).collect()
    }

    /// The store as the disk would look if the machine died after `writes` writes had returned: the last synced write
    /// among them and everything before it is there, of the ordered writes that followed any prefix, chosen by `seed`.
    /// The image records its own writes. A store that does not record yields its present state.
    #[must_use]
    pub fn crash_image(&self, writes: usize, seed: u64) -> Self {
        let state = self.state();
        let Some(history) = &state.history else { return Self::from_image(state.now.clone()) };
        let returned = &history.writes[..writes.min(history.writes.len())];
        let safe = returned
            .iter()
            .rposition(|(_, durability)| *durability == Durability::Synced)
            .map_or(0, |position| position + 1);
        let choices = u64::try_from(returned.len() - safe).unwrap_or(u64::MAX).saturating_add(1);
        let kept = safe + usize::try_from(mix(seed) % choices).unwrap_or(0);
        let mut image = history.start.clone();
        for (batch, _) in &returned[..kept] {
            image.apply(batch);
        }
        Self::from_image(image)
    }

    /// Lets `after` more writes succeed, then fails one with `error`; nothing of that write happens.
    pub fn fail_write(&self, after: usize, error: KvError) {
        self.state().fault_once = Some((after, error));
    }

    /// Fails every write with `error` until [`MemoryKv::heal`], as a full disk does.
    pub fn fail_until_healed(&self, error: KvError) {
        self.state().fault_lasting = Some(error);
    }

    /// Ends every fault.
    pub fn heal(&self) {
        let mut state = self.state();
        state.fault_once = None;
        state.fault_lasting = None;
    }

    /// Every row of every family, ascending: two stores with equal dumps hold the same.
    pub fn dump(&self) -> Vec<(Family, Bytes, Bytes)> {
        let image = self.image();
        let rows_of =
            |family: Family| image.rows(family).clone().into_iter().map(move |(key, value)| (family, key, value));
        Family::ALL.into_iter().flat_map(rows_of).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the maps whole: a write is applied by this file alone.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self) -> Image {
        self.state().now.clone()
    }
}

/// One step of splitmix64: spreads neighbouring seeds.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Read for MemoryKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.state().now.rows(family).get(key).cloned())
    }

    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, KvError> {
        self.state().now.multi_get(family, keys)
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        // On a copy, so that `visit` may use the store itself.
        self.image().scan(family, from, to, visit)
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        self.image().scan_back(family, from, to, visit)
    }
}

impl Kv for MemoryKv {
    fn snapshot(&self) -> Box<dyn Read + '_> {
        Box::new(self.image())
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        let mut state = self.state();
        if let Some(error) = state.fault() {
            return Err(error);
        }
        state.now.apply(batch);
        if let Some(history) = &mut state.history {
            history.writes.push((batch.clone(), durability));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &MemoryKv, key: &'static str, durability: Durability) {
        let mut batch = Batch::default();
        batch.put(Family::Sys, key, "1");
        store.write(&batch, durability).expect("memory does not fail by itself");
    }

    fn keys(store: &MemoryKv) -> Vec<Bytes> {
        store.dump().into_iter().map(|(_, key, _)| key).collect()
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let store = MemoryKv::recording();
        put(&store, "a", Durability::Ordered);
        put(&store, "b", Durability::Synced);
        put(&store, "c", Durability::Ordered);
        put(&store, "d", Durability::Ordered);
        let mut seen = [false; 5];
        for seed in 0..64 {
            let kept = keys(&store.crash_image(4, seed));
            assert!(kept.len() >= 2, "a synced write and its predecessors stay");
            assert_eq!(kept, ["a", "b", "c", "d"][..kept.len()], "what survives is a prefix");
            seen[kept.len()] = true;
        }
        assert_eq!(seen, [false, false, true, true, true], "every prefix happens for some seed");
        assert_eq!(keys(&store.crash_image(2, 7)), ["a", "b"]);
    }

    #[test]
    fn an_image_is_a_store_of_its_own() {
        let store = MemoryKv::recording();
        put(&store, "a", Durability::Synced);
        let image = store.crash_image(1, 0);
        put(&image, "b", Durability::Synced);
        assert_eq!(keys(&store), ["a"]);
        assert_eq!(keys(&image.crash_image(0, 0)), ["a"]);
        assert_eq!(keys(&image.crash_image(1, 0)), ["a", "b"]);
    }

    #[test]
    fn faults_strike_when_told_and_leave_nothing() {
        let store = MemoryKv::recording();
        let full = KvError::Busy("full".into());
        store.fail_write(1, full.clone());
        put(&store, "a", Durability::Synced);
        let mut batch = Batch::default();
        batch.put(Family::Sys, "b", "1");
        assert_eq!(store.write(&batch, Durability::Synced), Err(full.clone()));
        put(&store, "c", Durability::Synced);
        store.fail_until_healed(full.clone());
        assert_eq!(store.write(&batch, Durability::Synced), Err(full.clone()));
        assert_eq!(store.write(&batch, Durability::Synced), Err(full));
        store.heal();
        put(&store, "d", Durability::Synced);
        assert_eq!(keys(&store), ["a", "c", "d"]);
    }
}
