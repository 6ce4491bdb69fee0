//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS, NAMESPACE.

use std::fmt::Write as _;

use rockdove_mail::{HIERARCHY_DELIMITER, MailboxName, SpecialUse};

use super::{ImapSession, notify::OwnChange, purpose::Purpose, select::highest};
use crate::{
    ask::{Ask, Status},
    command::{MailboxArg, StatusItem},
    grammar::write,
};

impl ImapSession {
    /// The mailbox, if its name is one; otherwise the client is told.
    pub(super) fn mailbox(&mut self, mailbox: MailboxArg) -> Option<MailboxName> {
        match mailbox {
            Ok(mailbox) => Some(mailbox),
            Err(why) => {
                self.complete(format!("NO [CANNOT] {why}"));
                None
            }
        }
    }

    /// The name of a mailbox that is to be; otherwise the client is told.
    //= rfc9051#section-5.1
    //# Server implementations MUST
    //# prohibit the creation of 8-bit mailbox names that do not comply with
    //# Net-Unicode.
    fn new_mailbox(&mut self, mailbox: MailboxArg) -> Option<MailboxName> {
        let mailbox = self.mailbox(mailbox)?;
        if !mailbox.is_composed() {
            self.complete(
                "NO [CANNOT] the characters of a mailbox name must be composed (Unicode Normalization Form C)",
            );
            return None;
        }
        Some(mailbox)
    }

    pub(super) fn create(&mut self, mailbox: MailboxArg, special_use: Vec<Result<SpecialUse, String>>) {
        let Some(mailbox) = self.new_mailbox(mailbox) else { return };
        // RFC 6154 section 3: what cannot be assigned is refused with USEATTR, and nothing is created.
        let special_use = match <[_; 1]>::try_from(special_use) {
            Ok([Ok(special_use)]) => Some(special_use),
            Err(none) if none.is_empty() => None,
            Ok([Err(_)]) => return self.complete("NO [USEATTR] there is no such use here"),
            Err(_) => return self.complete("NO [USEATTR] a mailbox has one use here"),
        };
        self.ask(Ask::Create { mailbox: mailbox.clone(), special_use }, Purpose::Create(mailbox));
    }

    pub(super) fn delete(&mut self, mailbox: MailboxArg) {
        let Some(mailbox) = self.mailbox(mailbox) else { return };
        self.ask(Ask::Delete { mailbox: mailbox.clone() }, Purpose::Delete(mailbox));
    }

    pub(super) fn deleted(&mut self, mailbox: &MailboxName) {
        if self.open().is_some_and(|open| open.name == *mailbox) {
            self.closed();
            return self.ask(Ask::Unselect, Purpose::Unselect("OK deleted".to_owned()));
        }
        self.complete("OK deleted");
    }

    pub(super) fn rename(&mut self, from: MailboxArg, to: MailboxArg) {
        let Some(from) = self.mailbox(from) else { return };
        let Some(to) = self.new_mailbox(to) else { return };
        self.ask(Ask::Rename { from: from.clone(), to: to.clone() }, Purpose::Rename(from, to));
    }

    pub(super) fn renamed(&mut self, from: &MailboxName, to: &MailboxName) {
        // INBOX stays where it is, only its messages go.
        if let Some(open) = self.open_mut()
            && !from.is_inbox()
            && (open.name == *from || open.name.is_below(from))
        {
            let below = open.name.as_str().strip_prefix(from.as_str()).unwrap_or_default();
            if let Ok(name) = MailboxName::new(&format!("{to}{below}")) {
                open.name = name;
            }
        }
        self.complete("OK renamed");
    }

    pub(super) fn subscribe(&mut self, mailbox: MailboxArg, subscribed: bool) {
        let Some(mailbox) = self.mailbox(mailbox) else { return };
        self.ask(Ask::Subscribe { mailbox: mailbox.clone(), subscribed }, Purpose::Subscribe(mailbox, subscribed));
    }

    pub(super) fn subscribed(&mut self, mailbox: &MailboxName, subscribed: bool) {
        self.own_change(&OwnChange::Subscribed(mailbox, subscribed));
        self.complete(if subscribed { "OK subscribed" } else { "OK unsubscribed" });
    }

    pub(super) fn namespace(&mut self) {
        let delimiter = HIERARCHY_DELIMITER;
        let (other_users, public) = (self.config.other_users, self.config.public);
        let of_others = format!("((\"{other_users}{delimiter}\" \"{delimiter}\"))");
        let text =
            format!("NAMESPACE ((\"\" \"{delimiter}\")) {of_others} ((\"{public}{delimiter}\" \"{delimiter}\"))");
        self.untagged(&text);
        self.complete("OK done");
    }

    pub(super) fn status(&mut self, mailbox: MailboxArg, items: Vec<StatusItem>) {
        let Some(mailbox) = self.mailbox(mailbox) else { return };
        if items.contains(&StatusItem::HighestModSeq) {
            self.enable_condstore();
        }
        self.ask(Self::status_ask(&mailbox, &items), Purpose::Status(mailbox, items));
    }

    pub(super) fn status_ask(mailbox: &MailboxName, items: &[StatusItem]) -> Ask {
        Ask::Status { mailbox: mailbox.clone(), deleted_bytes: items.contains(&StatusItem::DeletedStorage) }
    }

    pub(super) fn write_status(&mut self, mailbox: &MailboxName, items: &[StatusItem], status: &Status) {
        let mut counters = String::new();
        for item in items {
            let (name, value) = match item {
                StatusItem::Messages => ("MESSAGES", u64::from(status.messages)),
                StatusItem::Recent => ("RECENT", u64::from(status.recent)),
                StatusItem::UidNext => ("UIDNEXT", u64::from(status.uid_next)),
                StatusItem::UidValidity => ("UIDVALIDITY", u64::from(status.uid_validity)),
                StatusItem::Unseen => ("UNSEEN", u64::from(status.unseen)),
                StatusItem::Deleted => ("DELETED", u64::from(status.deleted)),
                StatusItem::Size => ("SIZE", status.size_bytes),
                StatusItem::DeletedStorage => ("DELETED-STORAGE", status.deleted_bytes),
                StatusItem::HighestModSeq => ("HIGHESTMODSEQ", highest(status.highest_modseq)),
                StatusItem::AppendLimit => ("APPENDLIMIT", self.append_limit()),
                StatusItem::MailboxId => {
                    let space = if counters.is_empty() { "" } else { " " };
                    if write!(counters, "{space}MAILBOXID ({})", status.mailbox_id.mailbox()).is_err() {
                        return;
                    }
                    continue;
                }
            };
            let space = if counters.is_empty() { "" } else { " " };
            if write!(counters, "{space}{name} {value}").is_err() {
                return;
            }
        }
        self.out.text.extend_from_slice(b"* STATUS ");
        let names = self.names();
        write::mailbox_name(&mut self.out.text, mailbox.as_str(), names);
        self.out.line(&format!(" ({counters})"));
    }
}
