//! What goes with the messages of an export, a line of JSON each.

use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{InternalDate, Item, TransferError, draft};

/// Octets of a line. A message with more flags than fit is not exported.
pub(super) const LINE_OCTETS_MAX: usize = 1 << 20;
/// The version of the formats. Another one is refused.
pub(super) const VERSION: u32 = 1;

/// The first line of a list.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) rockdove_export: u32,
}

/// The last line of a list; without it the export is not whole.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tail {
    pub(super) messages: u64,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) file: String,
    pub(super) mailbox: Vec<String>,
    pub(super) flags: Vec<String>,
    pub(super) unix_s: i64,
    pub(super) offset_minutes: i16,
    pub(super) size: u64,
    pub(super) blake3: String,
}

impl Line {
    pub(super) fn of(item: &Item, file: String) -> Self {
        Self {
            file,
            mailbox: item.mailbox.clone(),
            flags: item.flags.clone(),
            unix_s: item.internal_date.unix_s,
            offset_minutes: item.internal_date.offset_minutes,
            size: item.octets.len() as u64,
            blake3: blake3::hash(&item.octets).to_hex().to_string(),
        }
    }

    /// The message, if these are its octets.
    pub(super) fn with(self, octets: Vec<u8>, place: impl std::fmt::Display) -> Result<Item, TransferError> {
        if octets.len() as u64 != self.size || blake3::hash(&octets).to_hex().as_str() != self.blake3 {
            let why = format!("it is damaged: it is not the message of {} octets that was exported", self.size);
            return Err(TransferError::passed_over(place, why));
        }
        let internal_date = InternalDate { unix_s: self.unix_s, offset_minutes: self.offset_minutes };
        Ok(Item { mailbox: self.mailbox, flags: self.flags, internal_date, octets })
    }
}

/// A value as a line of its own.
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut line = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    line.push(b'\n');
    if line.len() > LINE_OCTETS_MAX {
        return Err(format!("its flags and the name of its mailbox need more than {LINE_OCTETS_MAX} octets"));
    }
    Ok(line)
}

/// A line as the value it should be.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8], place: impl std::fmt::Display) -> Result<T, TransferError> {
    serde_json::from_slice(line).map_err(|error| TransferError::stopped(place, format!("it is damaged: {error}")))
}

/// Refuses versions that are not ours.
pub(super) fn check(head: &Head, place: impl std::fmt::Display) -> Result<(), TransferError> {
    if head.rockdove_export == VERSION {
        return Ok(());
    }
    let why = format!("this export has version {}; this Rockdove reads version {VERSION}", head.rockdove_export);
    Err(TransferError::stopped(place, why))
}

/// The file that says that a folder is an export of ours, and how many messages it has.
const SEAL: &str = "rockdove-export.json";

#[derive(Serialize, Deserialize)]
struct Seal {
    rockdove_export: u32,
    messages: u64,
}

/// Writes the seal of a folder.
pub(super) fn seal(folder: &Path, messages: u64) -> Result<(), TransferError> {
    use std::io::Write;
    let path = folder.join(SEAL);
    let line = encode(&Seal { rockdove_export: VERSION, messages }).map_err(|why| TransferError::stopped(SEAL, why))?;
    draft::new_file(&path).and_then(|mut file| file.write_all(&line)).map_err(TransferError::at(&path))
}

/// How many messages an export of ours has; `None` if it is none of ours.
pub(super) fn sealed(folder: &Path) -> Result<Option<u64>, TransferError> {
    let path = folder.join(SEAL);
    if !path.exists() {
        return Ok(None);
    }
    let mut line = Vec::new();
    let file = super::walk::open(&path).map_err(TransferError::at(&path))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, LINE_OCTETS_MAX as u64), &mut line)
        .map_err(TransferError::at(&path))?;
    let seal: Seal = decode(&line, path.display())?;
    check(&Head { rockdove_export: seal.rockdove_export }, path.display())?;
    Ok(Some(seal.messages))
}

/// What is told behind the last message when messages of an export of ours were not there.
pub(super) fn missing(place: &Path, told: u64, found: u64) -> Option<TransferError> {
    let why = format!("{told} messages were exported to it, and {found} were found; was something removed?");
    (found < told).then(|| TransferError::passed_over(place.display(), why))
}
