//! SMTP from the first byte to the stored message, without sockets: session, front, delivery stages, engine in memory.

mod here;

use here::{Client, SEED, Server, TICK};
use rockdove::{fronts::smtp, net::listeners::Protocol};
use rockdove_smtp::SmtpSession;

type SmtpClient = Client<SmtpSession, smtp::SmtpFront>;

impl Server {
    fn connect(&self, protocol: Protocol) -> SmtpClient {
        let listener = Self::listener(protocol);
        let mut client = Client::new(self, smtp::open(&self.services, &listener, Self::peer(), SEED, TICK));
        assert!(client.say("").starts_with("220 mx.here.example"));
        client
    }
}

impl SmtpClient {
    /// Codes of the replies, one per line of reply.
    fn codes(&mut self, text: &str) -> Vec<u16> {
        let replies = self.say(text);
        replies.lines().map(|line| line[..3].parse().expect("a code")).collect()
    }
}

#[test]
fn lmtp_delivers_one_copy_per_account_byte_for_byte() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Lmtp);
    client.say("LHLO client.example\n");
    let codes = client.codes(
        "MAIL FROM:<from@far.example>\nRCPT TO:<alice@here.example>\nRCPT TO:<team@here.example>\n\
         RCPT TO:<nobody@here.example>\nRCPT TO:<alice@far.example>\nDATA\n",
    );
    assert_eq!(codes, [250, 250, 250, 550, 554, 354]);
    assert_eq!(client.codes("Subject: one\n\n..dot\nbody\n.\n"), [250, 250]);
    for login in ["alice@here.example", "bob@here.example"] {
        let messages = server.messages(login, "INBOX");
        assert_eq!(messages.len(), 1, "{login}");
        let message = &messages[0];
        let trace =
            format!("Return-Path: <from@far.example>\r\nDelivered-To: {login}\r\nReceived: from client.example");
        assert!(message.starts_with(&trace), "{message}");
        assert!(message.contains(" ([127.0.0.1])\r\n\tby mx.here.example with LMTP\r\n\tid "), "{message}");
        assert!(message.ends_with("\r\nSubject: one\r\n\r\n.dot\r\nbody\r\n"), "{message}");
    }
}

#[test]
fn a_detail_names_a_mailbox_only_when_it_is_there() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Lmtp);
    client.say("LHLO x\n");
    for detail in ["lists", "Lists", "nothing", "lists/x"] {
        let text = format!("MAIL FROM:<>\nRCPT TO:<alice+{detail}@here.example>\nDATA\nX: {detail}\n.\n");
        assert_eq!(client.codes(&text), [250, 250, 354, 250], "{detail}");
    }
    assert_eq!(server.messages("alice@here.example", "lists").len(), 1);
    assert_eq!(server.messages("alice@here.example", "INBOX").len(), 3);
    assert!(server.messages("alice@here.example", "lists")[0].starts_with("Return-Path: <>\r\n"));
}

#[test]
fn a_full_mailbox_is_refused_alone_on_lmtp_and_for_all_on_mx() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Lmtp);
    client.say("LHLO x\n");
    let big = "x".repeat(5_000);
    let text = format!("MAIL FROM:<>\nRCPT TO:<alice@here.example>\nRCPT TO:<bob@here.example>\nDATA\n{big}\n.\n");
    assert_eq!(client.codes(&text), [250, 250, 250, 354, 250, 452]);
    assert_eq!(server.messages("alice@here.example", "INBOX").len(), 1);
    assert!(server.messages("bob@here.example", "INBOX").is_empty());
    let mut client = server.connect(Protocol::Smtp);
    client.say("HELO x\n");
    assert_eq!(client.codes(&text), [250, 250, 250, 354, 452]);
    assert_eq!(server.messages("alice@here.example", "INBOX").len(), 1, "all or none");
    let announced = "MAIL FROM:<> SIZE=5000\nRCPT TO:<bob@here.example>\nRCPT TO:<alice@here.example>\nRSET\n";
    assert_eq!(client.codes(announced), [250, 452, 250, 250]);
}

#[test]
fn large_messages_are_spooled() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Smtp);
    client.say("EHLO x\n");
    let start = "MAIL FROM:<>\nRCPT TO:<alice@here.example>\nDATA\n";
    assert_eq!(client.codes(start), [250, 250, 354]);
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef\n".repeat(1_000);
    let mut expected = "Subject: large\r\n\r\n".to_owned();
    client.say("Subject: large\n\n");
    for _ in 0..40 {
        client.say(&line);
        expected.push_str(&line.replace('\n', "\r\n"));
    }
    assert_eq!(client.codes(".\n"), [250]);
    assert!(server.messages("alice@here.example", "INBOX")[0].ends_with(&expected));
    // Given up in the middle: nothing is left of it, and the next message is whole.
    client.say(start);
    (0..4).for_each(|_| drop(client.say(&line)));
    assert_eq!(client.codes("bare\rCR\n.\n"), [550]);
    assert_eq!(client.codes(&format!("{start}small\n.\n")), [250, 250, 354, 250]);
    let messages = server.messages("alice@here.example", "INBOX");
    assert_eq!(messages.len(), 2);
    assert!(messages[1].ends_with("\r\nsmall\r\n") && messages[1].len() < 1_000);
}

#[test]
fn submission_needs_a_login_and_adds_what_is_missing() {
    let server = Server::new();
    let mut client = server.connect(Protocol::Submission);
    client.say("EHLO laptop.example\n");
    assert_eq!(client.codes("MAIL FROM:<alice@here.example>\n"), [530]);
    // alice@here.example with a wrong password, then with "secret"
    assert_eq!(client.codes("AUTH PLAIN AGFsaWNlQGhlcmUuZXhhbXBsZQB3cm9uZw==\n"), [535]);
    assert_eq!(client.codes("AUTH PLAIN AGFsaWNlQGhlcmUuZXhhbXBsZQBzZWNyZXQ=\n"), [235]);
    assert_eq!(client.codes("MAIL FROM:<bob@here.example>\n"), [553]);
    assert_eq!(client.codes("MAIL FROM:<team@here.example>\nRSET\n"), [250, 250]);
    let recipients = "MAIL FROM:<alice@here.example>\nRCPT TO:<friend@far.example>\nRCPT TO:<bob@here.example>\n";
    assert_eq!(client.codes(recipients), [250, 250, 250]);
    assert_eq!(client.codes("DATA\nSubject: x\n\nhello\n.\n"), [354, 250]);
    assert_eq!(server.services.engine.queue_use().messages, 1, "for the friend elsewhere");
    let message = &server.messages("bob@here.example", "INBOX")[0];
    assert!(message.contains(" with ESMTPA\r\n"), "{message}");
    assert!(message.contains("\r\nMessage-ID: <") && message.contains("\r\nDate: "), "{message}");
    let complete = "MAIL FROM:<alice@here.example>\nRCPT TO:<bob@here.example>\nDATA\n\
                    Date: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-ID: <own@laptop.example>\n\nhello\n.\n";
    assert_eq!(client.codes(complete), [250, 250, 354, 250]);
    let message = &server.messages("bob@here.example", "INBOX")[1];
    assert_eq!(message.matches("Message-ID:").count(), 1, "{message}");
    assert_eq!(message.matches("\r\nDate:").count(), 1, "{message}");
}

#[test]
fn nobody_relays() {
    let server = Server::new();
    for protocol in [Protocol::Smtp, Protocol::Lmtp] {
        let mut client = server.connect(protocol);
        client.say(if protocol == Protocol::Lmtp { "LHLO x\n" } else { "EHLO x\n" });
        client.say("MAIL FROM:<alice@here.example>\n");
        for (recipient, code) in [
            ("victim@far.example", 554),
            ("victim%far.example@here.example", 550),
            ("far.example!victim@here.example", 550),
            ("\"victim@far.example\"@here.example", 550),
            ("@here.example:victim@far.example", 554),
            ("victim@[127.0.0.1]", 554),
            ("victim@here.example.far.example", 554),
            ("@far.example:alice@here.example", 250),
            ("ALICE@Here.Example", 250),
            ("Postmaster", 250),
        ] {
            assert_eq!(client.codes(&format!("RCPT TO:<{recipient}>\n")), [code], "{recipient}");
        }
    }
}
