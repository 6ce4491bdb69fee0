//! Opening the store with its share of the machine.

use std::sync::Arc;

use rockdove_engine::{
    Engine, EngineOptions,
    kv::rocks::{RocksKv, RocksOptions},
};

use crate::{
    config::Config,
    data_dir::DataDir,
    failure::{Failure, refused},
    runtime::{clock, process},
};

/// Memory that is assumed when the kernel does not say.
const MEMORY_ASSUMED_BYTES: u64 = 2 << 30;
/// Octets of mailbox entries in memory: a sixteenth of the machine, within these.
const SEGMENT_CACHE_BYTES: (u64, u64) = (32 << 20, 4 << 30);
/// Octets of decompressed parts in memory: a hundred-and-twenty-eighth of the machine, within these.
const CHUNK_CACHE_BYTES: (u64, u64) = (16 << 20, 512 << 20);

/// The store and the engine on it.
pub struct Store {
    /// The store.
    pub kv: Arc<RocksKv>,
    /// The engine.
    pub engine: Arc<Engine>,
}

impl Store {
    /// Opens both; creates them on the first start.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn open(data_dir: &DataDir, config: &Config) -> Result<Self, Failure> {
        let memory = config.store.memory.map(|size| size.bytes).or_else(process::memory_bytes);
        let memory = memory.unwrap_or(MEMORY_ASSUMED_BYTES);
        let rocks = RocksOptions::for_machine(memory, process::cores());
        let path = data_dir.make_store().map_err(refused("cannot make the folder of the store"))?;
        let kv = RocksKv::open(&path, &rocks).map_err(|error| Failure::Refused(error.to_string()))?;
        let kv = Arc::new(kv);
        let options = EngineOptions {
            dedup_key: clock::seed().map_err(refused("no randomness"))?,
            segment_cache_bytes_max: share(memory / 16, SEGMENT_CACHE_BYTES),
            chunk_cache_bytes_max: share(memory / 128, CHUNK_CACHE_BYTES),
            // What a client may send is settled by its session, under a limit that can change while we serve.
            message_size_max: u64::MAX,
            undelete_s: config.store.undelete_for.ms.div_ceil(1_000),
            undelete_bytes_max: config.store.undelete_bytes_max.bytes,
            ..EngineOptions::default()
        };
        let engine = Engine::open(Arc::<RocksKv>::clone(&kv), options);
        let engine = engine.map_err(|error| Failure::Refused(format!("cannot open the store: {error}")))?;
        Ok(Self { kv, engine })
    }
}

fn share(bytes: u64, (least, most): (u64, u64)) -> usize {
    usize::try_from(bytes.clamp(least, most)).unwrap_or(usize::MAX)
}
