//! Whether snapshots can be had back.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self},
};

use super::{
    create::copy_hashed,
    manifest::Manifest,
    pace::{Pace, Rate},
    repository::Repository,
    view::View,
};
use crate::failure::{Failure, refused};

/// What a verification went through and found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Snapshots.
    pub snapshots: u64,
    /// Objects and their octets; each once.
    pub objects: (u64, u64),
    /// Things that are wrong.
    pub problems: u64,
}

/// Compares the objects of a snapshot (of all without a name) with their names. With `deep`, opens the store of each
/// snapshot too and does what `fsck` does. Every problem goes to `tell`; an object that is not what its name says is put
/// out of the way, so that the next snapshot writes it again if the server still has it.
///
/// # Errors
/// When the repository cannot be read, or there is no such snapshot.
pub fn verify(
    repository: &Repository,
    snapshot: Option<&str>,
    deep: bool,
    rate: Option<Rate>,
    tell: &mut dyn FnMut(&str),
) -> Result<Verified, Failure> {
    let _held = repository.for_reading()?;
    let mut verified = Verified::default();
    let mut found = |problem: &str| {
        verified.problems += 1;
        tell(problem);
    };
    let names = match snapshot {
        Some(name) => vec![name.to_owned()],
        None => repository.names().map_err(refused("cannot read the repository"))?,
    };
    let mut manifests = Vec::new();
    for name in names {
        match repository.manifest(&name) {
            Ok(manifest) => manifests.push(manifest),
            Err(why) if snapshot.is_some() => return Err(Failure::Refused(why)),
            Err(why) => found(&why),
        }
    }
    let objects = check_objects(repository, &manifests, &mut Pace::new(rate), &mut found);
    let complete =
        |manifest: &Manifest| manifest.files.iter().all(|file| repository.has(&file.object, file.size_bytes));
    for manifest in manifests.iter().filter(|manifest| deep && complete(manifest)) {
        check_store(repository, manifest, &mut found)?;
    }
    (verified.snapshots, verified.objects) = (manifests.len() as u64, objects);
    Ok(verified)
}

/// Each object once, whatever the number of snapshots that need it.
fn check_objects(
    repository: &Repository,
    manifests: &[Manifest],
    pace: &mut Pace,
    found: &mut dyn FnMut(&str),
) -> (u64, u64) {
    let mut needed: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    for manifest in manifests {
        for file in &manifest.files {
            let users = needed.entry(&file.object).or_insert_with(|| (file.size_bytes, String::new()));
            // The first says where to look; all of them would be a long list.
            if users.1.is_empty() {
                users.1 = format!("{} in snapshot {}", file.path, manifest.name);
            }
        }
    }
    let mut checked = (0, 0);
    for (object, (size_bytes, user)) in needed {
        checked = (checked.0 + 1, checked.1 + size_bytes);
        let shown = repository.object(object);
        let shown = shown.display();
        match check_object(repository, object, pace) {
            Ok(true) => {}
            Ok(false) => {
                found(&format!("{shown} is damaged: {user}, maybe others, cannot be restored from it"));
                if let Err(error) = repository.set_aside(object) {
                    found(&format!("{shown} cannot be put aside ({error}), so no snapshot will write it again"));
                }
            }
            Err(error) => found(&format!("{shown} cannot be read ({error}): {user}, maybe others, needs it")),
        }
    }
    checked
}

fn check_object(repository: &Repository, object: &str, pace: &mut Pace) -> io::Result<bool> {
    let mut file = File::open(repository.object(object))?;
    let (hash, _) = copy_hashed(&mut file, &mut io::sink(), &mut |bytes| pace.went(bytes))?;
    Ok(hash.to_hex().as_str() == object)
}

fn check_store(repository: &Repository, manifest: &Manifest, found: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let name = &manifest.name;
    let view = match View::open(repository, manifest) {
        Ok(view) => view,
        Err(error) => {
            found(&format!("snapshot {name}: {error}"));
            return Ok(());
        }
    };
    let checked = view.engine.fsck(false, &mut |finding| found(&format!("snapshot {name}: {finding}")));
    checked.map(drop).map_err(|error| Failure::Refused(format!("snapshot {name} cannot be checked: {error}")))
}
