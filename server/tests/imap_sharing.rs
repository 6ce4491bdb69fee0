//! Shared mailboxes over IMAP: two users, session, front and engine.

mod here;

use here::{Client, NOW, SEED, Server, TICK};
use rockdove::{
    fronts::imap::{self, ImapFront},
    net::listeners::Protocol,
};
use rockdove_engine::Command;
use rockdove_imap::ImapSession;
use rockdove_mail::MetadataEntry;

type ImapClient = Client<ImapSession, ImapFront>;

const ALICE: &str = "alice@here.example";
const BOB: &str = "bob@here.example";
/// The name of alice's mailbox for others.
const LISTS: &str = "\"Other Users/alice@here.example/lists\"";

fn login(server: &Server, login: &str) -> ImapClient {
    let listener = Server::listener(Protocol::Imap);
    let mut client = Client::new(server, imap::open(&server.services, &listener, &Server::peer(), SEED, TICK));
    client.say("");
    ok(&mut client, &format!("LOGIN {login} secret"));
    client
}

fn ok(client: &mut ImapClient, command: &str) -> String {
    let replies = client.say(&format!("a {command}\n"));
    let at = replies.rfind("a OK").unwrap_or_else(|| panic!("{command}: {replies}"));
    replies[..at].replace("\r\n", "\n")
}

fn tagged(client: &mut ImapClient, command: &str) -> String {
    client.say(&format!("a {command}\n")).lines().last().unwrap_or_default().to_owned()
}

fn append(client: &mut ImapClient, mailbox: &str, subject: &str) -> String {
    let text = format!("Subject: {subject}\n\nbody of {subject}\n");
    let octets = text.replace('\n', "\r\n").len();
    client.say(&format!("a APPEND {mailbox} (\\Seen \\Flagged) {{{octets}+}}\n{text}\n"))
}

/// Appends, and waits until the message is stored.
fn store(server: &Server, client: &mut ImapClient, mailbox: &str, subject: &str) {
    let mut heard = append(client, mailbox, subject);
    while !heard.contains("a OK [APPENDUID") {
        server.services.engine.commit_pending(std::time::Duration::from_millis(1));
        heard += &client.hear();
    }
}

/// Hears until this is said.
fn listen(client: &mut ImapClient, what: &str) -> String {
    let mut heard = String::new();
    for _ in 0..10_000 {
        heard += &client.hear();
        if heard.contains(what) {
            return heard;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("{what} was never said: {heard}")
}

/// Everything is as it should be below.
fn check(server: &Server) {
    let mut findings = Vec::new();
    server.services.engine.fsck(false, &mut |finding| findings.push(finding.to_string())).expect("checked");
    assert_eq!(findings, [""; 0]);
}

#[test]
fn a_mailbox_is_shared_used_and_taken_back() {
    let server = Server::new();
    let (mut alice, mut bob) = (login(&server, ALICE), login(&server, BOB));
    append(&mut alice, "lists", "one");
    ok(&mut alice, &format!("SETACL lists {BOB} lris"));
    let acl = ok(&mut alice, "GETACL lists");
    assert_eq!(acl, format!("* ACL lists {ALICE} lrswipkxteacd {BOB} lrsi\n"));
    let listed = ok(&mut bob, "LIST \"\" \"Other Users/*\" RETURN (MYRIGHTS STATUS (MESSAGES))");
    assert_eq!(
        listed,
        format!("* LIST (\\HasNoChildren) \"/\" {LISTS}\n* MYRIGHTS {LISTS} lrsi\n* STATUS {LISTS} (MESSAGES 1)\n")
    );
    ok(&mut bob, &format!("SUBSCRIBE {LISTS}"));
    assert_eq!(ok(&mut bob, "LSUB \"\" \"Other*\""), format!("* LSUB () \"/\" {LISTS}\n"));
    let selected = ok(&mut bob, &format!("SELECT {LISTS}"));
    assert!(selected.contains("* 1 EXISTS") && selected.contains("PERMANENTFLAGS (\\Seen)]"), "{selected}");
    assert!(ok(&mut bob, "FETCH 1 BODY[TEXT]").contains("body of one"));
    assert!(append(&mut bob, LISTS, "two").contains("a OK [APPENDUID "));
    let flags = ok(&mut bob, "FETCH 2 FLAGS");
    assert!(flags.contains("* 2 FETCH (FLAGS (\\Seen \\Recent))") || flags.contains("(FLAGS (\\Seen))"), "{flags}");
    assert!(ok(&mut bob, "SEARCH BODY \"of two\"").contains("* SEARCH 2"));
    assert!(tagged(&mut bob, "STORE 1 +FLAGS (\\Deleted)").starts_with("a NO [NOPERM]"));
    assert!(tagged(&mut bob, "EXPUNGE").starts_with("a NO [NOPERM]"));
    assert!(tagged(&mut bob, "MOVE 1 INBOX").starts_with("a NO [NOPERM]"));
    assert!(tagged(&mut bob, "COPY 1 INBOX").starts_with("a OK [COPYUID "));
    assert_eq!(server.messages(BOB, "INBOX"), ["Subject: one\r\n\r\nbody of one\r\n"]);
    assert!(tagged(&mut bob, &format!("GETACL {LISTS}")).starts_with("a NO [NOPERM]"));
    assert!(ok(&mut bob, &format!("GETQUOTAROOT {LISTS}")).starts_with(&format!("* QUOTAROOT {LISTS} {ALICE}\n")));
    // Rights that are taken away end what is open, and then there is nothing to see.
    ok(&mut alice, &format!("DELETEACL lists {BOB}"));
    assert!(bob.say("a NOOP\n").contains("* BYE"));
    let mut bob = login(&server, BOB);
    assert_eq!(ok(&mut bob, "LIST \"\" \"Other Users/*\""), "");
    assert_eq!(tagged(&mut bob, &format!("SELECT {LISTS}")), "a NO [NONEXISTENT] there is no such mailbox");
    check(&server);
}

#[test]
fn what_cannot_be_seen_answers_like_what_is_not_there() {
    let server = Server::new();
    let mut bob = login(&server, BOB);
    append(&mut bob, "INBOX", "mine");
    let commands = [
        "SELECT ?",
        "EXAMINE ?",
        "STATUS ? (MESSAGES)",
        "DELETE ?",
        "RENAME ? x",
        "RENAME ? ?",
        "MYRIGHTS ?",
        "GETACL ?",
        "SETACL ? anyone lr",
        "DELETEACL ? anyone",
        "LISTRIGHTS ? anyone",
        "GETQUOTAROOT ?",
        "CREATE ?",
        "RENAME INBOX ?",
        "SUBSCRIBE ?",
        "UNSUBSCRIBE ?",
        "LIST \"\" ?",
        "APPEND ? {3+}\nabc",
    ];
    let places =
        ["alice@here.example/lists", "alice@here.example/nothing", "nobody@here.example/lists", "alice@here.example"];
    for command in commands {
        let answers = places.map(|place| {
            let said = command.replace('?', &format!("\"Other Users/{place}\""));
            bob.say(&format!("a {said}\n")).replace(place, "?")
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{command}: {answers:#?}");
    }
    ok(&mut bob, "SELECT INBOX");
    for command in ["COPY 1", "MOVE 1"] {
        let answers = places.map(|place| tagged(&mut bob, &format!("{command} \"Other Users/{place}\"")));
        assert!(answers.iter().all(|answer| answer.starts_with("a NO [TRYCREATE]")), "{command}: {answers:?}");
    }
    check(&server);
}

#[test]
fn several_mailboxes_are_searched_at_once_as_far_as_they_may_be_read() {
    let server = Server::new();
    let (mut alice, mut bob) = (login(&server, ALICE), login(&server, BOB));
    for mailbox in ["lists/rust", "lists/rust/old", "lists/secret"] {
        ok(&mut alice, &format!("CREATE {mailbox}"));
    }
    for (mailbox, subject) in [
        ("lists", "doves"),
        ("lists", "ravens"),
        ("lists/rust", "doves"),
        ("lists/rust/old", "doves"),
        ("lists/secret", "doves"),
        ("INBOX", "doves"),
    ] {
        append(&mut alice, mailbox, subject);
    }
    append(&mut bob, "INBOX", "doves");
    for (mailbox, rights) in [("lists", "lr"), ("lists/rust", "lr"), ("lists/rust/old", "r"), ("lists/secret", "l")] {
        ok(&mut alice, &format!("SETACL {mailbox} {BOB} {rights}"));
    }
    let search = |client: &mut ImapClient, command: &str| {
        let said = ok(client, command).replace("Other Users/alice@here.example", "~");
        let of = |line: &str| {
            let (_, rest) = line.split_once(" MAILBOX ").expect("a mailbox");
            let (mailbox, rest) = rest.split_once(" UIDVALIDITY ").expect("its UIDVALIDITY");
            format!("{} {}", mailbox.trim_matches('"'), rest.split_once(") UID ").expect("UIDs").1)
        };
        said.lines().map(of).collect::<Vec<_>>().join(", ")
    };
    let tree = "subtree \"Other Users/alice@here.example/lists\"";
    for _ in 0..2 {
        let all = search(&mut bob, &format!("ESEARCH IN (personal {tree}) SUBJECT DOVES"));
        assert_eq!(all, "INBOX ALL 1, ~/lists ALL 1, ~/lists/rust ALL 1");
        let counts = search(&mut bob, &format!("ESEARCH IN ({tree}) RETURN (COUNT MAX) BODY \"body of\""));
        assert_eq!(counts, "~/lists MAX 2 COUNT 2, ~/lists/rust MAX 1 COUNT 1");
        assert_eq!(search(&mut bob, &format!("ESEARCH IN ({tree}) 2:9")), "~/lists ALL 2");
        assert_eq!(
            search(&mut alice, "ESEARCH IN (subtree-one lists) TEXT doves"),
            "lists ALL 1, lists/rust ALL 1, lists/secret ALL 1"
        );
        for login in [ALICE, BOB] {
            while server.services.engine.catch_up(server.account(login), false).expect("a slice").more {}
        }
    }
    ok(&mut bob, "SELECT INBOX");
    ok(&mut alice, &format!("DELETEACL lists {BOB}"));
    let left = search(&mut bob, &format!("ESEARCH IN (selected {tree} mailboxes {LISTS}) ALL"));
    assert_eq!(left, "INBOX ALL 1, ~/lists/rust ALL 1");
    check(&server);
}

#[test]
fn public_mailboxes_and_quotas_of_others() {
    let server = Server::new();
    let run = |command| server.services.engine.execute(NOW, command).expect("done");
    run(Command::SetPublicAccount { domain: "here.example".into(), address: Some(ALICE.into()) });
    run(Command::CreateGroup { group: "administrators".into() });
    run(Command::SetGroupMember { group: "administrators".into(), address: ALICE.into(), member: true });
    let (mut alice, mut bob) = (login(&server, ALICE), login(&server, BOB));
    ok(&mut alice, "SETACL lists anyone lrik");
    assert_eq!(ok(&mut bob, "LIST \"\" Public/%"), "* LIST (\\HasNoChildren) \"/\" Public/lists\n");
    ok(&mut bob, "CREATE Public/lists/rust");
    assert!(ok(&mut alice, "MYRIGHTS lists/rust").contains("lrswipkxtea"));
    assert_eq!(tagged(&mut bob, "CREATE Public/other"), "a NO [NOPERM] you may not do that");
    assert!(tagged(&mut bob, "RENAME Public/lists/rust mine").starts_with("a NO [NOPERM]"));
    assert!(ok(&mut bob, "NAMESPACE").contains("((\"\" \"/\")) ((\"Other Users/\" \"/\")) ((\"Public/\" \"/\"))"));
    // Quotas.
    assert!(ok(&mut bob, "GETQUOTAROOT INBOX").ends_with("* QUOTA bob@here.example (STORAGE 0 3)\n"));
    assert_eq!(tagged(&mut bob, &format!("SETQUOTA {BOB} ()")), "a NO [NOPERM] you may not do that");
    assert_eq!(tagged(&mut bob, &format!("GETQUOTA {ALICE}")), "a NO [NONEXISTENT] there is no such quota root");
    let set = ok(&mut alice, &format!("SETQUOTA {BOB} (STORAGE 10 MESSAGE 1 MAILBOX 7)"));
    assert_eq!(set, format!("* QUOTA {BOB} (STORAGE 0 10 MESSAGE 0 1 MAILBOX 6 7)\n"));
    assert!(tagged(&mut alice, &format!("SETQUOTA {BOB} (ANNOTATION 1)")).starts_with("a NO [CANNOT]"));
    assert!(append(&mut bob, "INBOX", "one").contains("a OK "));
    assert!(append(&mut bob, "INBOX", "two").contains("a NO [OVERQUOTA]"));
    ok(&mut bob, "CREATE seventh");
    assert!(tagged(&mut bob, "CREATE eighth").starts_with("a NO [OVERQUOTA]"));
    check(&server);
}

#[test]
fn notify_tells_of_ones_own_and_of_shared_mailboxes() {
    let server = Server::new();
    let (mut alice, mut bob) = (login(&server, ALICE), login(&server, BOB));
    ok(&mut alice, &format!("SETACL INBOX {BOB} l"));
    ok(
        &mut bob,
        "NOTIFY SET (personal (MessageNew MessageExpunge MailboxName SubscriptionChange)) \
         (subtree \"Other Users\" (MessageNew MessageExpunge FlagChange MailboxName))",
    );
    assert_eq!(bob.hear(), "", "nothing has happened");
    ok(&mut alice, &format!("SETACL lists {BOB} lr"));
    assert!(listen(&mut bob, "lists").contains(&format!("* LIST (\\HasNoChildren) \"/\" {LISTS}\r\n")));
    store(&server, &mut alice, "lists", "one");
    let news = listen(&mut bob, "STATUS");
    assert!(
        news.contains(&format!("* STATUS {LISTS} (UIDVALIDITY ")) && news.contains("UIDNEXT 2 MESSAGES 1)"),
        "{news}"
    );
    store(&server, &mut alice, "INBOX", "hidden");
    assert_eq!(bob.hear(), "", "what may not be read says nothing");
    ok(&mut alice, &format!("DELETEACL lists {BOB}"));
    assert!(listen(&mut bob, "lists").contains(&format!("* LIST (\\NonExistent) \"/\" {LISTS}\r\n")));
    // Another connection of bob.
    let mut phone = login(&server, BOB);
    store(&server, &mut phone, "INBOX", "two");
    assert!(listen(&mut bob, "STATUS").contains("* STATUS INBOX (UIDVALIDITY "));
    ok(&mut phone, "CREATE Work");
    assert!(listen(&mut bob, "Work").contains("* LIST (\\HasNoChildren) \"/\" Work\r\n"));
    ok(&mut phone, "SUBSCRIBE Work");
    assert!(listen(&mut bob, "Work").contains("* LIST (\\Subscribed \\HasNoChildren) \"/\" Work\r\n"));
    ok(&mut phone, "RENAME Work Play");
    assert!(listen(&mut bob, "Play").contains("* LIST (\\HasNoChildren) \"/\" Play (\"OLDNAME\" (Work))\r\n"));
    ok(&mut bob, "NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange))");
    ok(&mut bob, "SELECT INBOX");
    store(&server, &mut phone, "INBOX", "three");
    assert!(listen(&mut bob, "FETCH").ends_with("* 2 FETCH (UID 2)\r\n"));
    drop(bob);
    assert_eq!(server.services.hub.watchers(), 0, "watches go with their connection");
    check(&server);
}

#[test]
fn notify_tells_of_annotations() {
    let server = Server::new();
    let (mut alice, mut bob) = (login(&server, ALICE), login(&server, BOB));
    ok(&mut alice, &format!("SETACL lists {BOB} lr"));
    ok(
        &mut bob,
        "NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange)) \
         (subtree \"Other Users\" (MailboxMetadataChange))",
    );
    assert_eq!(bob.hear(), "", "nothing has happened");
    ok(&mut alice, "SETMETADATA lists (/shared/comment \"ours\")");
    assert!(listen(&mut bob, "METADATA").ends_with(&format!("* METADATA {LISTS} /shared/comment\r\n")));
    ok(&mut alice, "SETMETADATA lists (/private/comment \"hers\")");
    ok(&mut alice, "SETMETADATA INBOX (/shared/comment \"hers\")");
    assert_eq!(bob.hear(), "", "what may not be seen says nothing");
    let mut phone = login(&server, BOB);
    ok(&mut phone, "SETMETADATA \"\" (/private/comment \"his\")");
    assert!(listen(&mut bob, "METADATA").ends_with("* METADATA \"\" /private/comment\r\n"));
    let account = server.account(ALICE);
    let entries = vec![(MetadataEntry::parse("/shared/comment").expect("an entry"), Some("maintenance".into()))];
    server.services.engine.execute(NOW, Command::Annotate { account, mailbox: None, entries }).expect("set");
    assert!(listen(&mut bob, "METADATA").ends_with("* METADATA \"\" /shared/comment\r\n"));
    drop((bob, phone));
    check(&server);
}
