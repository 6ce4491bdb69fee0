//! Commands about rights (RFC 4314) and quotas (RFC 9208).

use rockdove_mail::{Rights, RightsUpdate};

use super::{
    mailbox::mailbox,
    words::{Words, Wrong},
};
use crate::{
    command::{AccessCommand, Command},
    limits::{IDENTIFIER_OCTETS_MAX, QUOTA_RESOURCES_MAX},
};

/// A command about access by its name; `None`: it is none.
pub(super) fn access(name: &str, words: &mut Words<'_>) -> Option<Result<Command, Wrong>> {
    let read = match name {
        "SETACL" => set_acl,
        "DELETEACL" => delete_acl,
        "GETACL" => |words: &mut Words<'_>| Ok(AccessCommand::GetAcl(mailbox(words)?)),
        "LISTRIGHTS" => list_rights,
        "MYRIGHTS" => |words: &mut Words<'_>| Ok(AccessCommand::MyRights(mailbox(words)?)),
        "GETQUOTA" => |words: &mut Words<'_>| Ok(AccessCommand::GetQuota(words.text()?)),
        "GETQUOTAROOT" => |words: &mut Words<'_>| Ok(AccessCommand::GetQuotaRoot(mailbox(words)?)),
        "SETQUOTA" => set_quota,
        _ => return None,
    };
    Some(words.space().map_err(|_| "arguments are missing").and_then(|()| read(words)).map(Command::Access))
}

/// `identifier = astring`
fn identifier(words: &mut Words<'_>) -> Result<String, Wrong> {
    let text = words.text()?;
    if text.len() > IDENTIFIER_OCTETS_MAX { Err("an identifier is too long") } else { Ok(text) }
}

/// `setacl = "SETACL" SP mailbox SP identifier SP mod-rights`; `mod-rights = astring`
///
//= rfc4314#section-3.1
//# Note that an unrecognized right MUST cause the command to return the
//# BAD response.
fn set_acl(words: &mut Words<'_>) -> Result<AccessCommand, Wrong> {
    let mailbox = mailbox(words)?;
    words.space()?;
    let identifier = identifier(words)?;
    words.space()?;
    let text = words.text()?;
    let (update, letters) = match text.split_at_checked(1) {
        Some(("+", letters)) => (RightsUpdate::Add, letters),
        Some(("-", letters)) => (RightsUpdate::Remove, letters),
        _ => (RightsUpdate::Replace, text.as_str()),
    };
    let rights = Rights::parse(letters).ok_or("there is no such right")?;
    Ok(AccessCommand::SetAcl { mailbox, identifier, update, rights })
}

/// `deleteacl = "DELETEACL" SP mailbox SP identifier`
fn delete_acl(words: &mut Words<'_>) -> Result<AccessCommand, Wrong> {
    let mailbox = mailbox(words)?;
    words.space()?;
    Ok(AccessCommand::DeleteAcl { mailbox, identifier: identifier(words)? })
}

/// `listrights = "LISTRIGHTS" SP mailbox SP identifier`
fn list_rights(words: &mut Words<'_>) -> Result<AccessCommand, Wrong> {
    let mailbox = mailbox(words)?;
    words.space()?;
    Ok(AccessCommand::ListRights { mailbox, identifier: identifier(words)? })
}

/// `setquota = "SETQUOTA" SP quota-root-name SP setquota-list`; `setquota-list = "(" [setquota-resource
/// *(SP setquota-resource)] ")"`; `setquota-resource = resource-name SP resource-limit`
fn set_quota(words: &mut Words<'_>) -> Result<AccessCommand, Wrong> {
    let root = words.text()?;
    words.space()?;
    let limits = words.list(QUOTA_RESOURCES_MAX, |words| {
        let resource = words.atom()?.to_ascii_uppercase();
        words.space()?;
        Ok((resource, words.number64()?))
    })?;
    Ok(AccessCommand::SetQuota { root, limits })
}
