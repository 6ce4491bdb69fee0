//! The mailboxes of an export, also those without messages, with what no format has a place for.
//!
//! ```text
//! {"rockdove_export":1}
//! {"mailbox":["Work","2026"],"special_use":"\\Archive","subscribed":true}
//! ```

use std::{io::Read, io::Write, path::Path};

use rockdove_mail::SpecialUse;
use serde::{Deserialize, Serialize};

use super::{
    SourceMailbox, TransferError, draft,
    manifest::{self, Head, VERSION},
    walk,
};

/// The list's name in every format.
pub(super) const LIST: &str = "rockdove-mailboxes.jsonl";
/// Octets of a list that are read: ten thousand mailboxes, each with a name as long as they come.
pub(super) const LIST_OCTETS_MAX: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Row {
    mailbox: Vec<String>,
    special_use: Option<String>,
    subscribed: bool,
}

/// The list of mailboxes.
pub(super) fn encode(all: &[SourceMailbox]) -> Result<Vec<u8>, TransferError> {
    let failed = |why| TransferError::stopped(LIST, why);
    let mut list = manifest::encode(&Head { rockdove_export: VERSION }).map_err(failed)?;
    for SourceMailbox { levels, special_use, subscribed, .. } in all.iter().filter(|mailbox| mailbox.selectable) {
        let special_use = special_use.map(|special_use| special_use.name().to_owned());
        let row = Row { mailbox: levels.clone(), special_use, subscribed: *subscribed };
        list.extend(manifest::encode(&row).map_err(failed)?);
    }
    Ok(list)
}

/// What a list has.
pub(super) fn decode(list: &[u8], place: &str) -> Result<Vec<SourceMailbox>, TransferError> {
    let mut lines = list.split_inclusive(|octet| *octet == b'\n');
    manifest::check(&manifest::decode(lines.next().unwrap_or_default(), place)?, place)?;
    let row = |line| {
        let Row { mailbox: levels, special_use, subscribed } = manifest::decode(line, place)?;
        let special_use = special_use.as_deref().and_then(SpecialUse::from_name);
        Ok(SourceMailbox { levels, special_use, subscribed, selectable: true })
    };
    lines.map(row).collect()
}

/// Writes the list into the folder of an export.
pub(super) fn write(folder: &Path, all: &[SourceMailbox]) -> Result<(), TransferError> {
    let (path, list) = (folder.join(LIST), encode(all)?);
    draft::new_file(&path).and_then(|mut file| file.write_all(&list)).map_err(TransferError::at(&path))
}

/// The list in a folder; empty when there is none.
pub(super) fn read(folder: &Path) -> Result<Vec<SourceMailbox>, TransferError> {
    let (path, mut list) = (folder.join(LIST), Vec::new());
    if !path.exists() {
        return Ok(Vec::new());
    }
    let file = walk::open(&path).map_err(TransferError::at(&path))?;
    file.take(LIST_OCTETS_MAX).read_to_end(&mut list).map_err(TransferError::at(&path))?;
    decode(&list, &path.display().to_string())
}
