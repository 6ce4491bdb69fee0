//! Groups, rights and public mailboxes for the administrator, who needs no rights.

use std::io;

use rockdove_engine::{AccountId, Command, Directory, EngineError, MailboxId};
use rockdove_mail::{MailboxName, Rights, RightsUpdate};

use super::{
    execute::{Emit, Host},
    request::{AclLine, GroupFacts, Reply, Request},
};

/// The line of a success, or why not; what lies before it goes to `emit`.
pub(super) fn carry_out(host: &Host, request: Request, emit: Emit<'_>) -> io::Result<Result<String, EngineError>> {
    let plain = |command: Command, line: String| host.run(command).map(|_| line);
    Ok(match request {
        Request::GroupAdd { group } => {
            let line = format!("group {group} added");
            plain(Command::CreateGroup { group }, line)
        }
        Request::GroupRemove { group } => {
            let line = format!("group {group} removed");
            plain(Command::RemoveGroup { group }, line)
        }
        Request::GroupMember { group, address, member } => {
            let what = if member { "is a member" } else { "is no member any more" };
            let line = format!("{address} {what} of group {group}");
            plain(Command::SetGroupMember { group, address, member }, line)
        }
        Request::DomainPublic { name, address } => {
            let line = address.as_ref().map_or_else(
                || format!("no mailbox is public in {name}"),
                |address| format!("the mailboxes of {address} are public in {name}, to those who are granted rights"),
            );
            plain(Command::SetPublicAccount { domain: name, address }, line)
        }
        Request::AclSet { owner, mailbox, identifier, rights } => acl_set(host, &owner, &mailbox, &identifier, &rights),
        Request::AclList { owner, mailbox } => match lines(host, &owner, &mailbox) {
            Ok(lines) => {
                lines.into_iter().try_for_each(|line| emit(Reply::Acl(line)))?;
                Ok(String::new())
            }
            Err(error) => Err(error),
        },
        _ => Err(EngineError::Invalid("not a request about sharing".to_owned())),
    })
}

/// All groups.
pub(super) fn groups(directory: &Directory, emit: Emit<'_>) -> io::Result<()> {
    directory.groups().into_iter().try_for_each(|group| {
        let members = group.members.iter().filter_map(|member| directory.account(*member));
        let members = members.map(|member| member.address.clone()).collect();
        emit(Reply::Group(GroupFacts { name: group.name.clone(), members }))
    })
}

fn place(host: &Host, owner: &str, mailbox: &str) -> Result<(AccountId, MailboxId), EngineError> {
    let directory = host.engine.directory();
    let missing = |what: String| EngineError::NotFound(what);
    let account = directory.account_by_login(owner).ok_or_else(|| missing(format!("account {owner}")))?.id;
    let name = MailboxName::new(mailbox).map_err(|error| EngineError::Invalid(error.to_string()))?;
    let list = host.engine.mailboxes(account)?;
    let found = list.by_name(&name).ok_or_else(|| missing(format!("mailbox {name} of {owner}")))?;
    Ok((account, found.id))
}

fn acl_set(host: &Host, owner: &str, mailbox: &str, identifier: &str, letters: &str) -> Result<String, EngineError> {
    let (account, id) = place(host, owner, mailbox)?;
    let (update, known) = match letters.split_at_checked(1) {
        Some(("+", letters)) => (RightsUpdate::Add, letters),
        Some(("-", letters)) => (RightsUpdate::Remove, letters),
        _ => (RightsUpdate::Replace, letters),
    };
    let wrong = || EngineError::Invalid(format!("{known:?} are not rights: letters of lrswipkxtea"));
    let rights = Rights::parse(known).ok_or_else(wrong)?;
    host.run(Command::SetRights { account, mailbox: id, identifier: identifier.to_owned(), update, rights })?;
    let now = lines(host, owner, mailbox)?.into_iter().map(|line| format!("{} {}", line.identifier, line.rights));
    Ok(format!("{mailbox} of {owner}: {}", now.collect::<Vec<_>>().join(", ")))
}

fn lines(host: &Host, owner: &str, mailbox: &str) -> Result<Vec<AclLine>, EngineError> {
    let (account, id) = place(host, owner, mailbox)?;
    let line = |(identifier, rights): (String, Rights)| AclLine { identifier, rights: rights.letters() };
    Ok(host.engine.acl(account, id)?.into_iter().map(line).collect())
}
