//! How much memory the server's processes hold, from `/proc`.

use std::{collections::BTreeMap, fs};

use serde::Serialize;

use crate::failure::{LoadError, Result};

/// Whose memory is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// One process.
    Process(u32),
    /// A process and all below it.
    Tree(u32),
}

/// Memory of some processes together, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Proportional set size: pages that processes have in common count once.
    pub pss_kib: u64,
    /// Resident set size: they count for each.
    pub rss_kib: u64,
    /// Processes.
    pub processes: u64,
}

/// Reads it. Processes that end meanwhile are left out.
///
/// # Errors
/// When there is no such process, or it is not ours to look at.
pub fn read(whose: Whose) -> Result<Memory> {
    let (root, pids) = match whose {
        Whose::Process(pid) => (pid, vec![pid]),
        Whose::Tree(pid) => (pid, tree(pid, &parents()?)),
    };
    let mut memory = Memory::default();
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        match fs::read_to_string(&path) {
            Ok(text) => {
                memory.pss_kib += field(&text, "Pss:");
                memory.rss_kib += field(&text, "Rss:");
                memory.processes += 1;
            }
            Err(error) if pid == root => return Err(LoadError::Io(path, error)),
            Err(_) => {}
        }
    }
    Ok(memory)
}

/// A field of `smaps_rollup`, in KiB.
fn field(text: &str, name: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// Every process and its parent.
fn parents() -> Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").map_err(LoadError::io("/proc"))? {
        let name = entry.map_err(LoadError::io("/proc"))?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parent) {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

/// The parent in `/proc/PID/stat`. The name before it is in parentheses and may hold spaces and parentheses itself.
fn parent(stat: &str) -> Option<u32> {
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(1)?.parse().ok()
}

fn tree(root: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        next += 1;
        found.extend(parents.iter().filter(|&(_, &parent)| parent == above).map(|(&pid, _)| pid));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let rollup = "Rss:     1204 kB\nPss:      512 kB\nPss_Dirty: 4 kB\n";
        assert_eq!((field(rollup, "Rss:"), field(rollup, "Pss:"), field(rollup, "Swap:")), (1204, 512, 0));
        assert_eq!(parent("12 (imap (x) y) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12"), None);
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 2), (5, 4), (9, 8)]);
        assert_eq!(tree(2, &parents), [2, 3, 4, 5]);
    }

    #[test]
    fn our_own_memory_is_something() {
        let memory = read(Whose::Process(std::process::id())).expect("ourselves");
        assert!(memory.pss_kib > 0 && memory.rss_kib >= memory.pss_kib && memory.processes == 1);
        assert!(read(Whose::Tree(u32::MAX)).is_err());
    }
}
