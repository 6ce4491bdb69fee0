//! RocksDB under the [`Kv`](super::Kv) contract; the only file that names it.
