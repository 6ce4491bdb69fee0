//! Annotations of mailboxes and of the server (RFC 5464).

use bytes::Bytes;
use rockdove_engine::Command;
use rockdove_imap::{Answer, Refusal};
use rockdove_mail::{MailboxName, MetadataEntry, Rights, metadata_mark};

use super::{Conversation, NoAnswer, Reach};

impl Conversation {
    /// What the user sees of a mailbox, or (`None`) of the server.
    pub(super) fn metadata(&self, name: Option<&MailboxName>, reach: Reach) -> Result<Answer, NoAnswer> {
        let (engine, reader) = (self.engine(), self.account()?);
        let found = match (name, reach) {
            (None, Reach::Memory) => return Err(NoAnswer::NotInMemory),
            (None, Reach::Disk) => engine.server_annotations(reader),
            (Some(name), _) => {
                let (place, _) = self.named(name, Rights::NONE, reach)?;
                match reach {
                    Reach::Memory => {
                        engine.annotations_cached(reader, place.account, place.mailbox).ok_or(NoAnswer::NotInMemory)?
                    }
                    Reach::Disk => engine.annotations(reader, place.account, place.mailbox),
                }
            }
        };
        found.map(Answer::Metadata).map_err(|error| self.refused(&error))
    }

    /// What stands for the annotations that the user sees of these mailboxes and (`None`) the server.
    pub(super) fn metadata_marks(&self, places: &[Option<MailboxName>], reach: Reach) -> Result<Answer, NoAnswer> {
        let mut all = Vec::with_capacity(places.len());
        for place in places {
            all.push(match self.metadata(place.as_ref(), reach) {
                Ok(Answer::Metadata(found)) => {
                    found.into_iter().map(|(entry, value)| (entry, metadata_mark(&value))).collect()
                }
                Err(NoAnswer::Refused(Refusal::NoSuchMailbox | Refusal::NoPermission)) => Vec::new(),
                other => return other,
            });
        }
        Ok(Answer::MetadataMarks(all))
    }

    /// The command that sets annotations of a mailbox, or (`None`) of the server.
    pub(super) fn annotating(
        &self,
        name: Option<&MailboxName>,
        entries: Vec<(MetadataEntry, Option<Bytes>)>,
    ) -> Result<Command, NoAnswer> {
        let Some(name) = name else {
            return Ok(Command::Annotate { account: self.account()?, mailbox: None, entries });
        };
        let (place, _) = self.named(name, Rights::NONE, Reach::Disk)?;
        Ok(Command::Annotate { account: place.account, mailbox: Some(place.mailbox), entries })
    }
}
