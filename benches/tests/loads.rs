//! Every kind of load, by its command line, against a toy server in the same process.

mod toy;

use std::{future::Future, rc::Rc};

use clap::Parser as _;
use rockdove_benches::{
    arguments::Arguments,
    corpus::generate,
    failure::{LoadError, Result},
    pace::Report,
};
use tokio::{runtime, task::LocalSet};
use toy::{Doors, Toy};

const LOGINS: [&str; 4] = ["--user", "u{1..3}@x", "--password", "secret"];

fn with_toy<F: Future<Output = ()>>(spoil: Option<u64>, test: impl FnOnce(Rc<Toy>, Doors) -> F) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    LocalSet::new().block_on(&runtime, async {
        let (toy, doors) = Toy::open(spoil).await;
        test(toy, doors).await;
    });
}

async fn load(kind: &str, server: &str, more: &[&str]) -> Result<Report> {
    let front = ["rockdove-load", kind, "--server", server, "--quiet"];
    let arguments = Arguments::try_parse_from(front.iter().chain(more)).expect("arguments");
    arguments.load.run().await
}

async fn operations(kind: &str, server: &str, more: &[&str]) -> u64 {
    load(kind, server, more).await.unwrap_or_else(|error| panic!("{kind} {more:?}: {error}")).operations
}

fn figure(report: &Report, name: &str) -> u64 {
    report.also.get(name).and_then(serde_json::Value::as_u64).unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn messages_are_delivered() {
    with_toy(None, |toy, doors| async move {
        for (kind, door) in [("smtp", &doors.smtp), ("lmtp", &doors.lmtp)] {
            for transfer in ["stepwise", "pipelined", "chunked"] {
                let before = toy.count();
                let more = ["-n", "10", "-c", "3", "--to", "u{1..3}@x", "--recipients", "2", "--transfer", transfer];
                assert_eq!(operations(kind, door, &more).await, 10, "{kind} {transfer}");
                assert_eq!(toy.count() - before, 20, "{kind} {transfer}");
            }
        }
        let sent = generate(4_096, 1, 0);
        assert!(toy.messages("u1@x").iter().any(|stored| stored.ends_with(&sent)));
    });
}

#[test]
fn delivery_logs_in_under_tls_and_connects_anew() {
    with_toy(None, |toy, doors| async move {
        let tls = ["--tls", "starttls", "--insecure", "--to", "a@x", "-n", "7", "--per-connection", "2"];
        let right = [&tls[..], &LOGINS].concat();
        assert_eq!(operations("smtp", &doors.smtp, &right).await, 7);
        assert_eq!(toy.messages("a@x").len(), 7);
        let wrong = [&tls[..], &["--user", "a", "--password", "b"]].concat();
        let error = load("smtp", &doors.smtp, &wrong).await.expect_err("a wrong password");
        assert!(error.to_string().contains("535 5.7.8 no") && !error.to_string().contains("AGEAYg"), "{error}");
    });
}

#[test]
fn a_refusal_stops_the_run_with_the_servers_words() {
    with_toy(None, |_, doors| async move {
        for transfer in ["stepwise", "pipelined", "chunked"] {
            let more = ["--to", "nobody@x", "--transfer", transfer];
            let error = load("lmtp", &doors.lmtp, &more).await.expect_err("nobody");
            let LoadError::Refused { asked, said } = &error else { panic!("{error}") };
            assert_eq!((asked.as_str(), said.as_str()), ("RCPT TO:<nobody@x>", "550 5.1.1 nobody here"));
        }
        let more = [&LOGINS[..], &["FROB"]].concat();
        let error = load("imap-command", &doors.imap, &more).await.expect_err("no such command");
        assert_eq!(error.to_string(), "the server refused FROB: BAD what?");
        let error = load("imap-login", &doors.imap, &["--user", "a", "--password", "b"]).await.expect_err("wrong");
        assert_eq!(error.to_string(), "the server refused LOGIN a: NO wrong password");
        let error = load("pop3", &doors.pop3, &["--user", "a", "--password", "b"]).await.expect_err("wrong");
        assert_eq!(error.to_string(), "the server refused PASS of a: -ERR what?");
    });
}

#[test]
fn a_silent_server_is_not_waited_for() {
    with_toy(None, |_, doors| async move {
        for kind in ["imap-login", "pop3"] {
            let more = [&LOGINS[..], &["--patience", "1"]].concat();
            let error = load(kind, &doors.silent, &more).await.expect_err("silence");
            assert!(matches!(error, LoadError::Io(..)), "{kind}: {error}");
        }
    });
}

#[test]
fn messages_are_appended() {
    with_toy(None, |toy, doors| async move {
        for more in [&["--pipeline", "1"][..], &["--pipeline", "4"], &["--literal-plus"]] {
            let before = toy.count();
            let more = [&LOGINS[..], &["-n", "10", "-c", "2"], more].concat();
            assert_eq!(operations("imap-append", &doors.imap, &more).await, 10);
            assert_eq!(toy.count() - before, 10, "{more:?}");
        }
        assert!(toy.messages("u1@x").contains(&generate(4_096, 1, 0)));
    });
}

#[test]
fn commands_are_repeated() {
    with_toy(None, |_, doors| async move {
        let append = [&LOGINS[..], &["-n", "6", "-c", "3"]].concat();
        assert_eq!(operations("imap-append", &doors.imap, &append).await, 6);
        for (kind, command, responses) in [
            ("imap-fetch", None, 8),
            ("imap-fetch", Some("1:* BODY.PEEK[]"), 8),
            ("imap-search", Some("BODY engine"), 4),
            ("imap-command", Some("FETCH 2 FLAGS"), 4),
        ] {
            let more: Vec<&str> = LOGINS.into_iter().chain(["-n", "4", "-c", "2"]).chain(command).collect();
            let report = load(kind, &doors.imap, &more).await.expect(kind);
            assert_eq!((report.operations, figure(&report, "responses")), (4, responses), "{kind} {command:?}");
        }
        let random = [&LOGINS[..], &["-n", "20", "{random} (FLAGS)"]].concat();
        let report = load("imap-fetch", &doors.imap, &random).await.expect("random");
        assert!((20..=40).contains(&figure(&report, "responses")), "{report}");
    });
}

#[test]
fn logins_are_counted_in_clear_and_under_tls() {
    with_toy(None, |_, doors| async move {
        for (door, more) in [
            (&doors.imap, &[][..]),
            (&doors.imap, &["--tls", "starttls", "--insecure"]),
            (&doors.imaps, &["--tls", "implicit", "--insecure", "--sources", "3"]),
        ] {
            let more = [&LOGINS[..], &["-n", "8", "-c", "4"], more].concat();
            assert_eq!(operations("imap-login", door, &more).await, 8);
        }
    });
}

#[test]
fn those_who_idle_are_told_of_mail() {
    with_toy(None, |_, doors| async move {
        let pid = std::process::id().to_string();
        for (door, tls) in [(&doors.imap, "none"), (&doors.imaps, "implicit")] {
            let more = ["-c", "30", "--settle", "0", "--pid", &pid, "--wake-lmtp", &doors.lmtp, "--tls", tls];
            let report =
                load("imap-idle", door, &[&LOGINS[..], &more, &["--insecure", "--ramp", "1000"]].concat()).await;
            let report = report.expect("idle");
            assert_eq!((report.operations, figure(&report, "told")), (30, 30));
            figure(&report, "pss_bytes_per_connection");
        }
    });
}

#[test]
fn maildrops_are_read() {
    with_toy(None, |_, doors| async move {
        let more = ["-n", "30", "-c", "3", "--to", "u{1..3}@x"];
        assert_eq!(operations("lmtp", &doors.lmtp, &more).await, 30);
        for more in [&[][..], &["--pipeline", "4"], &["--retrieve", "3"], &["--tls", "starttls", "--insecure"]] {
            let more = [&LOGINS[..], &["-n", "50", "-c", "3"], more].concat();
            assert_eq!(operations("pop3", &doors.pop3, &more).await, 50, "{more:?}");
        }
        let empty = ["--user", "empty@x", "--password", "secret"];
        assert_eq!(operations("pop3", &doors.pop3, &empty).await, 0);
    });
}

fn corpus(refused: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text).expect("a file");
    file("1", b"From ada Thu\nSubject: LF\n\n.dot\n..\n\nend\n");
    file("2", b"Received: from far\r\nSubject: CRLF\r\n\r\n.\r\ntail without an end");
    file("3", b"Subject: 8 bits\n\n\xff\xfe caf\xc3\xa9\n");
    file("4", b"Subject: 8 bits\n\n\xff\xfe caf\xc3\xa9\n");
    if refused {
        file("5", b"Subject: REFUSE\n\n");
    }
    folder
}

async fn verify(doors: &Doors, corpus: &tempfile::TempDir, more: &[&str]) -> Result<Report> {
    let folder = corpus.path().to_str().expect("a name");
    let front = ["--imap", &doors.imap, "--pop3", &doors.pop3, "--corpus", folder, "-c", "2"];
    load("verify", &doors.smtp, &[&LOGINS[..], &front, more].concat()).await
}

#[test]
fn what_comes_back_is_compared() {
    with_toy(None, |_, doors| async move {
        let corpus = corpus(false);
        // A second time among the messages of the first.
        for transfer in ["pipelined", "chunked"] {
            let report = verify(&doors, &corpus, &["--transfer", transfer]).await.expect("a report");
            let (equal, differences) = (figure(&report, "equal"), figure(&report, "differences"));
            assert_eq!((report.operations, equal, differences), (4, 4 * 3 * 2, 0), "{transfer}");
        }
        let report = verify(&doors, &corpus, &["--recipients", "1"]).await.expect("a report");
        assert_eq!((figure(&report, "equal"), figure(&report, "differences")), (4 * 2, 0));
    });
}

#[test]
fn one_wrong_octet_is_found_by_imap_and_by_pop3() {
    with_toy(Some(5), |_, doors| async move {
        let report = verify(&doors, &corpus(false), &[]).await.expect("a report");
        // One that was not sent and one that is missing, each seen twice.
        assert_eq!((figure(&report, "equal"), figure(&report, "differences")), (4 * 3 * 2 - 2, 4));
    });
}

#[test]
fn refused_messages_are_counted_when_that_is_allowed() {
    with_toy(None, |_, doors| async move {
        let corpus = corpus(true);
        let report = verify(&doors, &corpus, &["--refusals", "1"]).await.expect("a report");
        let figures = ["refused", "equal", "differences"].map(|name| figure(&report, name));
        assert_eq!(figures, [1, 4 * 3 * 2, 0]);
        let error = verify(&doors, &corpus, &[]).await.expect_err("a refusal");
        assert!(error.to_string().contains("554 5.6.0 I do not like it"), "{error}");
    });
}
