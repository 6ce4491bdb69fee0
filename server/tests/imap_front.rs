//! IMAP from typed commands to stored bytes and back, without sockets: session, front, engine in memory.

mod here;

use here::{Client, NOW, SEED, Server, TICK};
use rockdove::{
    fronts::imap::{self, ImapFront},
    net::listeners::Protocol,
};
use rockdove_engine::{Command, EngineOptions};
use rockdove_imap::ImapSession;

type ImapClient = Client<ImapSession, ImapFront>;

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@here.example";

impl Server {
    fn connect(&self) -> ImapClient {
        let listener = Self::listener(Protocol::Imap);
        let mut client = Client::new(self, imap::open(&self.services, &listener, &Self::peer(), SEED, TICK));
        assert!(client.say("").starts_with("* OK"));
        client
    }

    fn login(&self, login: &str) -> ImapClient {
        let mut client = self.connect();
        client.ok(&format!("LOGIN {login} secret"));
        client
    }

    /// Logged in, with INBOX selected.
    fn inbox(&self) -> ImapClient {
        let mut client = self.login(ALICE);
        client.ok("SELECT INBOX");
        client
    }
}

impl ImapClient {
    /// Carries out a command that succeeds, and gives its untagged responses.
    fn ok(&mut self, command: &str) -> String {
        let replies = self.say(&format!("a {command}\n"));
        let at = replies.rfind("a OK").unwrap_or_else(|| panic!("{command}: {replies}"));
        replies[..at].to_owned()
    }

    /// Carries out a command and gives its tagged response.
    fn tagged(&mut self, command: &str) -> String {
        let replies = self.say(&format!("a {command}\n"));
        replies.lines().last().unwrap_or_default().to_owned()
    }

    /// Hears until this is said.
    fn listen(&mut self, what: &str) -> String {
        let mut heard = String::new();
        while !heard.contains(what) {
            heard += &self.hear();
            std::thread::yield_now();
        }
        heard
    }

    fn append(&mut self, mailbox: &str, message: &str) -> String {
        let octets = message.replace('\n', "\r\n").len();
        self.say(&format!("a APPEND {mailbox} {{{octets}+}}\n{message}\n"))
    }
}

fn mail(subject: &str) -> String {
    format!("From: Ann <ann@far.example>\nSubject: {subject}\n\nbody of {subject}\n")
}

#[test]
fn a_message_is_appended_fetched_flagged_copied_and_expunged() {
    let server = Server::new();
    let mut client = server.login(ALICE);
    assert!(client.append("INBOX", &mail("one")).contains("a OK [APPENDUID "));
    assert_eq!(server.messages(ALICE, "INBOX"), [mail("one").replace('\n', "\r\n")]);
    let selected = client.ok("SELECT INBOX");
    for part in ["* 1 EXISTS\r\n", "* 1 RECENT\r\n", "[UIDNEXT 2]", "[UNSEEN 1]", "[PERMANENTFLAGS ("] {
        assert!(selected.contains(part), "{part}: {selected}");
    }
    let fetched =
        client.ok("FETCH 1 (UID RFC822.SIZE ENVELOPE BODY[] BODY.PEEK[1]<5.2> BODY[HEADER.FIELDS (SUBJECT)])");
    let whole = mail("one").replace('\n', "\r\n");
    for part in [
        format!("RFC822.SIZE {}", whole.len()),
        format!("BODY[] {{{}}}\r\n{whole}", whole.len()),
        "(NIL \"one\" ((\"Ann\" NIL \"ann\" \"far.example\"))".to_owned(),
        "BODY[1]<5> \"of\"".to_owned(),
        "Subject: one\r\n\r\n".to_owned(),
        "\\Seen".to_owned(),
    ] {
        assert!(fetched.contains(&part) || fetched.contains(&part.replace("\"of\"", "{2}\r\nof")), "{part}: {fetched}");
    }
    let stored = client.ok("STORE 1 +FLAGS (\\Flagged $Work)");
    assert!(stored.contains("$Work") && stored.contains("\\Flagged"), "{stored}");
    assert!(client.tagged("COPY 1 lists").starts_with("a OK [COPYUID "));
    assert!(client.tagged("COPY 1 nowhere").starts_with("a NO [TRYCREATE]"));
    assert_eq!(server.messages(ALICE, "lists"), [whole]);
    assert_eq!(client.ok("SEARCH KEYWORD $Work SUBJECT ONE"), "* SEARCH 1\r\n");
    client.ok("STORE 1 +FLAGS.SILENT \\Deleted");
    assert!(client.ok("EXPUNGE").contains("* 1 EXPUNGE\r\n"));
    assert!(server.messages(ALICE, "INBOX").is_empty());
    assert_eq!(client.ok("UID SEARCH ALL").trim_end(), "* SEARCH");
    assert!(client.ok("STATUS lists (MESSAGES UNSEEN RECENT)").contains("(MESSAGES 1 UNSEEN 0 RECENT 1)"));
}

#[test]
fn what_is_found_is_ordered_threaded_saved_and_previewed() {
    let server = Server::new();
    let mut client = server.inbox();
    for text in [
        "Date: 3 Jan 2026 12:00:00 +0000\nSubject: beta\nMessage-ID: <b@x>\n\nSecond text.\n",
        "Date: 1 Jan 2026 12:00:00 +0000\nSubject: Alpha\nMessage-ID: <a@x>\n\nFirst text.\n",
        "Date: 5 Jan 2026 12:00:00 +0000\nSubject: Re: beta\nReferences: <b@x>\n\n> old\nThird text.\n",
    ] {
        client.append("INBOX", text);
    }
    for _ in 0..2 {
        assert_eq!(client.ok("SORT (DATE) UTF-8 ALL"), "* SORT 2 1 3\r\n");
        assert_eq!(client.ok("SORT (SUBJECT REVERSE DATE) UTF-8 ALL"), "* SORT 2 3 1\r\n");
        assert_eq!(client.ok("THREAD REFERENCES UTF-8 ALL"), "* THREAD (2)(1 3)\r\n");
        assert_eq!(
            client.ok("UID SORT RETURN (SAVE COUNT ALL) (REVERSE DATE) UTF-8 SUBJECT BETA"),
            "* ESEARCH (TAG \"a\") UID COUNT 2 ALL 3,1\r\n"
        );
        assert_eq!(
            client.ok("FETCH $ (PREVIEW)"),
            "* 1 FETCH (PREVIEW \"Second text.\")\r\n* 3 FETCH (PREVIEW \"Third text.\")\r\n"
        );
        assert_eq!(client.ok("SEARCH YOUNGER 3600 NOT OLDER 3600"), "* SEARCH 1 2 3\r\n");
        assert_eq!(client.ok("SEARCH OLDER 3600"), "* SEARCH\r\n");
        let account = server.account(ALICE);
        while server.services.engine.catch_up(account, false).expect("a slice").more {}
    }
    assert_eq!(client.ok("FETCH 2 (PREVIEW (LAZY))"), "* 2 FETCH (PREVIEW \"First text.\")\r\n");
}

#[test]
fn what_is_mistyped_is_found_and_the_most_relevant_comes_first() {
    let server = Server::new();
    let mut client = server.inbox();
    for text in [
        "Subject: Agenda\n\nThe meetnig is at noon.\n",
        "Subject: Re: meeting\n\nThe meeting is at noon.\n",
        "Subject: Lunch\nContent-Type: text/plain; charset=utf-8\n\nIn the caf\u{e9}, no meeting.\n",
    ] {
        client.append("INBOX", text);
    }
    for _ in 0..2 {
        assert_eq!(client.ok("SEARCH TEXT meeting"), "* SEARCH 2 3\r\n");
        assert_eq!(client.ok("SEARCH FUZZY BODY CAFE"), "* SEARCH 3\r\n");
        let found = client.ok("SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT Meeting");
        assert_eq!(found, "* ESEARCH (TAG \"a\") ALL 1:3 RELEVANCY (1 100 43)\r\n");
        assert_eq!(client.ok("SORT (RELEVANCY) UTF-8 FUZZY TEXT Meeting"), "* SORT 2 3 1\r\n");
        assert_eq!(client.ok("SORT (REVERSE RELEVANCY) UTF-8 FUZZY TEXT Meeting"), "* SORT 1 3 2\r\n");
        assert_eq!(client.ok("SEARCH NOT FUZZY BODY meetign"), "* SEARCH 1\r\n");
        let account = server.account(ALICE);
        while server.services.engine.catch_up(account, false).expect("a slice").more {}
    }
}

#[test]
fn changes_of_others_are_told_and_own_ones_are_not_repeated() {
    let server = Server::new();
    let mut one = server.inbox();
    let mut other = server.inbox();
    other.append("INBOX", &mail("one"));
    other.append("INBOX", &mail("two"));
    let news = one.ok("NOOP");
    assert!(news.contains("* 2 EXISTS\r\n"), "{news}");
    let stored = one.ok("STORE 1:2 +FLAGS \\Flagged");
    assert_eq!(stored.matches("FETCH").count(), 2, "{stored}");
    assert_eq!(one.ok("NOOP"), "", "its own change is known");
    let news = other.ok("NOOP");
    assert_eq!(news.matches("\\Flagged").count(), 2, "{news}");
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    other.ok("EXPUNGE");
    assert!(one.ok("FETCH 1:2 FLAGS").contains("* 2 FETCH"), "numbers stay during FETCH");
    assert!(one.ok("NOOP").contains("* 1 EXPUNGE\r\n"));
    assert!(one.ok("FETCH 1 UID").contains("* 1 FETCH (UID 2)"));
}

#[test]
fn idle_hears_of_a_change_at_once_and_holds_no_watch_afterwards() {
    let server = Server::new();
    let mut idle = server.inbox();
    let mut other = server.inbox();
    assert!(idle.say("a IDLE\n").starts_with("+ "));
    assert_eq!(server.services.hub.watchers(), 1);
    assert_eq!(idle.hear(), "");
    for number in 1..=3 {
        other.append("INBOX", &mail("news"));
        let news = idle.hear();
        assert!(news.contains(&format!("* {number} EXISTS\r\n")), "{news}");
    }
    other.append("lists", &mail("elsewhere"));
    assert_eq!(idle.hear(), "", "another mailbox");
    assert!(idle.say("DONE\n").contains("a OK"));
    assert_eq!(server.services.hub.watchers(), 0);
    assert!(idle.ok("FETCH 3 UID").contains("* 3 FETCH (UID 3)"));
    idle.say("a IDLE\n");
    drop(idle);
    assert_eq!(server.services.hub.watchers(), 0, "it goes with its connection");
}

#[test]
fn a_change_between_the_last_news_and_the_watch_is_not_missed() {
    let server = Server::new();
    let mut idle = server.inbox();
    let mut other = server.inbox();
    other.append("INBOX", &mail("early"));
    let replies = idle.say("a IDLE\n") + &idle.hear();
    assert!(replies.contains("* 1 EXISTS\r\n"), "{replies}");
    other.ok("RENAME lists Letters");
    other.ok("STORE 1 +FLAGS (\\Answered)");
    assert!(idle.hear().contains("\\Answered"));
}

#[test]
fn recent_belongs_to_the_first_that_selects_and_examine_claims_nothing() {
    let server = Server::new();
    server.login(ALICE).append("INBOX", &mail("one"));
    assert!(server.login(ALICE).ok("STATUS INBOX (RECENT)").contains("(RECENT 1)"));
    assert!(server.login(ALICE).ok("EXAMINE INBOX").contains("* 1 RECENT\r\n"));
    assert!(server.inbox().ok("FETCH 1 FLAGS").contains("\\Recent"));
    assert!(server.login(ALICE).ok("SELECT INBOX").contains("* 0 RECENT\r\n"));
    assert!(server.login(ALICE).ok("STATUS INBOX (RECENT)").contains("(RECENT 0)"));
}

#[test]
fn mailboxes_are_managed_and_one_that_is_deleted_under_a_session_is_gone() {
    let server = Server::new();
    let mut client = server.login(ALICE);
    client.ok("CREATE Projects/Dove");
    assert!(client.tagged("CREATE lists").starts_with("a NO [ALREADYEXISTS]"));
    assert!(client.tagged("DELETE nothing").starts_with("a NO [NONEXISTENT]"));
    assert!(client.tagged("DELETE INBOX").starts_with("a NO"));
    client.ok("RENAME Projects Work");
    client.ok("SUBSCRIBE Work/Dove");
    assert!(client.ok("LSUB \"\" Work/*").contains("Work/Dove"));
    let listed = client.ok("LIST \"\" *");
    assert!(listed.contains("Work/Dove") && listed.contains("\\Sent"), "{listed}");
    assert!(client.tagged("SELECT nothing").starts_with("a NO [NONEXISTENT]"));
    client.ok("SELECT Work/Dove");
    server.login(ALICE).ok("DELETE Work/Dove");
    assert!(client.say("b NOOP\n").ends_with("* BYE the selected mailbox has been deleted\r\n"));
}

#[test]
fn quota_holds_for_append_and_copy() {
    let server = Server::new();
    let mut client = server.login(BOB);
    let replies = client.append("INBOX", &"x".repeat(5_000));
    assert!(replies.contains("a NO [OVERQUOTA]"), "{replies}");
    let replies = client.say("a APPEND INBOX {5000}\n");
    assert!(replies.contains("a NO [OVERQUOTA]"), "refused before the octets come: {replies}");
    assert!(client.append("INBOX", &"x".repeat(2_500)).contains("a OK"));
    client.ok("SELECT INBOX");
    assert!(client.tagged("COPY 1 Archive").starts_with("a NO [OVERQUOTA]"));
    assert!(client.tagged("MOVE 1 Archive").starts_with("a OK"));
    assert_eq!(server.messages(BOB, "Archive").len(), 1);
    assert!(server.messages(BOB, "INBOX").is_empty());
    assert!(client.append("nowhere", "x").contains("a NO [TRYCREATE]"));
}

#[test]
fn one_message_replaces_another_within_the_quota() {
    let server = Server::new();
    let mut client = server.inbox();
    client.ok(&format!("APPEND INBOX {{1000+}}\n{}", "x".repeat(1000)));
    client.ok(&format!("APPEND Drafts {{900+}}\n{}", "y".repeat(900)));
    let address = ALICE.to_owned();
    server.services.engine.execute(NOW, Command::SetQuota { address, quota_bytes: Some(2_000) }).expect("limited");
    let replies = client.ok(&format!("REPLACE 1 INBOX (\\Seen) {{1100+}}\n{}", "z".repeat(1100)));
    assert!(replies.contains("* OK [APPENDUID ") && replies.contains(" 2] the replacement"), "{replies}");
    assert!(replies.contains("* 1 EXPUNGE") && replies.contains("* 1 EXISTS"), "{replies}");
    assert!(client.ok("FETCH 1 (UID FLAGS RFC822.SIZE)").contains("UID 2 FLAGS (\\Seen \\Recent) RFC822.SIZE 1100"));
    let refused = client.tagged(&format!("REPLACE 1 Drafts {{1101+}}\n{}", "z".repeat(1101)));
    assert!(refused.starts_with("a NO [OVERQUOTA]"), "{refused}");
    assert!(client.ok("STATUS Drafts (MESSAGES)").contains("MESSAGES 1"));
    let replies = client.ok("UID REPLACE 2 Drafts {5+}\nhello");
    assert!(replies.contains("* 1 EXPUNGE") && !replies.contains("EXISTS"), "{replies}");
    assert!(client.ok("STATUS Drafts (MESSAGES)").contains("MESSAGES 2"));
    assert!(client.tagged("REPLACE 1 nowhere {5}").starts_with("a BAD"));
}

#[test]
fn a_connection_forgets_who_it_was_for() {
    let server = Server::new();
    let mut client = server.inbox();
    client.ok("APPEND INBOX {1+}\nx");
    client.ok("ENABLE IMAP4rev2");
    assert!(client.ok("SEARCH SAVEDSINCE 1-Jan-2020").contains("* ESEARCH (TAG \"a\") ALL 1"));
    assert!(client.ok("FETCH 1 SAVEDATE").contains("SAVEDATE \""));
    assert!(client.ok("EXAMINE Sent").contains("* LIST (\\Subscribed \\Sent \\HasNoChildren) \"/\" Sent"));
    client.ok("CREATE \"Entwürfe\"");
    assert!(client.ok("LIST \"\" Ent*").contains("\"Entwürfe\""));
    client.ok("SELECT \"Entwürfe\"");
    client.ok("UNAUTHENTICATE");
    assert!(client.tagged("SELECT INBOX").starts_with("a BAD"));
    client.ok(&format!("LOGIN {BOB} secret"));
    assert!(client.ok("LIST \"\" *").lines().all(|line| !line.contains("Ent")));
    assert!(client.ok("SELECT INBOX").contains("* 0 EXISTS"));
    client.ok("UNAUTHENTICATE");
    client.ok(&format!("LOGIN {ALICE} secret"));
    assert!(client.ok("LIST \"\" Ent*").contains("Entw&APw-rfe"));
}

#[test]
fn large_messages_stream_in_and_out() {
    let server = Server::new();
    let mut client = server.inbox();
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef\r\n";
    let message = format!("Subject: large\r\n\r\n{}", line.repeat(40_000));
    assert!(client.say(&format!("a APPEND INBOX (\\Draft) {{{}}}\n", message.len())).starts_with('+'));
    for chunk in message.as_bytes().chunks(16_001) {
        client.send(chunk.to_vec());
    }
    assert!(client.say("\n").contains("a OK [APPENDUID"));
    assert_eq!(server.messages(ALICE, "INBOX"), std::slice::from_ref(&message));
    let fetched = client.ok("FETCH 1 (FLAGS BODY.PEEK[])");
    assert!(fetched.contains(&format!("BODY[] {{{}}}\r\n{message}", message.len())) && fetched.contains("\\Draft"));
    // Given up in the middle: nothing is left of it.
    let mut cut = server.login(ALICE);
    cut.say(&format!("a APPEND INBOX {{{}}}\n", message.len()));
    cut.say(&line.repeat(10_000).replace("\r\n", "\n"));
    drop(cut);
    assert_eq!(server.messages(ALICE, "INBOX").len(), 1);
}

#[test]
fn parts_are_found_by_their_numbers() {
    let server = Server::new();
    let mut client = server.inbox();
    let message = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nhello\n--b\n\
                   Content-Type: message/rfc822\n\nSubject: inner\n\ninner text\n--b--\n";
    client.append("INBOX", message);
    let fetched =
        client.ok("FETCH 1 (BODY.PEEK[1] BODY.PEEK[2.HEADER] BODY.PEEK[2.TEXT] BODY.PEEK[1.MIME] BODY.PEEK[3])");
    for part in ["hello", "Subject: inner\r\n\r\n", "inner text", "Content-Type: text/plain\r\n\r\n", "BODY[3] NIL"] {
        assert!(fetched.contains(part), "{part}: {fetched}");
    }
    let structure = client.ok("FETCH 1 BODYSTRUCTURE");
    assert!(structure.contains("\"plain\"") || structure.contains("\"PLAIN\""), "{structure}");
}

#[test]
fn what_changed_since_is_shown_and_conflicting_stores_are_refused() {
    let server = Server::new();
    let mut client = server.inbox();
    for subject in ["one", "two", "three"] {
        client.append("INBOX", &mail(subject));
    }
    client.ok("NOOP");
    let fetched = client.ok("FETCH 2 MODSEQ");
    let modseq: u64 =
        fetched.split("MODSEQ (").nth(1).and_then(|rest| rest.split(')').next()?.parse().ok()).expect("a number");
    let changed = client.ok(&format!("FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})"));
    assert!(changed.contains("* 3 FETCH") && !changed.contains("* 1 FETCH"), "{changed}");
    server.inbox().ok("STORE 2 +FLAGS (\\Flagged)");
    let tagged = client.tagged(&format!("STORE 1:2 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Answered)"));
    assert!(tagged.contains("[MODIFIED 2]"), "{tagged}");
    let status = client.ok("STATUS INBOX (HIGHESTMODSEQ)");
    let selected = server.login(ALICE).ok("EXAMINE INBOX");
    let highest = status.split("HIGHESTMODSEQ ").nth(1).and_then(|rest| rest.split(')').next()).expect("a number");
    assert!(selected.contains(&format!("[HIGHESTMODSEQ {highest}]")), "{selected} {status}");
}

#[test]
fn a_wrong_password_opens_nothing_and_a_removed_account_is_gone() {
    let server = Server::new();
    let mut client = server.connect();
    assert!(client.tagged("LOGIN alice@here.example wrong").starts_with("a NO"));
    assert!(client.tagged("SELECT INBOX").starts_with("a BAD"));
    let mut bob = server.login(BOB);
    bob.ok("SELECT INBOX");
    bob.say("a IDLE\n");
    server.services.engine.execute(NOW, Command::RemoveAccount { address: BOB.into() }).expect("removed");
    let heard = bob.hear();
    assert!(heard.contains("* BYE"), "{heard}");
}

#[test]
fn accounts_that_left_memory_are_read_again_and_wake_who_waits() {
    let server = Server::with(EngineOptions { segment_cache_bytes_max: 0, ..EngineOptions::default() });
    let leave = || {
        // Whoever comes into memory makes all others leave, unless a job is just looking at them.
        let engine = &server.services.engine;
        while engine.mailboxes_cached(server.account(ALICE)).is_some() {
            server.login(BOB).append("INBOX", "x");
        }
    };
    let mut client = server.inbox();
    server.login(ALICE).append("INBOX", &mail("one"));
    leave();
    assert!(client.ok("NOOP").contains("* 1 EXISTS\r\n"));
    leave();
    assert!(client.ok("FETCH 1 FLAGS").contains("* 1 FETCH"));
    leave();
    assert!(client.say("a IDLE\n").starts_with("+ "));
    leave();
    server.login(ALICE).append("INBOX", &mail("two"));
    leave();
    assert!(client.listen("* 2 EXISTS").contains("* 2 EXISTS\r\n"));
    client.say("DONE\n");
    leave();
    assert_eq!(client.ok("SEARCH SUBJECT two"), "* SEARCH 2\r\n");
    leave();
    assert!(client.ok("STATUS INBOX (MESSAGES)").contains("MESSAGES 2"));
}

#[test]
fn a_damaged_message_hides_no_other() {
    let server = Server::new();
    let mut client = server.login(ALICE);
    for subject in ["one", "two", "three"] {
        client.append("INBOX", &mail(subject));
    }
    server.damage(server.account(ALICE), 2);
    client.ok("SELECT INBOX");
    for command in ["FETCH 1:3 ENVELOPE", "FETCH 1:3 BODY.PEEK[]", "FETCH 1:3 BODY.PEEK[1]"] {
        let replies = client.say(&format!("a {command}\n"));
        assert!(replies.contains("* 1 FETCH") && replies.contains("* 3 FETCH"), "{command}: {replies}");
        assert!(!replies.contains("* 2 FETCH") && replies.contains("a NO [CORRUPTION]"), "{command}: {replies}");
    }
    assert!(client.ok("FETCH 1:3 (FLAGS RFC822.SIZE)").contains("* 2 FETCH"), "what needs no record is there");
}

#[test]
fn who_meets_a_busy_server_is_told_to_try_later() {
    let server = Server::new();
    let mut client = server.inbox();
    client.append("INBOX", &mail("one"));
    server.services.storage.stop();
    for command in ["FETCH 1 BODY.PEEK[]", "STORE 1 +FLAGS (\\Seen)", "SEARCH ALL", "COPY 1 lists", "CREATE New"] {
        assert!(client.tagged(command).starts_with("a NO [UNAVAILABLE]"), "{command}");
    }
    assert!(client.append("INBOX", &mail("two")).contains("a NO [UNAVAILABLE]"));
    assert!(client.ok("FETCH 1 FLAGS").contains("* 1 FETCH"), "memory is not busy");
}

/// What a client knows from all it was told: the flags of each message, by sequence number.
#[derive(Default)]
struct Picture(Vec<Option<String>>);

impl Picture {
    fn told(&mut self, replies: &str) {
        for line in replies.lines() {
            let mut words = line.splitn(4, ' ');
            let (Some("*"), Some(number), Some(what)) = (words.next(), words.next(), words.next()) else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                "EXISTS" => {
                    assert!(number >= self.0.len(), "messages go by EXPUNGE only: {line}");
                    self.0.resize(number, None);
                }
                "EXPUNGE" => drop(self.0.remove(number - 1)),
                "FETCH" => self.0[number - 1] = Some(flags(line)),
                _ => {}
            }
        }
    }
}

/// The flags in a FETCH response, sorted, without `\Recent`, which differs between sessions.
fn flags(line: &str) -> String {
    let inside = line.split("FLAGS (").nth(1).and_then(|rest| rest.split(')').next()).expect("flags");
    let mut flags: Vec<&str> = inside.split(' ').filter(|flag| !flag.is_empty() && *flag != "\\Recent").collect();
    flags.sort_unstable();
    flags.join(" ")
}

#[test]
fn who_has_been_told_everything_sees_what_a_fresh_client_sees() {
    for seed in 1..=24_u64 {
        history(seed);
    }
}

fn history(seed: u64) {
    let server = Server::new();
    let mut random = seed;
    let mut pick = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).expect("small") % below
    };
    let mut clients: Vec<(ImapClient, Picture)> = (0..3).map(|_| (server.inbox(), Picture::default())).collect();
    let words = ["\\Seen", "\\Deleted", "\\Flagged", "$A", "$B", ""];
    for step in 0..60 {
        let who = pick(3);
        let (client, picture) = &mut clients[who];
        let count = picture.0.len();
        let set = format!("{}:{}", 1 + pick(count.max(1)), 1 + pick(count.max(1)));
        let flag = words[pick(words.len())];
        let how = ["", "+", "-"][pick(3)];
        let command = match pick(9) {
            0 | 1 => format!("APPEND INBOX ({flag}) {{1+}}\nx"),
            2 | 3 if count > 0 => format!("STORE {set} {how}FLAGS ({flag})"),
            4 if count > 0 => format!("STORE {set} {how}FLAGS.SILENT ({flag})"),
            5 if count > 0 => format!("FETCH {set} (FLAGS)"),
            6 if count > 0 => format!("MOVE {set} {}", ["lists", "INBOX"][pick(2)]),
            7 => "EXPUNGE".to_owned(),
            8 => "COPY 1:* INBOX".to_owned(),
            _ => "NOOP".to_owned(),
        };
        let replies = client.say(&format!("a {command}\n"));
        assert!(!replies.contains("a BAD") || count == 0, "{seed} {step} {command}: {replies}");
        let silent = command.contains("FLAGS.SILENT");
        picture.told(&replies);
        if silent {
            // The client would do to its own picture what it asked for; this one asks again instead.
            picture.0.iter_mut().for_each(|flags| *flags = None);
        }
    }
    for (client, picture) in &mut clients {
        picture.told(&client.say("a NOOP\n"));
        let unknown: Vec<usize> = (0..picture.0.len()).filter(|at| picture.0[*at].is_none()).collect();
        for at in unknown {
            picture.told(&client.ok(&format!("FETCH {} FLAGS", at + 1)));
        }
        let mut fresh = Picture::default();
        let mut other = server.login(ALICE);
        fresh.told(&other.ok("EXAMINE INBOX"));
        if !fresh.0.is_empty() {
            fresh.told(&other.ok("FETCH 1:* FLAGS"));
        }
        assert_eq!(picture.0, fresh.0, "{seed}");
    }
}
