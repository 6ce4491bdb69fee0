//! An independent reading of the grammar, imap-codec: what it accepts we accept, with the same meaning; what we write it
//! can read.

use std::{fmt::Write, fs, path::Path};

use imap_codec::{
    CommandCodec, ResponseCodec,
    decode::Decoder,
    encode::Encoder,
    imap_types::{
        command::{Command as TheirCommand, CommandBody, FetchModifier, SelectParameter, StoreModifier},
        core::{AString, Charset},
        fetch::{Macro, MacroOrMessageDataItemNames, MessageDataItemName, Part, Section as TheirSection},
        flag::{Flag, StoreResponse, StoreType},
        mailbox::Mailbox,
        search::SearchKey,
        sequence::{SeqOrUid, Sequence, SequenceSet as TheirSet},
    },
};
use proptest::prelude::*;
use rockdove_imap::{
    command::{Command, MailboxArg, SearchProgram, SequenceSet},
    fetch::{FetchItem, Section, SectionText},
    grammar::{Names, parse, write},
};
use rockdove_mail::{
    Flags, Keyword, MailboxName, SystemFlags, UidSet, date,
    search::{DateField, Day, SearchField},
};

/// What `*` is.
const LARGEST: u32 = 1_000_000;

fn uids(set: &UidSet) -> String {
    let mut out = Vec::new();
    write::uid_set(&mut out, set);
    String::from_utf8(out).expect("ASCII")
}

fn our_set(set: &SequenceSet) -> String {
    uids(&set.uid_set(Some(LARGEST)))
}

fn their_set(set: &TheirSet) -> String {
    let number = |end: &SeqOrUid| match end {
        SeqOrUid::Value(number) => number.get(),
        SeqOrUid::Asterisk => LARGEST,
    };
    let ranges = set.0.as_ref().iter().map(|sequence| match sequence {
        Sequence::Single(one) => UidSet::range(number(one), number(one)),
        Sequence::Range(first, last) => UidSet::range(number(first), number(last)),
    });
    uids(&ranges.fold(UidSet::new(), |sum, range| sum.union(&range)))
}

fn text(string: &AString<'_>) -> String {
    format!("{:?}", String::from_utf8_lossy(string.as_ref()))
}

fn our_day(Day { days_since_epoch }: Day) -> String {
    let date::Civil { year, month, day } = date::Civil::from_days_since_epoch(days_since_epoch);
    format!("{year:04}-{month:02}-{day:02}")
}

fn their_day(day: &impl std::fmt::Debug) -> String {
    format!("{day:?}").trim_start_matches("NaiveDate(").trim_end_matches(')').to_owned()
}

fn our_search(key: &SearchProgram) -> String {
    let date_key = |name: &str, field: &DateField, day: &Day| {
        let field = match field {
            DateField::Internal => "",
            DateField::Sent => "SENT",
            DateField::Saved => "SAVED",
        };
        format!("{field}{name} {}", our_day(*day))
    };
    match key {
        SearchProgram::All => "ALL".to_owned(),
        SearchProgram::And(keys) => format!("({})", keys.iter().map(our_search).collect::<Vec<_>>().join(" ")),
        SearchProgram::Or(left, right) => format!("OR {} {}", our_search(left), our_search(right)),
        SearchProgram::Not(key) => format!("NOT {}", our_search(key)),
        SearchProgram::Fuzzy(key) => format!("FUZZY {}", our_search(key)),
        SearchProgram::Sequence(set) => our_set(set),
        SearchProgram::Uid(set) => format!("UID {}", our_set(set)),
        SearchProgram::Flag(flag) => flag_name(*flag).to_owned(),
        SearchProgram::Keyword(keyword) => format!("KEYWORD {}", keyword.as_str()),
        SearchProgram::Recent => "RECENT".to_owned(),
        SearchProgram::Before(field, day) => date_key("BEFORE", field, day),
        SearchProgram::On(field, day) => date_key("ON", field, day),
        SearchProgram::Since(field, day) => date_key("SINCE", field, day),
        SearchProgram::Larger(size) => format!("LARGER {size}"),
        SearchProgram::Smaller(size) => format!("SMALLER {size}"),
        SearchProgram::Older(seconds) => format!("OLDER {seconds}"),
        SearchProgram::Younger(seconds) => format!("YOUNGER {seconds}"),
        SearchProgram::ModSeq(modseq) => format!("MODSEQ {modseq}"),
        SearchProgram::EmailId(id) => format!("EMAILID {id}"),
        SearchProgram::ThreadId => "THREADID".to_owned(),
        SearchProgram::Filter(name) => format!("FILTER {name}"),
        SearchProgram::Text(SearchField::Header(name), needle) => format!("Header {name:?} {needle:?}"),
        SearchProgram::Text(field, needle) => format!("{field:?} {needle:?}"),
    }
}

fn flag_name(flag: SystemFlags) -> &'static str {
    SystemFlags::NAMES.iter().find(|(known, _)| *known == flag).map_or("several", |(_, name)| name)
}

fn their_search(key: &SearchKey<'_>) -> String {
    let flag = |flag| flag_name(flag).to_owned();
    let not = |flag| format!("NOT {}", flag_name(flag));
    match key {
        SearchKey::All => "ALL".to_owned(),
        SearchKey::And(keys) => match keys.as_ref() {
            [only] => their_search(only),
            keys => format!("({})", keys.iter().map(their_search).collect::<Vec<_>>().join(" ")),
        },
        SearchKey::Or(left, right) => format!("OR {} {}", their_search(left), their_search(right)),
        SearchKey::Not(key) => format!("NOT {}", their_search(key)),
        SearchKey::SequenceSet(set) => their_set(set),
        SearchKey::Uid(set) => format!("UID {}", their_set(set)),
        SearchKey::Answered => flag(SystemFlags::ANSWERED),
        SearchKey::Deleted => flag(SystemFlags::DELETED),
        SearchKey::Draft => flag(SystemFlags::DRAFT),
        SearchKey::Flagged => flag(SystemFlags::FLAGGED),
        SearchKey::Seen => flag(SystemFlags::SEEN),
        SearchKey::Unanswered => not(SystemFlags::ANSWERED),
        SearchKey::Undeleted => not(SystemFlags::DELETED),
        SearchKey::Undraft => not(SystemFlags::DRAFT),
        SearchKey::Unflagged => not(SystemFlags::FLAGGED),
        SearchKey::Unseen => not(SystemFlags::SEEN),
        SearchKey::Recent => "RECENT".to_owned(),
        SearchKey::Old => "NOT RECENT".to_owned(),
        SearchKey::New => format!("(RECENT {})", not(SystemFlags::SEEN)),
        SearchKey::Keyword(keyword) => format!("KEYWORD {}", keyword.inner()),
        SearchKey::Unkeyword(keyword) => format!("NOT KEYWORD {}", keyword.inner()),
        SearchKey::Before(day) => format!("BEFORE {}", their_day(day)),
        SearchKey::On(day) => format!("ON {}", their_day(day)),
        SearchKey::Since(day) => format!("SINCE {}", their_day(day)),
        SearchKey::SentBefore(day) => format!("SENTBEFORE {}", their_day(day)),
        SearchKey::SentOn(day) => format!("SENTON {}", their_day(day)),
        SearchKey::SentSince(day) => format!("SENTSINCE {}", their_day(day)),
        SearchKey::Larger(size) => format!("LARGER {size}"),
        SearchKey::Smaller(size) => format!("SMALLER {size}"),
        SearchKey::Header(name, needle) => format!("Header {} {}", text(name), text(needle)),
        SearchKey::From(needle) => format!("From {}", text(needle)),
        SearchKey::To(needle) => format!("To {}", text(needle)),
        SearchKey::Cc(needle) => format!("Cc {}", text(needle)),
        SearchKey::Bcc(needle) => format!("Bcc {}", text(needle)),
        SearchKey::Subject(needle) => format!("Subject {}", text(needle)),
        SearchKey::Body(needle) => format!("Body {}", text(needle)),
        SearchKey::Text(needle) => format!("Text {}", text(needle)),
        SearchKey::ModSequence { modseq, .. } => format!("MODSEQ {modseq}"),
    }
}

fn their_section(section: Option<&TheirSection<'_>>) -> Section {
    let path = |part: Option<&Part>| {
        part.map(|part| part.0.as_ref().iter().map(|number| number.get()).collect()).unwrap_or_default()
    };
    let names = |names: &[AString<'_>]| {
        names.iter().map(|name| String::from_utf8_lossy(name.as_ref()).into_owned()).collect::<Vec<_>>()
    };
    let (part, text) = match section {
        None => (None, SectionText::All),
        Some(TheirSection::Part(part)) => (Some(part), SectionText::All),
        Some(TheirSection::Header(part)) => (part.as_ref(), SectionText::Header),
        Some(TheirSection::HeaderFields(part, fields)) => {
            (part.as_ref(), SectionText::HeaderFields(names(fields.as_ref())))
        }
        Some(TheirSection::HeaderFieldsNot(part, fields)) => {
            (part.as_ref(), SectionText::HeaderFieldsNot(names(fields.as_ref())))
        }
        Some(TheirSection::Text(part)) => (part.as_ref(), SectionText::Text),
        Some(TheirSection::Mime(part)) => (Some(part), SectionText::Mime),
    };
    Section { path: path(part), text }
}

fn their_items(names: &MacroOrMessageDataItemNames<'_>, uid: bool) -> Option<Vec<FetchItem>> {
    let fast = vec![FetchItem::Flags, FetchItem::InternalDate, FetchItem::Size];
    let mut items = match names {
        MacroOrMessageDataItemNames::Macro(Macro::Fast) => fast,
        MacroOrMessageDataItemNames::Macro(Macro::All) => [fast, vec![FetchItem::Envelope]].concat(),
        MacroOrMessageDataItemNames::Macro(_) => [fast, vec![FetchItem::Envelope, FetchItem::Body]].concat(),
        MacroOrMessageDataItemNames::MessageDataItemNames(names) => {
            let item = |name: &MessageDataItemName<'_>| {
                Some(match name {
                    MessageDataItemName::Body => FetchItem::Body,
                    MessageDataItemName::BodyStructure => FetchItem::BodyStructure,
                    MessageDataItemName::Envelope => FetchItem::Envelope,
                    MessageDataItemName::Flags => FetchItem::Flags,
                    MessageDataItemName::InternalDate => FetchItem::InternalDate,
                    MessageDataItemName::Rfc822 => FetchItem::Rfc822,
                    MessageDataItemName::Rfc822Header => FetchItem::Rfc822Header,
                    MessageDataItemName::Rfc822Size => FetchItem::Size,
                    MessageDataItemName::Rfc822Text => FetchItem::Rfc822Text,
                    MessageDataItemName::Uid => FetchItem::Uid,
                    MessageDataItemName::ModSeq => FetchItem::ModSeq,
                    MessageDataItemName::BodyExt { section, partial, peek } => FetchItem::Section {
                        section: their_section(section.as_ref()),
                        partial: partial.map(|(first, octets)| (u64::from(first), u64::from(octets.get()))),
                        peek: *peek,
                    },
                    MessageDataItemName::Binary { section, partial, peek } => FetchItem::Binary {
                        path: section.iter().map(|number| number.get()).collect(),
                        partial: partial.map(|(first, octets)| (u64::from(first), u64::from(octets.get()))),
                        peek: *peek,
                    },
                    MessageDataItemName::BinarySize { section } => {
                        FetchItem::BinarySize { path: section.iter().map(|number| number.get()).collect() }
                    }
                })
            };
            names.iter().map(item).collect::<Option<_>>()?
        }
    };
    if uid && !items.contains(&FetchItem::Uid) {
        items.insert(0, FetchItem::Uid);
    }
    Some(items)
}

fn their_flags(list: &[Flag<'_>]) -> Option<Flags> {
    let mut flags = Flags::default();
    for flag in list {
        let system = match flag {
            Flag::Answered => SystemFlags::ANSWERED,
            Flag::Deleted => SystemFlags::DELETED,
            Flag::Draft => SystemFlags::DRAFT,
            Flag::Flagged => SystemFlags::FLAGGED,
            Flag::Seen => SystemFlags::SEEN,
            Flag::Keyword(keyword) => {
                let keyword = Keyword::new(keyword.inner())?;
                if !flags.keywords.contains(&keyword) {
                    flags.keywords.push(keyword);
                }
                continue;
            }
            Flag::Extension(_) => return None,
        };
        flags.system = flags.system.union(system);
    }
    Some(flags)
}

/// ASCII names without `&` only: imap-codec does not decode modified UTF-7.
fn their_mailbox(mailbox: &Mailbox<'_>) -> MailboxArg {
    match mailbox {
        Mailbox::Inbox => Ok(MailboxName::inbox()),
        Mailbox::Other(name) => MailboxName::new(&String::from_utf8_lossy(name.inner().as_ref())),
    }
}

fn ours(command: &Command) -> Option<String> {
    Some(match command {
        Command::Search { uid, charset, key } => format!("search {uid} {charset:?} {}", our_search(key)),
        Command::Fetch { uid, set, request, changed_since, vanished: false, partial: None } => {
            format!("fetch {uid} {} {:?} {changed_since:?}", our_set(set), request.items)
        }
        Command::Store { uid, set, update, flags, silent, unchanged_since } => {
            format!("store {uid} {} {update:?} {flags:?} {silent} {unchanged_since:?}", our_set(set))
        }
        Command::Copy { uid, remove, set, mailbox } => format!("copy {uid} {remove} {} {mailbox:?}", our_set(set)),
        Command::UidExpunge(set) => format!("expunge {}", our_set(set)),
        Command::Login { login, password } => format!("login {login:?} {:?}", password.as_str()),
        Command::Rename { from, to } => format!("rename {from:?} {to:?}"),
        Command::Select { mailbox, read_only, condstore, resync } => {
            let set = |set: &Option<SequenceSet>| set.as_ref().map(our_set);
            let resync = resync.as_ref().map(|resync| {
                let matching = resync.matching.as_ref().map(|(numbers, uids)| (our_set(numbers), our_set(uids)));
                (resync.uid_validity, resync.modseq, set(&resync.known), matching)
            });
            format!("select {mailbox:?} {read_only} {condstore} {resync:?}")
        }
        _ => return None,
    })
}

/// The parameters of SELECT, each at most once.
fn their_parameters(parameters: &[SelectParameter]) -> String {
    let (mut condstore, mut resync) = (false, None);
    for parameter in parameters {
        match parameter {
            SelectParameter::CondStore => condstore = true,
            SelectParameter::QResync { uid_validity, mod_sequence_value, known_uids, seq_match_data } => {
                let matching = seq_match_data.as_ref().map(|(numbers, uids)| (their_set(numbers), their_set(uids)));
                resync =
                    Some((uid_validity.get(), mod_sequence_value.get(), known_uids.as_ref().map(their_set), matching));
            }
        }
    }
    format!("{condstore} {resync:?}")
}

fn theirs(command: &TheirCommand<'_>) -> Option<String> {
    Some(match &command.body {
        CommandBody::Search { charset, criteria, uid } => {
            let charset = charset.as_ref().map(|charset| match charset {
                Charset::Atom(name) => name.inner().to_ascii_uppercase(),
                Charset::Quoted(name) => name.inner().to_ascii_uppercase(),
            });
            format!("search {uid} {charset:?} {}", their_search(&SearchKey::And(criteria.clone())))
        }
        CommandBody::Fetch { sequence_set, macro_or_item_names, uid, modifiers } => {
            let changed_since = match modifiers[..] {
                [] => None,
                [FetchModifier::ChangedSince(modseq)] => Some(modseq.get()),
                _ => return None,
            };
            let mut items = their_items(macro_or_item_names, *uid)?;
            if changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
                items.push(FetchItem::ModSeq);
            }
            format!("fetch {uid} {} {items:?} {changed_since:?}", their_set(sequence_set))
        }
        CommandBody::Store { sequence_set, kind, response, flags, uid, modifiers } => {
            let unchanged_since = match modifiers[..] {
                [] => None,
                [StoreModifier::UnchangedSince(modseq)] => Some(modseq),
                _ => return None,
            };
            let update = match kind {
                StoreType::Replace => "Replace",
                StoreType::Add => "Add",
                StoreType::Remove => "Remove",
            };
            let (flags, silent) = (their_flags(flags)?, *response == StoreResponse::Silent);
            format!("store {uid} {} {update} {flags:?} {silent} {unchanged_since:?}", their_set(sequence_set))
        }
        CommandBody::Copy { sequence_set, mailbox, uid } => {
            format!("copy {uid} false {} {:?}", their_set(sequence_set), their_mailbox(mailbox))
        }
        CommandBody::Move { sequence_set, mailbox, uid } => {
            format!("copy {uid} true {} {:?}", their_set(sequence_set), their_mailbox(mailbox))
        }
        CommandBody::ExpungeUid { sequence_set } => format!("expunge {}", their_set(sequence_set)),
        CommandBody::Login { username, password } => {
            format!("login {} {}", text(username), text(password.declassify()))
        }
        CommandBody::Rename { from, to } => format!("rename {:?} {:?}", their_mailbox(from), their_mailbox(to)),
        CommandBody::Select { mailbox, parameters } => {
            format!("select {:?} false {}", their_mailbox(mailbox), their_parameters(parameters))
        }
        CommandBody::Examine { mailbox, parameters } => {
            format!("select {:?} true {}", their_mailbox(mailbox), their_parameters(parameters))
        }
        _ => return None,
    })
}

/// Compares the two readings; tells whether there were two.
fn compare(line: &[u8]) -> Result<bool, String> {
    let with_end = [line, b"\r\n"].concat();
    let Ok((b"", command)) = CommandCodec::default().decode(&with_end) else { return Ok(false) };
    let shown = String::from_utf8_lossy(line);
    let Ok(tagged) = parse(line, Names::default()) else {
        // Meant for extensions that are not offered, or not to be had from a parser without I/O.
        let not_offered = theirs(&command).is_none();
        return if not_offered { Ok(false) } else { Err(format!("refused: {shown}")) };
    };
    if tagged.tag != command.tag.inner() {
        return Err(format!("another tag: {shown}"));
    }
    let mut again = Vec::new();
    for fragment in CommandCodec::default().encode(&command) {
        again.extend(match fragment {
            imap_codec::encode::Fragment::Line { data } | imap_codec::encode::Fragment::Literal { data, .. } => data,
        });
    }
    let again = parse(again.strip_suffix(b"\r\n").unwrap_or(&again), Names::default())
        .map_err(|bad| format!("{}: {shown}", bad.text))?;
    let (one, two) = (ours(&tagged.command), theirs(&command));
    match (one, two, ours(&again.command)) {
        (Some(one), Some(two), Some(three)) if one == two && two == three => Ok(true),
        (None, None, None) => Ok(true),
        (one, two, three) => Err(format!("{shown}\nours:   {one:?}\ntheirs: {two:?}\nagain:  {three:?}")),
    }
}

fn known() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grammar");
    let texts = fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path());
    let texts = texts.map(|path| fs::read_to_string(path).expect("file"));
    texts
        .flat_map(|text| {
            text.lines().filter_map(|line| line.strip_prefix("C: ")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

/// Where we mean to differ.
const DIFFERENT: [&str; 7] = [
    // What is known has no `*` (RFC 7162 section 7).
    "1:*))",
    // It leaves modified UTF-7 as it is.
    "&",
    // It takes the largest number there can be for `*`.
    "4294967295 a",
    // Mod-sequences have 63 bits (RFC 7162 section 7).
    "CHANGEDSINCE 9223372036854775808",
    // It allows what the grammar does not: an empty list, a line end in a field name, `\\Recent` in STORE.
    "FETCH 1 ()",
    "a<crlf>)",
    "\\Recent",
];

#[test]
fn the_tables() {
    let (mut wrong, mut compared) = (String::new(), 0);
    for line in known().iter().filter(|line| !DIFFERENT.iter().any(|known| line.contains(known))) {
        match compare(line.replace("<crlf>", "\r\n").as_bytes()) {
            Ok(both) => compared += usize::from(both),
            Err(difference) => writeln!(wrong, "{difference}\n").expect("a string"),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(compared > 150, "only {compared} commands have been compared");
}

fn astring() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9.]{1,8}".boxed(),
        "[ -~]{0,8}".prop_map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))).boxed(),
        "[ -~\r\n]{0,8}".prop_map(|text| format!("{{{}}}\r\n{text}", text.len())).boxed(),
        "[ -~]{0,8}".prop_map(|text| format!("{{{}+}}\r\n{text}", text.len())).boxed(),
    ]
}

fn sequence_set() -> impl Strategy<Value = String> {
    let number = prop_oneof![4 => (1u32..2_000).prop_map(|number| number.to_string()), 1 => Just("*".to_owned())];
    let range = (number.clone(), prop::option::of(number))
        .prop_map(|(first, last)| last.map_or(first.clone(), |last| format!("{first}:{last}")));
    prop::collection::vec(range, 1..5).prop_map(|ranges| ranges.join(","))
}

fn search_key() -> impl Strategy<Value = String> {
    let alone = prop::sample::select(vec![
        "ALL",
        "ANSWERED",
        "DELETED",
        "DRAFT",
        "FLAGGED",
        "NEW",
        "OLD",
        "RECENT",
        "SEEN",
        "UNANSWERED",
        "UNDELETED",
        "UNDRAFT",
        "UNFLAGGED",
        "UNSEEN",
        "unseen",
        "KEYWORD $Junk",
        "UNKEYWORD x",
        "LARGER 5",
        "SMALLER 4294967295",
        "BEFORE 1-Feb-1994",
        "ON \"28-Feb-2020\"",
        "SINCE 01-jan-2000",
        "SENTBEFORE 31-Dec-1999",
        "SENTON 9-Sep-2009",
        "SENTSINCE 29-Feb-2000",
        "MODSEQ 620162338",
        "MODSEQ \"/flags/\\\\draft\" all 620162338",
    ]);
    let with_text = prop::sample::select(vec!["FROM", "TO", "CC", "BCC", "SUBJECT", "BODY", "TEXT", "HEADER X-Y"]);
    let leaf = prop_oneof![
        3 => alone.prop_map(str::to_owned),
        2 => (with_text, astring()).prop_map(|(key, text)| format!("{key} {text}")),
        1 => sequence_set(),
        1 => sequence_set().prop_map(|set| format!("UID {set}")),
    ];
    leaf.prop_recursive(5, 24, 4, |key| {
        prop_oneof![
            key.clone().prop_map(|key| format!("NOT {key}")),
            (key.clone(), key.clone()).prop_map(|(left, right)| format!("OR {left} {right}")),
            prop::collection::vec(key, 1..4).prop_map(|keys| format!("({})", keys.join(" "))),
        ]
    })
}

fn fetch_item() -> impl Strategy<Value = String> {
    let simple = prop::sample::select(vec![
        "UID",
        "FLAGS",
        "INTERNALDATE",
        "RFC822",
        "RFC822.SIZE",
        "RFC822.HEADER",
        "RFC822.TEXT",
        "ENVELOPE",
        "BODY",
        "BODYSTRUCTURE",
    ]);
    let part = prop::collection::vec(1u32..30, 0..4)
        .prop_map(|path| path.iter().map(|number| format!("{number}.")).collect::<Vec<_>>().concat());
    let text = prop_oneof![
        prop::sample::select(vec!["", "HEADER", "TEXT", "1.MIME"]).prop_map(str::to_owned),
        (prop::bool::ANY, prop::collection::vec("[A-Za-z-]{1,8}", 1..4)).prop_map(|(not, names)| format!(
            "HEADER.FIELDS{} ({})",
            if not { ".NOT" } else { "" },
            names.join(" ")
        )),
    ];
    let section =
        (any::<bool>(), part, text, prop::option::of((0u32..99, 1u32..99))).prop_map(|(peek, part, text, partial)| {
            let part = if text.is_empty() { part.trim_end_matches('.') } else { &part };
            let partial = partial.map(|(first, octets)| format!("<{first}.{octets}>")).unwrap_or_default();
            format!("BODY{}[{part}{text}]{partial}", if peek { ".PEEK" } else { "" })
        });
    prop_oneof![simple.prop_map(str::to_owned), section]
}

/// Every other time ` (NAME number)`.
fn modifier(name: &'static str) -> impl Strategy<Value = String> {
    prop::option::of(1..i64::MAX.unsigned_abs())
        .prop_map(move |modseq| modseq.map_or_else(String::new, |modseq| format!(" ({name} {modseq})")))
}

fn command() -> impl Strategy<Value = String> {
    let uid = || prop::sample::select(vec!["", "UID "]);
    let name = || "[a-zA-Z0-9]{1,6}|\"[a-z ]{1,6}\"|inbox|\\{3\\}\r\na\\*b";
    let flags = prop::collection::vec(
        prop::sample::select(vec!["\\Seen", "\\answered", "\\Deleted", "\\Draft", "\\Flagged", "$Junk", "x", "X"]),
        1..4,
    );
    let store =
        prop::sample::select(vec!["FLAGS", "+FLAGS", "-FLAGS", "FLAGS.SILENT", "+FLAGS.SILENT", "-flags.silent"]);
    prop_oneof![
        (uid(), prop::collection::vec(search_key(), 1..4))
            .prop_map(|(uid, keys)| format!("{uid}SEARCH {}", keys.join(" "))),
        (uid(), sequence_set(), prop::collection::vec(fetch_item(), 1..5), modifier("CHANGEDSINCE"))
            .prop_map(|(uid, set, items, modifier)| format!("{uid}FETCH {set} ({}){modifier}", items.join(" "))),
        (uid(), sequence_set(), modifier("UNCHANGEDSINCE"), store, flags, any::<bool>()).prop_map(
            |(uid, set, modifier, store, flags, list)| {
                let flags = flags.join(" ");
                format!("{uid}STORE {set}{modifier} {store} {}", if list { format!("({flags})") } else { flags })
            }
        ),
        (uid(), prop::sample::select(vec!["COPY", "MOVE"]), sequence_set(), name())
            .prop_map(|(uid, command, set, name)| format!("{uid}{command} {set} {name}")),
        (astring(), astring()).prop_map(|(login, password)| format!("LOGIN {login} {password}")),
        (name(), name()).prop_map(|(from, to)| format!("RENAME {from} {to}")),
        (prop::sample::select(vec!["SELECT", "EXAMINE"]), name(), prop::sample::select(vec!["", " (CONDSTORE)"]))
            .prop_map(|(command, name, parameter)| format!("{command} {name}{parameter}")),
    ]
}

/// Whether imap-codec reads this as one whole response.
fn is_response(octets: &[u8]) -> bool {
    matches!(ResponseCodec::default().decode(octets), Ok((b"", _)))
}

/// What a server says in a conversation of `transcripts/`; imap-codec does not know the extended items of LIST, the
/// responses of RFC 4314 and RFC 5255, object identifiers, APPENDLIMIT, ESEARCH, PREVIEW and SAVEDATE, nor UTF-8 between quotes and offsets of
/// more than 32 bits. A list of capabilities may be cut short there.
fn said(conversation: &str) -> Vec<u8> {
    let mut said = Vec::new();
    for line in conversation.lines().filter_map(|line| line.strip_prefix("S:")) {
        let line = line.strip_prefix(' ').unwrap_or(line);
        let unknown = ["* ACL ", "* LISTRIGHTS ", "* MYRIGHTS ", "* LANGUAGE "];
        let object_id = line.starts_with("* ")
            && (line.contains("MAILBOXID (") || line.contains("APPENDLIMIT ") || line.contains("EMAILID ("));
        // RFC 2087 has an empty list where nothing is limited.
        if ["\"CHILDINFO\"", "\"OLDNAME\"", "* ESEARCH ", "PREVIEW ", "SAVEDATE ", "<99999999999>"]
            .iter()
            .any(|unknown| line.contains(unknown))
            || line.ends_with(" ()")
            || unknown.iter().any(|response| line.starts_with(response))
            || object_id
            || (["* LIST ", "* LSUB ", "* STATUS "].iter().any(|name| line.starts_with(name)) && !line.is_ascii())
            || (line.contains("CAPABILITY ") && line.ends_with("..."))
            || line.ends_with("[MAILBOXID (F1-...")
        {
            continue;
        }
        let (line, space) = line.strip_suffix('~').map_or((line, ""), |line| (line, " "));
        said.extend([line, space, "\r\n"].concat().into_bytes());
    }
    said
}

#[test]
fn transcripts_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let (mut wrong, mut count) = (String::new(), 0);
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let text = fs::read_to_string(&path).expect("file");
        for conversation in text.split("\n----") {
            let said = said(conversation);
            let mut rest = &said[..];
            while !rest.is_empty() {
                match ResponseCodec::default().decode(rest) {
                    Ok((after, _)) => {
                        count += 1;
                        rest = after;
                    }
                    Err(why) => {
                        let end = rest.windows(2).position(|end| end == b"\r\n").map_or(rest.len(), |at| at + 2);
                        let line = String::from_utf8_lossy(&rest[..end]);
                        writeln!(wrong, "{}: {line:?} {why:?}", path.display()).expect("a string");
                        rest = &rest[end..];
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count > 1_000, "only {count} responses");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn made_up_commands(command in command()) {
        prop_assert_eq!(compare(format!("A1 {command}").as_bytes()), Ok(true));
    }

    #[test]
    fn lists_are_read(name in "\\PC{1,20}", flags in prop::sample::subsequence(vec!["$Junk", "a", "B-c"], 0..4), bits in 0u8..32) {
        let mut out = b"* LIST (\\HasNoChildren) \"/\" ".to_vec();
        write::mailbox_name(&mut out, &name, Names::default());
        out.extend_from_slice(b"\r\n");
        prop_assert!(is_response(&out), "{}", String::from_utf8_lossy(&out));
        let keywords = flags.into_iter().filter_map(Keyword::new).collect();
        let mut out = b"* 1 FETCH (FLAGS ".to_vec();
        write::flag_list(&mut out, &Flags { system: SystemFlags::from_bits(bits), keywords }, bits % 2 == 0);
        out.extend_from_slice(b" INTERNALDATE ");
        write::date_time(&mut out, (i64::from(bits) * 123_456_789, i16::from(bits) * 45 - 700));
        out.extend_from_slice(b" BODY[TEXT] ");
        write::nstring(&mut out, Some(name.as_bytes()));
        out.extend_from_slice(b")\r\n");
        prop_assert!(is_response(&out), "{}", String::from_utf8_lossy(&out));
    }
}
