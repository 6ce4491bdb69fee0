//! LIST (RFC 3501, RFC 5258, RFC 5819, RFC 6154) and LSUB.

use std::collections::VecDeque;

use rockdove_mail::{HIERARCHY_DELIMITER, MailboxName};

use super::{
    ImapSession,
    purpose::Purpose,
    tree::{self, ListLine},
};
use crate::{
    ask::{Ask, Mailboxes, Status},
    command::{ListRequest, StatusItem},
    grammar::write,
};

/// Mailboxes whose counters LIST is still to tell.
pub(super) struct ListStatus {
    names: VecDeque<MailboxName>,
    items: Vec<StatusItem>,
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
        let Some(items) = request.return_status.clone() else { return self.complete("OK done") };
        //= rfc5819#section-2
        //# For each selectable
        //# mailbox matching the list pattern and selection options, the server
        //# MUST return an untagged LIST response followed by an untagged STATUS
        //# response containing the information requested in the STATUS return
        //# option.
        let names = lines.iter().filter(|line| line.exists).filter_map(|line| MailboxName::new(line.name).ok());
        self.next_list_status(ListStatus { names: names.collect(), items });
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

    fn next_list_status(&mut self, listing: ListStatus) {
        match listing.names.front() {
            Some(mailbox) => {
                let ask = Self::status_ask(mailbox, &listing.items);
                self.ask(ask, Purpose::ListStatus(listing));
            }
            None => self.complete("OK done"),
        }
    }

    /// Counters of the first mailbox have come; `None`: it is gone.
    pub(super) fn list_status_answer(&mut self, mut listing: ListStatus, status: Option<&Status>) {
        if let (Some(mailbox), Some(status)) = (listing.names.pop_front(), status) {
            self.write_status(&mailbox, &listing.items, status);
        }
        self.next_list_status(listing);
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
