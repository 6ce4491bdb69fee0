//! NOTIFY (RFC 5465): what happens is told while no command is in progress, and in IDLE.
//!
//! What the client knows of the other mailboxes is kept (names, subscriptions, counters) and compared with what is there
//! whenever the host says that something has changed: so a thousand changes while a line is slow are one piece of news.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rockdove_mail::{HIERARCHY_DELIMITER, MailboxName, ModSeq, Rights, Uid, UidSet, UidValidity};

use super::{
    Doing, ImapSession,
    annotated::Marks,
    multisearch::is_below,
    purpose::{After, Purpose},
    tree,
};
use crate::{
    ask::{Answer, Ask, MailboxLine, Mailboxes, ObjectId, Refusal, Status},
    command::{ListRequest, NotifyEvents, NotifySet, SearchSource, StatusItem},
    fetch::{FetchItem, FetchRequest},
    grammar::{Frame, write},
    limits::NOTIFY_MAILBOXES_MAX,
};

/// What the client wants to be told, and what it knows.
#[derive(Default)]
pub(super) struct Notify {
    set: NotifySet,
    known: Arc<Mailboxes>,
    counters: BTreeMap<MailboxName, Counters>,
    /// Annotations that the client knows of.
    pub(super) marks: Marks,
    /// Something may have changed since the last look.
    pending: bool,
}

/// Counters that the client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    uid_validity: UidValidity,
    uid_next: Uid,
    messages: u32,
    unseen: u32,
    highest_modseq: ModSeq,
}

impl Counters {
    fn of(status: &Status) -> Self {
        Self {
            uid_validity: status.uid_validity,
            uid_next: status.uid_next,
            messages: status.messages,
            unseen: status.unseen,
            highest_modseq: status.highest_modseq,
        }
    }
}

/// Names that something has happened to, and what a renamed one was called before.
type NameNews = BTreeMap<MailboxName, Option<MailboxName>>;

impl Notify {
    /// The events wanted of a mailbox that is not selected: those of all groups that it is in.
    pub(super) fn events(&self, mailboxes: &Mailboxes, first_of_others: [&str; 2], name: &MailboxName) -> NotifyEvents {
        let mut all = NotifyEvents::default();
        for (source, events) in &self.set.groups {
            if is_in(source, mailboxes, first_of_others, name) {
                all.messages |= events.messages;
                all.flags |= events.flags;
                all.names |= events.names;
                all.subscriptions |= events.subscriptions;
                all.annotations |= events.annotations;
            }
        }
        all
    }

    /// Whether the annotations of the server are wanted.
    pub(super) fn watches_server(&self) -> bool {
        self.set.groups.iter().any(|(_, events)| events.server)
    }

    /// The mailboxes that the client knows.
    pub(super) fn known(&self) -> &Arc<Mailboxes> {
        &self.known
    }

    pub(super) fn watches_others(&self) -> bool {
        self.set.groups.iter().any(|(_, events)| *events != NotifyEvents::default())
    }
}

/// Whether a mailbox of this name, be there one or not, is among those of a specifier.
fn is_in(source: &SearchSource, mailboxes: &Mailboxes, first_of_others: [&str; 2], name: &MailboxName) -> bool {
    let named = |tops: &[Result<MailboxName, _>], levels| {
        let tops: BTreeSet<&MailboxName> = tops.iter().filter_map(|top| top.as_ref().ok()).collect();
        is_below(&tops, levels, name)
    };
    match source {
        SearchSource::Selected => false,
        SearchSource::Inboxes | SearchSource::Personal => {
            let first = name.as_str().split(HIERARCHY_DELIMITER).next().unwrap_or_default();
            !first_of_others.contains(&first)
        }
        SearchSource::Subscribed => mailboxes.subscriptions.binary_search(name).is_ok(),
        SearchSource::Subtree(tops) => named(tops, usize::MAX),
        SearchSource::SubtreeOne(tops) => named(tops, 1),
        SearchSource::Mailboxes(names) => named(names, 0),
    }
}

/// Which mailboxes have come, gone, or got another name.
fn name_news(before: &Mailboxes, now: &Mailboxes) -> NameNews {
    let names = |mailboxes: &'_ Mailboxes| -> BTreeMap<MailboxName, ObjectId> {
        mailboxes.mailboxes.iter().map(|line| (line.name.clone(), line.mailbox_id)).collect()
    };
    let (old, new) = (names(before), names(now));
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    let mut gone: BTreeMap<ObjectId, MailboxName> = gone.map(|(name, id)| (*id, name.clone())).collect();
    let mut news = NameNews::new();
    for (name, id) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        news.insert(name.clone(), gone.remove(id));
    }
    //= rfc5465#section-5.4
    //# When a mailbox is
    //# renamed, its children are renamed too.  No additional MailboxName
    //# events are sent for children in this case.
    let renamed: Vec<(MailboxName, MailboxName)> =
        news.iter().filter_map(|(name, old)| Some((old.clone()?, name.clone()))).collect();
    news.retain(|name, old| {
        let Some(old) = old else { return true };
        !renamed.iter().any(|(from, to)| {
            let tail = old.as_str().strip_prefix(from.as_str()).filter(|_| old.is_below(from));
            tail.is_some() && tail == name.as_str().strip_prefix(to.as_str()).filter(|_| name.is_below(to))
        })
    });
    //= rfc5465#section-5.4
    //# If a mailbox is created
    //# or deleted, the mailbox itself and its direct parent (whether it is
    //# an existing mailbox or not) are considered to be affected.
    news.extend(gone.into_values().map(|name| (name, None)));
    let affected = news.iter().filter(|(_, old)| old.is_none());
    let parents: Vec<MailboxName> = affected.filter_map(|(name, _)| parent(name)).collect();
    for parent in parents {
        news.entry(parent).or_default();
    }
    news
}

fn parent(name: &MailboxName) -> Option<MailboxName> {
    MailboxName::new(name.as_str().rsplit_once(HIERARCHY_DELIMITER)?.0).ok()
}

/// Names that are subscribed now and were not, or the other way round.
fn subscription_news<'a>(before: &'a Mailboxes, now: &'a Mailboxes) -> impl Iterator<Item = &'a MailboxName> {
    let only = |one: &'a Mailboxes, other: &'a Mailboxes| {
        one.subscriptions.iter().filter(|name| other.subscriptions.binary_search(name).is_err())
    };
    only(before, now).chain(only(now, before))
}

impl ImapSession {
    /// The namespaces that are not one's own.
    pub(super) fn first_of_others(&self) -> [&'static str; 2] {
        [self.config.other_users, self.config.public]
    }

    pub(super) fn notify(&mut self, set: Option<NotifySet>) {
        let set = set.unwrap_or_default();
        let mut all = set.selected.iter().map(|(_, events)| events).chain(set.groups.iter().map(|(_, events)| events));
        //= rfc5465#section-3.1
        //# If the client requests information for events of an unsupported type,
        //# the server MUST refuse the command with a tagged NO response (not a
        //# BAD).  This response SHOULD contain the BADEVENT response code, which
        //# MUST list names of all events supported by the server.
        if all.any(|events| events.unknown) {
            return self.complete(
                "NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange \
                 MailboxMetadataChange ServerMetadataChange)] there is no such event here",
            );
        }
        let notify = Box::new(Notify { set, ..Notify::default() });
        if notify.watches_others() {
            return self.ask(Ask::Mailboxes, Purpose::NotifyMailboxes(notify));
        }
        self.notify_begins(notify);
    }

    /// Mailboxes whose messages the client wants to hear of, with those whose messages or annotations it may not see.
    fn notified<'a>(
        &self,
        notify: &Notify,
        mailboxes: &'a Mailboxes,
    ) -> (Vec<(MailboxName, NotifyEvents)>, Vec<&'a MailboxLine>) {
        let others = self.first_of_others();
        let (mut wanted, mut closed) = (Vec::new(), Vec::new());
        for line in &mailboxes.mailboxes {
            let events = notify.events(mailboxes, others, &line.name);
            let reads = line.rights.contains(Rights::READ);
            if (events.messages && !reads) || (events.annotations && !line.rights.intersects(Rights::ANNOTATIONS)) {
                closed.push(line);
            }
            if events.messages && reads {
                wanted.push((line.name.clone(), events));
            }
        }
        (wanted, closed)
    }

    pub(super) fn notify_mailboxes(&mut self, mut notify: Box<Notify>, mailboxes: Arc<Mailboxes>) {
        let (wanted, closed) = self.notified(&notify, &mailboxes);
        if wanted.len() > NOTIFY_MAILBOXES_MAX {
            return self.complete("NO [NOTIFICATIONOVERFLOW] these are too many mailboxes");
        }
        //= rfc5465#section-3.1
        //# If the name refers to a mailbox that the client can LIST (e.g., it
        //# has the 'l' right from [RFC4314]), but the client doesn't have
        //# another right required for processing of the specified event(s),
        //# then the server MUST respond with an untagged extended LIST
        //# response containing the \NoAccess name attribute.
        let closed: Vec<MailboxName> = closed.iter().map(|line| line.name.clone()).collect();
        for name in closed {
            self.write_name_news(&["\\NoAccess"], &name, None);
        }
        notify.known = mailboxes;
        let names = wanted.iter().map(|(name, _)| name.clone()).collect();
        self.ask(Ask::Statuses { mailboxes: names }, Purpose::NotifyStatuses(notify, wanted));
    }

    pub(super) fn notify_statuses(
        &mut self,
        mut notify: Box<Notify>,
        wanted: &[(MailboxName, NotifyEvents)],
        statuses: &[Option<Status>],
    ) {
        let selected = self.open().map(|open| open.name.clone());
        for ((name, events), status) in wanted.iter().zip(statuses) {
            let Some(status) = status else { continue };
            notify.counters.insert(name.clone(), Counters::of(status));
            if notify.set.status && Some(name) != selected.as_ref() {
                let mut items = vec![StatusItem::UidValidity, StatusItem::UidNext, StatusItem::Messages];
                //= rfc5465#section-3.1
                //# If either AnnotationChange or FlagChange are
                //# included and the server also supports the CONDSTORE [RFC4551] and/or
                //# QRESYNC [RFC5162] extensions, the STATUS response MUST contain
                //# UIDVALIDITY and HIGHESTMODSEQ.
                if events.flags {
                    items.push(StatusItem::HighestModSeq);
                }
                self.write_status(name, &items, status);
            }
        }
        self.notify_annotations(notify);
    }

    //= rfc5465#section-3.1
    //# A successful NOTIFY SET command MUST cause the server to immediately
    //# return any accumulated changes to the currently selected mailbox (if
    //# any), such as flag changes and new or expunged messages.
    pub(super) fn notify_begins(&mut self, notify: Box<Notify>) {
        self.notify = None;
        self.sync(After::Notify(notify));
    }

    pub(super) fn notify_begun(&mut self, notify: Box<Notify>) {
        self.notify = Some(notify);
        self.tagged_after_news("OK done");
    }

    /// Whether the client does not want to hear of the selected mailbox.
    pub(super) fn is_quiet(&self) -> bool {
        self.notify
            .as_ref()
            .is_some_and(|notify| notify.set.selected.as_ref().is_none_or(|(_, events)| !events.messages))
    }

    /// Whether flags of the selected mailbox that others change are told.
    pub(super) fn tells_flags(&self) -> bool {
        self.notify.as_ref().is_none_or(|notify| notify.set.selected.as_ref().is_some_and(|(_, events)| events.flags))
    }

    /// What is told of new messages, where NOTIFY asks for it.
    pub(super) fn news_request(&self) -> Option<FetchRequest> {
        let (_, events) = self.notify.as_ref()?.set.selected.as_ref()?;
        let mut items = events.items.clone();
        if items.is_empty() {
            return None;
        }
        if self.condstore && items.contains(&FetchItem::Flags) && !items.contains(&FetchItem::ModSeq) {
            items.push(FetchItem::ModSeq);
        }
        Some(FetchRequest { items, news: None })
    }

    /// These messages of the selected mailbox are the session's own.
    //= rfc5465#section-5.2
    //# A FETCH response SHOULD NOT be generated
    //# for a new message created by the client on this particular
    //# connection,
    pub(super) fn note_own(&mut self, uid_validity: UidValidity, uids: &UidSet) {
        if self.notify.is_some()
            && let Some(open) = self.open_mut()
            && open.uid_validity == uid_validity
        {
            open.own_arrived = open.own_arrived.union(uids);
        }
    }

    /// What is to be waited for, between commands and in IDLE; `None`: nothing.
    pub(super) fn watch_ask(&self, idling: bool) -> Option<Ask> {
        let since = self.open().map(|open| Ask::Watch { since: open.known_modseq });
        match &self.notify {
            None => since.filter(|_| idling),
            Some(notify) if notify.watches_others() => Some(Ask::WatchAll),
            Some(_) => since.filter(|_| !self.is_quiet()),
        }
    }

    /// Waits for news while the client says nothing.
    pub(super) fn listen(&mut self) -> bool {
        if self.appends_wait() {
            return false;
        }
        let Some(notify) = &mut self.notify else { return false };
        let pending = std::mem::take(&mut notify.pending);
        let Some(ask) = self.watch_ask(false) else { return false };
        self.listening = true;
        if pending {
            self.look(After::Listen);
        } else {
            self.doing = Doing::Listening(self.ask_only(ask));
        }
        true
    }

    pub(super) fn listen_on(&mut self, watch: rockdove_mail::AskId) -> bool {
        if self.is_over(false) {
            return true;
        }
        match self.next_frame() {
            Some(frame) => self.ask(Ask::EndWatch, Purpose::EndListening(Box::new(frame))),
            None if self.is_over(true) => {}
            None => {
                self.doing = Doing::Listening(watch);
                return false;
            }
        }
        true
    }

    pub(super) fn listening_ends(&mut self, frame: Frame) {
        self.listening = false;
        self.take(frame);
    }

    pub(super) fn listening_answered(&mut self, answer: &Answer) {
        match answer {
            Answer::Changed => self.look(After::Listen),
            Answer::Refused(Refusal::MailboxGone) if self.open().is_some() => self.mailbox_gone(Purpose::EndWatch),
            _ => self.overflow(After::Listen),
        }
    }

    /// A watch has ended with news that nobody waited for.
    pub(super) fn note_changed(&mut self, answer: &Answer) {
        if let (Some(notify), Answer::Changed) = (&mut self.notify, answer) {
            notify.pending |= notify.watches_others();
        }
    }

    //= rfc5465#section-5.8
    //# It MUST notify these clients by sending an untagged "OK
    //# [NOTIFICATIONOVERFLOW]" response and behave as if a NOTIFY NONE
    //# command had just been received.
    pub(super) fn overflow(&mut self, after: After) {
        self.notify = Some(Box::default());
        self.untagged("OK [NOTIFICATIONOVERFLOW] what happens cannot be told at the moment");
        self.go_on(after);
    }

    /// Something has changed: what?
    pub(super) fn look(&mut self, after: After) {
        if self.notify.as_ref().is_some_and(|notify| notify.watches_others()) {
            return self.ask(Ask::Mailboxes, Purpose::LookMailboxes(after));
        }
        self.look_at_selected(after);
    }

    pub(super) fn look_at_selected(&mut self, after: After) {
        if self.open().is_none() || self.is_quiet() {
            return self.go_on(after);
        }
        let selected = self.notify.as_ref().and_then(|notify| notify.set.selected.as_ref());
        let delayed = selected.is_some_and(|(delayed, _)| *delayed);
        if !self.idling {
            self.uid_command = false;
            self.numbers_stay = delayed;
        }
        self.sync(after);
    }

    pub(super) fn looked_at_mailboxes(&mut self, mailboxes: Arc<Mailboxes>, after: After) {
        let Some(mut notify) = self.notify.take() else { return self.go_on(after) };
        self.tell_names(&notify, &mailboxes);
        notify.known = mailboxes;
        let known = Arc::clone(&notify.known);
        let (wanted, _) = self.notified(&notify, &known);
        let names: Vec<MailboxName> = wanted.iter().map(|(name, _)| name.clone()).collect();
        notify.counters.retain(|name, _| names.binary_search(name).is_ok());
        self.notify = Some(notify);
        if names.len() > NOTIFY_MAILBOXES_MAX {
            return self.overflow(after);
        }
        if names.is_empty() {
            return self.look_at_annotations(after);
        }
        self.ask(Ask::Statuses { mailboxes: names }, Purpose::LookStatuses(wanted, after));
    }

    /// Tells which mailboxes have come, gone, or got another name, and which subscriptions.
    fn tell_names(&mut self, notify: &Notify, now: &Mailboxes) {
        let (before, others) = (&notify.known, self.first_of_others());
        let wanted = |name: &MailboxName| {
            let (then, now) = (notify.events(before, others, name), notify.events(now, others, name));
            (then.names || now.names, then.subscriptions || now.subscriptions)
        };
        let mut news = name_news(before, now);
        news.retain(|name, old| wanted(name).0 || old.as_ref().is_some_and(|old| wanted(old).0));
        for name in subscription_news(before, now) {
            if wanted(name).1 {
                news.entry(name.clone()).or_default();
            }
        }
        //= rfc5465#section-5.9
        //# The server SHOULD return the LIST response with the \NoAccess name
        //# attribute if and when the mailbox loses the 'l' right.
        let readable = |mailboxes: &Mailboxes| -> BTreeSet<MailboxName> {
            let lines = mailboxes.mailboxes.iter().filter(|line| line.rights.contains(Rights::READ));
            lines.map(|line| line.name.clone()).collect()
        };
        let (could, can) = (readable(before), readable(now));
        let there = |name: &MailboxName| now.mailboxes.iter().any(|line| line.name == *name);
        for name in could.symmetric_difference(&can) {
            if there(name) && before.mailboxes.iter().any(|line| line.name == *name) && wanted(name).0 {
                news.entry(name.clone()).or_default();
            }
        }
        if news.is_empty() {
            return;
        }
        let request = ListRequest { extended: true, return_subscribed: true, ..ListRequest::default() };
        // No name has a wildcard in it.
        let patterns: Vec<String> = news.keys().map(|name| name.as_str().to_owned()).collect();
        let lines = tree::list(now, &request, &patterns);
        for (name, old) in &news {
            let line = lines.iter().find(|line| line.name == name.as_str());
            let mut attributes = line.map_or_else(|| vec!["\\NonExistent"], |line| line.attributes.clone());
            if line.is_none() && now.subscriptions.binary_search(name).is_ok() {
                attributes.push("\\Subscribed");
            }
            if line.is_some_and(|line| line.rights.is_some_and(|rights| !rights.contains(Rights::READ))) {
                attributes.push("\\NoAccess");
            }
            self.write_name_news(&attributes, name, old.as_ref());
        }
    }

    /// `oldname-extended-item = "OLDNAME" SP "(" mailbox ")"`
    fn write_name_news(&mut self, attributes: &[&str], name: &MailboxName, old: Option<&MailboxName>) {
        let names = self.names();
        let text = format!("* LIST ({}) \"{HIERARCHY_DELIMITER}\" ", attributes.join(" "));
        self.out.text.extend_from_slice(text.as_bytes());
        write::mailbox_name(&mut self.out.text, name.as_str(), names);
        if let Some(old) = old {
            self.out.text.extend_from_slice(b" (\"OLDNAME\" (");
            write::mailbox_name(&mut self.out.text, old.as_str(), names);
            self.out.text.extend_from_slice(b"))");
        }
        self.out.end_line();
    }

    pub(super) fn looked_at_statuses(
        &mut self,
        wanted: Vec<(MailboxName, NotifyEvents)>,
        statuses: &[Option<Status>],
        after: After,
    ) {
        let selected = self.open().map(|open| open.name.clone());
        let Some(mut notify) = self.notify.take() else { return self.go_on(after) };
        for ((name, events), status) in wanted.into_iter().zip(statuses) {
            let Some(status) = status else { continue };
            let now = Counters::of(status);
            let is_selected = Some(&name) == selected.as_ref();
            let then = notify.counters.insert(name.clone(), now);
            let items = self.status_news(then, now, events.flags);
            if !is_selected && !items.is_empty() {
                self.write_status(&name, &items, status);
            }
        }
        self.notify = Some(notify);
        self.look_at_annotations(after);
    }

    /// What is told of a mailbox that is not selected.
    fn status_news(&self, then: Option<Counters>, now: Counters, flags: bool) -> Vec<StatusItem> {
        let Some(then) = then else {
            // A new mailbox: its first message is news.
            return if now.messages > 0 { self.message_news() } else { Vec::new() };
        };
        let place = |counters: Counters| (counters.uid_validity, counters.uid_next, counters.messages);
        if place(then) != place(now) {
            return self.message_news();
        }
        //= rfc5465#section-5.1
        //# If CONDSTORE [RFC4551] and/or QRESYNC
        //# [RFC5162] are enabled by the client, then the server sends a STATUS
        //# response that includes at least HIGHESTMODSEQ and UIDVALIDITY status
        //# data items.
        match (flags && then.highest_modseq != now.highest_modseq, self.condstore) {
            (true, true) => vec![StatusItem::UidValidity, StatusItem::Unseen, StatusItem::HighestModSeq],
            (true, false) if then.unseen != now.unseen => vec![StatusItem::UidValidity, StatusItem::Unseen],
            _ => Vec::new(),
        }
    }

    fn message_news(&self) -> Vec<StatusItem> {
        let mut items = vec![StatusItem::UidValidity, StatusItem::UidNext, StatusItem::Messages];
        if self.condstore {
            items.push(StatusItem::HighestModSeq);
        }
        items
    }

    /// The session itself has changed the list of mailboxes or the subscriptions: its client knows.
    //= rfc5465#section-5
    //# The server SHOULD omit notifying the client if the event is caused by
    //# this client.
    pub(super) fn own_change(&mut self, change: &OwnChange<'_>) {
        let Some(notify) = self.notify.as_mut().filter(|notify| notify.watches_others()) else { return };
        let known = Arc::make_mut(&mut notify.known);
        match *change {
            OwnChange::Created(name, mailbox_id) => {
                let rights = Rights::ALL;
                known.mailboxes.push(MailboxLine { name: name.clone(), mailbox_id, special_use: None, rights });
            }
            OwnChange::Deleted(name) => known.mailboxes.retain(|line| line.name != *name),
            OwnChange::Renamed(from, to) => {
                for line in known.mailboxes.iter_mut().filter(|line| line.name == *from || line.name.is_below(from)) {
                    let tail = line.name.as_str().strip_prefix(from.as_str()).unwrap_or_default();
                    if let Ok(name) = MailboxName::new(&format!("{to}{tail}")) {
                        line.name = name;
                    }
                }
            }
            OwnChange::Subscribed(name, subscribed) => {
                known.subscriptions.retain(|known| known != name);
                if subscribed {
                    known.subscriptions.push(name.clone());
                    known.subscriptions.sort();
                }
            }
        }
    }
}

/// A change of the session's own.
pub(super) enum OwnChange<'a> {
    Created(&'a MailboxName, ObjectId),
    Deleted(&'a MailboxName),
    Renamed(&'a MailboxName, &'a MailboxName),
    Subscribed(&'a MailboxName, bool),
}
