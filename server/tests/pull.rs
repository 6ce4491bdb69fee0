//! Mail is pulled from a real Dovecot, and from servers that break off.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use rockdove::{
    net::tls::{TlsDialer, self_signed},
    transfer::{
        Item, Place, Places, Source, TransferError,
        dial::{Protection, Secret, Server},
        imap::{ImapSettings, ImapSource},
    },
};
use rockdove_mail::{SpecialUse, sasl::Password};

const MESSAGE_OCTETS_MAX: u64 = 200_000;

struct Dovecot {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    imap: u16,
    imaps: u16,
}

impl Dovecot {
    fn start(folder: &Path) -> Self {
        let (chain, key) = self_signed(vec!["localhost".into()]).expect("a certificate");
        std::fs::write(folder.join("cert.pem"), chain).expect("written");
        std::fs::write(folder.join("key.pem"), key).expect("written");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pull/dovecot.py");
        let mut child = Command::new("python3")
            .args([&script, &folder.join("dovecot"), &folder.join("cert.pem"), &folder.join("key.pem")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("an output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let ports: serde_json::Value = serde_json::from_str(&line).expect("the ports; is dovecot-imapd installed?");
        let port = |name: &str| u16::try_from(ports[name].as_u64().expect("a port")).expect("a port");
        let (imap, imaps) = (port("imap"), port("imaps"));
        Self { child, input, output, imap, imaps }
    }

    fn tell(&mut self, what: &str) {
        let input = self.input.as_mut().expect("an input");
        input.write_all(format!("{what}\n").as_bytes()).expect("told");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        assert_eq!(line, "done\n");
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().expect("the end of Dovecot");
    }
}

fn settings(folder: &Path, port: u16, protection: Protection, password: &str) -> ImapSettings {
    ImapSettings {
        server: Server {
            host: "localhost".into(),
            port,
            protection,
            login: "ann".into(),
            authorize_as: None,
            secret: Secret::Password(Password::new(password.into())),
            message_octets_max: MESSAGE_OCTETS_MAX,
        },
        parallel: 3,
        only: Vec::new(),
        exclude: Vec::new(),
        state_file: folder.join("state.json"),
    }
}

fn open_source(settings: ImapSettings, places: &Places) -> Result<ImapSource, TransferError> {
    ImapSource::open(settings, &|mailbox| places.get(&mailbox.levels).copied())
}

/// Everything that comes, sorted, and what is passed over; the target says that everything is safe if `places` says
/// what it has.
fn pull(source: &mut ImapSource, places: &Places) -> (Vec<Item>, Vec<String>) {
    let (mut items, mut passed_over) = (Vec::new(), Vec::new());
    loop {
        match source.next() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => break,
            Err(TransferError::PassedOver { place, why }) => passed_over.push(format!("{place}: {why}")),
            Err(error) => panic!("{error}"),
        }
    }
    source.settled(items.len() as u64, places).expect("noted");
    items.sort_by(|a, b| (&a.mailbox, &a.octets).cmp(&(&b.mailbox, &b.octets)));
    (items, passed_over)
}

fn counts(items: &[Item]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item.mailbox.join("|")).or_default() += 1;
    }
    counts
}

fn everything(source: &ImapSource) -> Places {
    source.mailboxes().into_iter().map(|mailbox| (mailbox.levels, Place { uid_validity: 1, uid_next: 500 })).collect()
}

#[test]
fn from_dovecot() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut dovecot = Dovecot::start(folder.path());
    let roots = std::fs::read(folder.path().join("cert.pem")).expect("the certificate");
    let dialer = TlsDialer::new(Some(&roots)).expect("roots");
    let nothing = Places::new();

    let implicit = || settings(folder.path(), dovecot.imaps, Protection::Implicit(dialer.clone()), "pencil");
    let mut source = open_source(implicit(), &nothing).expect("a source");
    let all = everything(&source);
    assert_eq!(source.total().and_then(|total| total.messages), Some(255));
    let mailboxes = source.mailboxes();
    let find = |name: &str| mailboxes.iter().find(|mailbox| mailbox.levels.join("|") == name).expect("the mailbox");
    assert_eq!(find("Gesendet").special_use, Some(SpecialUse::Sent));
    assert!(find("Entwürfe").subscribed && !find("Empty").subscribed && find("Empty").selectable);
    let (items, passed_over) = pull(&mut source, &nothing);
    assert_eq!(passed_over, ["Lists, UID 1: the message has 300020 octets, and at most 200000 are taken"]);
    let wanted = [("Anew", 1), ("Entwürfe", 1), ("INBOX", 1), ("Lists|a b", 1), ("Many", 250)];
    assert_eq!(counts(&items), wanted.map(|(name, count)| (name.to_owned(), count)).into());
    let draft = items.iter().find(|item| item.mailbox == ["Entwürfe"]).expect("the draft");
    assert_eq!(draft.octets, b"Subject: \xc3\xa4\xff\r\n\r\nFrom 8-bit\r\n.\r\n");
    // A Maildir keeps the moment, and not its zone.
    assert_eq!(draft.internal_date.unix_s, 837_596_665);
    let inbox = items.iter().find(|item| item.mailbox == ["INBOX"]).expect("the first");
    let mut flags = inbox.flags.clone();
    flags.sort();
    assert_eq!(flags, ["$Forwarded", "\\Flagged", "\\Seen"]);
    drop(source);

    // Nothing was said to be safe, so everything comes again, by STARTTLS; now it is.
    let starttls = || settings(folder.path(), dovecot.imap, Protection::StartTls(dialer.clone()), "pencil");
    let mut source = open_source(starttls(), &all).expect("a source");
    // Notes are about a port, too: a login at another server is another account.
    assert_eq!(pull(&mut source, &all).0, items);
    drop(source);
    let mut source = open_source(starttls(), &all).expect("a source");
    assert_eq!(source.total().and_then(|total| total.messages), Some(1), "the one that is too large");
    assert_eq!(pull(&mut source, &all).0, []);
    drop(source);

    let starttls = (dovecot.imap, Protection::StartTls(dialer.clone()));
    let again = |starttls: &(u16, Protection)| settings(folder.path(), starttls.0, starttls.1.clone(), "pencil");
    dovecot.tell("more");
    dovecot.tell("anew");
    let mut source = open_source(again(&starttls), &all).expect("a source");
    let subjects: Vec<_> = pull(&mut source, &all).0.into_iter().map(|item| item.octets).collect();
    assert_eq!(subjects, [b"Subject: new\r\n\r\n".to_vec(), b"Subject: more\r\n\r\n".to_vec()]);
    drop(source);

    // A target that was made anew gets everything again.
    let mut anew = all.clone();
    anew.insert(vec!["INBOX".into()], Place { uid_validity: 2, uid_next: 1 });
    let mut chosen = again(&starttls);
    chosen.only = vec!["inbox".into(), "Lists".into()];
    chosen.exclude = vec!["Lists/a b".into()];
    let mut source = open_source(chosen, &anew).expect("a source");
    assert_eq!(counts(&pull(&mut source, &anew).0), [("INBOX".to_owned(), 1)].into());
    drop(source);

    // Who cannot prove to be localhost is not talked to, and a wrong password is told.
    let mut stranger = again(&starttls);
    stranger.server.host = "127.0.0.1".into();
    assert!(open_source(stranger, &all).err().expect("refused").to_string().contains("certificate"));
    let wrong = settings(folder.path(), starttls.0, starttls.1, "pen");
    let error = open_source(wrong, &all).err().expect("refused").to_string();
    assert!(error.contains("the login of ann is refused"), "{error}");
}

/// So often a server breaks off that never gives anything whole.
const HOPELESS: usize = 99;

/// A server of one mailbox that breaks off in the middle of each message whose turn it is, as often as told.
fn breaking(times: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    thread::Builder::new()
        .spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.expect("a connection");
                let mut lines = BufReader::new(stream.try_clone().expect("a stream"));
                stream.write_all(b"* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n").expect("greeted");
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|octets| octets > 0) {
                    let (tag, command) = line.trim_end().split_once(' ').expect("a command");
                    let told = match command {
                        "LIST \"\" \"*\"" => "* LIST () \"/\" INBOX\r\n".to_owned(),
                        "EXAMINE \"INBOX\"" => "* 3 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n".to_owned(),
                        "UID FETCH 1:* (UID RFC822.SIZE)" => {
                            [1, 2, 3].map(|uid| format!("* {uid} FETCH (UID {uid} RFC822.SIZE 1)\r\n")).concat()
                        }
                        fetch if fetch.starts_with("UID FETCH ") && number < times => {
                            // The first message that is asked for is whole, the second is not.
                            let asked: u32 = fetch[10..11].parse().expect("a UID");
                            let first = if times < HOPELESS { whole(asked) } else { String::new() };
                            let text = format!("{first}* 9 FETCH (UID {} BODY[] {{9}}\r\nhal", asked + 1);
                            stream.write_all(text.as_bytes()).expect("sent");
                            break;
                        }
                        // UID 2 has gone, and is not told of.
                        fetch if fetch.starts_with("UID FETCH ") => whole(1) + &whole(3),
                        _ => String::new(),
                    };
                    if stream.write_all(format!("{told}{tag} OK done\r\n").as_bytes()).is_err() {
                        break;
                    }
                    line.clear();
                }
            }
        })
        .expect("a thread");
    port
}

fn whole(uid: u32) -> String {
    format!(
        "* {uid} FETCH (UID {uid} INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" FLAGS (\\Recent) BODY[] {{1}}\r\n{uid})\r\n"
    )
}

#[test]
fn a_connection_that_breaks_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |times: usize| {
        let mut settings = settings(folder.path(), breaking(times), Protection::NoneOnLoopback, "");
        settings.server.host = "127.0.0.1".into();
        settings.parallel = 1;
        open_source(settings, &Places::new()).expect("a source")
    };
    let (items, passed_over) = pull(&mut open(0), &Places::new());
    assert_eq!(items.iter().map(|item| item.octets.as_slice()).collect::<Vec<_>>(), [b"1", b"3"]);
    assert!(items.iter().all(|item| item.flags.is_empty()));
    assert_eq!(passed_over, ["INBOX, UID 2: the server did not give it: done"]);
    // The first connection gives UID 1, the second UID 2; the third all that is left.
    let (items, passed_over) = pull(&mut open(2), &Places::new());
    assert_eq!(items.iter().map(|item| item.octets.as_slice()).collect::<Vec<_>>(), [b"1", b"2", b"3"]);
    assert_eq!(passed_over, [""; 0]);
    // A server that never gives one whole is given up.
    let error = open(HOPELESS).next().expect_err("an error");
    assert!(matches!(error, TransferError::Stopped { .. }), "{error}");
}

/// Who does not want what is left is not kept.
#[test]
fn a_source_can_be_dropped_at_any_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings = settings(folder.path(), breaking(0), Protection::NoneOnLoopback, "");
    settings.server.host = "127.0.0.1".into();
    let mut source = open_source(settings, &Places::new()).expect("a source");
    assert!(source.next().expect("a message").is_some());
    drop(source);
    // Nothing is sent to other machines in clear.
    let mut settings = self::settings(folder.path(), 143, Protection::NoneOnLoopback, "");
    settings.server.host = "192.0.2.1".into();
    let error = open_source(settings, &Places::new()).err().expect("refused").to_string();
    assert!(error.contains("is not this machine"), "{error}");
}
