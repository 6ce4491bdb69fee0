//! Messages wherever they lie: a file with one, an mbox file, or a folder of these and of folders.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{Source, TransferError, mbox::MboxSource, walk, with_crlf};

/// Calls `visit` with each message, its lines ended by CRLF; what cannot be read is told to `passed_over`. Stops with what
/// `visit` says.
///
/// # Errors
/// When `visit` fails, or `path` cannot be looked into.
pub fn each<E: From<TransferError>>(
    path: &Path,
    size_octets_max: usize,
    visit: &mut dyn FnMut(Vec<u8>) -> Result<(), E>,
    passed_over: &mut dyn FnMut(&TransferError),
) -> Result<(), E> {
    let facts = std::fs::metadata(path).map_err(TransferError::at(path))?;
    let mut waiting: Vec<(PathBuf, bool)> = vec![(path.to_owned(), facts.is_dir())];
    while let Some((path, is_folder)) = waiting.pop() {
        if is_folder {
            let entries = walk::entries(&path)?;
            waiting.extend(entries.into_iter().rev().map(|entry| (entry.path, entry.is_folder)));
        } else if is_mbox(&path)? {
            let mut source = MboxSource::open(&path, size_octets_max)?;
            loop {
                match source.next() {
                    Ok(Some(item)) => visit(item.octets)?,
                    Ok(None) => break,
                    Err(error @ TransferError::PassedOver { .. }) => passed_over(&error),
                    Err(error) => return Err(error.into()),
                }
            }
        } else {
            match walk::message(&path, size_octets_max) {
                Ok((_, octets)) => visit(with_crlf(&octets))?,
                Err(error) => passed_over(&error),
            }
        }
    }
    Ok(())
}

/// Whether a file begins as an mbox does.
fn is_mbox(path: &Path) -> Result<bool, TransferError> {
    let mut beginning = Vec::new();
    let file = walk::open(path).map_err(TransferError::at(path))?;
    file.take(5).read_to_end(&mut beginning).map_err(TransferError::at(path))?;
    Ok(beginning == b"From ")
}
