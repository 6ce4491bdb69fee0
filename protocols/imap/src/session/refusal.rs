//! Refusals of the host as tagged responses with the codes of RFC 5530.

use super::{
    ImapSession,
    purpose::{After, Purpose},
};
use crate::ask::Refusal;

impl Refusal {
    /// The text of a tagged NO. `target`: the mailbox was the target of COPY, MOVE or APPEND.
    pub(super) fn text(&self, target: bool) -> String {
        match self {
            //= rfc3501#section-7.1
            //# TRYCREATE      An APPEND or COPY attempt is failing because the
            //#                target mailbox does not exist
            Self::NoSuchMailbox if target => "NO [TRYCREATE] there is no such mailbox".to_owned(),
            Self::NoSuchMailbox | Self::MailboxGone => "NO [NONEXISTENT] there is no such mailbox".to_owned(),
            Self::NoPermission => "NO [NOPERM] you may not do that".to_owned(),
            Self::NoSuchQuotaRoot => "NO [NONEXISTENT] there is no such quota root".to_owned(),
            Self::TooManyAnnotations => "NO [METADATA TOOMANY] there is no room for more".to_owned(),
            Self::Exists => "NO [ALREADYEXISTS] it is there already".to_owned(),
            Self::Cannot(why) => format!("NO [CANNOT] {}", one_line(why)),
            Self::OverQuota => "NO [OVERQUOTA] the quota would be exceeded".to_owned(),
            Self::Limit(why) => format!("NO [LIMIT] {}", one_line(why)),
            Self::TryLater => "NO [UNAVAILABLE] not possible at the moment, try again later".to_owned(),
            Self::Corrupt => "NO [CORRUPTION] stored data is damaged".to_owned(),
        }
    }
}

/// A text that cannot end the line it stands in.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

impl ImapSession {
    /// The selected mailbox has been deleted by somebody else. No response says that; RFC 2180 section 3.3 leaves the
    /// server the end of the connection.
    pub(super) fn mailbox_gone(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Sync(After::Tagged(text)) => self.tagged(&text),
            _ if self.idling || self.listening => {}
            _ => self.tagged("NO [NONEXISTENT] the selected mailbox is gone"),
        }
        self.bye("the selected mailbox has been deleted");
    }
}
