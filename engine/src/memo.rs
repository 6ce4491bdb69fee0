//! Small things that the server remembers beside mail: caches that must outlive a restart, and counters.
//!
//! One row each, by kind and name. What is in a row is its owner's business; the engine keeps it, backs it up and lists it.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    command::EngineError,
    engine::Engine,
    kv::{Batch, Family, keys},
};

/// Octets of a name.
const NAME_OCTETS_MAX: usize = 512;
/// Octets of what is remembered under a name.
pub const MEMO_OCTETS_MAX: usize = 256 * 1024;

/// Whose memo it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoKind {
    /// Policies of other domains for mail to them (RFC 8461), by domain.
    StsPolicy,
    /// How well connections to other domains were protected (RFC 8460), by day and domain.
    TlsResults,
    /// What DMARC has found about mail of other domains (RFC 9990), by period and domain.
    DmarcCounts,
}

impl MemoKind {
    const ALL: [Self; 3] = [Self::StsPolicy, Self::TlsResults, Self::DmarcCounts];

    /// Its number in keys.
    const fn number(self) -> u8 {
        match self {
            Self::StsPolicy => 1,
            Self::TlsResults => 2,
            Self::DmarcCounts => 3,
        }
    }

    /// The kind of a key, if there is one.
    pub(crate) fn of_key(key: &[u8]) -> Option<Self> {
        let number = key.get(1)?;
        Self::ALL.into_iter().find(|kind| kind.number() == *number)
    }
}

/// The rows that a command changes.
pub(crate) fn plan(changes: &[(MemoKind, String, Option<Bytes>)]) -> Result<Batch, EngineError> {
    let mut batch = Batch::default();
    for (kind, name, value) in changes {
        if name.is_empty() || name.len() > NAME_OCTETS_MAX {
            return Err(EngineError::Invalid(format!("{name:?} is no name for a memo")));
        }
        let key = keys::memo(kind.number(), name);
        match value {
            Some(value) if value.len() > MEMO_OCTETS_MAX => {
                return Err(EngineError::Limit(format!("a memo has at most {MEMO_OCTETS_MAX} octets")));
            }
            Some(value) => batch.put(Family::Sys, key, value.clone()),
            None => batch.delete(Family::Sys, key),
        }
    }
    Ok(batch)
}

impl Engine {
    /// What is remembered under a name. May block.
    pub fn memo(&self, kind: MemoKind, name: &str) -> Result<Option<Bytes>, EngineError> {
        Ok(self.kv().get(Family::Sys, &keys::memo(kind.number(), name))?)
    }

    /// Names behind `after`, in their order, `most` at once. May block.
    pub fn memos(&self, kind: MemoKind, after: &str, most: usize) -> Result<Vec<String>, EngineError> {
        let (from, to) = (keys::memo(kind.number(), after), keys::prefix_end(&keys::memo(kind.number(), "")));
        let mut names = Vec::new();
        self.kv().scan(Family::Sys, &from, &to, &mut |key, _| {
            let name = String::from_utf8_lossy(key.get(2..).unwrap_or_default()).into_owned();
            if !name.is_empty() && name != after {
                names.push(name);
            }
            if names.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command::Command, engine::EngineOptions, kv::memory::MemoryKv};

    #[test]
    fn memos_are_kept_listed_and_forgotten() {
        let engine = Engine::open(std::sync::Arc::new(MemoryKv::default()), EngineOptions::default()).expect("opens");
        let kind = MemoKind::StsPolicy;
        let change = |name: &str, value: Option<&'static str>| {
            let changes = vec![(kind, name.to_owned(), value.map(|text| Bytes::from_static(text.as_bytes())))];
            engine.execute(0, Command::Memo { changes })
        };
        for name in ["c.example", "a.example", "b.example"] {
            change(name, Some("x")).expect("kept");
        }
        change("b.example", Some("y")).expect("kept");
        change("c.example", None).expect("forgotten");
        assert_eq!(engine.memo(kind, "b.example").expect("read").as_deref(), Some(&b"y"[..]));
        assert_eq!(engine.memo(MemoKind::TlsResults, "b.example").expect("read"), None);
        assert_eq!(engine.memos(kind, "", 10).expect("read"), ["a.example", "b.example"]);
        assert_eq!(engine.memos(kind, "", 1).expect("read"), ["a.example"]);
        assert_eq!(engine.memos(kind, "a.example", 10).expect("read"), ["b.example"]);
        assert!(engine.memos(MemoKind::TlsResults, "", 10).expect("read").is_empty());
        assert!(change("", Some("x")).is_err());
        assert!(crate::directory::Directory::load(engine.kv_read()).is_ok(), "they are no rows of the directory");
    }
}
