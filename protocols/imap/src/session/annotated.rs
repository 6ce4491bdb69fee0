//! What NOTIFY tells of annotations (RFC 5465 sections 5.6 and 5.7): the names of those that have changed.
//!
//! The client's knowledge is kept as one number for each value, by what the mailbox is, not by its name: renaming changes
//! no annotation.

use std::collections::{BTreeMap, BTreeSet};

use rockdove_mail::{MailboxName, MetadataEntry};

use super::{
    ImapSession,
    notify::Notify,
    purpose::{After, Purpose},
};
use crate::{
    ask::{Ask, ObjectId},
    grammar::write,
    limits::NOTIFY_ANNOTATIONS_MAX,
};

/// A mailbox with its name, or (`None`) the server.
pub(super) type Place = Option<(ObjectId, MailboxName)>;

/// What stands for the values, by entry, of mailboxes and (`None`) of the server.
pub(super) type Marks = BTreeMap<Option<ObjectId>, BTreeMap<MetadataEntry, u64>>;

fn id(place: &Place) -> Option<ObjectId> {
    place.as_ref().map(|(id, _)| *id)
}

/// The answer of the host by place. `None`: it is too much to be kept.
fn by_place(places: &[Place], marks: Vec<Vec<(MetadataEntry, u64)>>) -> Option<Marks> {
    if marks.iter().map(Vec::len).sum::<usize>() > NOTIFY_ANNOTATIONS_MAX {
        return None;
    }
    Some(places.iter().zip(marks).map(|(place, marks)| (id(place), marks.into_iter().collect())).collect())
}

/// Entries whose values are other ones now, or gone.
fn news<'a>(
    before: &'a BTreeMap<MetadataEntry, u64>,
    now: &'a BTreeMap<MetadataEntry, u64>,
) -> BTreeSet<&'a MetadataEntry> {
    before.keys().chain(now.keys()).filter(|entry| before.get(*entry) != now.get(*entry)).collect()
}

impl ImapSession {
    /// Whose annotations are wanted.
    fn annotated_places(&self, notify: &Notify) -> Vec<Place> {
        let (mailboxes, others) = (notify.known(), self.first_of_others());
        let wanted = mailboxes
            .mailboxes
            .iter()
            .filter(|line| notify.events(mailboxes, others, &line.name).annotations)
            .map(|line| Some((line.mailbox_id, line.name.clone())));
        notify.watches_server().then_some(None).into_iter().chain(wanted).collect()
    }

    fn ask_marks(&mut self, places: Vec<Place>, purpose: impl FnOnce(Vec<Place>) -> Purpose) {
        let names = places.iter().map(|place| place.as_ref().map(|(_, name)| name.clone())).collect();
        self.ask(Ask::MetadataMarks { places: names }, purpose(places));
    }

    /// NOTIFY: which annotations does the client know from now on?
    pub(super) fn notify_annotations(&mut self, notify: Box<Notify>) {
        let places = self.annotated_places(&notify);
        if places.is_empty() {
            return self.notify_begins(notify);
        }
        self.ask_marks(places, |places| Purpose::NotifyMarks(notify, places));
    }

    pub(super) fn notify_marks(
        &mut self,
        mut notify: Box<Notify>,
        places: &[Place],
        marks: Vec<Vec<(MetadataEntry, u64)>>,
    ) {
        let Some(marks) = by_place(places, marks) else {
            return self.complete("NO [NOTIFICATIONOVERFLOW] these are too many annotations");
        };
        notify.marks = marks;
        self.notify_begins(notify);
    }

    /// Which annotations have changed?
    pub(super) fn look_at_annotations(&mut self, after: After) {
        let places = self.notify.as_ref().map(|notify| self.annotated_places(notify)).unwrap_or_default();
        if places.is_empty() {
            return self.look_at_selected(after);
        }
        self.ask_marks(places, |places| Purpose::LookMarks(places, after));
    }

    pub(super) fn looked_at_marks(&mut self, places: &[Place], marks: Vec<Vec<(MetadataEntry, u64)>>, after: After) {
        let Some(marks) = by_place(places, marks) else { return self.overflow(after) };
        let Some(mut notify) = self.notify.take() else { return self.go_on(after) };
        let none = BTreeMap::new();
        for place in places {
            let then = notify.marks.get(&id(place)).unwrap_or(&none);
            let now = marks.get(&id(place)).unwrap_or(&none);
            self.write_annotation_news(place.as_ref().map(|(_, name)| name), &news(then, now));
        }
        notify.marks = marks;
        self.notify = Some(notify);
        self.look_at_selected(after);
    }

    /// `entry-list = entry *(SP entry)`
    fn write_annotation_news(&mut self, mailbox: Option<&MailboxName>, entries: &BTreeSet<&MetadataEntry>) {
        if entries.is_empty() {
            return;
        }
        let names = self.names();
        self.out.text.extend_from_slice(b"* METADATA ");
        write::mailbox_name(&mut self.out.text, mailbox.map_or("", MailboxName::as_str), names);
        for entry in entries {
            self.out.text.push(b' ');
            write::astring(&mut self.out.text, entry.to_string().as_bytes());
        }
        self.out.end_line();
    }

    /// The session itself has set annotations: its client knows.
    pub(super) fn own_annotations(&mut self, mailbox: Option<&MailboxName>, set: Vec<(MetadataEntry, Option<u64>)>) {
        let Some(notify) = &mut self.notify else { return };
        let lines = &notify.known().mailboxes;
        let place = match mailbox.map(|name| lines.iter().find(|line| line.name == *name)) {
            None => None,
            Some(Some(line)) => Some(line.mailbox_id),
            Some(None) => return,
        };
        let Some(known) = notify.marks.get_mut(&place) else { return };
        for (entry, mark) in set {
            match mark {
                Some(mark) => known.insert(entry, mark),
                None => known.remove(&entry),
            };
        }
    }
}
