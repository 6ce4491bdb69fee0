//! Rights (RFC 4314) and quotas (RFC 9208).

use rockdove_mail::{MailboxName, Rights, RightsUpdate};

use super::{ImapSession, purpose::Purpose};
use crate::{
    ask::{Ask, QuotaFacts},
    command::AccessCommand,
    grammar::write,
};

impl ImapSession {
    pub(super) fn access(&mut self, command: AccessCommand) {
        match command {
            AccessCommand::SetAcl { mailbox, identifier, update, rights } => {
                let Some(mailbox) = self.mailbox(mailbox) else { return };
                self.ask(Ask::SetRights { mailbox, identifier, update, rights }, Purpose::Change("OK set"));
            }
            AccessCommand::DeleteAcl { mailbox, identifier } => {
                let Some(mailbox) = self.mailbox(mailbox) else { return };
                let (update, rights) = (RightsUpdate::Replace, Rights::NONE);
                self.ask(Ask::SetRights { mailbox, identifier, update, rights }, Purpose::Change("OK deleted"));
            }
            AccessCommand::GetAcl(mailbox) => {
                let Some(mailbox) = self.mailbox(mailbox) else { return };
                self.ask(Ask::Acl { mailbox: mailbox.clone() }, Purpose::Acl(mailbox));
            }
            AccessCommand::ListRights { mailbox, identifier } => {
                let Some(mailbox) = self.mailbox(mailbox) else { return };
                let ask = Ask::ListRights { mailbox: mailbox.clone(), identifier: identifier.clone() };
                self.ask(ask, Purpose::ListRights(mailbox, identifier));
            }
            AccessCommand::MyRights(mailbox) => {
                let Some(mailbox) = self.mailbox(mailbox) else { return };
                self.ask(Ask::MyRights { mailbox: mailbox.clone() }, Purpose::MyRights(mailbox));
            }
            AccessCommand::GetQuota(root) => self.ask(Ask::Quota { root }, Purpose::Quota(None)),
            AccessCommand::GetQuotaRoot(mailbox) => {
                let Some(mailbox) = self.mailbox(mailbox) else { return };
                self.ask(Ask::QuotaRoot { mailbox: mailbox.clone() }, Purpose::Quota(Some(mailbox)));
            }
            AccessCommand::SetQuota { root, limits } => {
                self.ask(Ask::SetQuota { root: root.clone(), limits }, Purpose::SetQuota(root));
            }
        }
    }

    /// The limits are set, and are told (RFC 9208 section 4.1.3).
    pub(super) fn quota_set(&mut self, root: String) {
        self.ask(Ask::Quota { root }, Purpose::Quota(None));
    }

    /// `* NAME mailbox`, to be gone on with.
    fn begin_about(&mut self, name: &str, mailbox: &MailboxName) {
        self.out.text.extend_from_slice(format!("* {name} ").as_bytes());
        let names = self.names();
        write::mailbox_name(&mut self.out.text, mailbox.as_str(), names);
    }

    fn word(&mut self, text: &str) {
        self.out.text.push(b' ');
        write::astring(&mut self.out.text, text.as_bytes());
    }

    /// `acl-data = "ACL" SP mailbox *(SP identifier SP rights)`
    pub(super) fn write_acl(&mut self, mailbox: &MailboxName, lines: &[(String, Rights)]) {
        self.begin_about("ACL", mailbox);
        for (identifier, rights) in lines {
            self.word(identifier);
            self.word(&rights.to_string());
        }
        self.out.end_line();
        self.complete("OK done");
    }

    //= rfc4314#section-3.7
    //# Following the identifier is a string
    //# containing the (possibly empty) set of rights the identifier will
    //# always be granted in the mailbox.
    /// `listrights-data = "LISTRIGHTS" SP mailbox SP identifier SP rights *(SP rights)`; no two rights are tied here.
    pub(super) fn write_list_rights(&mut self, mailbox: &MailboxName, identifier: &str, always: Rights) {
        self.begin_about("LISTRIGHTS", mailbox);
        self.word(identifier);
        self.word(&always.letters());
        for (right, letter) in Rights::LETTERS {
            if !always.contains(right) {
                self.word(&letter.to_string());
            }
        }
        self.out.line(" c d");
        self.complete("OK done");
    }

    /// `myrights-data = "MYRIGHTS" SP mailbox SP rights`
    pub(super) fn write_my_rights(&mut self, mailbox: &str, rights: Rights) {
        self.out.text.extend_from_slice(b"* MYRIGHTS ");
        let names = self.names();
        write::mailbox_name(&mut self.out.text, mailbox, names);
        self.word(&rights.to_string());
        self.out.end_line();
    }

    /// `quotaroot-response = "QUOTAROOT" SP mailbox *(SP quota-root-name)`, where a mailbox was asked for, and
    /// `quota-response = "QUOTA" SP quota-root-name SP quota-list`.
    pub(super) fn write_quota(&mut self, mailbox: Option<&MailboxName>, quota: &QuotaFacts) {
        if let Some(mailbox) = mailbox {
            self.begin_about("QUOTAROOT", mailbox);
            self.word(&quota.root);
            self.out.end_line();
        }
        self.out.text.extend_from_slice(b"* QUOTA");
        self.word(&quota.root);
        let resources = quota.resources.iter().map(|(name, usage, limit)| format!("{name} {usage} {limit}"));
        self.out.line(&format!(" ({})", resources.collect::<Vec<_>>().join(" ")));
        self.complete("OK done");
    }
}
