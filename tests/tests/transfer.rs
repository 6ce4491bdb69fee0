//! Mail moved in and out: every format gives back every octet, flag and date; twice is as once; a kill costs nothing.
#![allow(clippy::disallowed_methods, reason = "a test waits for another process, so it reads the clock")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rockdove_tests::{Door, Imap, Io, Server, Setup, binary, program};

/// How long something may take that only hangs when it takes this long.
const WAIT: Duration = Duration::from_mins(2);
const FORMATS: [(&str, &str); 4] =
    [("mbox", "out.mbox"), ("maildir", "out.maildir"), ("eml", "out.eml"), ("tar.zst", "out.tar.zst")];

fn server() -> Server {
    Server::start(Setup::new(Io::IoUring, &[Door::Imap]))
}

fn address(name: &str) -> String {
    format!("{name}@{}", rockdove_tests::DOMAIN)
}

/// What an account has: of each mailbox the flags, dates and octets of its messages, sorted.
fn contents(server: &Server, name: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut imap = Imap::login(server.connect(Door::Imap), name).expect("logged in");
    let mut all = BTreeMap::new();
    for line in imap.ok("LIST \"\" *").with("LIST") {
        let mailbox = line.rsplit_once(" \"/\" ").expect("a mailbox").1.to_owned();
        let exists = imap.ok(&format!("EXAMINE {mailbox}"));
        if exists.with("EXISTS").iter().any(|line| line.starts_with("0 ")) {
            continue;
        }
        let mut messages = Vec::new();
        for response in imap.ok("FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])").untagged {
            if let Some(at) = response.windows(6).position(|window| window == b"FLAGS ") {
                messages.push(response[at..].to_vec());
            }
        }
        messages.sort();
        all.insert(mailbox, messages);
    }
    all
}

fn count(contents: &BTreeMap<String, Vec<Vec<u8>>>) -> usize {
    contents.values().map(Vec::len).sum()
}

/// Special uses and subscriptions of an account's mailboxes, also of those without messages.
fn listed(server: &Server, name: &str) -> Vec<String> {
    let mut imap = Imap::login(server.connect(Door::Imap), name).expect("logged in");
    let mut all = imap.ok("LIST \"\" * RETURN (SUBSCRIBED SPECIAL-USE)").with("LIST");
    all.sort();
    all
}

/// An account with messages that formats and programs trip over, in mailboxes with names that file systems do not like.
fn fill(server: &Server, name: &str) {
    let mut imap = Imap::login(server.connect(Door::Imap), name).expect("logged in");
    for mailbox in ["Work/2026", "Work/.hidden", "\"a b &- c\"", "Entw&APw-rfe", "\"con.\"", "work"] {
        imap.ok(&format!("CREATE {mailbox}"));
    }
    let huge = [b"Subject: huge\r\n\r\n".to_vec(), b"0123456789abcdef\r\n".repeat(400_000)].concat();
    let odd: [(&str, &[u8]); 16] = [
        ("INBOX (\\Seen \\Flagged $Forwarded blue) \"17-Jul-1996 02:44:25 -0700\"", b"Subject: one\r\n\r\nbody\r\n"),
        (
            "INBOX (\\Deleted \\Draft \\Answered) \"17-Jul-2020 02:44:25 +0530\"",
            b"Subject: \xff\xfe\r\n\r\n8-bit \xe4\r\n",
        ),
        ("INBOX \"01-Jan-1970 00:00:00 +0000\"", b"Subject: from\r\n\r\nFrom here\r\n>From there\r\n>>From\r\n"),
        ("INBOX \"01-Jan-2030 00:00:00 +0000\"", b"\r\n\r\nFrom a Thu Nov 26 10:00:00 2026\r\n\r\n"),
        ("INBOX", b"bare\rcr\nand\n\rlf\r\r\n\n\nFrom x\n"),
        ("INBOX", b"From first line\r\nSubject: x\r\n\r\nno end"),
        ("INBOX", b"no header at all"),
        ("INBOX", b"x"),
        ("INBOX", b"\r\n"),
        ("INBOX", b"Status: RO\r\nX-Status: F\r\nX-Keywords: a b\r\nX-Rockdove-Message: {}\r\n\r\nx\r\n"),
        ("INBOX (\\Seen) \"17-Jul-1996 02:44:25 -0700\"", b"Subject: twice\r\n\r\n"),
        ("INBOX (\\Seen) \"17-Jul-1996 02:44:25 -0700\"", b"Subject: twice\r\n\r\n"),
        ("Work/2026 (red)", &huge),
        ("Work/.hidden", b"Subject: hidden\r\n\r\n"),
        ("\"a b &- c\"", b"Subject: abc\r\n\r\n"),
        ("Entw&APw-rfe (\\Draft)", b"Subject: draft\r\n\r\n"),
    ];
    for (place, message) in odd {
        imap.try_append(place, message).expect("stored");
    }
}

#[test]
fn every_format_gives_everything_back_and_twice_is_as_once() {
    let server = server();
    fill(&server, "ada");
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    for command in
        ["CREATE Empty/deep", "CREATE Old (USE (\\Archive))", "SUBSCRIBE Old", "SUBSCRIBE INBOX", "SUBSCRIBE Work/2026"]
    {
        imap.ok(command);
    }
    // A NUL gets in as a file; over IMAP only BINARY takes it.
    let nul = server.path("nul");
    fs::create_dir(&nul).expect("a folder");
    fs::write(nul.join("1.eml"), b"Subject: nul\r\n\r\na\0b\r\n").expect("written");
    server.rockdove(&["import", &address("ada"), &nul.to_string_lossy(), "--into", "Nul"], "").ok();
    let expected = contents(&server, "ada");
    assert_eq!(count(&expected), 17, "{expected:?}");
    let expected_list = listed(&server, "ada");
    for (mailbox, attribute) in
        [("Empty/deep", ""), ("Old", "\\Archive"), ("Old", "\\Subscribed"), ("INBOX", "\\Subscribed")]
    {
        let is = |line: &&String| line.ends_with(&format!(" {mailbox}")) && line.contains(attribute);
        assert!(expected_list.iter().any(|line| is(&line)), "{mailbox} {attribute}: {expected_list:?}");
    }
    for (format, file) in FORMATS {
        let name = format.split('.').next().expect("a name");
        server.add_account(name);
        let dest = server.path(file).to_string_lossy().into_owned();
        let printed = server.rockdove(&["export", &address("ada"), &dest], "").ok();
        assert_eq!(printed, format!("17 messages exported to {dest}\n"));
        let again = server.rockdove(&["export", &address("ada"), &dest, "--format", format], "");
        assert_eq!(again.code, Some(1), "an export is not overwritten");
        let import = ["import", &address(name), &dest];
        let dry = server.rockdove(&[&import[..], &["--dry-run"]].concat(), "").ok();
        assert!(
            dry.starts_with("17 messages (") && dry.ends_with(" would be imported, 0 were there already\n"),
            "{dry}"
        );
        assert_eq!(count(&contents(&server, name)), 0, "{format}: only counted");
        let printed = server.rockdove(&import, "").ok();
        assert!(
            printed.starts_with("17 messages (") && printed.ends_with(" imported, 0 were there already\n"),
            "{printed}"
        );
        assert_eq!(contents(&server, name), expected, "{format}");
        assert_eq!(listed(&server, name), expected_list, "{format}: mailboxes");
        let printed = server.rockdove(&import, "").ok();
        assert_eq!(printed, "0 messages (0 octets) imported, 17 were there already\n", "{format}");
        assert_eq!(contents(&server, name), expected, "{format}, twice");
    }
}

/// What an mbox file of so many messages has.
fn many(path: &Path, messages: usize) {
    let mut text = Vec::new();
    for number in 0..messages {
        write!(text, "From x Thu Nov 26 10:00:00 2026\nSubject: {number}\n\n{}\n", "line\n".repeat(200))
            .expect("written");
    }
    fs::write(path, text).expect("written");
}

fn start(server: &Server, args: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.arg("--config").arg(server.config_path()).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

fn stored(server: &Server) -> u64 {
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    imap.try_ok("STATUS many (MESSAGES)").map_or(0, |reply| {
        let line = reply.with("STATUS").join("");
        let number: String =
            line.rsplit("MESSAGES ").next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        number.parse().expect("a number")
    })
}

/// Waits until some messages are there, and says how many.
fn await_some(server: &Server, more_than: u64) -> u64 {
    let began = Instant::now();
    loop {
        let there = stored(server);
        if there > more_than {
            return there;
        }
        assert!(began.elapsed() < WAIT, "nothing is imported");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_import_and_a_killed_server_lose_and_double_nothing() {
    const MESSAGES: u64 = 6_000;
    let mut server = server();
    let file = server.path("many.mbox");
    many(&file, usize::try_from(MESSAGES).expect("small"));
    let (ada, file) = (address("ada"), file.to_string_lossy().into_owned());
    let import = ["import", &*ada, &*file];
    let mut child = start(&server, &import);
    let there = await_some(&server, 0);
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(there < MESSAGES, "it was killed in the middle");
    // The server may still be storing what it had sent, up to a batch of 200: the next one begins behind that.
    let mut child = start(&server, &import);
    await_some(&server, there + 200);
    server.kill();
    assert_eq!(child.wait().expect("ended").code(), Some(1), "an import that lost its server says so");
    server.run();
    let there = stored(&server);
    assert!(there < MESSAGES, "it was killed in the middle");
    let printed = server.rockdove(&import, "").ok();
    assert!(printed.starts_with(&format!("{} messages (", MESSAGES - there)), "{there} were there: {printed}");
    assert!(printed.ends_with(&format!(" imported, {there} were there already\n")), "{printed}");
    assert_eq!(stored(&server), MESSAGES);
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    imap.ok("EXAMINE many");
    let mut subjects: Vec<u64> = imap
        .ok("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        .untagged
        .iter()
        .map(|response| {
            let text = String::from_utf8_lossy(response).into_owned();
            text.split("Subject: ")
                .nth(1)
                .and_then(|rest| rest.trim_end_matches(')').trim().parse().ok())
                .expect("a number")
        })
        .collect();
    subjects.sort_unstable();
    assert_eq!(subjects, (0..MESSAGES).collect::<Vec<_>>());
}

#[test]
fn what_is_refused_is_told_and_the_rest_is_there() {
    let server = server();
    let folder = server.path("mail");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("1.eml"), b"").expect("written");
    fs::write(folder.join("2.eml"), b"Subject: small\r\n\r\n").expect("written");
    fs::write(folder.join("3.eml"), b"0123456789abcde\n".repeat(20_000)).expect("written");
    server.rockdove(&["account", "quota", &address("ada"), "100 KiB"], "").ok();
    let ran = server.rockdove(&["import", &address("ada"), &folder.to_string_lossy()], "");
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.starts_with("1 messages (18 octets) imported"), "{}", ran.out);
    assert!(ran.err.contains("not imported: 2"), "{}", ran.err);
    assert_eq!(count(&contents(&server, "ada")), 1);
    let missing = server.rockdove(&["import", &address("nobody"), &folder.to_string_lossy()], "");
    assert_eq!((missing.code, missing.err.contains("there is no such account")), (Some(1), true), "{}", missing.err);
    let missing = server.rockdove(&["export", &address("ada"), "x.mbox", "--mailbox", "Nowhere"], "");
    assert_eq!((missing.code, missing.err.contains("no mailbox Nowhere")), (Some(1), true), "{}", missing.err);
}

#[test]
fn python_reads_what_is_exported_and_writes_what_is_imported() {
    let server = server();
    let (mbox, maildir) = (server.path("box"), server.path("dir"));
    let script = "
import mailbox, sys
box = mailbox.mbox(sys.argv[1])
dir = mailbox.Maildir(sys.argv[2])
for n, flags in enumerate(['', 'S', 'FRS']):
    m = mailbox.mboxMessage(b'Subject: %d\\n\\nFrom me\\n' % n); m.set_flags({'S': 'RO', 'FRS': 'ROFA'}.get(flags, '')); box.add(m)
    m = mailbox.MaildirMessage(b'Subject: %d\\n\\nFrom me\\n' % n); m.set_flags(flags); m.set_subdir('cur' if flags else 'new')
    m.set_date(1700000000); dir.add(m)
dir.add_folder('A.B').add(b'Subject: sub\\n\\n')
box.close()";
    let (mbox, maildir) = (mbox.to_string_lossy().into_owned(), maildir.to_string_lossy().into_owned());
    program("python3", &["-B", "-c", script, &mbox, &maildir], b"").ok();
    server.rockdove(&["import", &address("ada"), &mbox, "--into", "Python"], "").ok();
    server.rockdove(&["import", &address("ada"), &maildir], "").ok();
    let there = contents(&server, "ada");
    let counts: BTreeMap<&str, usize> = there.iter().map(|(name, messages)| (name.as_str(), messages.len())).collect();
    assert_eq!(counts, BTreeMap::from([("A/B", 1), ("INBOX", 3), ("Python", 3)]));
    for messages in [&there["INBOX"], &there["Python"]] {
        let text = String::from_utf8_lossy(&messages.concat()).into_owned();
        assert_eq!(text.matches("\\Seen").count(), 2, "{text}");
        assert_eq!((text.matches("\\Flagged").count(), text.matches("\\Answered").count()), (1, 1), "{text}");
        assert_eq!(text.matches("\r\n\r\nFrom me\r\n").count(), 3, "{text}");
    }
    let (mbox, maildir) = (server.path("out.mbox"), server.path("out.maildir"));
    let (mbox, maildir) = (mbox.to_string_lossy().into_owned(), maildir.to_string_lossy().into_owned());
    server.rockdove(&["export", &address("ada"), &mbox], "").ok();
    server.rockdove(&["export", &address("ada"), &maildir, "--mailbox", "A/B", "--mailbox", "inbox"], "").ok();
    let script = "
import mailbox, sys
print(sorted((m['Subject'], ''.join(sorted(m.get_flags()))) for m in mailbox.mbox(sys.argv[1] + '/INBOX.mbox')))
dir = mailbox.Maildir(sys.argv[2], create=False)
print(sorted((m['Subject'], m.get_flags(), int(m.get_date())) for m in dir))
print([(name, len(dir.get_folder(name))) for name in dir.list_folders()])";
    let printed = program("python3", &["-B", "-c", script, &mbox, &maildir], b"").ok();
    assert_eq!(
        printed,
        "[('0', 'O'), ('1', 'OR'), ('2', 'AFOR')]\n\
         [('0', '', 1700000000), ('1', 'S', 1700000000), ('2', 'FRS', 1700000000)]\n[('A.B', 1)]\n"
    );
}

#[test]
fn mail_is_pulled_from_another_server_once() {
    let theirs = Server::start(Setup::new(Io::IoUring, &[Door::Imap, Door::Imaps]));
    fill(&theirs, "ada");
    let expected = contents(&theirs, "ada");
    let ours = server();
    let secret = ours.path("secret");
    fs::write(&secret, format!("{}\n", rockdove_tests::PASSWORD)).expect("written");
    let (ada, ben) = (address("ada"), address("ben"));
    let certificate = theirs.certificate_path();
    let (secret, trusted) = (secret.to_string_lossy().into_owned(), certificate.to_string_lossy().into_owned());
    let tls = theirs.address(Door::Imaps).to_string();
    let starttls = theirs.address(Door::Imap).to_string();
    let login = ["--user", &*ada, "--password-file", &*secret, "--tls-trust", &*trusted];
    let pull = |more: &[&str]| ours.rockdove(&[&["import"], more, &login[..]].concat(), "");
    let none = ours.rockdove(&[&["import", &*ada, "--imap", &*tls], &login[..4]].concat(), "");
    assert_eq!(none.code, Some(1), "a certificate of nobody: {}", none.out);
    let dry = pull(&[&ada, "--imap", &tls, "--dry-run"]).ok();
    assert!(dry.starts_with("16 messages ("), "{dry}");
    let printed = pull(&[&ada, "--imap", &tls]).ok();
    assert!(
        printed.starts_with("16 messages (") && printed.ends_with(" imported, 0 were there already\n"),
        "{printed}"
    );
    assert_eq!(contents(&ours, "ada"), expected);
    let again = pull(&[&ada, "--imap", &tls]).ok();
    assert_eq!(again, "0 messages (0 octets) imported, 0 were there already\n", "nothing is fetched again");
    Imap::login(theirs.connect(Door::Imap), "ada")
        .expect("logged in")
        .try_append("Work/2026", b"new\r\n")
        .expect("stored");
    let again = pull(&[&ada, "--imap", &tls]).ok();
    assert_eq!(again, "1 messages (5 octets) imported, 0 were there already\n");
    fs::remove_dir_all(ours.path("data/imports")).expect("notes");
    let again = pull(&[&ada, "--imap", &tls]).ok();
    assert_eq!(again, "0 messages (0 octets) imported, 17 were there already\n", "without the notes");
    assert_eq!(contents(&ours, "ada"), contents(&theirs, "ada"));
    // An account that was made anew gets everything, whatever is noted.
    ours.rockdove(&["account", "remove", &ada], "").ok();
    ours.add_account("ada");
    let anew = pull(&[&ada, "--imap", &tls]).ok();
    assert!(anew.starts_with("17 messages ("), "{anew}");
    assert_eq!(contents(&ours, "ada"), contents(&theirs, "ada"));
    let part = pull(&[&ben, "--imap", &starttls, "--tls", "starttls", "--mailbox", "Work/2026", "--into", "Old"]).ok();
    assert!(part.starts_with("2 messages ("), "{part}");
    assert_eq!(contents(&ours, "ben").keys().collect::<Vec<_>>(), ["Old/Work/2026"]);
}

#[test]
fn the_door_is_for_administrators_and_takes_no_password() {
    let server = server();
    let mut socket = UnixStream::connect(server.path("data/imap.sock")).expect("the door");
    let mut lines = BufReader::new(socket.try_clone().expect("a socket")).lines();
    let mut say = |command: &str| {
        socket.write_all(format!("{command}\r\n").as_bytes()).expect("sent");
        lines.next().expect("a line").expect("read")
    };
    let greeting = say("a LOGIN ada@rockdove.test secret");
    assert!(greeting.contains(" AUTH=EXTERNAL") && !greeting.contains("AUTH=PLAIN"), "{greeting}");
    let refused = say("b AUTHENTICATE EXTERNAL bm9ib2R5");
    assert!(refused.starts_with("a NO"), "{refused}");
    let refused = say("c AUTHENTICATE EXTERNAL YWRhQHJvY2tkb3ZlLnRlc3Q=");
    assert!(refused.starts_with("b NO [AUTHENTICATIONFAILED]"), "{refused}");
    let accepted = say("d NOOP");
    assert!(accepted.starts_with("c OK"), "{accepted}");
    let mut imap = Imap::greet(server.connect(Door::Imap)).expect("a greeting");
    let reply = imap.ok("CAPABILITY");
    assert!(!reply.with("CAPABILITY").join("").contains("EXTERNAL"));
    assert!(imap.try_ok("AUTHENTICATE EXTERNAL YWRhQHJvY2tkb3ZlLnRlc3Q=").is_err(), "elsewhere it is not known");
}

#[test]
fn one_administrator_at_a_time_is_in_an_account() {
    let server = server();
    let folder = server.path("mail");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("1.eml"), b"Subject: one\r\n\r\n").expect("written");
    let enter = || {
        let mut socket = UnixStream::connect(server.path("data/imap.sock")).expect("the door");
        socket.write_all(b"a AUTHENTICATE EXTERNAL YWRhQHJvY2tkb3ZlLnRlc3Q=\r\n").expect("sent");
        let mut lines = BufReader::new(socket.try_clone().expect("a socket")).lines();
        lines.next().expect("a line").expect("read");
        (socket, lines.next().expect("a line").expect("read"))
    };
    let (first, entered) = enter();
    assert!(entered.starts_with("a OK"), "{entered}");
    let (second, refused) = enter();
    assert!(refused.starts_with("a NO [INUSE]"), "{refused}");
    let mut child = start(&server, &["import", &address("ada"), &folder.to_string_lossy()]);
    let other = server.rockdove(&["import", &address("ben"), &folder.to_string_lossy()], "").ok();
    assert!(other.starts_with("1 messages"), "another account is free: {other}");
    assert_eq!(child.try_wait().expect("a state"), None, "it waits until the account is free");
    assert_eq!(count(&contents(&server, "ada")), 0);
    drop((first, second));
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    assert_eq!(count(&contents(&server, "ada")), 1);
}
