//! What another server has: its mailboxes, and the messages in them by UID.

use std::collections::BTreeMap;

use rockdove_imap::client::{Fetched, ListReturn, Listed, Outcome, Untagged, levels};
use rockdove_mail::{SpecialUse, Uid};

use super::{SourceMailbox, TransferError, connection::Connection};

/// Names that say what a mailbox is for, on servers that do not: lower case, at the first level.
const TELLING_NAMES: [(&str, SpecialUse); 14] = [
    ("sent", SpecialUse::Sent),
    ("sent items", SpecialUse::Sent),
    ("sent messages", SpecialUse::Sent),
    ("sent mail", SpecialUse::Sent),
    ("drafts", SpecialUse::Drafts),
    ("trash", SpecialUse::Trash),
    ("deleted items", SpecialUse::Trash),
    ("deleted messages", SpecialUse::Trash),
    ("junk", SpecialUse::Junk),
    ("junk e-mail", SpecialUse::Junk),
    ("junk email", SpecialUse::Junk),
    ("spam", SpecialUse::Junk),
    ("archive", SpecialUse::Archive),
    ("archives", SpecialUse::Archive),
];

/// A mailbox that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mailbox {
    /// Its name here.
    pub(super) levels: Vec<String>,
    /// Its name there.
    pub(super) wire_name: Vec<u8>,
    /// UIDVALIDITY there.
    pub(super) uid_validity: u32,
}

impl Mailbox {
    /// Its name for people.
    pub(super) fn shown(&self) -> String {
        self.levels.join("/")
    }
}

/// Every mailbox, and its name there; each name here once.
pub(super) fn list(connection: &mut Connection) -> Result<Vec<(SourceMailbox, Vec<u8>)>, TransferError> {
    let mut listed: Vec<Listed> = Vec::new();
    let wanted = ListReturn { subscribed: true, special_use: true };
    let tells_subscribed = connection.client.has("LIST-EXTENDED");
    let tag = connection.client.list("*", wanted);
    connection.succeed(tag, |untagged| {
        if let Untagged::List(one) = untagged {
            listed.push(one);
        }
        Ok(())
    })?;
    let mut subscribed: Vec<Vec<u8>> = Vec::new();
    if !tells_subscribed {
        let tag = connection.client.lsub("*");
        connection.finish(tag, |untagged| {
            if let Untagged::List(one) = untagged {
                subscribed.push(one.name);
            }
            Ok(())
        })?;
        subscribed.sort();
    }
    let prefix = personal_prefix(connection)?;
    let mut by_levels = BTreeMap::new();
    for one in listed {
        let levels = levels_here(&one, &prefix);
        if levels.is_empty() {
            continue;
        }
        let mailbox = SourceMailbox {
            levels,
            special_use: one.attributes.iter().find_map(|attribute| SpecialUse::from_name(attribute)),
            subscribed: one.has("\\Subscribed") || subscribed.binary_search(&one.name).is_ok(),
            selectable: !one.has("\\Noselect") && !one.has("\\NonExistent"),
        };
        // The prefix itself and a mailbox below it may have one name here; what can be opened comes first.
        let key = (mailbox.levels.clone(), !mailbox.selectable, one.name.clone());
        by_levels.insert(key, (mailbox, one.name));
    }
    let mut all: Vec<_> = by_levels.into_values().collect();
    all.dedup_by(|next, first| next.0.levels == first.0.levels && !next.0.selectable);
    guess_uses(&mut all);
    Ok(all)
}

/// What stands before the names of one's own mailboxes, such as `INBOX.` (RFC 2342).
fn personal_prefix(connection: &mut Connection) -> Result<Vec<u8>, TransferError> {
    let mut prefix = Vec::new();
    if connection.client.has("NAMESPACE") {
        let tag = connection.client.simple("NAMESPACE");
        connection.finish(tag, |untagged| {
            if let Untagged::Namespace(personal) = untagged {
                prefix = personal.into_iter().next().map(|(prefix, _)| prefix).unwrap_or_default();
            }
            Ok(())
        })?;
    }
    Ok(prefix)
}

/// The name without the prefix, INBOX spelled so.
fn levels_here(listed: &Listed, prefix: &[u8]) -> Vec<String> {
    let head = listed.name.get(..prefix.len()).filter(|head| head.eq_ignore_ascii_case(prefix));
    let below = head.and_then(|_| listed.name.get(prefix.len()..)).filter(|below| !below.is_empty());
    // "INBOX.INBOX" is a mailbox of its own, and not the inbox.
    let below = below.filter(|below| !levels(below, listed.delimiter).first().is_some_and(|level| is_inbox(level)));
    let mut levels = levels(below.unwrap_or(&listed.name), listed.delimiter);
    if let Some(first) = levels.first_mut().filter(|first| is_inbox(first)) {
        "INBOX".clone_into(first);
    }
    levels
}

fn is_inbox(level: &str) -> bool {
    level.eq_ignore_ascii_case("INBOX")
}

/// Tells by its name what a mailbox is for where no mailbox is told to be for that.
fn guess_uses(all: &mut [(SourceMailbox, Vec<u8>)]) {
    for (name, special_use) in TELLING_NAMES {
        if all.iter().any(|(mailbox, _)| mailbox.special_use == Some(special_use)) {
            continue;
        }
        let named = |mailbox: &SourceMailbox| {
            mailbox.levels.len() == 1 && mailbox.levels.iter().all(|level| level.to_lowercase() == name)
        };
        if let Some((mailbox, _)) = all.iter_mut().find(|(m, _)| m.special_use.is_none() && m.selectable && named(m)) {
            mailbox.special_use = Some(special_use);
        }
    }
}

/// What EXAMINE tells.
pub(super) struct Examined {
    pub(super) uid_validity: u32,
    exists: u32,
}

/// Opens a mailbox without changing anything in it.
pub(super) fn examine(connection: &mut Connection, wire_name: &[u8]) -> Result<Examined, TransferError> {
    let mut examined = Examined { uid_validity: 0, exists: 0 };
    let tag = connection.client.open(wire_name, true);
    connection.succeed(tag, |untagged| {
        note(&mut examined, untagged);
        Ok(())
    })?;
    Ok(examined)
}

/// A mailbox with the UIDs and the sizes in octets of its messages.
pub(super) type Enumerated = (Mailbox, Vec<(Uid, u64)>);

/// Opens a mailbox and lists its messages; what the server says when it does not let us in.
pub(super) fn enumerate(
    connection: &mut Connection,
    mailbox: &SourceMailbox,
    wire_name: &[u8],
) -> Result<Result<Enumerated, String>, TransferError> {
    let tag = connection.client.open(wire_name, true);
    let mut examined = Examined { uid_validity: 0, exists: 0 };
    let done = connection.finish(tag, |untagged| {
        note(&mut examined, untagged);
        Ok(())
    })?;
    if done.outcome != Outcome::Ok {
        return Ok(Err(done.text));
    }
    let levels = mailbox.levels.clone();
    let opened = Mailbox { levels, wire_name: wire_name.to_vec(), uid_validity: examined.uid_validity };
    let mut sizes = BTreeMap::new();
    if examined.exists > 0 {
        let tag = connection.client.uid_fetch("1:*", "UID RFC822.SIZE");
        connection.succeed(tag, |untagged| {
            if let Untagged::Fetch(Fetched { uid: Some(uid), size, .. }) = untagged {
                sizes.insert(uid, size.unwrap_or_default());
            }
            Ok(())
        })?;
    }
    Ok(Ok((opened, sizes.into_iter().collect())))
}

fn note(examined: &mut Examined, untagged: Untagged) {
    match untagged {
        Untagged::Exists(exists) => examined.exists = exists,
        Untagged::State { code: Some(code), .. } if code.name == "UIDVALIDITY" => {
            examined.uid_validity = code.argument.parse().unwrap_or_default();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(name: &[u8], prefix: &[u8]) -> String {
        let listed = Listed { name: name.to_vec(), delimiter: Some('.'), ..Listed::default() };
        levels_here(&listed, prefix).join("/")
    }

    #[test]
    fn a_prefix_goes_and_the_inbox_stays() {
        assert_eq!(here(b"inbox", b"INBOX."), "INBOX");
        assert_eq!(here(b"INBOX.Sent.2024", b"INBOX."), "Sent/2024");
        assert_eq!(here(b"INBOX.Sent.2024", b""), "INBOX/Sent/2024");
        assert_eq!(here(b"INBOX.inbox", b"INBOX."), "INBOX/inbox");
        assert_eq!(here(b"shared.Entw&APw-rfe", b"INBOX."), "shared/Entwürfe");
        assert_eq!(here(b"INBOX.", b"INBOX."), "INBOX");
    }

    #[test]
    fn uses_are_guessed_only_where_none_is_told() {
        let mailbox = |name: &str, special_use| {
            let levels = vec![name.to_owned()];
            (SourceMailbox { levels, special_use, subscribed: false, selectable: true }, name.as_bytes().to_vec())
        };
        let mut all = vec![
            mailbox("Gesendet", Some(SpecialUse::Sent)),
            mailbox("Sent", None),
            mailbox("Deleted Items", None),
            mailbox("Trash", None),
        ];
        guess_uses(&mut all);
        let uses: Vec<_> = all.iter().map(|(mailbox, _)| mailbox.special_use).collect();
        assert_eq!(uses, [Some(SpecialUse::Sent), None, None, Some(SpecialUse::Trash)]);
    }
}
