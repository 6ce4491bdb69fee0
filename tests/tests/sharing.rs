//! Many clients at once on mailboxes that they share, with commands that make sense and commands that do not: every
//! answer fits the protocol, and the store is whole afterwards.
#![allow(clippy::disallowed_methods, reason = "a test plays many clients at once")]

use std::{io, thread};

use rockdove_tests::{DOMAIN, Dice, Door, Imap, Io, Server, Setup, on_both};

on_both!(a_crowd_shares_mailboxes);

const ACCOUNTS: [&str; 4] = ["ada", "ben", "cas", "dot"];
const CLIENTS: u64 = 40;
const COMMANDS: u64 = 60;

/// What a client has been told of the selected mailbox.
#[derive(Default)]
struct Told {
    selected: bool,
    messages: u64,
}

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Status(String),
    /// The server has ended the connection, and said why.
    Bye(String),
}

struct Client {
    imap: Imap,
    account: usize,
    told: Told,
    number: u64,
    dice: Dice,
}

impl Client {
    fn new(server: &Server, seed: u64) -> Self {
        let account = usize::try_from(seed).expect("small") % ACCOUNTS.len();
        let imap = Imap::login(server.connect(Door::Imap), ACCOUNTS[account]).expect("logged in");
        Self { imap, account, told: Told::default(), number: 0, dice: Dice::new(seed) }
    }

    /// One of the shared mailboxes, by the name under which this client sees it.
    fn mailbox(&mut self) -> String {
        let owner = usize::try_from(self.dice.below(2)).expect("small");
        let name = format!("Team{}", self.dice.below(3));
        if owner == self.account { name } else { format!("\"Other Users/{}@{DOMAIN}/{name}\"", ACCOUNTS[owner]) }
    }

    /// A command, and whether it may be answered by BAD.
    fn command(&mut self) -> (String, bool) {
        let mailbox = self.mailbox();
        let (first, more) = (1 + self.dice.below(30), self.dice.below(4));
        let set = format!("{first}:{}", first + more);
        let uid = ["UID ", ""][usize::from(self.dice.below(3) == 0)];
        // A sequence number that there is not is a mistake, and selected commands are before SELECT.
        let loose = uid.is_empty() || !self.told.selected;
        let whom = format!("{}@{DOMAIN}", ACCOUNTS[usize::try_from(self.dice.below(4)).expect("small")]);
        match self.dice.below(24) {
            0..=2 => (format!("SELECT {mailbox}"), false),
            3 => (format!("EXAMINE {mailbox}"), false),
            4..=6 => {
                let text =
                    format!("Subject: {first}\r\n\r\n{}", "text ".repeat(usize::try_from(first).expect("small")));
                (format!("APPEND {mailbox} (\\Seen $Label{more}) {{{}+}}\r\n{text}", text.len()), false)
            }
            7..=8 => (format!("{uid}STORE {set} +FLAGS (\\Flagged \\Deleted)"), loose),
            9 => (format!("{uid}STORE {set} -FLAGS.SILENT (\\Seen $Label{more})"), loose),
            10..=11 => (format!("{uid}FETCH {set} (FLAGS UID BODY.PEEK[HEADER])"), loose),
            12 => (format!("{uid}FETCH {set} BODY[]"), loose),
            13 => (format!("{uid}COPY {set} {mailbox}"), loose),
            14 => (format!("{uid}MOVE {set} {mailbox}"), loose),
            15 => ("EXPUNGE".to_owned(), loose || !self.told.selected),
            16 => (format!("{uid}SEARCH OR SUBJECT {more} UNSEEN"), loose),
            17 => (format!("STATUS {mailbox} (MESSAGES UNSEEN UIDNEXT)"), false),
            18 => {
                let rights =
                    ["lrswite", "lr", "lrs", "", "lrswipkxtea"][usize::try_from(self.dice.below(5)).expect("small")];
                (format!("SETACL {mailbox} {whom} \"{rights}\""), false)
            }
            19 => (format!("SETMETADATA {mailbox} (/shared/comment \"{first}\" /private/comment NIL)"), false),
            20 => (format!("GETMETADATA {mailbox} (DEPTH infinity) (/shared /private)"), false),
            21 => ("LIST \"\" * RETURN (STATUS (MESSAGES) METADATA (/shared/comment) MYRIGHTS)".to_owned(), false),
            22 => (format!("CREATE {mailbox}"), false),
            _ => {
                let wrong = ["FETCH", "STORE 1 (x", "GETACL", "SETMETADATA x y", "UID", "SEARCH FILTER", "\u{1}"];
                (wrong[usize::try_from(self.dice.below(7)).expect("small")].to_owned(), true)
            }
        }
    }

    /// Says a command and reads what comes until it has ended, comparing with what was told before.
    fn say(&mut self, command: &str) -> io::Result<End> {
        self.number += 1;
        let tag = format!("c{}", self.number);
        if command.starts_with("SELECT") || command.starts_with("EXAMINE") {
            self.told = Told::default();
        }
        self.imap.wire.try_send(format!("{tag} {command}\r\n").as_bytes())?;
        let keeps_numbers = ["FETCH", "STORE", "SEARCH"].iter().any(|name| command.starts_with(name));
        loop {
            let response = self.imap.response()?;
            let text = String::from_utf8_lossy(&response).into_owned();
            if let Some(status) = text.strip_prefix(&format!("{tag} ")) {
                return Ok(End::Status(status.to_owned()));
            }
            let untagged = text.strip_prefix("* ").unwrap_or_else(|| panic!("{command}: {text}"));
            if let Some(why) = untagged.strip_prefix("BYE ") {
                return Ok(End::Bye(why.to_owned()));
            }
            self.hear(untagged, keeps_numbers, command);
        }
    }

    fn hear(&mut self, untagged: &str, keeps_numbers: bool, command: &str) {
        let mut words = untagged.split_ascii_whitespace();
        let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else { return };
        let messages = self.told.messages;
        match what {
            "EXISTS" => {
                assert!(number >= messages, "{command}: {messages} messages have become {number}");
                self.told.messages = number;
            }
            "EXPUNGE" => {
                assert!(!keeps_numbers, "{command}: a number has changed meanwhile");
                assert!((1..=messages).contains(&number), "{command}: {number} of {messages} has gone");
                self.told.messages -= 1;
            }
            "FETCH" => assert!((1..=messages).contains(&number), "{command}: {number} of {messages} is told of"),
            "RECENT" => assert!(number <= messages, "{command}: {number} of {messages} are recent"),
            other => panic!("{command}: {other}"),
        }
    }
}

/// One client's life. How many of its commands went well, and how many were refused.
fn live(server: &Server, seed: u64) -> (u32, u32) {
    let mut client = Client::new(server, seed);
    let (mut done, mut refused) = (0, 0);
    for _ in 0..COMMANDS {
        let (command, may_be_bad) = client.command();
        match client.say(&command).unwrap_or_else(|error| panic!("client {seed}, {command}: {error}")) {
            End::Status(status) if status.starts_with("OK") => {
                done += 1;
                if command.starts_with("SELECT") || command.starts_with("EXAMINE") {
                    client.told.selected = true;
                }
            }
            End::Status(status) if status.starts_with("NO") => refused += 1,
            End::Status(status) => {
                assert!(status.starts_with("BAD") && may_be_bad, "client {seed}, {command}: {status}");
                refused += 1;
                // Too many mistakes in a row end a connection.
                assert_eq!(client.say("NOOP").map(|end| matches!(end, End::Status(_))).ok(), Some(true));
            }
            // Who may no longer read the selected mailbox is sent off, as if it had gone.
            End::Bye(why) => {
                assert!(why.contains("selected mailbox"), "client {seed}, {command}: {why}");
                let imap = Imap::login(server.connect(Door::Imap), ACCOUNTS[client.account]).expect("logged in");
                (client.imap, client.told) = (imap, Told::default());
            }
        }
    }
    (done, refused)
}

fn a_crowd_shares_mailboxes(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Imap]));
    for name in ["cas", "dot"] {
        server.add_account(name);
    }
    for owner in &ACCOUNTS[..2] {
        let mut imap = Imap::login(server.connect(Door::Imap), owner).expect("logged in");
        for number in 0..3 {
            imap.ok(&format!("CREATE Team{number}"));
            imap.ok(&format!("SETACL Team{number} anyone lrswite"));
        }
    }
    let lives: Vec<(u32, u32)> = thread::scope(|scope| {
        let server = &server;
        let clients: Vec<_> = (0..CLIENTS).map(|seed| scope.spawn(move || live(server, seed))).collect();
        clients.into_iter().map(|client| client.join().expect("no client fails")).collect()
    });
    let (done, refused) = lives.iter().fold((0, 0), |sum, life| (sum.0 + life.0, sum.1 + life.1));
    assert!(done > 1_000 && refused > 100, "{done} done, {refused} refused");
    server.fsck();
}
