//! Stage two: mail to distribution lists goes to their members, under the name of the list.

use std::{collections::BTreeSet, fmt::Write as _};

use rockdove_engine::{
    AccountId, Directory, Engine, Resolution,
    directory::{ListRecord, Posting, list_id},
};
use rockdove_mail::{MailboxName, header};
use rockdove_smtp::{Address, RecipientOutcome, Refusal};

use super::{Copy, Job, forward::Onward};

/// Finds the members of the lists that recipients lead to; everybody gets the message once.
pub(super) fn expand(job: &mut Job, engine: &Engine, block: &[u8]) {
    if job.lists.is_empty() {
        return;
    }
    let directory = engine.directory();
    let mut here: BTreeSet<AccountId> = job.copies.iter().map(|copy| copy.account).collect();
    let mut away: BTreeSet<String> = job.onward.iter().map(|onward| onward.address.clone()).collect();
    let leaving = job.leaving.iter().filter_map(|position| job.mail.envelope.recipients.get(*position));
    away.extend(leaving.map(|recipient| recipient.address.to_string()));
    for (address, position) in std::mem::take(&mut job.lists) {
        let Some(list) = directory.list(&address) else {
            job.fail(&[position], &RecipientOutcome::UnknownRecipient);
            continue;
        };
        let targets = directory.list_targets(&address);
        let none = targets.is_empty().then(|| refusal(550, "5.2.4", "the list has no members"));
        if let Some(refusal) = none.or_else(|| objection(job, &directory, list, block)) {
            job.fail(&[position], &RecipientOutcome::Refused(refusal));
            continue;
        }
        for target in targets.accounts {
            if here.insert(target.account) {
                job.copies.push(Copy {
                    account: target.account,
                    address: target.address,
                    detail: None,
                    recipients: vec![position],
                    mailbox: MailboxName::inbox(),
                    trace_header: bytes::Bytes::new(),
                    fields: String::new(),
                    junk: false,
                    list: Some(address.clone()),
                });
            }
        }
        for onward in targets.onward {
            if away.insert(onward.address.clone()) {
                let (address, by) = (onward.address, address.clone());
                job.onward.push(Onward { address, by, recipient: position, by_list: true });
            }
        }
    }
    job.drop_refused();
}

fn refusal(code: u16, status: &str, text: &str) -> Refusal {
    Refusal { code, status: status.to_owned(), text: text.to_owned() }
}

/// Why a message is not taken for a list.
fn objection(job: &Job, directory: &Directory, list: &ListRecord, block: &[u8]) -> Option<Refusal> {
    let own = format!("<{}>", list_id(&list.address)).to_lowercase();
    if header::unfold_decoded(block, "List-Id").iter().any(|id| id.to_lowercase().contains(&own)) {
        return Some(refusal(554, "5.4.6", "this message was on the list before, it is going round in a loop"));
    }
    let Some(sender) = &job.mail.envelope.reverse_path else {
        return Some(refusal(550, "5.7.2", "a list takes no bounces"));
    };
    let automatic = header::unfold_decoded(block, "Auto-Submitted");
    if automatic.iter().any(|kind| kind.to_lowercase().starts_with("auto-replied")) {
        return Some(refusal(550, "5.7.2", "a list takes no automatic replies"));
    }
    let text = match list.posting {
        Posting::Members => "only members may post to this list",
        Posting::Anyone | Posting::Owner => "only its owner may post to this list",
    };
    (!may_post(directory, list, sender)).then(|| refusal(550, "5.7.2", text))
}

/// Whether a sender may post: under this address, or under that of an account that gets its mail.
fn may_post(directory: &Directory, list: &ListRecord, sender: &Address) -> bool {
    let may = |address: &str| {
        let same = |other: &String| other.to_lowercase() == address.to_lowercase();
        list.posting == Posting::Anyone
            || same(&list.owner)
            || list.posters.iter().any(same)
            || (list.posting == Posting::Members && directory.is_list_member(&list.address, address))
    };
    may(&sender.to_string())
        || match directory.resolve_parts(&sender.local, &sender.domain) {
            Resolution::Local(targets) => targets.accounts.iter().any(|target| may(&target.address)),
            Resolution::UnknownRecipient | Resolution::NotLocal => false,
        }
}

/// The fields that tell of a list (RFC 2369, RFC 2919).
pub(super) fn fields(directory: &Directory, address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or_default();
    let local = encoded(local);
    let closed = directory.list(address).is_some_and(|list| list.posting == Posting::Owner);
    //= rfc2369#section-3.4
    //# The List-Post field describes the method for posting to the list.
    let post = if closed { "NO".to_owned() } else { format!("<mailto:{local}@{domain}>") };
    format!(
        "List-Id: <{}>\r\nList-Post: {post}\r\nList-Owner: <mailto:{local}-owner@{domain}>\r\n\
         List-Unsubscribe: <mailto:{local}-request@{domain}?subject=unsubscribe>\r\nPrecedence: list\r\n",
        list_id(address)
    )
}

/// A local part as a `mailto:` has it (RFC 6068 section 2).
fn encoded(local: &str) -> String {
    let mut text = String::with_capacity(local.len());
    for octet in local.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~!$'*+".contains(&octet) {
            text.push(char::from(octet));
        } else {
            // Writing to a String cannot fail.
            write!(text, "%{octet:02X}").unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_parts_are_encoded() {
        assert_eq!(encoded("sales.north+1"), "sales.north+1");
        assert_eq!(encoded("a/b?c=d&e"), "a%2Fb%3Fc%3Dd%26e");
        assert_eq!(encoded("j\u{f6}rg"), "j%C3%B6rg");
    }
}
