//! NOTIFY (RFC 5465).

use super::{
    fetch, find,
    words::{Words, Wrong},
};
use crate::{
    command::{Command, NotifyEvents, NotifySet, SearchSource},
    fetch::FetchItem,
    limits::{FETCH_ITEMS_MAX, NOTIFY_GROUPS_MAX},
};

/// Events in one list; there are eight to be had.
const EVENTS_MAX: usize = 16;

/// `notify = "NOTIFY" SP (notify-set / notify-none)`; `notify-set = "SET" [status-indicator] SP event-groups`;
/// `status-indicator = SP "STATUS"`; `event-groups = event-group *(SP event-group)`
pub(super) fn notify(words: &mut Words<'_>) -> Result<Command, Wrong> {
    match words.keyword().as_str() {
        "NONE" => return Ok(Command::Notify(None)),
        "SET" => {}
        _ => return Err("NOTIFY is SET or NONE"),
    }
    words.space()?;
    let mut set = NotifySet { status: words.peek() != Some(b'('), ..NotifySet::default() };
    if set.status {
        if words.keyword() != "STATUS" {
            return Err("a group of events is missing");
        }
        words.space()?;
    }
    for count in 0.. {
        if count >= NOTIFY_GROUPS_MAX {
            return Err("there are too many groups of events");
        }
        event_group(words, &mut set)?;
        if !words.spaces() || words.rest().is_empty() {
            break;
        }
    }
    Ok(Command::Notify(Some(set)))
}

/// `event-group = "(" filter-mailboxes SP events ")"`; `filter-mailboxes-selected = "selected" / "selected-delayed"`
fn event_group(words: &mut Words<'_>, set: &mut NotifySet) -> Result<(), Wrong> {
    words.expect(b'(', "a group of events is malformed")?;
    let mut ahead = *words;
    let delayed = ahead.keyword() == "SELECTED-DELAYED";
    let source = if delayed {
        *words = ahead;
        SearchSource::Selected
    } else {
        find::source(words)?
    };
    words.space()?;
    let events = events(words)?;
    words.expect(b')', "a group of events is malformed")?;
    //= rfc5465#section-5
    //# If the FlagChange and/or AnnotationChange events are specified,
    //# MessageNew and MessageExpunge MUST also be specified by the client.
    //# Otherwise, the server MUST respond with the tagged BAD response.
    if events.flags && !events.messages {
        return Err("FlagChange wants MessageNew and MessageExpunge beside it");
    }
    if source != SearchSource::Selected {
        if !events.items.is_empty() {
            return Err("what is told of new messages is only for the selected mailbox");
        }
        set.groups.push((source, events));
        return Ok(());
    }
    //= rfc5465#section-6.1
    //# It is an
    //# error to specify other types of events with either the SELECTED or
    //# the SELECTED-DELAYED selector.
    if events.names || events.subscriptions || events.annotations || events.server {
        return Err("only events of messages are for the selected mailbox");
    }
    //= rfc5465#section-6.1
    //# Only one of the mailbox specifiers affecting the currently selected
    //# mailbox can be specified in any NOTIFY command.
    if set.selected.replace((delayed, events)).is_some() {
        return Err("the selected mailbox is named twice");
    }
    Ok(())
}

/// `events = ( "(" event *(SP event) ")" ) / "NONE"`. The parentheses may be missing, as in the example of section 3.1.
fn events(words: &mut Words<'_>) -> Result<NotifyEvents, Wrong> {
    let (mut events, mut expunge) = (NotifyEvents::default(), false);
    let mut ahead = *words;
    if ahead.keyword() == "NONE" {
        *words = ahead;
        return Ok(events);
    }
    if words.peek() == Some(b'(') {
        if words.list(EVENTS_MAX, |words| event(words, &mut events, &mut expunge))?.is_empty() {
            return Err("an event is missing");
        }
    } else {
        event(words, &mut events, &mut expunge)?;
        while words.peek() != Some(b')') {
            words.space()?;
            event(words, &mut events, &mut expunge)?;
        }
    }
    //= rfc5465#section-5
    //# If one of MessageNew or MessageExpunge is specified, then both events
    //# MUST be specified.  Otherwise, the server MUST respond with the
    //# tagged BAD response.
    if events.messages == expunge { Ok(events) } else { Err("MessageNew and MessageExpunge come together") }
}

/// `message-event = ( "MessageNew" [SP "(" fetch-att *(SP fetch-att) ")" ] ) / "MessageExpunge" / "FlagChange" /
/// "AnnotationChange"`; `mailbox-event = "MailboxName" / "SubscriptionChange" / "MailboxMetadataChange"`; `user-event =
/// "ServerMetadataChange"`; `event-ext = atom`
fn event(words: &mut Words<'_>, events: &mut NotifyEvents, expunge: &mut bool) -> Result<(), Wrong> {
    match words.atom()?.to_ascii_uppercase().as_str() {
        "MESSAGENEW" => {
            events.messages = true;
            events.items.extend(items(words)?);
        }
        "MESSAGEEXPUNGE" => *expunge = true,
        "FLAGCHANGE" => events.flags = true,
        "MAILBOXNAME" => events.names = true,
        "SUBSCRIPTIONCHANGE" => events.subscriptions = true,
        "MAILBOXMETADATACHANGE" => events.annotations = true,
        "SERVERMETADATACHANGE" => events.server = true,
        _ => events.unknown = true,
    }
    Ok(())
}

fn items(words: &mut Words<'_>) -> Result<Vec<FetchItem>, Wrong> {
    let mut ahead = *words;
    if !ahead.spaces() || ahead.peek() != Some(b'(') {
        return Ok(Vec::new());
    }
    *words = ahead;
    let items = words.list(FETCH_ITEMS_MAX, fetch::item)?;
    if items.is_empty() { Err("an item is missing") } else { Ok(items) }
}
