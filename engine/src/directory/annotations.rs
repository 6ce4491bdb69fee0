//! Shared annotations of the server (RFC 5464).

use std::sync::Arc;

use bytes::Bytes;
use rockdove_mail::MetadataScope;

use super::Directory;
use crate::{
    command::EngineError,
    kv::{Batch, Family, KvError, keys},
    store::annotations::{self, AnnotationChange, Annotations},
};

/// RFC 5464 section 3.2.1.1: always read-only.
const ADMIN: &str = "/admin";

impl Directory {
    pub(crate) fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    pub(super) fn load_annotation(&mut self, key: &[u8], row: &[u8]) -> Result<(), KvError> {
        let path = annotations::path(MetadataScope::Shared, key.get(1..).unwrap_or_default());
        let (Some(path), Some(value)) = (path, annotations::decode(row)) else {
            return Err(KvError::Corrupt("an annotation of the server cannot be read".to_owned()));
        };
        Arc::<Annotations>::make_mut(&mut self.annotations).insert(path, value);
        Ok(())
    }

    /// The directory with these shared annotations of the server changed, and the rows that say so.
    pub(crate) fn annotated(&self, changes: &[&AnnotationChange]) -> Result<(Self, Batch), EngineError> {
        if changes.iter().any(|(entry, _)| entry.path() == ADMIN) {
            return Err(EngineError::NoPermission("this annotation cannot be changed".to_owned()));
        }
        let mut next = self.clone();
        next.annotations = Arc::new(annotations::changed(&self.annotations, changes)?);
        let mut batch = Batch::default();
        for (entry, _) in changes {
            let key: Bytes = keys::server_annotation(entry.path());
            match next.annotations.get(entry.path()) {
                Some(value) => batch.put(Family::Sys, key, annotations::encode(value)),
                None => batch.delete(Family::Sys, key),
            }
        }
        Ok((next, batch))
    }
}
