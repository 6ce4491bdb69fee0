//! POP3 over real sockets.

use rockdove_tests::{Door, Io, Pop3, Server, Setup, Smtp, on_both, play};

on_both!(conversations, injected_commands_are_not_executed, only_quit_removes);

fn conversations(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Pop3]));
    play(&server, Door::Pop3, include_str!("../transcripts/pop3.txt"));
}

fn injected_commands_are_not_executed(io: Io) {
    let server = Server::start(Setup::new(io, &[Door::Pop3]));
    let mut wire = server.connect(Door::Pop3);
    assert!(wire.line().starts_with("+OK"));
    wire.send(b"STLS\r\nUSER ada@rockdove.test\r\n");
    let reply = wire.line();
    if reply.starts_with("+OK") {
        wire.secure(&server.certificate_path()).expect("TLS");
        wire.send(b"PASS correct horse battery\r\n");
        assert!(wire.line().starts_with("-ERR"), "USER came in clear");
    } else {
        assert_eq!(wire.rest(), "", "nothing behind it is executed");
    }
}

fn only_quit_removes(io: Io) {
    let mut server = Server::start(Setup::new(io, &[Door::Mx, Door::Pop3, Door::Pop3s]));
    let mut smtp = Smtp::hello(server.connect(Door::Mx), false).expect("a greeting");
    for number in 1..=3 {
        let message = format!("Subject: {number}\r\n\r\n");
        assert_eq!(smtp.deliver(&["ada"], message.as_bytes()).expect("delivered"), [250]);
    }
    let mut pop3 = Pop3::login(&server, "ada");
    let ids = pop3.lines("UIDL");
    pop3.say("DELE 1");
    // A second session finds the maildrop locked.
    let mut second = server.connect(Door::Pop3);
    second.send(b"USER ada@rockdove.test\r\nPASS correct horse battery\r\nQUIT\r\n");
    assert!(second.rest().contains("-ERR [IN-USE]"));
    drop(pop3);
    let mut pop3 = Pop3::login(&server, "ada");
    assert_eq!(pop3.lines("UIDL"), ids, "a lost connection removes nothing");
    pop3.say("DELE 2");
    pop3.say("QUIT");
    server.kill();
    server.run();
    let mut pop3 = Pop3::login(&server, "ada");
    let left = String::from_utf8(pop3.lines("UIDL")).expect("text");
    let before = String::from_utf8(ids).expect("text");
    let id = |line: &str| line.split_once(' ').map(|(_, id)| id.to_owned());
    let before: Vec<_> = before.lines().map(id).collect();
    assert_eq!(left.lines().map(id).collect::<Vec<_>>(), [before[0].clone(), before[2].clone()]);
}
