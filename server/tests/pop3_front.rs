//! POP3 from typed commands to stored messages, without sockets: session, front, engine in memory.

mod here;

use here::{Client, SEED, Server, TICK};
use rockdove::{
    fronts::pop3::{self, Pop3Front},
    net::listeners::Protocol,
};
use rockdove_engine::{AppendMessage, Command, InternalDate};
use rockdove_mail::{Flags, MailboxName};
use rockdove_pop3::Pop3Session;

type Pop3Client = Client<Pop3Session, Pop3Front>;

const ALICE: &str = "alice@here.example";

impl Server {
    fn connect(&self) -> Pop3Client {
        let listener = Self::listener(Protocol::Pop3);
        let mut client = Client::new(self, pop3::open(&self.services, &listener, &Self::peer(), SEED, TICK));
        assert!(client.say("").starts_with("+OK"));
        client
    }

    fn put(&self, text: &str) {
        let (engine, account) = (&self.services.engine, self.account(ALICE));
        let mailbox = engine.mailboxes(account).expect("mailboxes").by_name(&MailboxName::inbox()).expect("INBOX").id;
        let mut staging = engine.stage();
        staging.write(text.as_bytes()).expect("taken");
        let (message, internal_date) = (staging.finish().expect("staged"), InternalDate::default());
        let messages = vec![AppendMessage { message, flags: Flags::default(), internal_date }];
        engine.execute(here::NOW, Command::Append { account, mailbox, messages }).expect("appended");
    }
}

#[test]
fn messages_are_read_and_removed_at_quit() {
    let server = Server::new();
    server.put("Subject: one\r\n\r\n.dot\r\n");
    server.put("Subject: two\r\n\r\nbody\r\n");
    let mut client = server.connect();
    assert!(client.say("USER alice@here.example\nPASS wrong\n").contains("-ERR"));
    assert!(
        client.say("USER alice@here.example\nPASS secret\n").ends_with("+OK 2 messages\r\n")
            || client.say("STAT\n").starts_with("+OK 2 ")
    );
    assert!(client.say("RETR 1\n").contains("Subject: one\r\n\r\n..dot\r\n.\r\n"));
    let mut second = server.connect();
    second.say("USER alice@here.example\n");
    assert!(second.say("PASS secret\n").starts_with("-ERR [IN-USE]"));
    assert!(client.say("DELE 1\n").starts_with("+OK"));
    assert_eq!(server.messages(ALICE, "INBOX").len(), 2, "nothing is removed before QUIT");
    assert!(client.say("QUIT\n").starts_with("+OK"));
    assert_eq!(server.messages(ALICE, "INBOX"), ["Subject: two\r\n\r\nbody\r\n"]);
    second.say("USER alice@here.example\n");
    assert!(second.say("PASS secret\n").starts_with("+OK"));
}
