//! A whole data folder from a snapshot.

use std::{
    fs::{self, File},
    io::{self},
    os::unix::fs::{MetadataExt, chown},
    path::Path,
};

use rockdove_engine::{FsckSummary, kv::rocks::RocksKv};

use super::{
    create::copy_hashed,
    manifest::{FileEntry, Manifest},
    repository::{Repository, empty, make_folder, new_file, sync_folder},
    view::open_engine,
};
use crate::{
    failure::{Failure, refused},
    runtime::{clock, process},
};

/// What is not finished is in this folder; a server does not take it for its store.
const UNFINISHED: &str = "restoring";

/// Puts a snapshot (the newest without a name) into the data folder `to`, which must be empty or missing, checks it as
/// `fsck` does, and gives every mailbox a new UIDVALIDITY unless `same_uids`. Findings go to `tell`.
///
/// # Errors
/// When an object is missing or damaged, named; `to` holds nothing that a server would use then.
pub fn restore(
    repository: &Repository,
    snapshot: Option<&str>,
    to: &Path,
    same_uids: bool,
    tell: &mut dyn FnMut(&str),
) -> Result<(Manifest, FsckSummary), Failure> {
    let _held = repository.for_reading()?;
    let manifest = repository.chosen(snapshot)?;
    let failed = || refused(format_args!("cannot restore into {}", to.display()));
    make_folder(to).map_err(failed())?;
    let unfinished = to.join(UNFINISHED);
    check_empty(to)?;
    make_folder(&unfinished).map_err(failed())?;
    empty(&unfinished).map_err(failed())?;
    for file in &manifest.files {
        put(repository, file, &unfinished)?;
    }
    let summary = {
        let engine = open_engine(&unfinished.join("store"), RocksKv::open)?;
        let checked = engine.fsck(false, &mut |finding| tell(&finding.to_string()));
        let summary = checked.map_err(|error| Failure::Refused(format!("what was restored is damaged: {error}")))?;
        if !same_uids {
            let renewed = engine.renew(clock::now().unix_s);
            renewed
                .map_err(|error| Failure::Refused(format!("mailboxes cannot be given new UIDVALIDITYs: {error}")))?;
        }
        summary
    };
    give_to_owner_of(to, &unfinished).and_then(|()| settle(&unfinished, to)).map_err(failed())?;
    Ok((manifest, summary))
}

fn check_empty(to: &Path) -> Result<(), Failure> {
    let shown = to.display();
    for entry in fs::read_dir(to).map_err(refused(format_args!("cannot read {shown}")))? {
        let name = entry.map_err(refused(format_args!("cannot read {shown}")))?.file_name();
        if name != UNFINISHED && name != "lost+found" {
            let name = name.to_string_lossy();
            return Err(Failure::Refused(format!("there is {name} in {shown}; restore into a folder that is empty")));
        }
    }
    Ok(())
}

/// Copies one file out of its object, which must be what its name says.
fn put(repository: &Repository, file: &FileEntry, folder: &Path) -> Result<(), Failure> {
    let (object, place) = (repository.object(&file.object), folder.join(&file.path));
    let failed = || refused(format_args!("cannot restore {} from {}", file.path, object.display()));
    make_folder(place.parent().unwrap_or(folder)).map_err(failed())?;
    let mut input = File::open(&object).map_err(failed())?;
    let mut output = new_file(&place).map_err(failed())?;
    let (hash, _) = copy_hashed(&mut input, &mut output, &mut |_| {}).map_err(failed())?;
    if hash.to_hex().as_str() != file.object {
        return Err(failed()(io::Error::other("it is damaged; restore another snapshot")));
    }
    output.sync_all().map_err(failed())
}

/// When we are root, a folder that was there before says who is to own what is in it.
fn give_to_owner_of(to: &Path, made: &Path) -> io::Result<()> {
    let facts = fs::metadata(to)?;
    if process::is_root() && facts.uid() != 0 { give(made, facts.uid(), facts.gid()) } else { Ok(()) }
}

fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    chown(path, Some(uid), Some(gid))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// Makes all names last, then puts everything in its place: the store last, because with it the folder is in use.
fn settle(unfinished: &Path, to: &Path) -> io::Result<()> {
    sync_all(unfinished)?;
    let mut names: Vec<_> = fs::read_dir(unfinished)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_by_key(|name| name == "store");
    for name in names {
        fs::rename(unfinished.join(&name), to.join(&name))?;
    }
    fs::remove_dir(unfinished)?;
    sync_folder(to)
}

fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        }
    }
    sync_folder(folder)
}
