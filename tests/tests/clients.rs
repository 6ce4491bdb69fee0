//! Mail programs that others wrote.

use std::{fs, path::PathBuf};

use rockdove_tests::{DOMAIN, Door, Io, PASSWORD, Pop3, Ran, Server, Setup, Smtp, client_script, on_both, program};

on_both!(python_smtplib, python_poplib, python_imaplib, curl_sends_and_reads, swaks_sends, mbsync_goes_both_ways,);

const ALL: [Door; 9] = [
    Door::Mx,
    Door::Submission,
    Door::Submissions,
    Door::Lmtp,
    Door::LmtpUnix,
    Door::Imap,
    Door::Imaps,
    Door::Pop3,
    Door::Pop3s,
];

/// What a script needs to know of the server, as JSON.
fn described(server: &Server, doors: &[(&str, Door)]) -> String {
    let mut facts = serde_json::json!({
        "certificate": server.certificate_path(),
        "lmtp_socket": server.path("lmtp.sock"),
        "user": format!("ada@{DOMAIN}"),
        "password": PASSWORD,
    });
    for (name, door) in doors {
        facts[name] = server.address(*door).port().into();
    }
    facts.to_string()
}

fn deliver(server: &Server, name: &str, messages: impl IntoIterator<Item = String>) {
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    for message in messages {
        assert_eq!(smtp.deliver(&[name], message.as_bytes()).expect("delivered"), [250]);
    }
}

fn subjects(server: &Server, name: &str) -> Vec<String> {
    let messages = Pop3::inbox(server, name);
    let texts = messages.iter().map(|message| String::from_utf8_lossy(message).into_owned());
    texts.filter_map(|text| Some(text.split_once("Subject: ")?.1.split_once("\r\n")?.0.to_owned())).collect()
}

fn python_smtplib(io: Io) {
    let doors = [Door::Mx, Door::Submission, Door::Submissions, Door::Lmtp, Door::LmtpUnix, Door::Pop3];
    let server = Server::start(Setup::new(io, &doors));
    let facts = described(
        &server,
        &[("mx", Door::Mx), ("submission", Door::Submission), ("submissions", Door::Submissions), ("lmtp", Door::Lmtp)],
    );
    client_script("smtp_client.py", &[&facts]).ok();
    let mut expected = vec!["mx", "mx tls"];
    expected.extend([
        "submission PLAIN",
        "submission LOGIN",
        "submission SCRAM-SHA-256",
        "submissions",
        "lmtp",
        "lmtp",
    ]);
    assert_eq!(subjects(&server, "ben"), expected);
}

fn python_poplib(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Pop3, Door::Pop3s]));
    deliver(&server, "ada", (1..=6).map(|number| format!("Subject: {number}\r\n\r\n.\r\n..two dots\r\nend\r\n")));
    let facts = described(&server, &[("pop3", Door::Pop3), ("pop3s", Door::Pop3s)]);
    client_script("pop3_client.py", &[&facts]).ok();
}

fn python_imaplib(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Imap, Door::Imaps]));
    deliver(&server, "ada", (1..=5).map(|number| format!("Subject: number {number}\r\n\r\nbody {number}\r\n")));
    let facts = described(&server, &[("mx", Door::Mx), ("imap", Door::Imap), ("imaps", Door::Imaps)]);
    client_script("imap_client.py", &[&facts]).ok();
}

fn curl(server: &Server, args: &[&str]) -> Ran {
    let certificate = server.certificate_path().to_string_lossy().into_owned();
    let user = format!("ada@{DOMAIN}:{PASSWORD}");
    let common = ["--silent", "--show-error", "--max-time", "30", "--cacert"];
    let all = [&common[..], &[&certificate, "--user", &user], args].concat();
    program("curl", &all, b"")
}

fn curl_sends_and_reads(io: Io) {
    let server = Server::start(Setup::new(io, &ALL));
    let message = server.path("message");
    fs::write(&message, "Subject: by curl\r\n\r\n.\r\nhello\r\n").expect("written");
    let (message, ada) = (message.to_string_lossy().into_owned(), format!("ada@{DOMAIN}"));
    let send = |scheme: &str, door: Door, more: &[&str]| {
        let url = format!("{scheme}://localhost:{}/client.example", server.address(door).port());
        let args =
            [more, &["--url", &url, "--mail-from", &ada, "--mail-rcpt", &ada, "--upload-file", &message]].concat();
        curl(&server, &args).ok();
    };
    send("smtp", Door::Submission, &["--ssl-reqd"]);
    send("smtps", Door::Submissions, &["--login-options", "AUTH=LOGIN"]);
    let read = |scheme: &str, door: Door, path: &str, more: &[&str]| {
        let url = format!("{scheme}://localhost:{}/{path}", server.address(door).port());
        curl(&server, &[more, &[&url]].concat()).ok()
    };
    let end = "Subject: by curl\r\n\r\n.\r\nhello\r\n";
    assert!(read("pop3", Door::Pop3, "1", &["--ssl-reqd"]).ends_with(end));
    assert!(read("pop3s", Door::Pop3s, "2", &[]).ends_with(end));
    assert_eq!(read("pop3s", Door::Pop3s, "", &[]).lines().count(), 2);
    assert!(read("imap", Door::Imap, "INBOX;MAILINDEX=1", &["--ssl-reqd"]).ends_with(end));
    assert!(read("imaps", Door::Imaps, "INBOX;MAILINDEX=2", &[]).ends_with(end));
    assert!(read("imaps", Door::Imaps, "INBOX?SUBJECT%20CURL", &[]).contains("SEARCH 1 2"));
    curl(
        &server,
        &["--upload-file", &message, &format!("imaps://localhost:{}/INBOX", server.address(Door::Imaps).port())],
    )
    .ok();
    assert!(read("imaps", Door::Imaps, "INBOX;MAILINDEX=3", &[]).ends_with(end));
    assert!(read("imap", Door::Imap, "", &["--ssl-reqd"]).contains("INBOX"));
}

fn swaks_sends(io: Io) {
    let server = Server::start(Setup::new(io, &ALL));
    let (ada, ben) = (format!("ada@{DOMAIN}"), format!("ben@{DOMAIN}"));
    let port = |door: Door| server.address(door).port().to_string();
    let folder = server.certificate_path();
    let socket = server.path("lmtp.sock").to_string_lossy().into_owned();
    let send = |subject: &str, args: &[&str]| {
        let subject = format!("Subject: {subject}");
        let common = ["--timeout", "30", "--from", &ada, "--to", &ben, "--header", &subject];
        program("swaks", &[&common[..], args].concat(), b"").ok();
    };
    let trusted = ["--tls-verify", "--tls-ca-path", &folder.to_string_lossy()].map(str::to_owned);
    let trusted = trusted.each_ref().map(String::as_str);
    let at = |door| ["--server".to_owned(), "localhost".to_owned(), "--port".to_owned(), port(door)];
    let mut plan: Vec<(&str, Vec<String>)> = vec![("mx", at(Door::Mx).to_vec())];
    let with =
        |door, more: &[&str]| [&at(door)[..], &more.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()].concat();
    plan.push(("mx tls", with(Door::Mx, &["--tls"])));
    for mechanism in ["PLAIN", "LOGIN"] {
        let auth = ["--auth", mechanism, "--auth-user", &ada, "--auth-password", PASSWORD];
        plan.push((mechanism, with(Door::Submission, &[&["--tls"], &auth[..]].concat())));
        plan.push((mechanism, with(Door::Submissions, &[&["--tls-on-connect"], &auth[..]].concat())));
    }
    plan.push(("lmtp", with(Door::Lmtp, &["--protocol", "LMTP"])));
    plan.push(("lmtp socket", ["--socket", &socket, "--protocol", "LMTP"].map(str::to_owned).to_vec()));
    for (subject, args) in &plan {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let more = if args.iter().any(|arg| arg.starts_with("--tls")) { &trusted[..] } else { &[] };
        send(subject, &[&args[..], more].concat());
    }
    let expected: Vec<&str> = plan.iter().map(|(subject, _)| *subject).collect();
    assert_eq!(subjects(&server, "ben"), expected);
}

/// A local Maildir and how mbsync is told to keep it like the account.
struct Synced<'a> {
    server: &'a Server,
    tls: bool,
}

impl Synced<'_> {
    fn folder(&self) -> PathBuf {
        self.server.path(if self.tls { "maildir-tls" } else { "maildir" })
    }

    /// One run; what it said.
    fn run(&self) -> String {
        let folder = self.folder();
        fs::create_dir_all(&folder).expect("a folder");
        let security = if self.tls {
            format!("SSLType IMAPS\nCertificateFile {}", self.server.certificate_path().display())
        } else {
            "SSLType None\nAuthMechs LOGIN".to_owned()
        };
        let port = self.server.address(if self.tls { Door::Imaps } else { Door::Imap }).port();
        let folder = folder.display();
        let config = format!(
            "IMAPAccount server\nHost localhost\nPort {port}\nUser ada@{DOMAIN}\nPass \"{PASSWORD}\"\n{security}\n\n\
             IMAPStore far\nAccount server\n\n\
             MaildirStore near\nPath {folder}/\nInbox {folder}/INBOX\nSubFolders Verbatim\n\n\
             Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n"
        );
        let path = self.server.path("mbsyncrc");
        fs::write(&path, config).expect("written");
        let ran = program("mbsync", &["-V", "-c", &path.to_string_lossy(), "all"], b"");
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
        ran.out + &ran.err
    }

    /// Names and contents of the messages in a local folder.
    fn messages(&self, mailbox: &str) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for part in ["cur", "new"] {
            let Ok(entries) = fs::read_dir(self.folder().join(mailbox).join(part)) else { continue };
            for entry in entries {
                let path = entry.expect("entry").path();
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                all.push((format!("{part}/{name}"), fs::read_to_string(&path).expect("a message")));
            }
        }
        all.sort();
        all
    }

    /// The file of the message with this subject in INBOX.
    fn named(&self, subject: &str) -> String {
        let wanted = format!("Subject: {subject}\n");
        let messages = self.messages("INBOX");
        messages.into_iter().find(|(_, text)| text.contains(&wanted)).map(|(name, _)| name).expect("the message")
    }

    /// Sets a flag of a message as a mail reader does: in the name of its file.
    fn flag(&self, subject: &str, flag: char) {
        let from = self.named(subject);
        let seen = from.replace("new/", "cur/");
        let (name, flags) = seen.split_once(":2,").unwrap_or((&seen, ""));
        let mut flags: Vec<char> = flags.chars().chain([flag]).collect();
        flags.sort_unstable();
        let inbox = self.folder().join("INBOX");
        let to = format!("{name}:2,{}", flags.into_iter().collect::<String>());
        fs::rename(inbox.join(from), inbox.join(to)).expect("renamed");
    }
}

fn mbsync_goes_both_ways(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Mx, Door::Imap, Door::Imaps]));
    let message =
        |subject: &str| format!("Subject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\ntext of {subject}\r\n");
    deliver(&server, "ada", (1..=20).map(|number| message(&number.to_string())));
    let [near, mirror] = [Synced { server: &server, tls: false }, Synced { server: &server, tls: true }];
    near.run();
    assert_eq!(near.messages("INBOX").len(), 20);
    // A second run changes nothing on either side.
    let before = near.messages("INBOX");
    let said = near.run();
    assert_eq!(near.messages("INBOX"), before, "{said}");
    mirror.run();
    assert_eq!(mirror.messages("INBOX").len(), 20);

    // A flag and a new message from the near side, a removal too.
    near.flag("3", 'F');
    fs::remove_file(near.folder().join("INBOX").join(near.named("7"))).expect("removed");
    let written = near.folder().join("INBOX/new/1.written.here");
    fs::write(written, message("written").replace('\r', "")).expect("written");
    near.run();
    // And from the far side.
    deliver(&server, "ada", [message("delivered")]);
    mirror.run();
    let subjects = |synced: &Synced<'_>| -> Vec<String> {
        let messages = synced.messages("INBOX");
        let subject =
            |text: &str| text.split_once("Subject: ").and_then(|(_, rest)| Some(rest.split_once('\n')?.0.to_owned()));
        let mut all: Vec<String> = messages.iter().filter_map(|(_, text)| subject(text)).collect();
        all.sort();
        all
    };
    assert!(mirror.named("3").ends_with('F'), "the flag has gone round: {}", mirror.named("3"));
    let here = subjects(&mirror);
    assert!(!here.contains(&"7".to_owned()) && here.contains(&"written".to_owned()), "{here:?}");
    near.run();
    assert_eq!(subjects(&near), here, "both are like the account");
    assert_eq!(here.len(), 21);
    // A flag from the far side comes near.
    mirror.flag("5", 'S');
    mirror.run();
    near.run();
    assert!(near.named("5").ends_with('S'), "{}", near.named("5"));
}
