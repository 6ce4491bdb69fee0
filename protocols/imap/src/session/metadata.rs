//! GETMETADATA and SETMETADATA (RFC 5464), and what LIST returns of annotations (RFC 9590).

use std::collections::BTreeMap;

use bytes::Bytes;
use rockdove_mail::{METADATA_VALUE_OCTETS_MAX, MailboxName, MetadataEntry, metadata_mark};

use super::{ImapSession, filters::has_wrong_filter, purpose::Purpose};
use crate::{
    ask::Ask,
    command::{MailboxArg, MetadataCommand, MetadataDepth, MetadataRequest},
    grammar::write,
};

impl ImapSession {
    pub(super) fn metadata(&mut self, command: MetadataCommand) {
        match command {
            MetadataCommand::Get { mailbox, request } => {
                let Some(mailbox) = self.mailbox_or_server(mailbox) else { return };
                let ask = Ask::Metadata { mailbox: mailbox.clone() };
                self.ask(ask, Purpose::Metadata(mailbox, Box::new(request)));
            }
            MetadataCommand::Set { mailbox, entries } => {
                let Some(mailbox) = self.mailbox_or_server(mailbox) else { return };
                //= rfc5464#section-4.3
                //# If the server is unable to set an annotation because the size of its
                //# value is too large, the server MUST return a tagged NO response with
                //# a "[METADATA MAXSIZE NNN]" response code
                let too_large = |value: &Bytes| value.len() > METADATA_VALUE_OCTETS_MAX;
                if entries.iter().any(|(_, value)| value.as_ref().is_some_and(too_large)) {
                    let most = METADATA_VALUE_OCTETS_MAX;
                    return self.complete(format!("NO [METADATA MAXSIZE {most}] a value is too large"));
                }
                if has_wrong_filter(mailbox.as_ref(), &entries) {
                    return self.complete("NO [CANNOT] a filter is not a search");
                }
                let marks = entries.iter().map(|(entry, value)| (entry.clone(), value.as_deref().map(metadata_mark)));
                let purpose = Purpose::SetMetadata(mailbox.clone(), marks.collect());
                self.ask(Ask::SetMetadata { mailbox, entries }, purpose);
            }
        }
    }

    /// The mailbox, if there is one and its name is one; otherwise the client is told.
    #[expect(clippy::option_option, reason = "no mailbox is the server, and no answer is that there is nothing to do")]
    fn mailbox_or_server(&mut self, mailbox: Option<MailboxArg>) -> Option<Option<MailboxName>> {
        match mailbox {
            None => Some(None),
            Some(mailbox) => self.mailbox(mailbox).map(Some),
        }
    }

    pub(super) fn metadata_answer(
        &mut self,
        mailbox: Option<&MailboxName>,
        request: &MetadataRequest,
        annotations: &[(MetadataEntry, Bytes)],
    ) {
        let longest = self.write_metadata(mailbox, request, annotations);
        //= rfc5464#section-4.2.1
        //# The METADATA LONGENTRIES response code returns
        //# the size of the biggest entry value requested by the client that
        //# exceeded the MAXSIZE limit.
        self.complete(match longest {
            Some(octets) => format!("OK [METADATA LONGENTRIES {octets}] done"),
            None => "OK done".to_owned(),
        });
    }

    /// Writes what was asked for, if anything. The size of the largest value that is left out.
    pub(super) fn write_metadata(
        &mut self,
        mailbox: Option<&MailboxName>,
        request: &MetadataRequest,
        annotations: &[(MetadataEntry, Bytes)],
    ) -> Option<usize> {
        let mut wanted = wanted(request, annotations);
        let most = request.octets_max.and_then(|octets| usize::try_from(octets).ok()).unwrap_or(usize::MAX);
        let longest = wanted.values().flatten().map(Bytes::len).filter(|octets| *octets > most).max();
        wanted.retain(|_, value| value.as_ref().is_none_or(|value| value.len() <= most));
        if wanted.is_empty() {
            return longest;
        }
        self.out.text.extend_from_slice(b"* METADATA ");
        let names = self.names();
        let name = mailbox.map_or("", MailboxName::as_str);
        write::mailbox_name(&mut self.out.text, name, names);
        let mut before: &[u8] = b" (";
        for (entry, value) in &wanted {
            self.out.text.extend_from_slice(before);
            before = b" ";
            write::astring(&mut self.out.text, entry.to_string().as_bytes());
            self.out.text.push(b' ');
            write::value(&mut self.out.text, value.as_deref());
        }
        self.out.line(")");
        longest
    }
}

//= rfc5464#section-4.2.2
//# For each
//# entry name specified in the GETMETADATA command, the server returns
//# the value of the specified entry name (if it exists), plus all
//# entries below the entry name up to the specified DEPTH.
/// The entries asked for. One that is asked for by itself and has no value is NIL.
fn wanted(request: &MetadataRequest, annotations: &[(MetadataEntry, Bytes)]) -> BTreeMap<MetadataEntry, Option<Bytes>> {
    let deep = match request.depth {
        MetadataDepth::Zero => 0,
        MetadataDepth::One => 1,
        MetadataDepth::Infinity => usize::MAX,
    };
    let mut wanted = BTreeMap::new();
    for asked in &request.entries {
        if deep == 0 {
            wanted.insert(asked.clone(), None);
        }
        let below = |entry: &MetadataEntry| entry.levels_below(asked).is_some_and(|levels| levels <= deep);
        let found = annotations.iter().filter(|(entry, _)| below(entry));
        wanted.extend(found.map(|(entry, value)| (entry.clone(), Some(value.clone()))));
    }
    wanted
}
