//! Replies as a person or a program reads them.

use std::fmt::Write as _;

use rockdove_mail::date;
use serde_json::{Value, json};

use crate::{
    admin::{
        AccountFacts, AccountUse, AclLine, CheckFacts, DeletedMailboxFacts, DeletedMessageFacts, DkimFacts,
        DomainFacts, ListFacts, QuarantinedFacts, QueueStatus, QueuedFacts, Reply, SpamFacts, Status, StorageFacts,
        TraceFacts,
    },
    config::Size,
};

/// Collects the replies to one request into what is printed.
#[derive(Debug)]
pub struct Show {
    form: Form,
    text: String,
    values: Vec<Value>,
    complaints: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    /// One JSON value.
    Json,
    /// A JSON array.
    JsonList,
}

impl Show {
    fn with(form: Form) -> Self {
        Self { form, text: String::new(), values: Vec::new(), complaints: Vec::new() }
    }

    /// Text, or one JSON value.
    pub fn new(json: bool) -> Self {
        Self::with(if json { Form::Json } else { Form::Text })
    }

    /// A table, or a JSON array.
    pub fn list(json: bool) -> Self {
        Self::with(if json { Form::JsonList } else { Form::Text })
    }

    /// Takes the next reply.
    pub fn take(&mut self, reply: Reply) {
        if let Reply::NotAdded { address, why } = &reply {
            return self.complaints.push(format!("{address}: {why}"));
        }
        match self.form {
            Form::Text => self.text_of(reply),
            Form::Json | Form::JsonList => self.value_of(reply),
        }
    }

    /// What is to be printed.
    pub fn finish(&mut self) -> String {
        let values = std::mem::take(&mut self.values);
        match self.form {
            Form::Text => std::mem::take(&mut self.text),
            Form::JsonList => format!("{:#}\n", Value::Array(values)),
            Form::Json => {
                // The pieces of one thing are one object.
                let pieces = values.into_iter().filter_map(|value| match value {
                    Value::Object(object) => Some(object),
                    _ => None,
                });
                format!("{:#}\n", Value::Object(pieces.flatten().collect()))
            }
        }
    }

    /// What went wrong with single accounts.
    pub fn complaints(&self) -> String {
        self.complaints.join("\n")
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        writeln!(self.text, "{line}").unwrap_or_default();
    }

    fn text_of(&mut self, reply: Reply) {
        match reply {
            Reply::Status(status) => self.status(&status),
            Reply::Metrics(text) => self.text.push_str(&text),
            Reply::Domain(DomainFacts { name, catch_all: None, .. }) => self.line(format_args!("{name}")),
            Reply::Domain(DomainFacts { name, catch_all: Some(target), .. }) => {
                self.line(format_args!("{name}  unknown addresses: {target}"));
            }
            Reply::Account(account) => self.account(&account),
            Reply::Use(AccountUse { used_bytes, messages, deleted_bytes, deleted_messages }) => {
                self.line(format_args!("{messages} messages, {used_bytes} octets"));
                if deleted_messages > 0 {
                    self.line(format_args!(
                        "deleted, can be had again: {deleted_messages} messages, {deleted_bytes} octets"
                    ));
                }
            }
            Reply::DeletedMailbox(mailbox) => {
                let DeletedMailboxFacts { deleted_mailbox, deleted_unix_s, messages, size_bytes } = mailbox;
                let when = date::date_time(deleted_unix_s);
                self.line(format_args!(
                    "mailbox {deleted_mailbox}  deleted: {when}  {messages} messages, {size_bytes} octets"
                ));
            }
            Reply::DeletedMessage(message) => {
                let DeletedMessageFacts { message, mailbox, deleted_unix_s, size_bytes, subject, .. } = message;
                let (when, mailbox) = (date::date_time(deleted_unix_s), mailbox.as_deref().unwrap_or("?"));
                self.line(format_args!("{message}  {mailbox}  deleted: {when}  {size_bytes} octets  {subject}"));
            }
            Reply::Dkim(DkimFacts { domain, selector, algorithm, active, record, .. }) => {
                let active = if active { "signs" } else { "does not sign" };
                self.line(format_args!("{selector}  {algorithm}  {active}"));
                self.line(format_args!("    {selector}._domainkey.{domain}  TXT  {record}"));
            }
            Reply::Spam(SpamFacts { spam, ham, tokens, waiting }) => {
                self.line(format_args!("learned: {spam} unwanted, {ham} wanted messages, {tokens} tokens"));
                self.line(format_args!("waiting to be learned: {waiting}"));
            }
            Reply::Quarantined(message) => self.quarantined(&message),
            Reply::Queued(message) => self.queued(&message),
            Reply::Traced(traced) => self.traced(&traced),
            Reply::QueueHop(hop) => self.line(format_args!("{:8}  {}", hop.tasks, hop.next_hop)),
            Reply::List(list) => self.list_facts(&list),
            Reply::Alias(alias) => self.line(format_args!("{}  to: {}", alias.address, alias.targets.join(", "))),
            Reply::Group(group) => self.line(format_args!("{}  members: {}", group.name, group.members.join(", "))),
            Reply::Acl(AclLine { identifier, rights }) => self.line(format_args!("{identifier}  {rights}")),
            Reply::Finding(what) => self.line(format_args!("{what}")),
            Reply::Checked(facts) => self.checked(&facts),
            Reply::Storage(facts) => self.storage(&facts),
            // One account that was not made is the whole story.
            Reply::Done(line) if !line.is_empty() && self.complaints.is_empty() => self.line(format_args!("{line}")),
            Reply::Done(_)
            | Reply::Refused(_)
            | Reply::NotAdded { .. }
            | Reply::Checkpoint(_)
            | Reply::SpamLearned { .. }
            | Reply::SpamVerdict(_) => {}
        }
    }

    fn account(&mut self, account: &AccountFacts) {
        let AccountFacts { address, quota_bytes, forward, keeps, .. } = account;
        let quota = quota_bytes.map(|bytes| format!("  quota: {}", Size { bytes })).unwrap_or_default();
        let kind = if *keeps { "also to" } else { "sent on to" };
        let forward = if forward.is_empty() { String::new() } else { format!("  {kind}: {}", forward.join(", ")) };
        self.line(format_args!("{address}{quota}{forward}"));
    }

    fn quarantined(&mut self, message: &QuarantinedFacts) {
        let QuarantinedFacts { message, sender, size_bytes, received_unix_s, subject, reason, .. } = message;
        let when = date::date_time(*received_unix_s);
        self.line(format_args!("{message}  from: <{sender}>  {when}  {size_bytes} octets  {subject}"));
        self.line(format_args!("    {reason}"));
    }

    fn queued(&mut self, message: &QueuedFacts) {
        let QueuedFacts { message, sender, size_bytes, received_unix_s, subject, tasks, .. } = message;
        let when = date::date_time(*received_unix_s);
        self.line(format_args!("{message}  from: <{sender}>  {when}  {size_bytes} octets  {subject}"));
        for task in tasks {
            let due =
                if task.held { "on hold".to_owned() } else { format!("due: {}", date::date_time(task.due_unix_s)) };
            self.line(format_args!("    to {}  {due}  attempts: {}", task.next_hop, task.attempts));
            for recipient in &task.recipients {
                self.line(format_args!("        <{}>  {}  {}", recipient.address, recipient.state, recipient.reply));
            }
        }
    }

    fn list_facts(&mut self, list: &ListFacts) {
        let ListFacts { list, owner, posting, posters, count, members } = list;
        let also = if posters.is_empty() { String::new() } else { format!(", {}", posters.join(", ")) };
        self.line(format_args!("{list}  owner: {owner}  may post: {posting}{also}  {count} members"));
        for member in members {
            self.line(format_args!("    {member}"));
        }
    }

    fn traced(&mut self, traced: &TraceFacts) {
        self.line(format_args!("{}", if traced.id.is_empty() { "(no id)" } else { &traced.id }));
        for event in &traced.events {
            let when = date::date_time(i64::try_from(event.at_unix_ms / 1000).unwrap_or(0));
            let facts: Vec<String> = event.facts.iter().map(|(name, text)| format!("{name}={text}")).collect();
            self.line(format_args!("    {when}  {}  {}", event.what, facts.join(" ")));
        }
    }

    fn checked(&mut self, facts: &CheckFacts) {
        let CheckFacts { accounts, mailboxes, entries, messages, queued, quarantined, events, .. } = facts;
        let CheckFacts { parts, findings, repaired, .. } = facts;
        self.line(format_args!(
            "checked: {accounts} accounts, {mailboxes} mailboxes, {entries} entries, {messages} messages, {queued} in \
             the queue, {quarantined} in the quarantine, {events} events, {parts} parts"
        ));
        if *repaired > 0 {
            self.line(format_args!("{repaired} repaired"));
        }
        self.line(format_args!("{} problems", findings.saturating_sub(*repaired)));
    }

    fn storage(&mut self, facts: &StorageFacts) {
        let StorageFacts { of, name, messages, message_bytes, record_bytes, parts, part_bytes, .. } = facts;
        let (same, packed) = (facts.deduplication_saved_bytes, facts.packing_saved_bytes);
        let whose = if name.is_empty() { of } else { name };
        let stored = record_bytes.saturating_add(*part_bytes);
        self.line(format_args!(
            "{whose}: {messages} messages of {message_bytes} octets; {stored} stored: records {record_bytes}, {parts} \
             parts {part_bytes}; saved: {same} by deduplication, {packed} by decoding and compression"
        ));
        if let Some(waiting) = facts.waiting_bytes {
            self.line(format_args!("parts that no message refers to: {waiting} octets"));
        }
        if let Some(disk) = facts.disk_bytes {
            let (search, trace) = (facts.search_bytes.unwrap_or_default(), facts.trace_bytes.unwrap_or_default());
            self.line(format_args!(
                "on disk, without the log: {disk} octets, {search} of them to search and sort by, {trace} for the trace"
            ));
        }
    }

    fn status(&mut self, status: &Status) {
        let Status { version, uptime_s, backend, pid, connections, listeners, queue } = status;
        self.line(format_args!(
            "Rockdove {version}, process {pid}, up {uptime_s} s, {backend}, {connections} connections"
        ));
        for listener in listeners {
            self.line(format_args!("{:10}  {:8}  {}", listener.protocol, listener.tls, listener.address));
        }
        let QueueStatus { messages, recipients, due, held, oldest_s } = queue;
        self.line(format_args!(
            "queue: {messages} messages to {recipients} recipients, {due} due, {held} on hold, the oldest {oldest_s} s old"
        ));
    }

    fn value_of(&mut self, reply: Reply) {
        let value = match reply {
            Reply::Status(status) => json!(status),
            Reply::Domain(domain) => json!(domain),
            Reply::Account(account) => json!(account),
            Reply::Use(used) => json!(used),
            Reply::DeletedMailbox(mailbox) => json!(mailbox),
            Reply::DeletedMessage(message) => json!(message),
            Reply::Dkim(key) => json!(key),
            Reply::Spam(facts) => json!(facts),
            Reply::SpamVerdict(verdict) => json!(verdict),
            Reply::Quarantined(message) => json!(message),
            Reply::Queued(message) => json!(message),
            Reply::Traced(traced) => json!(traced),
            Reply::QueueHop(hop) => json!(hop),
            Reply::List(list) => json!(list),
            Reply::Alias(alias) => json!(alias),
            Reply::Group(group) => json!(group),
            Reply::Acl(line) => json!(line),
            Reply::Finding(what) => json!({ "finding": what }),
            Reply::Checked(facts) => json!(facts),
            Reply::Storage(facts) => json!(facts),
            Reply::SpamLearned { .. } => return,
            Reply::Metrics(_) | Reply::NotAdded { .. } | Reply::Done(_) | Reply::Refused(_) | Reply::Checkpoint(_) => {
                return;
            }
        };
        self.values.push(value);
    }
}
