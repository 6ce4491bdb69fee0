//! What is stored and for whom.

use std::io;

use rockdove_engine::{Stats, StorageUse};

use super::{Emit, Host, Reply, StorageFacts};

/// Tells of the whole store, then of each domain, then of each account.
pub(super) fn stats(host: &Host, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let Stats { whole, domains, accounts, waiting_bytes } = match host.engine.stats() {
        Ok(stats) => stats,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let figures = host.server.as_ref().map(|server| server.kv.figures());
    let disk_bytes = figures.as_ref().map(|figures| figures.table_bytes.saturating_add(figures.blob_bytes));
    let search_bytes = figures.map(|figures| figures.search_bytes);
    let store = facts("store", String::new(), &whole);
    emit(Reply::Storage(StorageFacts { waiting_bytes: Some(waiting_bytes), disk_bytes, search_bytes, ..store }))?;
    domains.into_iter().try_for_each(|(name, used)| emit(Reply::Storage(facts("domain", name, &used))))?;
    let mut accounts: Vec<_> = accounts.into_values().collect();
    accounts.sort_by(|(a, _), (b, _)| a.cmp(b));
    accounts.into_iter().try_for_each(|(name, used)| emit(Reply::Storage(facts("account", name, &used))))?;
    Ok(Ok(String::new()))
}

fn facts(of: &str, name: String, used: &StorageUse) -> StorageFacts {
    StorageFacts {
        of: of.to_owned(),
        name,
        messages: used.messages,
        message_bytes: used.message_bytes,
        record_bytes: used.record_bytes,
        parts: used.parts,
        part_bytes: used.part_bytes,
        deduplication_saved_bytes: used.repeated_bytes,
        packing_saved_bytes: used.packing_saved_bytes(),
        waiting_bytes: None,
        disk_bytes: None,
        search_bytes: None,
    }
}
