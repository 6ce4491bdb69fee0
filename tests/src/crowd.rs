//! Many clients at once on mailboxes that they share, with commands that make sense and commands that do not.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::{DOMAIN, Dice, Door, Imap, Server};

/// How long a crowd goes on.
#[derive(Clone, Copy)]
pub enum Until {
    /// Each client has said so many commands.
    Commands(u64),
    /// So much time has gone.
    Time(Duration),
}

const ACCOUNTS: [&str; 4] = ["ada", "ben", "cas", "dot"];

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
        match self.dice.below(32) {
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
            // Not often, or nothing is left to share.
            22 if more == 0 => (format!("DELETE {mailbox}"), false),
            23 if more == 0 => (format!("RENAME {mailbox} {}", self.mailbox()), false),
            22..=24 => (format!("CREATE {mailbox}"), false),
            25 => ("NOOP".to_owned(), false),
            26 => (["CLOSE", "UNSELECT"][usize::from(more > 1)].to_owned(), !self.told.selected),
            27 => (format!("{uid}SORT (REVERSE DATE SUBJECT) UTF-8 OR FLAGGED TEXT {more}"), loose),
            28 => (format!("{uid}THREAD REFERENCES UTF-8 ALL"), loose),
            29 => (format!("{uid}SEARCH RETURN (MIN MAX COUNT SAVE) SMALLER {first}00"), loose),
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
            if untagged.starts_with("OK [CLOSED]") {
                self.told = Told::default();
            }
            self.hear(untagged, keeps_numbers, command);
        }
    }

    /// Breaks the connection off, at a place that the server does not expect, and begins anew.
    fn break_off(&mut self, server: &Server) -> io::Result<()> {
        let places = ["x1 APPEND Team0 {1000}\r\nSubject: half", "x1 NOOP\r\nx2 FETCH 1:* (BODY", "x1 IDLE\r\n", ""];
        let place = places[usize::try_from(self.dice.below(4)).expect("small")];
        self.imap.wire.try_send(place.as_bytes())?;
        self.log_in(server);
        Ok(())
    }

    fn log_in(&mut self, server: &Server) {
        let imap = Imap::login(server.connect(Door::Imap), ACCOUNTS[self.account]).expect("logged in");
        (self.imap, self.told) = (imap, Told::default());
    }

    fn hear(&mut self, untagged: &str, keeps_numbers: bool, command: &str) {
        let mut words = untagged.split_ascii_whitespace();
        let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else { return };
        let messages = self.told.messages;
        let keeps_numbers = keeps_numbers || ["SORT", "THREAD"].iter().any(|name| command.starts_with(name));
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

/// What became of the commands of a crowd.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lived {
    /// Went well.
    pub done: u64,
    /// Refused, as they had to be.
    pub refused: u64,
    /// Connections that a client broke off.
    pub broken_off: u64,
}

/// One client's life.
fn live(server: &Server, seed: u64, until: Until) -> Lived {
    let mut client = Client::new(server, seed);
    let (mut lived, began) = (Lived::default(), Instant::now());
    let over = |said: u64| match until {
        Until::Commands(most) => said >= most,
        Until::Time(most) => began.elapsed() >= most,
    };
    for _ in (0..).take_while(|said| !over(*said)) {
        if client.dice.below(100) == 0 {
            client.break_off(server).unwrap_or_else(|error| panic!("client {seed}: {error}"));
            lived.broken_off += 1;
        }
        let (command, may_be_bad) = client.command();
        match client.say(&command).unwrap_or_else(|error| panic!("client {seed}, {command}: {error}")) {
            End::Status(status) if status.starts_with("OK") => {
                lived.done += 1;
                if command.starts_with("SELECT") || command.starts_with("EXAMINE") {
                    client.told.selected = true;
                } else if command == "CLOSE" || command == "UNSELECT" {
                    client.told = Told::default();
                }
            }
            End::Status(status) if status.starts_with("NO") => lived.refused += 1,
            End::Status(status) => {
                assert!(status.starts_with("BAD") && may_be_bad, "client {seed}, {command}: {status}");
                lived.refused += 1;
                // Too many mistakes in a row end a connection.
                assert_eq!(client.say("NOOP").map(|end| matches!(end, End::Status(_))).ok(), Some(true));
            }
            // Who may no longer read the selected mailbox is sent off, as if it had gone.
            End::Bye(why) => {
                assert!(why.contains("selected mailbox"), "client {seed}, {command}: {why}");
                client.log_in(server);
            }
        }
    }
    lived
}

/// Lets clients loose on mailboxes of two accounts that everybody may use.
pub fn crowd(server: &Server, clients: u64, until: Until) -> Lived {
    for name in &ACCOUNTS[2..] {
        server.add_account(name);
    }
    for owner in &ACCOUNTS[..2] {
        let mut imap = Imap::login(server.connect(Door::Imap), owner).expect("logged in");
        for number in 0..3 {
            imap.ok(&format!("CREATE Team{number}"));
            imap.ok(&format!("SETACL Team{number} anyone lrswite"));
        }
    }
    let lives: Vec<Lived> = thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|seed| scope.spawn(move || live(server, seed, until))).collect();
        clients.into_iter().map(|client| client.join().expect("no client fails")).collect()
    });
    lives.into_iter().fold(Lived::default(), |sum, life| Lived {
        done: sum.done + life.done,
        refused: sum.refused + life.refused,
        broken_off: sum.broken_off + life.broken_off,
    })
}
