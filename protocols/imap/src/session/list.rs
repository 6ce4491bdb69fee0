//! LIST (RFC 3501, RFC 5258, RFC 5819, RFC 6154, RFC 9590) and LSUB.

use std::collections::VecDeque;

use bytes::Bytes;
use rockdove_mail::{HIERARCHY_DELIMITER, MailboxName, MetadataEntry};

use super::{
    ImapSession,
    purpose::Purpose,
    tree::{self, ListLine},
};
use crate::{
    ask::{Ask, Mailboxes, Status},
    command::{ListRequest, MetadataRequest, StatusItem},
    grammar::write,
};

/// What LIST is still to tell of mailboxes.
pub(super) struct ListDetails {
    left: VecDeque<(MailboxName, Detail)>,
    /// What is being asked of the host.
    asked: Option<MailboxName>,
    items: Vec<StatusItem>,
    metadata: MetadataRequest,
}

/// A response of its own.
#[derive(Clone, Copy)]
enum Detail {
    Status,
    Metadata,
}

impl ImapSession {
    pub(super) fn list(&mut self, request: ListRequest) {
        if request.return_status.iter().flatten().any(|item| *item == StatusItem::HighestModSeq) {
            self.enable_condstore();
        }
        self.ask(Ask::Mailboxes, Purpose::List(request));
    }

    pub(super) fn list_answer(&mut self, request: &ListRequest, mailboxes: &Mailboxes) {
        let patterns: Vec<String> = request
            .patterns
            .iter()
            .filter(|pattern| !pattern.is_empty())
            .map(|pattern| [request.reference.as_str(), pattern].concat())
            .collect();
        //= rfc3501#section-6.3.8
        //# An empty ("" string) mailbox name argument is a special request to
        //# return the hierarchy delimiter and the root name of the name given
        //# in the reference.
        if patterns.len() < request.patterns.len() {
            self.untagged(&format!("LIST (\\Noselect) \"{HIERARCHY_DELIMITER}\" \"\""));
        }
        let lines = tree::list(mailboxes, request, &patterns);
        for line in &lines {
            self.write_list_line("LIST", line, request);
            // RFC 8440 section 3: right behind the LIST response, and not for a name that is no mailbox.
            if let Some(rights) = line.rights.filter(|_| request.return_my_rights) {
                self.write_my_rights(line.name, rights);
            }
        }
        //= rfc5819#section-2
        //# For each selectable
        //# mailbox matching the list pattern and selection options, the server
        //# MUST return an untagged LIST response followed by an untagged STATUS
        //# response containing the information requested in the STATUS return
        //# option.
        // RFC 9590 section 3 has METADATA responses follow in the same way.
        let details = [
            request.return_status.as_ref().map(|_| Detail::Status),
            request.return_metadata.as_ref().map(|_| Detail::Metadata),
        ];
        let names = lines.iter().filter(|line| line.exists).filter_map(|line| MailboxName::new(line.name).ok());
        let of = |name: MailboxName| details.into_iter().flatten().map(move |detail| (name.clone(), detail));
        let entries = request.return_metadata.clone().unwrap_or_default();
        self.next_list_detail(ListDetails {
            left: names.flat_map(of).collect(),
            asked: None,
            items: request.return_status.clone().unwrap_or_default(),
            metadata: MetadataRequest { entries, ..MetadataRequest::default() },
        });
    }

    pub(super) fn write_list_line(&mut self, response: &str, line: &ListLine<'_>, request: &ListRequest) {
        let attributes = line.attributes.join(" ");
        let text = format!("* {response} ({attributes}) \"{HIERARCHY_DELIMITER}\" ");
        self.out.text.extend_from_slice(text.as_bytes());
        let names = self.names();
        write::mailbox_name(&mut self.out.text, line.name, names);
        if line.child_info {
            let criteria = match (request.select_subscribed, request.select_special_use) {
                (true, true) => "\"SUBSCRIBED\" \"SPECIAL-USE\"",
                (true, false) => "\"SUBSCRIBED\"",
                _ => "\"SPECIAL-USE\"",
            };
            self.out.text.extend_from_slice(format!(" (\"CHILDINFO\" ({criteria}))").as_bytes());
        }
        self.out.end_line();
    }

    /// Asks for what is to be told next.
    pub(super) fn next_list_detail(&mut self, mut listing: ListDetails) {
        let Some((mailbox, detail)) = listing.left.pop_front() else { return self.complete("OK done") };
        let ask = match detail {
            Detail::Status => Self::status_ask(&mailbox, &listing.items),
            Detail::Metadata => Ask::Metadata { mailbox: Some(mailbox.clone()) },
        };
        listing.asked = Some(mailbox);
        self.ask(ask, Purpose::ListDetails(listing));
    }

    pub(super) fn list_status_answer(&mut self, listing: ListDetails, status: &Status) {
        if let Some(mailbox) = &listing.asked {
            self.write_status(mailbox, &listing.items, status);
        }
        self.next_list_detail(listing);
    }

    pub(super) fn list_metadata_answer(&mut self, listing: ListDetails, annotations: &[(MetadataEntry, Bytes)]) {
        self.write_metadata(listing.asked.as_ref(), &listing.metadata, annotations);
        self.next_list_detail(listing);
    }

    pub(super) fn lsub(&mut self, reference: String, pattern: String) {
        self.ask(Ask::Mailboxes, Purpose::Lsub(reference, pattern));
    }

    pub(super) fn lsub_answer(&mut self, reference: &str, pattern: &str, mailboxes: &Mailboxes) {
        if pattern.is_empty() {
            self.untagged(&format!("LSUB (\\Noselect) \"{HIERARCHY_DELIMITER}\" \"\""));
            return self.complete("OK done");
        }
        for line in &tree::lsub(mailboxes, &[reference, pattern].concat()) {
            self.write_list_line("LSUB", line, &ListRequest::default());
        }
        self.complete("OK done");
    }
}
