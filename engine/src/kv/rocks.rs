//! RocksDB under the [`Kv`] contract; the only file that names it.
//!
//! One database with one log (WAL). A write is first appended to the log and, when [`Durability::Synced`], the log is
//! synced before the call returns. A full disk and a write stall are answered with [`KvError::Busy`] inside a bounded
//! time. RocksDB resumes by itself when space returns, nothing needs to be restarted: it looks every five seconds, and
//! wants room for one write buffer of each family (nine quarters of [`RocksOptions::write_buffers_bytes`]) so that the
//! next flush cannot fill the disk again. Tried by hand on a small tmpfs, with the log and with a flush hitting the end.
//!
//! A write that fails while the log is being synced has not happened for readers, yet may be found done if the process
//! dies before RocksDB has resumed. The caller has answered "try again later" by then, so nothing acknowledged is lost.

use std::{
    fmt, fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, DBRecoveryMode, ErrorKind, Options, ReadOptions, WriteBatch, WriteOptions,
    checkpoint::Checkpoint, properties,
};

use super::{Batch, Change, Durability, Family, Kv, KvError, Read, Visit, wal};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: u64 = 1024 * 1024 * 1024;

/// How often a write is tried while RocksDB has stopped writes, before the caller is told to try again later.
/// With [`STALL_WAIT_MS`] this is 10 s: well under the minutes that RFC 5321 section 4.5.3.2 lets a client wait.
pub const STALL_ATTEMPTS_MAX: u32 = 100;
/// Pause between two attempts, in milliseconds.
pub const STALL_WAIT_MS: u64 = 100;

/// Log files kept for writing over: a sync of a recycled file does not have to record a new file size, which saves an
/// I/O per sync. Works with point-in-time recovery only, not with `kTolerateCorruptedTailRecords`,
/// `kAbsoluteConsistency`, a log TTL or a log size limit: RocksDB silently turns recycling off beside any of these.
const RECYCLED_LOGS: usize = 8;
/// Part chunks of this size and more go to blob files; smaller ones stay in the tree.
const BLOB_BYTES_MIN: u64 = 2 * 1024;
/// Size of one blob file: large enough for sequential writing, small enough to be collected piecemeal.
const BLOB_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Blob files older than the newest tenth may be rewritten to drop garbage. With 1.0 every compaction would rewrite the
/// bodies that have only just arrived.
const BLOB_GC_AGE_CUTOFF: f64 = 0.9;
/// Garbage share that forces collection. Never 0: an idle database would then compact for ever.
const BLOB_GC_FORCE: f64 = 0.5;
/// Compression of rows that are much alike: level, octets of the dictionary of a file, octets of rows that it is trained
/// on. Beside none a dictionary saves 14 % of all that is stored of real mail.
const ALIKE_ZSTD_LEVEL: i32 = 3;
const ALIKE_DICTIONARY_BYTES: i32 = 64 * 1024;
const ALIKE_TRAIN_BYTES: i32 = 4 * 1024 * 1024;
/// RocksDB's own default; zstd has no use for it.
const WINDOW_BITS: i32 = -14;
/// Bits per key of the bloom filters: about 1 % of absent keys cost a read.
const BLOOM_BITS: f64 = 10.0;
/// Table and blob files held open at once, so that sockets keep most of the descriptors.
const OPEN_FILES_MAX: i32 = 4096;
/// RocksDB's own diagnostic log: files kept, and octets of each.
const INFO_LOGS: (usize, usize) = (5, 8 * MIB);

/// How much of the machine the store may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Octets for cached blocks (tables, indexes and filters).
    pub block_cache_bytes: usize,
    /// Octets for cached part chunks.
    pub blob_cache_bytes: usize,
    /// Octets of write buffers, all families together.
    pub write_buffers_bytes: usize,
    /// Octets of log after which old write buffers are flushed. Bounds both disk use and the time to recover: without
    /// it a seldom-written family keeps every log file alive.
    pub log_bytes_max: u64,
    /// Threads for flushing and compacting.
    pub background_jobs: i32,
}

impl RocksOptions {
    /// For a machine with this much memory and this many cores: a quarter for blocks, a sixteenth for write buffers;
    /// the rest belongs to connections, mailbox views and the page cache (which holds the compressed files).
    pub fn for_machine(memory_bytes: u64, cores: usize) -> Self {
        let share = |part: u64, least: usize, most: usize| {
            usize::try_from(memory_bytes / part).unwrap_or(usize::MAX).clamp(least, most)
        };
        let write_buffers_bytes = share(16, 32 * MIB, 512 * MIB);
        let log_bytes_max = u64::try_from(write_buffers_bytes).unwrap_or(GIB).saturating_mul(4).min(GIB / 2);
        Self {
            block_cache_bytes: share(4, 64 * MIB, 16 * KIB * MIB),
            blob_cache_bytes: share(32, 16 * MIB, 2 * KIB * MIB),
            write_buffers_bytes,
            log_bytes_max,
            background_jobs: i32::try_from(cores).unwrap_or(i32::MAX).clamp(2, 8),
        }
    }
}

impl Default for RocksOptions {
    /// A small machine: 2 GiB of memory and two cores.
    fn default() -> Self {
        Self::for_machine(2 * GIB, 2)
    }
}

/// Why a store could not be opened. The operator must act; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Another process has it open.
    InUse(PathBuf),
    /// It has families that this version does not know.
    Newer(PathBuf, String),
    /// RocksDB did not take the options that were asked for.
    Options(Vec<String>),
    /// Reading or writing failed, or what is there is damaged.
    Store(PathBuf, KvError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => {
                write!(f, "the store at {} is in use by another process; use the running server", path.display())
            }
            Self::Newer(path, why) => {
                write!(f, "the store at {} was made by a newer version of Rockdove: {why}", path.display())
            }
            Self::Options(wrong) => write!(f, "the store did not take its options: {}", wrong.join("; ")),
            Self::Store(path, error) => write!(f, "cannot open the store at {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

/// What the store has to tell about itself, for metrics. Octets unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RocksFigures {
    /// Table files on disk.
    pub table_bytes: u64,
    /// Blob files on disk.
    pub blob_bytes: u64,
    /// Of both, what searching and sorting read.
    pub search_bytes: u64,
    /// Of both, what is kept of what happened to mail.
    pub trace_bytes: u64,
    /// Of the blob files, what nobody needs any more.
    pub blob_garbage_bytes: u64,
    /// Write buffers in memory.
    pub write_buffer_bytes: u64,
    /// Cached blocks in memory.
    pub block_cache_bytes: u64,
    /// Waiting to be compacted.
    pub compaction_debt_bytes: u64,
    /// Background errors since the start, a count.
    pub background_errors: u64,
    /// Writes are stopped right now.
    pub write_stopped: bool,
}

/// A store on disk.
pub struct RocksKv {
    db: DB,
}

impl fmt::Debug for RocksKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksKv").field("path", &self.db.path()).finish()
    }
}

impl RocksKv {
    /// Opens the store in the folder `path`, creating it when it is missing, and checks that RocksDB took our options.
    pub fn open(path: &Path, options: &RocksOptions) -> Result<Self, OpenError> {
        let cache = Cache::new_hyper_clock_cache(options.block_cache_bytes, 0);
        let blob_cache = Cache::new_lru_cache(options.blob_cache_bytes);
        let families = Family::ALL.map(|family| {
            ColumnFamilyDescriptor::new(family.name(), family_options(family, options, &cache, &blob_cache))
        });
        let db = DB::open_cf_descriptors(&database_options(options), path, families)
            .map_err(|error| open_error(path, &error))?;
        let store = Self { db };
        let wrong = store.options_not_taken(options)?;
        if wrong.is_empty() { Ok(store) } else { Err(OpenError::Options(wrong)) }
    }

    /// Opens a store to read it: nothing in the folder is changed but RocksDB's own diary, and any number of processes
    /// may do so. Its files may be links. Writing is refused with [`KvError::Io`]. It shows what is there now, so
    /// nobody should be writing it.
    pub fn open_for_reading(path: &Path, options: &RocksOptions) -> Result<Self, OpenError> {
        let cache = Cache::new_hyper_clock_cache(options.block_cache_bytes, 0);
        let blob_cache = Cache::new_lru_cache(options.blob_cache_bytes);
        let families = Family::ALL.map(|family| {
            ColumnFamilyDescriptor::new(family.name(), family_options(family, options, &cache, &blob_cache))
        });
        let mut database = database_options(options);
        database.create_if_missing(false);
        database.create_missing_column_families(false);
        DB::open_cf_descriptors_read_only(&database, path, families, false)
            .map(|db| Self { db })
            .map_err(|error| open_error(path, &error))
    }

    /// Makes a store of its own in the folder `path`, which must not exist but whose parent must: everything that was
    /// written when this was called, synced. Tables and blob files are the same files under a second name, so it takes
    /// no time and no room, but what this store drops from now on stays on the disk until the folder is removed. Write
    /// buffers are flushed first; what comes in meanwhile is in the copied log. Writing goes on.
    pub fn checkpoint(&self, path: &Path) -> Result<(), KvError> {
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(path));
        made.map_err(|error| kv_error(&error))?;
        wal::cut_logs(path).map_err(|error| KvError::Io(format!("cannot cut the log of a checkpoint: {error}")))
    }

    /// Compacts every family to its bottom, which also drops deleted blobs that are due. Slow; for maintenance.
    pub fn compact(&self) -> Result<(), KvError> {
        let mut options = CompactOptions::default();
        // A file that is merely moved down keeps the compression of the top.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        for family in Family::ALL {
            self.db.flush_cf(self.family(family)?).map_err(|error| kv_error(&error))?;
            self.db.compact_range_cf_opt(self.family(family)?, None::<&[u8]>, None::<&[u8]>, &options);
        }
        Ok(())
    }

    /// Figures for metrics.
    pub fn figures(&self) -> RocksFigures {
        let of = |family: Family, name: &str| {
            let handle = self.db.cf_handle(family.name())?;
            self.db.property_int_value_cf(handle, name).ok().flatten()
        };
        let sum = |name: &str| -> u64 { Family::ALL.into_iter().filter_map(|family| of(family, name)).sum() };
        let one = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or_default();
        let files = ["rocksdb.total-sst-files-size", "rocksdb.total-blob-file-size"];
        let on_disk = |family: Family| -> u64 { files.into_iter().filter_map(|name| of(family, name)).sum() };
        RocksFigures {
            table_bytes: sum("rocksdb.total-sst-files-size"),
            blob_bytes: sum("rocksdb.total-blob-file-size"),
            search_bytes: on_disk(Family::Text),
            trace_bytes: on_disk(Family::Trace),
            blob_garbage_bytes: sum("rocksdb.live-blob-file-garbage-size"),
            write_buffer_bytes: sum("rocksdb.cur-size-all-mem-tables"),
            block_cache_bytes: one("rocksdb.block-cache-usage"),
            compaction_debt_bytes: sum("rocksdb.estimate-pending-compaction-bytes"),
            background_errors: one("rocksdb.background-errors"),
            write_stopped: self.write_stopped(),
        }
    }

    fn write_stopped(&self) -> bool {
        self.db.property_int_value(properties::IS_WRITE_STOPPED).ok().flatten() == Some(1)
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, KvError> {
        self.db.cf_handle(family.name()).ok_or_else(|| KvError::Io(format!("family {} is not open", family.name())))
    }

    /// The batch as RocksDB takes it.
    fn encode(&self, batch: &Batch) -> Result<WriteBatch, KvError> {
        let mut encoded = WriteBatch::with_capacity_bytes(batch.size_bytes() + 16 * batch.changes.len());
        for change in &batch.changes {
            match change {
                Change::Put(family, key, value) => encoded.put_cf(self.family(*family)?, key, value),
                Change::Delete(family, key) => encoded.delete_cf(self.family(*family)?, key),
                // RocksDB refuses a range that ends before it begins; for us it is empty.
                Change::DeleteRange(family, from, to) if from < to => {
                    encoded.delete_range_cf(self.family(*family)?, from, to);
                }
                Change::DeleteRange(..) => {}
            }
        }
        Ok(encoded)
    }

    /// Reads back the options file that RocksDB has just written and names every setting that differs from ours.
    fn options_not_taken(&self, options: &RocksOptions) -> Result<Vec<String>, OpenError> {
        let path = self.db.path();
        let failed = |error: &std::io::Error| OpenError::Store(path.to_owned(), KvError::Io(error.to_string()));
        let newest = fs::read_dir(path)
            .map_err(|error| failed(&error))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Some((name.strip_prefix("OPTIONS-")?.parse::<u64>().ok()?, name)))
            .max();
        let Some((_, name)) = newest else { return Ok(vec!["no options file was written".to_owned()]) };
        let text = fs::read_to_string(path.join(name)).map_err(|error| failed(&error))?;
        Ok(differences(&text, &expected_options(options)))
    }
}

impl Read for RocksKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = self.db.get_cf(self.family(family)?, key).map_err(|error| kv_error(&error))?;
        Ok(value.map(Bytes::from))
    }

    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, KvError> {
        let found = self.db.batched_multi_get_cf(self.family(family)?, keys.iter().copied(), false);
        let owned = |value: rocksdb::DBPinnableSlice<'_>| Bytes::copy_from_slice(&value);
        found.into_iter().map(|value| Ok(value.map_err(|error| kv_error(&error))?.map(owned))).collect()
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        let Some(options) = scan_options(from, to) else { return Ok(()) };
        forward(self.db.raw_iterator_cf_opt(self.family(family)?, options), visit)
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        let Some(options) = scan_options(from, to) else { return Ok(()) };
        backward(self.db.raw_iterator_cf_opt(self.family(family)?, options), visit)
    }
}

impl Kv for RocksKv {
    fn snapshot(&self) -> Box<dyn Read + '_> {
        Box::new(RocksSnapshot { store: self, view: self.db.snapshot() })
    }

    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        options.set_no_slowdown(true);
        for attempt in 1..=STALL_ATTEMPTS_MAX {
            match self.db.write_opt(self.encode(batch)?, &options) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() != ErrorKind::Incomplete => return Err(kv_error(&error)),
                // Slowed down, not stopped: the wait is short and bounded inside RocksDB. Refused attempts would count
                // against the allowed rate and never come through.
                Err(_) if !self.write_stopped() => options.set_no_slowdown(false),
                Err(_) => {
                    options.set_no_slowdown(true);
                    if attempt < STALL_ATTEMPTS_MAX {
                        thread::sleep(Duration::from_millis(STALL_WAIT_MS));
                    }
                }
            }
        }
        Err(KvError::Busy("writes are stopped until compaction catches up".to_owned()))
    }
}

struct RocksSnapshot<'a> {
    store: &'a RocksKv,
    view: rocksdb::Snapshot<'a>,
}

impl Read for RocksSnapshot<'_> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = self.view.get_cf(self.store.family(family)?, key).map_err(|error| kv_error(&error))?;
        Ok(value.map(Bytes::from))
    }

    fn multi_get(&self, family: Family, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, KvError> {
        let handle = self.store.family(family)?;
        let found = self.view.multi_get_cf(keys.iter().map(|key| (handle, *key)));
        found.into_iter().map(|value| Ok(value.map_err(|error| kv_error(&error))?.map(Bytes::from))).collect()
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        let Some(options) = scan_options(from, to) else { return Ok(()) };
        forward(self.view.raw_iterator_cf_opt(self.store.family(family)?, options), visit)
    }

    fn scan_back(&self, family: Family, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), KvError> {
        let Some(options) = scan_options(from, to) else { return Ok(()) };
        backward(self.view.raw_iterator_cf_opt(self.store.family(family)?, options), visit)
    }
}

/// Bounds of a scan; `None` for an empty range.
fn scan_options(from: &[u8], to: &[u8]) -> Option<ReadOptions> {
    if from >= to {
        return None;
    }
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    Some(options)
}

fn forward(mut rows: rocksdb::DBRawIterator<'_>, visit: Visit<'_>) -> Result<(), KvError> {
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        if visit(key, value) == ControlFlow::Break(()) {
            return Ok(());
        }
        rows.next();
    }
    rows.status().map_err(|error| kv_error(&error))
}

fn backward(mut rows: rocksdb::DBRawIterator<'_>, visit: Visit<'_>) -> Result<(), KvError> {
    rows.seek_to_last();
    while let Some((key, value)) = rows.item() {
        if visit(key, value) == ControlFlow::Break(()) {
            return Ok(());
        }
        rows.prev();
    }
    rows.status().map_err(|error| kv_error(&error))
}

/// Options of the whole database.
fn database_options(options: &RocksOptions) -> Options {
    let mut database = Options::default();
    database.create_if_missing(true);
    database.create_missing_column_families(true);
    database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    database.set_recycle_log_file_num(RECYCLED_LOGS);
    database.set_max_total_wal_size(options.log_bytes_max);
    database.set_db_write_buffer_size(options.write_buffers_bytes);
    database.set_max_background_jobs(options.background_jobs);
    // Large files reach the disk as they grow, so that a sync of the log never queues behind a gigabyte.
    database.set_bytes_per_sync(1 << 20);
    database.set_max_open_files(OPEN_FILES_MAX);
    database.set_keep_log_file_num(INFO_LOGS.0);
    database.set_max_log_file_size(INFO_LOGS.1);
    database
}

/// Options of one family: the only place where they are made.
fn family_options(family: Family, options: &RocksOptions, cache: &Cache, blob_cache: &Cache) -> Options {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables.set_block_size(block_bytes(family));
    tables.set_bloom_filter(BLOOM_BITS, false);
    tables.set_format_version(6);

    let mut chosen = Options::default();
    chosen.set_block_based_table_factory(&tables);
    chosen.set_level_compaction_dynamic_level_bytes(true);
    chosen.set_write_buffer_size(options.write_buffers_bytes / 4);
    chosen.set_compression_type(top_compression(family));
    chosen.set_bottommost_compression_type(bottom_compression(family));
    if is_alike(family) {
        // Such rows are stored as they are: each file has a dictionary of its own, trained on its rows.
        let (level, dictionary) = (ALIKE_ZSTD_LEVEL, ALIKE_DICTIONARY_BYTES);
        chosen.set_compression_options(WINDOW_BITS, level, 0, dictionary);
        chosen.set_zstd_max_train_bytes(ALIKE_TRAIN_BYTES);
        chosen.set_bottommost_compression_options(WINDOW_BITS, level, 0, dictionary, true);
        chosen.set_bottommost_zstd_max_train_bytes(ALIKE_TRAIN_BYTES, true);
    }
    if family == Family::Part {
        chosen.set_enable_blob_files(true);
        chosen.set_min_blob_size(BLOB_BYTES_MIN);
        chosen.set_blob_file_size(BLOB_FILE_BYTES);
        // The engine compresses parts itself, with what it knows of their content.
        chosen.set_blob_compression_type(DBCompressionType::None);
        chosen.set_enable_blob_gc(true);
        chosen.set_blob_gc_age_cutoff(BLOB_GC_AGE_CUTOFF);
        chosen.set_blob_gc_force_threshold(BLOB_GC_FORCE);
        chosen.set_blob_cache(blob_cache);
    }
    chosen
}

/// Rows that are read in runs get larger blocks: better compression, fewer reads.
const fn block_bytes(family: Family) -> usize {
    match family {
        Family::Sys | Family::Account | Family::Reference | Family::Spam => 4 * KIB,
        Family::Segment | Family::Message | Family::Part | Family::Change | Family::Queue | Family::Trace => 16 * KIB,
        Family::Text => 64 * KIB,
    }
}

/// Families whose rows have much in common, and are most of what is stored beside attachments.
const fn is_alike(family: Family) -> bool {
    matches!(family, Family::Message | Family::Text)
}

/// What is written most is also compressed well at once: in a small store it stays at the top for long.
const fn top_compression(family: Family) -> DBCompressionType {
    if is_alike(family) { DBCompressionType::Zstd } else { DBCompressionType::Lz4 }
}

/// Most rows end up at the bottom, so it is worth compressing well there. References and tokens are random bytes.
const fn bottom_compression(family: Family) -> DBCompressionType {
    match family {
        Family::Reference | Family::Part | Family::Spam => DBCompressionType::Lz4,
        Family::Sys
        | Family::Account
        | Family::Segment
        | Family::Message
        | Family::Change
        | Family::Text
        | Family::Queue
        | Family::Trace => DBCompressionType::Zstd,
    }
}

const fn option_name(compression: DBCompressionType) -> &'static str {
    match compression {
        DBCompressionType::Zstd => "kZSTD",
        _ => "kLZ4Compression",
    }
}

/// Section, name and value that the options file must show.
type Expected = (String, &'static str, String);

/// What the options file must say, for the settings whose loss would hurt without being noticed.
fn expected_options(options: &RocksOptions) -> Vec<Expected> {
    let database = |name, value: String| ("DBOptions".to_owned(), name, value);
    let mut expected = vec![
        database("wal_recovery_mode", "kPointInTimeRecovery".to_owned()),
        database("recycle_log_file_num", RECYCLED_LOGS.to_string()),
        database("max_total_wal_size", options.log_bytes_max.to_string()),
        database("db_write_buffer_size", options.write_buffers_bytes.to_string()),
        database("enable_blob_direct_write", "false".to_owned()),
    ];
    for family in Family::ALL {
        let of = |name, value: String| (format!("CFOptions \"{}\"", family.name()), name, value);
        let blobs = family == Family::Part;
        expected.push(of("enable_blob_files", blobs.to_string()));
        expected.push(of("enable_blob_garbage_collection", blobs.to_string()));
        expected.push(of("compression", option_name(top_compression(family)).to_owned()));
        expected.push(of("bottommost_compression", option_name(bottom_compression(family)).to_owned()));
        expected.push(of("write_buffer_size", (options.write_buffers_bytes / 4).to_string()));
        if blobs {
            expected.push(of("min_blob_size", BLOB_BYTES_MIN.to_string()));
            expected.push(of("blob_compression_type", "kNoCompression".to_owned()));
            expected.push(of("blob_garbage_collection_force_threshold", format!("{BLOB_GC_FORCE:.6}")));
        }
        let table = format!("TableOptions/BlockBasedTable \"{}\"", family.name());
        expected.push((table.clone(), "block_size", block_bytes(family).to_string()));
        expected.push((table.clone(), "cache_index_and_filter_blocks", "true".to_owned()));
        expected.push((table, "filter_policy", "bloomfilter".to_owned()));
    }
    expected
}

/// Names every expected setting that `text` (a RocksDB options file) does not show. A setting that this version of
/// RocksDB does not write at all counts as absent only when we wanted it to be something.
fn differences(text: &str, expected: &[Expected]) -> Vec<String> {
    let mut section = "";
    let mut found: Vec<(&str, &str, &str)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((name, value)) = line.split_once('=') {
            found.push((section, name, value));
        }
    }
    let mut wrong = Vec::new();
    for (section, name, value) in expected {
        match found.iter().find(|(in_section, is_named, _)| in_section == section && is_named == name) {
            Some((_, _, is)) if is == value => {}
            Some((_, _, is)) => wrong.push(format!("[{section}] {name} is {is}, not {value}")),
            None if value == "false" => {}
            None => wrong.push(format!("[{section}] {name} is missing")),
        }
    }
    wrong
}

fn open_error(path: &Path, error: &rocksdb::Error) -> OpenError {
    let message = error.as_ref();
    if message.contains("lock file") || message.contains("lock hold by current process") {
        OpenError::InUse(path.to_owned())
    } else if message.contains("Column families not opened") {
        OpenError::Newer(path.to_owned(), message.to_owned())
    } else {
        OpenError::Store(path.to_owned(), kv_error(error))
    }
}

/// Full disks and stalls pass; the rest the operator must look at.
fn kv_error(error: &rocksdb::Error) -> KvError {
    let message = error.as_ref();
    let full = ["No space left", "Disk quota exceeded", "Max allowed space", "Space limit"];
    if full.iter().any(|sign| message.contains(sign)) {
        return KvError::Busy(message.to_owned());
    }
    match error.kind() {
        ErrorKind::Corruption => KvError::Corrupt(message.to_owned()),
        ErrorKind::Incomplete | ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::TryAgain => {
            KvError::Busy(message.to_owned())
        }
        _ => KvError::Io(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_did_not_apply_are_named() {
        let text = "[DBOptions]\n  a=1\n[CFOptions \"part\"]\n  a=2\n";
        let expect = |section: &str, name, value: &str| (section.to_owned(), name, value.to_owned());
        let expected = [
            expect("DBOptions", "a", "1"),
            expect("CFOptions \"part\"", "a", "3"),
            expect("CFOptions \"part\"", "b", "4"),
            expect("CFOptions \"part\"", "c", "false"),
        ];
        assert_eq!(
            differences(text, &expected),
            ["[CFOptions \"part\"] a is 2, not 3", "[CFOptions \"part\"] b is missing"]
        );
    }

    #[test]
    fn a_store_takes_our_options_when_new_and_when_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        for memory_bytes in [GIB, 4 * GIB] {
            let options = RocksOptions::for_machine(memory_bytes, 2);
            let store = RocksKv::open(folder.path(), &options).expect("the self-check passes");
            let other = RocksOptions::for_machine(8 * memory_bytes, 2);
            assert!(!store.options_not_taken(&other).expect("readable").is_empty(), "other options are noticed");
        }
    }

    #[test]
    fn records_much_alike_are_packed_with_a_dictionary() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = RocksKv::open(folder.path(), &RocksOptions::for_machine(GIB, 2)).expect("opens");
        // Every row is noise of its own, and a text that all share: more rows than share a block.
        let noise = |seed: u64| blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
        let mut shared = vec![0; 4 * KIB];
        noise(u64::MAX).fill(&mut shared);
        let mut batch = Batch::default();
        for number in 0..500_u64 {
            let mut row = vec![0; 64];
            noise(number).fill(&mut row);
            row.extend_from_slice(&shared);
            batch.put(Family::Message, number.to_be_bytes().to_vec(), row);
        }
        store.write(&batch, Durability::Ordered).expect("written");
        store.compact().expect("compacts");
        // Without a dictionary each of the 170 blocks has the text once: 700 KB.
        let bytes = store.figures().table_bytes;
        assert!(bytes < 300_000, "{bytes} octets");
        assert_eq!(store.get(Family::Message, &7_u64.to_be_bytes()).expect("read").map(|row| row.len()), Some(4_160));
    }

    #[test]
    fn a_store_in_use_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let _first = RocksKv::open(folder.path(), &RocksOptions::default()).expect("opens");
        let second = RocksKv::open(folder.path(), &RocksOptions::default()).expect_err("is locked");
        assert_eq!(second, OpenError::InUse(folder.path().to_owned()));
        assert!(second.to_string().ends_with("is in use by another process; use the running server"));
    }

    #[test]
    fn a_checkpoint_is_a_store_of_its_own_that_can_be_read_through_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let [store, copy, links] = ["store", "copy", "links"].map(|name| folder.path().join(name));
        let options = RocksOptions::default();
        let kv = RocksKv::open(&store, &options).expect("opens");
        let put = |kv: &RocksKv, key: &'static str| {
            let mut batch = Batch::default();
            batch.put(Family::Part, key, vec![7; 64 * KIB]);
            kv.write(&batch, Durability::Ordered)
        };
        put(&kv, "a").expect("written");
        kv.checkpoint(&copy).expect("made");
        assert!(matches!(kv.checkpoint(&copy), Err(KvError::Io(_))), "a folder that is there is left alone");
        put(&kv, "b").expect("written");
        kv.compact().expect("compacts");
        let ends = |end: &str| {
            let names = fs::read_dir(&copy).expect("a folder").map(|entry| entry.expect("an entry").file_name());
            names.filter(|name| name.to_string_lossy().ends_with(end)).count()
        };
        assert!(ends(".sst") > 0 && ends(".blob") > 0, "tables and blob files are in it");
        fs::create_dir(&links).expect("a folder");
        for entry in fs::read_dir(&copy).expect("a folder") {
            let entry = entry.expect("an entry");
            std::os::unix::fs::symlink(entry.path(), links.join(entry.file_name())).expect("linked");
        }
        for path in [&links, &copy] {
            let read = RocksKv::open_for_reading(path, &options).expect("opens");
            assert_eq!(read.get(Family::Part, b"a").expect("read"), Some(vec![7; 64 * KIB].into()));
            assert_eq!(read.get(Family::Part, b"b").expect("read"), None, "what came later is not in it");
            assert!(matches!(put(&read, "c"), Err(KvError::Io(_))), "nothing is written");
        }
        put(&RocksKv::open(&copy, &options).expect("opens"), "c").expect("a store like any other");
        assert_eq!(kv.get(Family::Part, b"c").expect("read"), None, "and apart from the first");
    }

    #[test]
    fn a_checkpoint_leaves_out_what_a_log_had_in_its_earlier_life() {
        let folder = tempfile::tempdir().expect("a folder");
        let kv = RocksKv::open(&folder.path().join("store"), &RocksOptions::default()).expect("opens");
        let mut written = 0;
        for round in 0..4_u32 {
            for _ in 0..3 {
                put_many(&kv, &mut written, 40);
                kv.db.flush_cf(kv.family(Family::Part).expect("a family")).expect("flushed");
            }
            let copy = folder.path().join(round.to_string());
            // Something is written while it is made, so that the log is not empty.
            let done = std::sync::atomic::AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(std::sync::atomic::Ordering::Acquire) {
                        put_many(&kv, &mut written, 1);
                    }
                });
                kv.checkpoint(&copy).expect("made");
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            let logs = || {
                let entries = fs::read_dir(&copy).expect("a folder").map(|entry| entry.expect("an entry").path());
                entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect::<Vec<_>>()
            };
            assert!(!logs().is_empty());
            for log in logs() {
                let text = fs::read(&log).expect("read");
                let number = wal::log_number(&log).expect("a number");
                assert_eq!(
                    wal::end_of_log(&text[..], number).expect("read"),
                    None,
                    "nothing is left of the earlier life"
                );
            }
            let rows = |path: &Path| {
                let read = RocksKv::open_for_reading(path, &RocksOptions::default()).expect("opens");
                let mut rows = Vec::new();
                let (from, to) = (&[][..], &[255; 5][..]);
                let mut visit = |key: &[u8], _: &[u8]| {
                    rows.push(key.to_vec());
                    ControlFlow::Continue(())
                };
                read.scan(Family::Part, from, to, &mut visit).expect("read");
                rows
            };
            let found = rows(&copy);
            assert!(found.len() >= usize::try_from(120 * (round + 1)).expect("small"), "{}", found.len());
            let all: Vec<Vec<u8>> =
                (0..found.len()).map(|n| u32::try_from(n).expect("small").to_be_bytes().to_vec()).collect();
            assert_eq!(found, all, "what was written, up to a moment");
        }
    }

    fn put_many(kv: &RocksKv, next: &mut u32, count: u32) {
        for _ in 0..count {
            let mut batch = Batch::default();
            batch.put(Family::Part, next.to_be_bytes().to_vec(), vec![7; 32 * KIB]);
            kv.write(&batch, Durability::Ordered).expect("written");
            *next += 1;
        }
    }

    #[test]
    fn what_is_deleted_leaves_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = RocksKv::open(folder.path(), &RocksOptions::default()).expect("opens");
        let noise = |seed: u32| -> Vec<u8> {
            let mut hash = blake3::Hasher::new();
            hash.update(&seed.to_be_bytes());
            let mut bytes = vec![0; 64 * KIB];
            hash.finalize_xof().fill(&mut bytes);
            bytes
        };
        for part in 0..128_u32 {
            let mut batch = Batch::default();
            batch.put(Family::Part, part.to_be_bytes().to_vec(), noise(part));
            store.write(&batch, Durability::Ordered).expect("written");
            if part % 8 == 7 {
                store.compact().expect("compacts");
            }
        }
        let full = store.figures();
        assert!(full.blob_bytes > 8_000_000 && full.table_bytes < 100_000, "parts are in blob files: {full:?}");
        let mut batch = Batch::default();
        batch.delete_range(Family::Part, 0_u32.to_be_bytes().to_vec(), 126_u32.to_be_bytes().to_vec());
        store.write(&batch, Durability::Synced).expect("written");
        store.compact().expect("compacts");
        let after = store.figures();
        assert!(after.blob_bytes < 2_000_000, "the disk is given back: {after:?}");
    }
}
