//! Which snapshots stay, and removing the others with what only they need.

use std::{
    collections::BTreeSet,
    fs,
    io::{self},
};

use super::{
    manifest::Manifest,
    repository::{Repository, sync_folder},
};
use crate::failure::{Failure, refused};

/// Which snapshots stay: those that any of these rules keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest.
    pub last: usize,
    /// The newest of each of so many days (in UTC) that have one.
    pub daily: usize,
    /// The newest of each of so many weeks that have one.
    pub weekly: usize,
    /// The newest of each of so many months (of 30.4 days) that have one.
    pub monthly: usize,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names of the snapshots that went.
    pub removed: Vec<String>,
    /// Names of those that stay.
    pub kept: Vec<String>,
    /// Objects that went, and their octets.
    pub objects: (u64, u64),
}

const DAY_S: i64 = 86_400;
const WEEK_S: i64 = 7 * DAY_S;
/// 1 January 1970 was a Thursday; weeks begin on Monday.
const MONDAY_S: i64 = 3 * DAY_S;
/// A twelfth of a Gregorian year.
const MONTH_S: i64 = 2_629_746;

impl Keep {
    /// Which of these moments stay; they are given in seconds since 1970, newest first.
    fn stay(self, newest_first: &[i64]) -> BTreeSet<usize> {
        let mut stay: BTreeSet<usize> = (0..newest_first.len().min(self.last)).collect();
        let rules = [(self.daily, DAY_S, 0), (self.weekly, WEEK_S, MONDAY_S), (self.monthly, MONTH_S, 0)];
        for (count, span_s, shift_s) in rules {
            let mut spans = BTreeSet::new();
            for (index, moment) in newest_first.iter().enumerate() {
                if spans.len() < count && spans.insert((moment + shift_s).div_euclid(span_s)) {
                    stay.insert(index);
                }
            }
        }
        stay
    }
}

/// Removes the snapshots that no rule keeps, then the objects that nothing needs any more. With `dry_run` only tells.
/// Killed at any moment it leaves snapshots that are whole, and what it did not get to is removed by the next.
///
/// # Errors
/// When nothing would stay, or a snapshot cannot be read: what it needs is not known then.
pub fn prune(repository: &Repository, keep: Keep, dry_run: bool) -> Result<Pruned, Failure> {
    let _held = repository.for_removing()?;
    let failed = || refused("cannot prune the repository");
    if !dry_run {
        repository.tidy().map_err(failed())?;
    }
    let names = repository.names().map_err(failed())?;
    let read = names.iter().map(|name| {
        repository.manifest(name).map_err(|why| {
            Failure::Refused(format!("{why}; nothing is removed while it is there: remove its manifest by hand first"))
        })
    });
    let mut manifests = read.collect::<Result<Vec<Manifest>, Failure>>()?;
    manifests.sort_by(|a, b| (b.taken_unix_s, &b.name).cmp(&(a.taken_unix_s, &a.name)));
    let stay = keep.stay(&manifests.iter().map(|manifest| manifest.taken_unix_s).collect::<Vec<_>>());
    if stay.is_empty() && !manifests.is_empty() {
        return Err(Failure::Usage("no snapshot would stay: say what to keep, as in --keep-daily 14".to_owned()));
    }
    let mut pruned = Pruned::default();
    let mut needed = BTreeSet::new();
    for (index, manifest) in manifests.into_iter().enumerate().rev() {
        if stay.contains(&index) {
            needed.extend(manifest.files.into_iter().map(|file| file.object));
            pruned.kept.push(manifest.name);
        } else {
            if !dry_run {
                fs::remove_file(repository.place("snapshots").join(&manifest.name)).map_err(failed())?;
            }
            pruned.removed.push(manifest.name);
        }
    }
    if !dry_run {
        sync_folder(&repository.place("snapshots")).map_err(failed())?;
    }
    pruned.objects = remove_unneeded(repository, &needed, dry_run).map_err(failed())?;
    Ok(pruned)
}

fn remove_unneeded(repository: &Repository, needed: &BTreeSet<String>, dry_run: bool) -> io::Result<(u64, u64)> {
    let mut removed = (0, 0);
    for object in repository.objects()?.into_iter().filter(|object| !needed.contains(object)) {
        let path = repository.object(&object);
        removed = (removed.0 + 1, removed.1 + fs::metadata(&path)?.len());
        if !dry_run {
            fs::remove_file(path)?;
        }
    }
    for entry in fs::read_dir(repository.place("damaged"))? {
        let entry = entry?;
        let unneeded = entry.file_name().to_str().is_none_or(|name| !needed.contains(name));
        if unneeded && !dry_run {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_keeps_the_newest_of_its_spans() {
        // Two snapshots a day for 60 days, newest first; the last day is a Monday.
        let monday = 2_950 * WEEK_S - MONDAY_S;
        let moments: Vec<i64> = (0..120).map(|number| monday + DAY_S - 1 - number * DAY_S / 2).collect();
        let kept = |keep: Keep| keep.stay(&moments).into_iter().collect::<Vec<_>>();
        assert_eq!(kept(Keep { last: 3, ..Keep::default() }), [0, 1, 2]);
        assert_eq!(kept(Keep { daily: 3, ..Keep::default() }), [0, 2, 4]);
        assert_eq!(kept(Keep { weekly: 3, ..Keep::default() }), [0, 2, 16], "this Monday, last Sunday, the one before");
        assert_eq!(kept(Keep { last: 2, daily: 2, weekly: 2, monthly: 1 }), [0, 1, 2]);
        assert_eq!(kept(Keep { monthly: 9, ..Keep::default() }).len(), 3, "a month before and two begun");
        assert_eq!(kept(Keep { last: 999, ..Keep::default() }).len(), 120);
        assert!(kept(Keep::default()).is_empty());
    }
}
