//! Why the host was asked, and where its answers go.

use std::sync::Arc;

use rockdove_mail::{MailboxName, MetadataEntry, Uid, UidSet};

use super::{
    ImapSession,
    annotated::Place,
    append::{Append, GivenUp},
    fetch::Fetching,
    find::{Found, Wanted},
    list::ListDetails,
    multisearch::{Searching, Seen},
    notify::{Notify, OwnChange},
    resync::Vanishing,
    sasl_turn::SaslTurn,
    store::StoreCommand,
};
use crate::{
    ask::{Answer, LoginAnswer, Refusal},
    command::{Command, ListRequest, MetadataRequest, NotifyEvents, Resync, StatusItem},
    grammar::Frame,
};

/// Why the host was asked.
pub(super) enum Purpose {
    /// To have a login counted, and to know whether it is good.
    Login,
    /// For a SASL exchange that wants keys.
    ScramKeys(Box<SaslTurn>),
    /// COMPRESS.
    Compress,
    /// UNAUTHENTICATE.
    Unauthenticate,
    /// LIST.
    List(ListRequest),
    /// LSUB: reference and pattern.
    Lsub(String, String),
    /// The counters and annotations that LIST returns, one mailbox after another.
    ListDetails(ListDetails),
    /// STATUS.
    Status(MailboxName, Vec<StatusItem>),
    /// CREATE.
    Create(MailboxName),
    /// GETACL.
    Acl(MailboxName),
    /// LISTRIGHTS: mailbox and identifier.
    ListRights(MailboxName, String),
    /// MYRIGHTS.
    MyRights(MailboxName),
    /// GETQUOTA, the end of SETQUOTA, and GETQUOTAROOT with its mailbox.
    Quota(Option<MailboxName>),
    /// GETMETADATA.
    Metadata(Option<MailboxName>, Box<MetadataRequest>),
    /// The filters that a search names.
    Filters(Box<Command>),
    /// SETMETADATA: where, and what stands for the new values (`None`: removed).
    SetMetadata(Option<MailboxName>, Vec<(MetadataEntry, Option<u64>)>),
    /// SETQUOTA.
    SetQuota(String),
    /// SUBSCRIBE (`true`) and UNSUBSCRIBE.
    Subscribe(MailboxName, bool),
    /// SETACL, DELETEACL: what to say.
    Change(&'static str),
    /// DELETE.
    Delete(MailboxName),
    /// RENAME.
    Rename(MailboxName, MailboxName),
    /// SELECT and EXAMINE (`true`).
    Select(MailboxName, bool, Option<Box<Resync>>),
    /// The LIST response of SELECT in `IMAP4rev2`; what to say then, and what the client knows that was here before, with
    /// UIDNEXT.
    SelectedLine(&'static str, Option<Box<Resync>>, Uid),
    /// The mailbox is let go; what to say then.
    Unselect(String),
    /// CLOSE has expunged.
    Close,
    /// The client is to be told what has changed, and then this happens.
    Sync(After),
    /// Who has gone, before a FETCH.
    Vanished(Box<Vanishing>),
    /// A page of FETCH responses.
    Page(Box<Fetching>),
    /// Which messages a FETCH with CHANGEDSINCE is about, before it marks them as seen.
    FetchChanged(Box<Fetching>),
    /// FETCH marks messages as seen.
    FetchSeen(Box<Fetching>),
    /// STORE.
    Store(Box<StoreCommand>),
    /// SEARCH; whether MODSEQ was among its keys.
    Search(bool),
    /// SEARCH RETURN and SORT.
    Find(Wanted),
    /// The mod-sequence of the ends of what SEARCH RETURN has found.
    FindEnds(Wanted, Vec<Uid>),
    /// How relevant is what was found.
    Relevancy(Box<Found>),
    /// ESEARCH: which mailboxes there are.
    Sources(Box<Searching>),
    /// ESEARCH in the selected mailbox.
    SearchSelected(Box<Searching>),
    /// The mod-sequence of the ends of what ESEARCH has found there.
    SelectedEnds(Box<Searching>, Vec<Uid>),
    /// Which messages a mailbox has, before ESEARCH searches it.
    SearchLook(Box<Searching>),
    /// ESEARCH in another mailbox, after a look or without.
    SearchNamed(Box<Searching>, Option<Seen>),
    /// The mod-sequence of the ends of what it has found there.
    NamedEnds(Box<Searching>, Seen, Vec<Uid>),
    /// THREAD.
    Thread,
    /// COPY and MOVE (`true`).
    Copy(bool),
    /// EXPUNGE.
    Expunge,
    /// IDLE is over.
    EndWatch,
    /// The client has said something while news were waited for.
    EndListening(Box<Frame>),
    /// NOTIFY: which mailboxes there are.
    NotifyMailboxes(Box<Notify>),
    /// NOTIFY: the counters that the client knows from now on.
    NotifyStatuses(Box<Notify>, Vec<(MailboxName, NotifyEvents)>),
    /// NOTIFY: the annotations that the client knows from now on.
    NotifyMarks(Box<Notify>, Vec<Place>),
    /// The annotations now.
    LookMarks(Vec<Place>, After),
    /// Which mailboxes there are now.
    LookMailboxes(After),
    /// Their counters now.
    LookStatuses(Vec<(MailboxName, NotifyEvents)>, After),
    /// May the message come?
    AppendBegin(Box<Append>, Synchronising),
    /// May the next message come?
    AppendNext(Box<Append>, Synchronising),
    /// Octets of a message.
    AppendOctets(Box<Append>),
    /// The whole message, for which another goes.
    Replace,
    /// The message is given up.
    AppendAbort(GivenUp),
}

/// Whether the client waits for a continuation request.
pub(super) type Synchronising = bool;

/// What comes after something else.
pub(super) enum After {
    /// The end of a command: changes are told, then this.
    Complete(String),
    /// The end of a command: this.
    Tagged(String),
    /// The end of a command that has removed messages.
    Removed,
    /// The end of a SELECT that tells what has changed since the client was here.
    Selected(&'static str),
    /// The end of FETCH.
    Fetched,
    /// The end of a FETCH that could not decode everything.
    UnknownCte,
    /// The end of a FETCH that could not show all of these messages.
    Missing(Arc<UidSet>),
    /// IDLE goes on.
    Idle,
    /// More news are waited for, or a command.
    Listen,
    /// The end of NOTIFY, from which on this is told.
    Notify(Box<Notify>),
    /// These messages have other flags, and then that.
    Flags(UidSet, Box<After>),
    /// STORE is carried out.
    Store(Box<StoreCommand>),
}

impl ImapSession {
    /// Ends the command in progress: in the selected state its client hears first what has changed.
    pub(super) fn complete(&mut self, text: impl Into<String>) {
        if self.is_quiet() {
            if let Some(open) = self.open_mut() {
                open.forget_old_own();
            }
            return self.tagged_after_news(&text.into());
        }
        self.sync(After::Tagged(text.into()));
    }

    pub(super) fn go_on(&mut self, after: After) {
        match after {
            After::Complete(text) => self.complete(text),
            After::Tagged(text) => self.tagged_after_news(&text),
            After::Removed => self.removed(),
            After::Selected(text) => self.tagged(text),
            After::Fetched => self.complete("OK done"),
            //= rfc3516#section-4.3
            //# If the server does not know how to decode the section's CTE, it
            //# MUST fail the request and issue a "NO" response that contains
            //# the "UNKNOWN-CTE" extended response code.
            After::UnknownCte => self.complete("NO [UNKNOWN-CTE] it is not known how some of the content is encoded"),
            After::Missing(uids) => self.fetch_missing(&uids),
            After::Idle => self.doing = super::Doing::Idling(None),
            After::Listen => self.doing = super::Doing::Commands,
            After::Notify(notify) => self.notify_begun(notify),
            After::Flags(uids, after) => self.tell_changed(uids, *after),
            After::Store(command) => self.ask_store(command),
        }
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, purpose: Purpose, answer: Answer) {
        let answer = match answer {
            Answer::Refused(refusal) => return self.refused(purpose, &refusal),
            answer => answer,
        };
        match (purpose, answer) {
            (Purpose::Login, Answer::Login(verdict)) => self.login_verdict(verdict),
            (Purpose::ScramKeys(turn), Answer::Scram(keys)) => self.sasl_keys(*turn, keys),
            (Purpose::Compress, Answer::Done) => self.compressing(),
            (Purpose::Unauthenticate, Answer::Done) => self.unauthenticated(),
            (Purpose::Select(mailbox, read_only, resync), Answer::Selected(selected)) => {
                self.selected(mailbox, read_only, *selected, resync);
            }
            (Purpose::Vanished(vanishing), Answer::Vanished(uids)) => self.vanished(vanishing, &uids),
            (Purpose::Unselect(text), Answer::Done) => self.tagged(&text),
            (Purpose::Close, Answer::Expunged(_)) => self.unselect("OK closed"),
            (Purpose::Sync(after), Answer::Changes(changes)) => self.changes(*changes, after),
            (Purpose::Page(mut fetching), Answer::Page { octets, next, missing, unknown_cte }) => {
                fetching.note(missing > 0, unknown_cte);
                self.page(fetching, octets, next);
            }
            (Purpose::FetchChanged(fetching), Answer::Found { uids, .. }) => self.fetch_changed(fetching, uids),
            (Purpose::FetchSeen(fetching), Answer::Stored { changed, modseq, .. }) => {
                self.fetch_seen(fetching, &changed, modseq);
            }
            (Purpose::Store(command), Answer::Stored { uids, modified, modseq, keywords, .. }) => {
                self.stored(&command, &uids, &modified, modseq, keywords);
            }
            (Purpose::Search(modseq_asked), Answer::Found { uids, highest_modseq }) => {
                self.found(&uids, modseq_asked.then_some(highest_modseq));
            }
            (Purpose::Find(wanted), Answer::Found { uids, highest_modseq }) => {
                self.found_in_order(wanted, uids.iter().collect(), highest_modseq);
            }
            (Purpose::Find(wanted), Answer::Sorted { uids, highest_modseq }) => {
                self.found_in_order(wanted, uids, highest_modseq);
            }
            (Purpose::FindEnds(wanted, uids), Answer::Found { highest_modseq, .. }) => {
                self.ends_found(wanted, uids, highest_modseq);
            }
            (Purpose::Relevancy(found), Answer::Relevancy(scores)) => self.result(*found, &scores),
            (
                purpose @ (Purpose::Sources(_)
                | Purpose::SearchSelected(_)
                | Purpose::SelectedEnds(..)
                | Purpose::SearchLook(_)
                | Purpose::SearchNamed(..)
                | Purpose::NamedEnds(..)),
                answer,
            ) => self.multi_search_answered(purpose, answer),
            (Purpose::Thread, Answer::Threads(nodes)) => self.threads(nodes),
            (Purpose::Copy(remove), Answer::Copied { uid_validity, from, to }) => {
                self.copied(remove, uid_validity, &from, &to);
            }
            (Purpose::Expunge, Answer::Expunged(uids)) => self.expunged(&uids),
            (Purpose::EndWatch, Answer::Done) => self.idle_done(),
            (Purpose::EndListening(frame), Answer::Done) => self.listening_ends(*frame),
            (Purpose::Page(_), Answer::Broken) => self.doing = super::Doing::Leaving,
            (purpose, answer) => self.answered_about_append(purpose, answer),
        }
    }

    /// An answer has come about a message the client sends.
    fn answered_about_append(&mut self, purpose: Purpose, answer: Answer) {
        match (purpose, answer) {
            (
                Purpose::AppendBegin(append, synchronising) | Purpose::AppendNext(append, synchronising),
                Answer::Done,
            ) => {
                self.append_begun(append, synchronising);
            }
            (Purpose::AppendOctets(append), Answer::Done) => self.doing = super::Doing::Appending(append),
            (Purpose::Replace, Answer::Appended { uid_validity, uids }) => self.replaced_by(uid_validity, &uids),
            (Purpose::AppendAbort(given_up), Answer::Done) => self.append_given_up(given_up),
            (purpose, answer) => self.answered_about_mailboxes(purpose, answer),
        }
    }

    /// An answer has come about mailboxes as a whole.
    fn answered_about_mailboxes(&mut self, purpose: Purpose, answer: Answer) {
        match (purpose, answer) {
            (Purpose::List(request), Answer::Mailboxes(mailboxes)) => self.list_answer(&request, &mailboxes),
            (Purpose::SelectedLine(text, resync, uid_next), Answer::Mailboxes(mailboxes)) => {
                self.selected_line(&mailboxes, text, resync.as_deref(), uid_next);
            }
            (Purpose::Lsub(reference, pattern), Answer::Mailboxes(mailboxes)) => {
                self.lsub_answer(&reference, &pattern, &mailboxes);
            }
            (Purpose::ListDetails(listing), Answer::Status(status)) => self.list_status_answer(listing, &status),
            (Purpose::ListDetails(listing), Answer::Metadata(annotations)) => {
                self.list_metadata_answer(listing, &annotations);
            }
            (Purpose::Status(mailbox, items), Answer::Status(status)) => {
                self.write_status(&mailbox, &items, &status);
                self.complete("OK done");
            }
            (Purpose::Create(mailbox), Answer::Created(id)) => {
                self.own_change(&OwnChange::Created(&mailbox, id));
                self.complete(format!("OK [MAILBOXID ({})] created", id.mailbox()));
            }
            (Purpose::Acl(mailbox), Answer::Acl(lines)) => self.write_acl(&mailbox, &lines),
            (Purpose::ListRights(mailbox, identifier), Answer::Rights(always)) => {
                self.write_list_rights(&mailbox, &identifier, always);
            }
            (Purpose::MyRights(mailbox), Answer::Rights(rights)) => {
                self.write_my_rights(mailbox.as_str(), rights);
                self.complete("OK done");
            }
            (Purpose::Quota(mailbox), Answer::Quota(quota)) => self.write_quota(mailbox.as_ref(), &quota),
            (Purpose::Metadata(mailbox, request), Answer::Metadata(annotations)) => {
                self.metadata_answer(mailbox.as_ref(), &request, &annotations);
            }
            (Purpose::Filters(command), Answer::Metadata(annotations)) => self.filters_answer(*command, &annotations),
            (Purpose::SetMetadata(mailbox, marks), Answer::Done) => {
                self.own_annotations(mailbox.as_ref(), marks);
                self.complete("OK set");
            }
            (Purpose::SetQuota(root), Answer::Done) => self.quota_set(root),
            (Purpose::Change(text), Answer::Done) => self.complete(text),
            (Purpose::Subscribe(mailbox, subscribed), Answer::Done) => self.subscribed(&mailbox, subscribed),
            (Purpose::Delete(mailbox), Answer::Done) => {
                self.own_change(&OwnChange::Deleted(&mailbox));
                self.deleted(&mailbox);
            }
            (Purpose::Rename(from, to), Answer::Done) => {
                self.own_change(&OwnChange::Renamed(&from, &to));
                self.renamed(&from, &to);
            }
            (Purpose::NotifyMailboxes(notify), Answer::Mailboxes(mailboxes)) => {
                self.notify_mailboxes(notify, mailboxes);
            }
            (Purpose::NotifyStatuses(notify, wanted), Answer::Statuses(statuses)) => {
                self.notify_statuses(notify, &wanted, &statuses);
            }
            (Purpose::NotifyMarks(notify, places), Answer::MetadataMarks(marks)) => {
                self.notify_marks(notify, &places, marks);
            }
            (Purpose::LookMarks(places, after), Answer::MetadataMarks(marks)) => {
                self.looked_at_marks(&places, marks, after);
            }
            (Purpose::LookMailboxes(after), Answer::Mailboxes(mailboxes)) => self.looked_at_mailboxes(mailboxes, after),
            (Purpose::LookStatuses(wanted, after), Answer::Statuses(statuses)) => {
                self.looked_at_statuses(wanted, &statuses, after);
            }
            (purpose, _) => self.refused(purpose, &Refusal::TryLater),
        }
    }

    /// The host would not do it.
    fn refused(&mut self, purpose: Purpose, refusal: &Refusal) {
        let gone = matches!(refusal, Refusal::MailboxGone) && self.open().is_some();
        match purpose {
            Purpose::Select(..) => {
                self.closed();
                self.tagged(&refusal.text(false));
            }
            Purpose::SelectedLine(..) => self.leave(refusal.text(false)),
            Purpose::Vanished(vanishing) if vanishing.is_selecting() => self.leave(refusal.text(false)),
            Purpose::Close if gone => self.unselect("OK closed"),
            //= rfc4314#section-4
            //# If the server is
            //# unable to expunge the mailbox because the user doesn't have the
            //# "e" right, the server MUST ignore the expunge request, close the
            //# mailbox, and return the tagged OK response.
            Purpose::Close if *refusal == Refusal::NoPermission => self.unselect("OK closed"),
            //= rfc4314#section-4
            //# A FETCH request that implies setting \Seen flag MUST NOT
            //# set it, if the current user doesn't have "s" right.
            // Nor does anything else that keeps it from being set keep the mail from being read, if the page can be.
            Purpose::FetchSeen(fetching) if !gone => self.doing = super::Doing::Fetching(fetching),
            // Nothing depends on it.
            Purpose::Unselect(text) => self.tagged(&text),
            Purpose::Unauthenticate => self.cannot_unauthenticate(),
            purpose if gone => self.mailbox_gone(purpose),
            Purpose::Login | Purpose::ScramKeys(_) => self.login_verdict(LoginAnswer::TryLater),
            //= rfc5819#section-2
            //# If the server runs into unexpected problems while trying to look up
            //# the STATUS information, it MAY drop the corresponding STATUS reply.
            Purpose::ListDetails(listing) => self.next_list_detail(listing),
            // Watching goes on from where the news ended: they would be asked for without end.
            Purpose::Sync(After::Idle)
            | Purpose::LookMailboxes(After::Idle)
            | Purpose::LookMarks(_, After::Idle)
            | Purpose::LookStatuses(_, After::Idle) => self.idle_refused(),
            Purpose::Sync(after @ After::Listen)
            | Purpose::LookMailboxes(after)
            | Purpose::LookMarks(_, after)
            | Purpose::LookStatuses(_, after) => self.overflow(after),
            Purpose::EndListening(frame) => self.listening_ends(*frame),
            // What was done is done, whether the news can be told or not.
            Purpose::Sync(after) => self.go_on(after),
            Purpose::Page(fetching) if fetching.is_inside_message() => self.doing = super::Doing::Leaving,
            Purpose::AppendBegin(_, synchronising) => self.refuse_append(synchronising, refusal.text(true)),
            Purpose::AppendNext(append, synchronising) => {
                self.refuse_next(append.left(), synchronising, refusal.text(true));
            }
            Purpose::AppendOctets(_) => self.abort_append(GivenUp::Refuse(refusal.text(true))),
            Purpose::AppendAbort(given_up) => self.append_given_up(given_up),
            Purpose::EndWatch => self.idle_done(),
            Purpose::Copy(_) | Purpose::Replace => self.complete(refusal.text(true)),
            purpose => self.search_refused(purpose, refusal),
        }
    }

    /// The host would not search, or something else that nothing depends on.
    fn search_refused(&mut self, purpose: Purpose, refusal: &Refusal) {
        match purpose {
            Purpose::Find(wanted) => {
                self.forget_saved(wanted.saves());
                self.complete(refusal.text(false));
            }
            Purpose::SearchLook(searching) | Purpose::SearchNamed(searching, _) | Purpose::NamedEnds(searching, ..)
                if matches!(refusal, Refusal::NoSuchMailbox | Refusal::NoPermission) =>
            {
                self.pass_over(searching);
            }
            Purpose::Relevancy(found) if matches!(refusal, Refusal::NoSuchMailbox | Refusal::NoPermission) => {
                match found.place {
                    Some((searching, ..)) => self.pass_over(searching),
                    None => self.complete(refusal.text(false)),
                }
            }
            Purpose::SearchSelected(searching) | Purpose::SelectedEnds(searching, _) => {
                self.forget_saved(searching.saves());
                self.complete(refusal.text(false));
            }
            Purpose::Filters(command) => {
                self.forget_saved(command.saves());
                self.complete(refusal.text(false));
            }
            _ => self.complete(refusal.text(false)),
        }
    }
}
