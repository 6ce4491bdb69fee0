//! Backups of a server at work: whatever was acknowledged before one began is in it, it can be had back, and no kill of
//! the command or of the server leaves a snapshot that cannot.
#![allow(clippy::disallowed_methods, reason = "a test waits for another process, so it reads the clock")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rockdove_tests::{Dice, Door, Imap, Io, Ran, Server, Setup, Smtp, binary};
use serde_json::Value;

/// Connections that deliver.
const DELIVERERS: u64 = 20;

fn server() -> Server {
    Server::start(Setup::new(Io::IoUring, &[Door::Lmtp, Door::Imap]))
}

/// The message of this number; large ones have parts of their own in blob files.
fn message(id: &str) -> Vec<u8> {
    let seed = id.bytes().fold(7, |seed: u64, octet| seed.wrapping_mul(31).wrapping_add(u64::from(octet)));
    let (mut dice, mut text) = (Dice::new(seed), format!("Subject: {id}\r\n\r\n"));
    for _ in 0..dice.below(8) * dice.below(60) {
        let line: String = (0..70).map(|_| char::from(b'a' + u8::try_from(dice.below(26)).expect("small"))).collect();
        text.push_str(&line);
        text.push_str("\r\n");
    }
    text.into_bytes()
}

fn deliver(server: &Server, ids: &[String]) {
    let mut smtp = Smtp::hello(server.connect(Door::Lmtp), true).expect("a greeting");
    for id in ids {
        assert_eq!(smtp.deliver(&["ada"], &message(id)).expect("answered"), [250], "{id}");
    }
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}.{number}")).collect()
}

/// Every message of a mailbox, by the id in its subject: as it was sent, without the trace that delivery put before it.
fn contents(server: &Server, mailbox: &str) -> BTreeMap<String, Vec<u8>> {
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    imap.ok(&format!("EXAMINE {mailbox}"));
    let mut found = BTreeMap::new();
    for response in imap.ok("UID FETCH 1:* BODY.PEEK[]").untagged {
        let Some(at) = response.windows(9).position(|window| window == b"Subject: ") else { continue };
        let sent = response[at..].strip_suffix(b")").expect("the end of the response").to_vec();
        let end = sent.iter().position(|octet| *octet == b'\r').expect("a line");
        let id = String::from_utf8_lossy(&sent[9..end]).into_owned();
        assert_eq!(found.insert(id, sent), None, "a message is there twice");
    }
    found
}

fn assert_intact(found: &BTreeMap<String, Vec<u8>>) {
    for (id, content) in found {
        assert!(*content == message(id), "{id} is not what was sent");
    }
}

fn backup(server: &Server, args: &[&str]) -> Ran {
    server.rockdove(&[&["backup"], args].concat(), "")
}

fn create(server: &Server, repository: &Path) -> String {
    let printed = backup(server, &["create", &repository.to_string_lossy()]).ok();
    let name = printed.split_whitespace().nth(1).and_then(|name| name.strip_suffix(':'));
    name.unwrap_or_else(|| unreachable!("{printed}")).to_owned()
}

fn snapshots(server: &Server, repository: &Path) -> Vec<String> {
    let printed = backup(server, &["list", &repository.to_string_lossy(), "--json"]).ok();
    let list: Vec<Value> = serde_json::from_str(&printed).expect("JSON");
    list.iter().map(|snapshot| snapshot["name"].as_str().expect("a name").to_owned()).collect()
}

/// Stops the server, puts the snapshot in place of its data folder, and starts it again.
fn restore(server: &mut Server, repository: &Path, more: &[&str]) {
    server.stop();
    bring_back(server, repository, more);
    server.run();
}

fn bring_back(server: &Server, repository: &Path, more: &[&str]) {
    let data = server.path("data");
    fs::remove_dir_all(&data).expect("removed");
    let (from, to) = (repository.to_string_lossy(), data.to_string_lossy());
    server.rockdove(&[&["restore", &*from, "--to", &*to], more].concat(), "").ok();
}

/// The objects of a repository with their sizes.
fn objects(repository: &Path) -> BTreeMap<PathBuf, u64> {
    let mut all = BTreeMap::new();
    for folder in fs::read_dir(repository.join("objects")).expect("a folder") {
        for entry in fs::read_dir(folder.expect("an entry").path()).expect("a folder") {
            let entry = entry.expect("an entry");
            all.insert(entry.path(), entry.metadata().expect("facts").len());
        }
    }
    all
}

fn checkpoints(server: &Server) -> usize {
    fs::read_dir(server.path("data/checkpoints")).map_or(0, Iterator::count)
}

/// Delivers until told to stop, or the server dies.
fn load(server: &Server, client: u64, stop: &AtomicBool, acknowledged: &Mutex<BTreeSet<String>>) -> io::Result<()> {
    let mut smtp = Smtp::hello(server.try_connect(Door::Lmtp)?, true)?;
    for number in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let id = format!("{client}.{number}");
        assert_eq!(smtp.deliver(&["ada"], &message(&id))?, [250]);
        acknowledged.lock().expect("no panic").insert(id);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Sets flags and expunges copies until told to stop, or the server dies.
fn churn(server: &Server, stop: &AtomicBool) -> io::Result<()> {
    let mut imap = Imap::login(server.try_connect(Door::Imap)?, "ada")?;
    for round in 0_u64.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        imap.try_ok("SELECT INBOX")?;
        imap.try_ok("STORE 1:* +FLAGS.SILENT (\\Flagged)")?;
        imap.try_ok("COPY 1:* Archive")?;
        if round % 3 == 2 {
            imap.try_ok("SELECT Archive")?;
            imap.try_ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
            imap.try_ok("EXPUNGE")?;
        }
    }
    Ok(())
}

#[test]
fn a_backup_under_full_load_has_everything_that_was_acknowledged_before_it() {
    let mut server = server();
    let repository = server.path("backups");
    deliver(&server, &ids("before", 50));
    let (stop, acknowledged) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let mut known: Vec<(String, BTreeSet<String>)> = Vec::new();
    thread::scope(|scope| {
        let (running, stop, acknowledged) = (&server, &stop, &acknowledged);
        for client in 0..DELIVERERS {
            scope.spawn(move || load(running, client, stop, acknowledged).expect("served"));
        }
        scope.spawn(move || churn(running, stop).expect("served"));
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(700));
            let before = acknowledged.lock().expect("no panic").clone();
            known.push((create(running, &repository), before));
        }
        stop.store(true, Ordering::Release);
    });
    assert_eq!(checkpoints(&server), 0, "nothing is left beside the store");
    backup(&server, &["verify", &repository.to_string_lossy(), "--deep"]).ok();
    for (name, before) in &known {
        assert!(before.len() > 20, "there was load");
        restore(&mut server, &repository, &["--snapshot", name]);
        server.fsck();
        let found = contents(&server, "INBOX");
        assert_intact(&found);
        let lost: Vec<_> = before.iter().filter(|id| !found.contains_key(*id)).collect();
        assert!(lost.is_empty(), "{name} lacks {lost:?}");
        assert!(found.contains_key("before.49"));
    }
}

#[test]
fn the_second_snapshot_copies_little_and_only_its_owner_can_look() {
    let server = server();
    let repository = server.path("backups");
    deliver(&server, &ids("first", 200));
    // Texts for searching follow in the background.
    let began = Instant::now();
    while !server.rockdove(&["status", "--metrics"], "").ok().contains("rockdove_indexed_messages_total 200") {
        assert!(began.elapsed() < Duration::from_secs(30), "texts are not taken in");
        thread::sleep(Duration::from_millis(50));
    }
    create(&server, &repository);
    let first = objects(&repository);
    deliver(&server, &ids("second", 1));
    create(&server, &repository);
    let second = objects(&repository);
    let new: u64 = second.iter().filter(|(path, _)| !first.contains_key(*path)).map(|(_, size)| size).sum();
    let all: u64 = first.values().sum();
    assert!(all > 1_000_000 && new < all / 4, "{new} octets after {all}");
    let mut folders = vec![repository];
    while let Some(folder) = folders.pop() {
        assert_eq!(fs::metadata(&folder).expect("facts").permissions().mode() & 0o777, 0o700, "{}", folder.display());
        for entry in fs::read_dir(&folder).expect("a folder") {
            let (path, facts) = entry.map(|entry| (entry.path(), entry.metadata().expect("facts"))).expect("an entry");
            if facts.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(facts.permissions().mode() & 0o777, 0o600, "{}", path.display());
            }
        }
    }
}

/// A backup that is slow enough to be met in the middle.
fn slow_create(server: &Server, repository: &Path, rate: &str) -> Child {
    let mut command = Command::new(binary());
    command.arg("--config").arg(server.config_path()).args(["backup", "create"]).arg(repository).args(["--rate", rate]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started")
}

/// Waits until so many objects are there.
fn await_objects(repository: &Path, least: usize) {
    let began = Instant::now();
    while !repository.join("objects").is_dir() || objects(repository).len() < least {
        assert!(began.elapsed() < Duration::from_secs(30), "the backup does not begin");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_backup_is_gone_on_with() {
    let mut server = server();
    let repository = server.path("backups");
    deliver(&server, &ids("first", 150));
    let mut killed = slow_create(&server, &repository, "1 MiB/s");
    await_objects(&repository, 2);
    let refused = backup(&server, &["create", &repository.to_string_lossy()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("another command is using the repository"), "{}", refused.err);
    killed.kill().expect("killed");
    killed.wait().expect("ended");
    let copied = objects(&repository);
    assert!(snapshots(&server, &repository).is_empty(), "what is not finished is no snapshot");
    assert_eq!(checkpoints(&server), 1, "the killed command could not remove it");
    create(&server, &repository);
    assert!(copied.keys().all(|object| objects(&repository).contains_key(object)), "what was copied is used");
    assert_eq!(fs::read_dir(repository.join("drafts")).expect("a folder").count(), 0);
    server.stop();
    server.run();
    assert_eq!(checkpoints(&server), 0, "the next start removes what was left over");
    restore(&mut server, &repository, &[]);
    let found = contents(&server, "INBOX");
    assert_intact(&found);
    assert_eq!(found.len(), 150);
}

#[test]
fn a_server_that_is_killed_during_a_backup_harms_neither() {
    let mut server = server();
    let repository = server.path("backups");
    deliver(&server, &ids("first", 150));
    let mut running = slow_create(&server, &repository, "4 MiB/s");
    await_objects(&repository, 2);
    server.kill();
    assert!(running.wait().expect("ended").success(), "the checkpoint is there without the server");
    server.run();
    deliver(&server, &ids("second", 5));
    create(&server, &repository);
    for (name, count) in snapshots(&server, &repository).iter().zip([150, 155]) {
        restore(&mut server, &repository, &["--snapshot", name]);
        let found = contents(&server, "INBOX");
        assert_intact(&found);
        assert_eq!(found.len(), count);
    }
}

#[test]
fn a_damaged_object_is_named_and_written_again() {
    let mut server = server();
    let repository = server.path("backups");
    deliver(&server, &ids("first", 60));
    create(&server, &repository);
    let (object, _) = objects(&repository).into_iter().max_by_key(|(_, size)| *size).expect("objects");
    let mut content = fs::read(&object).expect("read");
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&object, content).expect("written");
    let target = server.path("elsewhere");
    let refused = server.rockdove(&["restore", &repository.to_string_lossy(), "--to", &target.to_string_lossy()], "");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains(&*object.to_string_lossy()), "{}", refused.err);
    assert!(!target.join("store").exists(), "a server finds no half of a store");
    let found = backup(&server, &["verify", &repository.to_string_lossy()]);
    assert_eq!(found.code, Some(4), "{}{}", found.out, found.err);
    assert!(found.out.contains(&*object.to_string_lossy()) && found.out.contains("\n1 problems"), "{}", found.out);
    create(&server, &repository);
    assert!(object.is_file(), "it is written again");
    backup(&server, &["verify", &repository.to_string_lossy(), "--deep"]).ok();
    restore(&mut server, &repository, &[]);
    assert_eq!(contents(&server, "INBOX").len(), 60);
    // A manifest that was changed is noticed too.
    let name = snapshots(&server, &repository).remove(0);
    let manifest = repository.join("snapshots").join(name);
    let text = fs::read_to_string(&manifest).expect("read");
    fs::write(&manifest, text.replacen("store/CURRENT", "store/CURRENS", 1)).expect("written");
    assert_eq!(backup(&server, &["verify", &repository.to_string_lossy()]).code, Some(4));
    let refused = backup(&server, &["prune", &repository.to_string_lossy(), "--keep-last", "1"]);
    assert_eq!(refused.code, Some(1), "what it needs is not known");
}

#[test]
fn pruning_keeps_what_the_others_need() {
    let mut server = server();
    let repository = server.path("backups");
    let mut names = Vec::new();
    for (round, count) in [40, 30, 20].into_iter().enumerate() {
        deliver(&server, &ids(&format!("round{round}"), count));
        names.push(create(&server, &repository));
    }
    let place = repository.to_string_lossy().into_owned();
    let inside = backup(&server, &["create", &server.path("data/backups").to_string_lossy()]);
    assert!(inside.code == Some(2) && !server.path("data/backups").exists(), "{}", inside.err);
    let usage = backup(&server, &["prune", &place]);
    assert_eq!(usage.code, Some(2), "{}", usage.err);
    let before = objects(&repository);
    backup(&server, &["prune", &place, "--keep-last", "1", "--dry-run"]).ok();
    assert_eq!((snapshots(&server, &repository), objects(&repository)), (names.clone(), before.clone()));
    backup(&server, &["prune", &place, "--keep-last", "2"]).ok();
    assert_eq!(snapshots(&server, &repository), names[1..]);
    assert!(objects(&repository).len() < before.len());
    backup(&server, &["verify", &place, "--deep"]).ok();
    // A prune that was killed between manifests and objects is ended by the next.
    fs::remove_file(repository.join("snapshots").join(&names[1])).expect("removed");
    backup(&server, &["prune", &place, "--keep-daily", "7"]).ok();
    backup(&server, &["verify", &place, "--deep"]).ok();
    restore(&mut server, &repository, &[]);
    let found = contents(&server, "INBOX");
    assert_intact(&found);
    assert_eq!(found.len(), 90);
}

#[test]
fn a_server_at_rest_is_backed_up_too_and_a_restore_lets_no_client_mistake_a_message() {
    let mut server = server();
    let repository = server.path("backups");
    deliver(&server, &ids("first", 40));
    server.stop();
    create(&server, &repository);
    assert_eq!(checkpoints(&server), 0);
    server.run();
    let validity = |server: &Server| {
        let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
        let selected = imap.ok("SELECT INBOX (CONDSTORE)");
        (selected.number("UIDVALIDITY"), selected.number("UIDNEXT"), selected.number("HIGHESTMODSEQ"))
    };
    let before = validity(&server);
    deliver(&server, &ids("lost", 3));
    // A restore that was killed left this; it does not count.
    let unfinished = server.path("data2/restoring/store");
    fs::create_dir_all(&unfinished).expect("made");
    fs::write(unfinished.join("CURRENT"), "nothing").expect("written");
    let to = server.path("data2").to_string_lossy().into_owned();
    server.rockdove(&["restore", &repository.to_string_lossy(), "--to", &to], "").ok();
    assert!(server.path("data2/store/CURRENT").is_file() && !server.path("data2/restoring").exists());
    restore(&mut server, &repository, &["--same-uids"]);
    assert_eq!(validity(&server), before, "as it was");
    restore(&mut server, &repository, &[]);
    deliver(&server, &ids("again", 1));
    let after = validity(&server);
    assert!(after.0 > before.0 && after.2 > before.2, "{before:?} {after:?}");
    assert_eq!(contents(&server, "INBOX").len(), 41);
    let data = server.path("data");
    assert!(data.join("restored-configuration.toml").is_file() && data.join("login.key").is_file());
    let refused = server.rockdove(&["restore", &repository.to_string_lossy(), "--to", &data.to_string_lossy()], "");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("restore into a folder that is empty"), "{}", refused.err);
    create(&server, &repository);
    backup(&server, &["verify", &repository.to_string_lossy(), "--deep"]).ok();
}

fn run_on(server: &Server, place: &str, more: &[&str]) -> Ran {
    server.rockdove(&[&["restore", place, "--account", "ada@rockdove.test"], more].concat(), "")
}

#[test]
fn an_account_or_a_mailbox_comes_back_beside_what_is_there() {
    let server = server();
    let repository = server.path("backups");
    let place = repository.to_string_lossy().into_owned();
    let large =
        [&b"Subject: large.0\r\n\r\n"[..], &b"a line of some length, again and again\r\n".repeat(50_000)].concat();
    deliver(&server, &ids("first", 30));
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    imap.ok("SELECT INBOX");
    imap.ok("UID STORE 3,4 +FLAGS (\\Seen $Invoice)");
    imap.ok("UID COPY 1:10 Archive");
    imap.ok("CREATE Work/Deep");
    imap.try_append("Work/Deep", &large).expect("taken");
    let date = "\"17-Jul-1996 02:44:25 -0700\"";
    let text = "Subject: dated.0\r\n\r\ntext\r\n";
    imap.ok(&format!("APPEND Work/Deep (\\Answered Later) {date} {{{}+}}\r\n{text}", text.len()));
    create(&server, &repository);
    // What is removed since comes back, what is there stays.
    imap.ok("UID STORE 3,5:9 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.ok("DELETE Work/Deep");
    let run = |more: &[&str]| run_on(&server, &place, more);
    let told = |ran: Ran| -> (String, String) {
        let text = ran.ok();
        let words: Vec<&str> = text.split_whitespace().collect();
        (words[0].to_owned(), words[words.len() - 3].to_owned())
    };
    assert_eq!(told(run(&["--dry-run"])), ("8".into(), "34".into()));
    assert_eq!(told(run(&["--mailbox", "inbox"])), ("6".into(), "24".into()));
    assert_eq!(told(run(&[])), ("2".into(), "40".into()));
    assert_eq!(told(run(&[])), ("0".into(), "42".into()), "twice is once");
    let found = contents(&server, "INBOX");
    assert_intact(&found);
    assert_eq!((found.len(), contents(&server, "Archive").len()), (30, 10));
    let deep = contents(&server, "Work/Deep");
    assert!(deep["large.0"] == large && deep["dated.0"] == text.as_bytes());
    let mut imap = Imap::login(server.connect(Door::Imap), "ada").expect("logged in");
    imap.ok("SELECT Work/Deep");
    let dated = imap.ok("FETCH 2 (FLAGS INTERNALDATE)").untagged.remove(0);
    let dated = String::from_utf8_lossy(&dated).into_owned();
    for want in [date, "\\Answered", "Later"] {
        assert!(dated.contains(want), "{dated}");
    }
    assert_eq!(imap.ok("LSUB \"\" Work/Deep").untagged.len(), 1, "its client shows it");
    imap.ok("SELECT INBOX");
    assert_eq!(imap.ok("SEARCH KEYWORD $Invoice").with("SEARCH")[0].split(' ').count(), 3, "two have it again");
    // Another place, and mistakes.
    assert_eq!(told(run(&["--mailbox", "Archive", "--into", "Restored"])), ("10".into(), "0".into()));
    assert_eq!(told(run(&["--mailbox", "Archive", "--into", "Restored"])), ("0".into(), "10".into()));
    assert_eq!(contents(&server, "Restored/Archive").len(), 10);
    assert!(run(&["--mailbox", "Nowhere"]).err.contains("mailbox Nowhere of ada@rockdove.test is not in snapshot"));
    assert_eq!(fs::read_dir(repository.join("views")).expect("a folder").count(), 0);
    let mut server = server;
    server.stop();
    assert_eq!(run_on(&server, &place, &[]).code, Some(3), "it needs a running server");
    server.run();
    let run = |more: &[&str]| run_on(&server, &place, more);
    server.rockdove(&["account", "remove", "ada@rockdove.test"], "").ok();
    assert!(run(&[]).err.contains("account ada@rockdove.test: there is no such account"));
    server.add_account("ada");
    assert_eq!(told(run(&[])), ("42".into(), "0".into()), "an account that was removed");
    assert_intact(&contents(&server, "INBOX"));
}
