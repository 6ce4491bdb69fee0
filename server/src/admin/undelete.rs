//! Getting deleted mail back: what there is, bringing it back, removing it for good.

use std::{io, ops::ControlFlow};

use rockdove_engine::{AccountId, Command, Deleted, DeletedMessage, EngineError, MessageId, Outcome};
use rockdove_mail::{MailboxName, header, text};

use super::{
    execute::{Emit, Host},
    request::{DeletedMailboxFacts, DeletedMessageFacts, Reply, Request, UndeleteFilter},
};

/// Messages that one list tells of.
const LISTED_MAX: usize = 100_000;
/// Octets of a header that are looked through for its subject.
const HEADER_OCTETS_MAX: u64 = 64 * 1024;

/// Carries out a request of this kind.
pub(super) fn carry_out(host: &Host, request: Request, emit: Emit<'_>) -> io::Result<Result<String, String>> {
    let told = match request {
        Request::UndeleteList { address, filter } => {
            match account(host, &address).and_then(|id| listed(host, id, &filter)) {
                Ok((replies, cut)) => {
                    replies.into_iter().try_for_each(emit)?;
                    Ok(if cut {
                        format!("only the first {LISTED_MAX} messages were looked at; narrow the list")
                    } else {
                        String::new()
                    })
                }
                Err(why) => Err(why),
            }
        }
        Request::UndeleteRestore { address, messages, filter, to } => {
            account(host, &address).and_then(|id| restore(host, id, &messages, &filter, to.as_deref()))
        }
        Request::UndeletePurge { address } => account(host, &address).and_then(|id| purge(host, id)),
        _ => Err("not a request about deleted mail".to_owned()),
    };
    Ok(told)
}

fn account(host: &Host, address: &str) -> Result<AccountId, String> {
    let directory = host.engine.directory();
    let found = directory.account_by_login(address).map(|account| account.id);
    found.ok_or_else(|| format!("account {address} does not exist; `rockdove account list` shows what there is"))
}

fn name(text: &str) -> Result<MailboxName, String> {
    MailboxName::new(text).map_err(|error| format!("{text:?} is no mailbox name: {error}"))
}

/// Deleted mailboxes, then messages; and whether there are more than can be told.
fn listed(host: &Host, account: AccountId, filter: &UndeleteFilter) -> Result<(Vec<Reply>, bool), String> {
    let words = |error: EngineError| error.to_string();
    let mailbox = filter.mailbox.as_deref().map(name).transpose()?;
    let fits = |named: Option<&MailboxName>, when: i64| {
        mailbox.as_ref().is_none_or(|mailbox| named == Some(mailbox))
            && filter.since_unix_s.is_none_or(|since| when >= since)
    };
    let mut found = Vec::new();
    let mut cut = false;
    let mut visit = |message: DeletedMessage| {
        if fits(message.mailbox_name.as_ref(), message.deleted_unix_s) {
            cut = found.len() >= LISTED_MAX;
            if cut {
                return ControlFlow::Break(());
            }
            found.push(message);
        }
        ControlFlow::Continue(())
    };
    host.engine.deleted_messages(account, &mut visit).map_err(words)?;
    let mut replies = Vec::new();
    if filter.subject.is_none() {
        let mailboxes = host.engine.deleted_mailboxes(account).map_err(words)?;
        let fitting = mailboxes.into_iter().filter(|mailbox| fits(Some(&mailbox.name), mailbox.deleted_unix_s));
        replies.extend(fitting.map(|mailbox| {
            Reply::DeletedMailbox(DeletedMailboxFacts {
                deleted_mailbox: mailbox.name.to_string(),
                deleted_unix_s: mailbox.deleted_unix_s,
                messages: mailbox.messages,
                size_bytes: mailbox.size_bytes,
            })
        }));
    }
    let wanted = filter.subject.as_deref().map(text::fold);
    for message in found {
        let subject = subject(host, account, message.message).map_err(words)?;
        if wanted.as_ref().is_none_or(|wanted| text::fold(&subject).contains(wanted.as_str())) {
            replies.push(Reply::DeletedMessage(facts(&message, subject)));
        }
    }
    Ok((replies, cut))
}

/// Empty when the message has none, or is gone meanwhile.
fn subject(host: &Host, account: AccountId, message: MessageId) -> Result<String, EngineError> {
    let read = || {
        let record = host.engine.record(account, message)?;
        host.engine.read(account, &record, 0..record.header.end.min(HEADER_OCTETS_MAX))
    };
    match read() {
        Ok(block) => Ok(header::unfold_decoded(&block, "subject").into_iter().next().unwrap_or_default()),
        Err(EngineError::NotFound(_)) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn facts(message: &DeletedMessage, subject: String) -> DeletedMessageFacts {
    DeletedMessageFacts {
        message: message.message.0,
        mailbox: message.mailbox_name.as_ref().map(ToString::to_string),
        uid: message.uid,
        deleted_unix_s: message.deleted_unix_s,
        internal_date_unix_s: message.internal_date.unix_s,
        size_bytes: message.size_bytes,
        subject,
    }
}

fn restore(
    host: &Host,
    account: AccountId,
    messages: &[u32],
    filter: &UndeleteFilter,
    to: Option<&str>,
) -> Result<String, String> {
    let which = match (messages, &filter.mailbox, filter.since_unix_s) {
        ([_, ..], None, None) => Deleted::Messages(messages.iter().copied().map(MessageId).collect()),
        ([], Some(mailbox), None) => Deleted::Mailbox(name(mailbox)?),
        ([], None, Some(since)) => Deleted::Since(since),
        _ => return Err("say one of messages, a mailbox, or a time".to_owned()),
    };
    let to = to.map(name).transpose()?;
    let (mut count, mut boxes) = (0, 0);
    loop {
        match host.run(Command::Restore { account, which: which.clone(), to: to.clone() }) {
            Ok(Outcome::Restored { messages, mailboxes, more }) => {
                (count, boxes) = (count + messages, boxes + mailboxes);
                if !more {
                    return Ok(format!("{count} messages and {boxes} mailboxes restored"));
                }
            }
            Ok(_) => return Err("the store answered something else".to_owned()),
            Err(EngineError::OverQuota) => {
                return Err(format!(
                    "there is no room in the quota for all of it; {count} messages and {boxes} mailboxes were restored; \
                     raise the quota with `rockdove account quota`, or restore less at once"
                ));
            }
            Err(error) => return Err(format!("{error}; {count} messages and {boxes} mailboxes were restored")),
        }
    }
}

fn purge(host: &Host, account: AccountId) -> Result<String, String> {
    let mut count = 0;
    loop {
        match host.run(Command::Purge { account, everything: true }) {
            Ok(Outcome::Purged { messages, more }) => {
                count += messages;
                if !more {
                    return Ok(format!("{count} deleted messages removed for good"));
                }
            }
            Ok(_) => return Err("the store answered something else".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}
