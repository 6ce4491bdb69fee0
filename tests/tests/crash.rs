//! The server is killed again and again while clients are at work. Whatever it acknowledged must be there exactly once,
//! and no number that IMAP clients rely on may be reused or go back.
#![allow(clippy::disallowed_methods, reason = "a test plays many clients at once, with a clock")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rockdove_tests::{Dice, Door, Imap, Io, Server, Setup, Smtp};

/// Lives of the server; it drives its sockets otherwise in every other one.
const ROUNDS: u64 = 50;
/// Connections that deliver.
const DELIVERERS: u64 = 20;
/// Milliseconds of load after which the kill comes, at least and at most.
const LOAD_MS: (u64, u64) = (50, 1_000);
/// Recipients of every message.
const RECIPIENTS: [&str; 2] = ["ada", "ben"];
/// The mailbox that messages are copied to and expunged from.
const COPIES: &str = "Copies";

/// What the clients know of one mailbox.
#[derive(Debug, Default)]
struct Known {
    uid_validity: Option<u64>,
    uid_next: u64,
    highest_modseq: u64,
    /// UID to the id of its message and the highest modseq seen.
    messages: BTreeMap<u64, (String, u64)>,
    /// UIDs whose removal was acknowledged.
    expunged: BTreeSet<u64>,
    /// UIDs whose removal was asked for; they may be gone.
    maybe_expunged: BTreeSet<u64>,
    /// UIDs whose flag was acknowledged.
    flagged: BTreeSet<u64>,
}

/// What the clients did, over all lives.
#[derive(Default)]
struct Book {
    tried: Mutex<BTreeSet<String>>,
    acknowledged: Mutex<BTreeSet<String>>,
    copies: AtomicUsize,
}

fn note(set: &Mutex<BTreeSet<String>>, id: &str) {
    set.lock().expect("no panic").insert(id.to_owned());
}

/// Delivers until the server dies.
fn deliver(server: &Server, round: u64, client: u64, book: &Book) -> io::Result<()> {
    let lmtp = client.is_multiple_of(2);
    let wire = server.try_connect(if lmtp { Door::Lmtp } else { Door::Mx })?;
    let mut smtp = Smtp::hello(wire, lmtp)?;
    let body = "a line of this message\r\n".repeat(usize::try_from(client * client).expect("small"));
    for number in 0.. {
        let id = format!("{round}.{client}.{number}");
        note(&book.tried, &id);
        let replies = smtp.deliver(&RECIPIENTS, format!("Subject: {id}\r\n\r\n{body}").as_bytes())?;
        assert!(replies.iter().all(|code| *code == 250), "{replies:?}");
        note(&book.acknowledged, &id);
        // A mailbox that grows without end would only make the checks slow.
        thread::sleep(Duration::from_millis(40));
    }
    Ok(())
}

/// Sets flags, copies and expunges until the server dies.
fn change(server: &Server, dice: &mut Dice, inbox: &mut Known, copies: &mut Known, book: &Book) -> io::Result<()> {
    let mut imap = Imap::login(server.try_connect(Door::Imap)?, "ada")?;
    let mut second = Imap::login(server.try_connect(Door::Imap)?, "ada")?;
    imap.try_ok("SELECT INBOX")?;
    second.try_ok(&format!("SELECT {COPIES}"))?;
    let uids: Vec<u64> = inbox.messages.keys().copied().collect();
    let mut pick =
        |uids: &[u64]| uids.get(usize::try_from(dice.below(uids.len().max(1) as u64)).expect("small")).copied();
    loop {
        let Some(uid) = pick(&uids) else { return Ok(()) };
        imap.try_ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Flagged $Crash)"))?;
        inbox.flagged.insert(uid);
        let copied = imap.try_ok(&format!("UID COPY {uid} {COPIES}"))?;
        book.copies.fetch_add(1, Ordering::SeqCst);
        let code = copied.code("COPYUID").ok_or_else(|| io::Error::other(copied.status.clone()))?;
        let to: u64 = code.rsplit(' ').next().and_then(|uid| uid.parse().ok()).expect("one UID");
        let (id, _) = inbox.messages[&uid].clone();
        let earlier = copies.messages.insert(to, (id, 0));
        assert_eq!(earlier, None, "UID {to} is given a second time");
        let present: Vec<u64> =
            copies.messages.keys().copied().filter(|uid| !copies.maybe_expunged.contains(uid)).collect();
        if present.len() > 20
            && let Some(uid) = pick(&present)
        {
            copies.maybe_expunged.insert(uid);
            // It learns what the other session has copied.
            second.try_ok("NOOP")?;
            second.try_ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
            let removed = second.try_ok(&format!("UID EXPUNGE {uid}"))?.with(" EXPUNGE");
            assert_eq!(removed.len(), 1, "UID EXPUNGE {uid} says OK: {removed:?}");
            copies.expunged.insert(uid);
        }
    }
}

/// A message as `FETCH (UID FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (SUBJECT)])` tells it.
struct Told {
    uid: u64,
    modseq: u64,
    flagged: bool,
    id: String,
}

fn told(response: &[u8]) -> Option<Told> {
    let text = String::from_utf8_lossy(response).into_owned();
    let number = |name: &str| -> Option<u64> {
        let digits = text.split_once(name)?.1.chars().take_while(char::is_ascii_digit).collect::<String>();
        digits.parse().ok()
    };
    let (_, id) = text.split_once("Subject: ")?;
    let id = id.split_once("\r\n")?.0.to_owned();
    Some(Told { uid: number("UID ")?, modseq: number("MODSEQ (")?, flagged: text.contains("\\Flagged"), id })
}

/// Holds a mailbox against what is known of it, and learns what is new.
fn check(imap: &mut Imap, mailbox: &str, known: &mut Known, once: bool) {
    let selected = imap.ok(&format!("SELECT {mailbox} (CONDSTORE)"));
    let (uid_validity, uid_next) = (selected.number("UIDVALIDITY"), selected.number("UIDNEXT"));
    let highest_modseq = selected.number("HIGHESTMODSEQ");
    assert_eq!(*known.uid_validity.get_or_insert(uid_validity), uid_validity, "UIDVALIDITY of {mailbox}");
    assert!(uid_next >= known.uid_next, "UIDNEXT of {mailbox}: {uid_next} after {}", known.uid_next);
    assert!(
        highest_modseq >= known.highest_modseq,
        "HIGHESTMODSEQ of {mailbox}: {highest_modseq}, was {}",
        known.highest_modseq
    );
    (known.uid_next, known.highest_modseq) = (uid_next, highest_modseq);
    let fetched = imap.ok("UID FETCH 1:* (UID FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
    let (mut present, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for message in fetched.untagged.iter().filter_map(|response| told(response)) {
        let Told { uid, modseq, flagged, id } = message;
        assert!(uid < uid_next && modseq <= highest_modseq, "{mailbox}: UID {uid}, MODSEQ {modseq}");
        assert!(present.insert(uid), "{mailbox}: UID {uid} twice");
        assert!(!known.expunged.contains(&uid), "{mailbox}: UID {uid} is back");
        assert!(flagged || !known.flagged.contains(&uid), "{mailbox}: UID {uid} has lost its flag");
        assert!(ids.insert(id.clone()) || !once, "{mailbox}: {id} twice");
        let (before, least) = known.messages.entry(uid).or_insert_with(|| (id.clone(), modseq));
        assert_eq!(*before, id, "{mailbox}: UID {uid} is another message now");
        assert!(modseq >= *least, "{mailbox}: MODSEQ {modseq} of UID {uid}, was {least}");
        *least = modseq;
    }
    for uid in known.messages.keys() {
        assert!(present.contains(uid) || known.maybe_expunged.contains(uid), "{mailbox}: UID {uid} is lost");
    }
    // What is gone stays gone.
    let gone: Vec<u64> = known.maybe_expunged.iter().copied().filter(|uid| !present.contains(uid)).collect();
    known.expunged.extend(gone);
    known.maybe_expunged.retain(|uid| !present.contains(uid));
}

/// Every acknowledged message is in every INBOX, and nothing nobody sent.
fn check_ids(name: &str, inbox: &Known, book: &Book) {
    let ids: BTreeSet<String> = inbox.messages.values().map(|(id, _)| id.clone()).collect();
    let acknowledged = book.acknowledged.lock().expect("no panic");
    let tried = book.tried.lock().expect("no panic");
    assert!(acknowledged.is_subset(&ids), "{name} lost {:?}", acknowledged.difference(&ids).collect::<Vec<_>>());
    assert!(ids.is_subset(&tried), "{name} has {:?}", ids.difference(&tried).collect::<Vec<_>>());
}

/// A conversation ends with the server, never with a refusal.
fn ended(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        assert_ne!(error.kind(), io::ErrorKind::Other, "{error}");
    }
}

fn live(server: &mut Server, round: u64, dice: &mut Dice, inbox: &mut Known, copies: &mut Known, book: &Book) {
    let kill_after = Duration::from_millis(LOAD_MS.0 + dice.below(LOAD_MS.1 - LOAD_MS.0));
    let mut changes = Dice::new(dice.below(u64::MAX));
    thread::scope(|scope| {
        let running = &*server;
        for client in 0..DELIVERERS {
            scope.spawn(move || ended(deliver(running, round, client, book)));
        }
        scope.spawn(move || ended(change(running, &mut changes, inbox, copies, book)));
        thread::sleep(kill_after);
        running.signal("KILL");
    });
    server.kill();
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs());
    eprintln!("seed {seed}");
    let (began, mut dice) = (Instant::now(), Dice::new(seed));
    let mut server = Server::start(Setup::new(Io::IoUring, &[Door::Mx, Door::Lmtp, Door::Imap]));
    let book = Book::default();
    let [mut ada, mut ben, mut copies] = [(); 3].map(|()| Known::default());
    Imap::login(server.connect(Door::Imap), "ada").expect("logged in").ok(&format!("CREATE {COPIES}"));
    for round in 0..ROUNDS {
        live(&mut server, round, &mut dice, &mut ada, &mut copies, &book);
        server.set_io(if round % 2 == 0 { Io::Epoll } else { Io::IoUring });
        server.run();
        server.fsck();
        let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
        check(&mut imap, "INBOX", &mut ada, true);
        check(&mut imap, COPIES, &mut copies, false);
        let mut imap = Imap::login(server.connect(Door::Imap), "ben").expect("logged in");
        check(&mut imap, "INBOX", &mut ben, true);
        check_ids("ada", &ada, &book);
        check_ids("ben", &ben, &book);
    }
    let (delivered, copied) = (book.acknowledged.lock().expect("no panic").len(), book.copies.load(Ordering::SeqCst));
    eprintln!("{ROUNDS} kills, {delivered} messages, {copied} copies in {:?}", began.elapsed());
    assert!(delivered as u64 > ROUNDS && copied as u64 > ROUNDS, "there was load");
}
