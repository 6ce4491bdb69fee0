//! Every format gives back what it was given; what is damaged or hostile is told.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::{
    InternalDate, Item, Source, Target, TransferError,
    archive::{ArchiveSource, ArchiveTarget},
    eml::{EmlSource, EmlTarget},
    maildir::{MaildirSource, MaildirTarget},
    mbox::{MboxSource, MboxTarget},
};

const SIZE_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Mbox,
    Maildir,
    Eml,
    Archive,
}

const FORMATS: [Format; 4] = [Format::Mbox, Format::Maildir, Format::Eml, Format::Archive];

fn target(format: Format, dest: &Path) -> Result<Box<dyn Target>, TransferError> {
    Ok(match format {
        Format::Mbox => Box::new(MboxTarget::create(dest)?),
        Format::Maildir => Box::new(MaildirTarget::create(dest)?),
        Format::Eml => Box::new(EmlTarget::create(dest)?),
        Format::Archive => Box::new(ArchiveTarget::create(dest)?),
    })
}

fn source(format: Format, from: &Path, size_max: usize) -> Result<Box<dyn Source>, TransferError> {
    Ok(match format {
        Format::Mbox => Box::new(MboxSource::open(from, size_max)?),
        Format::Maildir => Box::new(MaildirSource::open(from, size_max)?),
        Format::Eml => Box::new(EmlSource::open(from, size_max)?),
        Format::Archive => Box::new(ArchiveSource::open(from, size_max)?),
    })
}

fn write(format: Format, items: &[Item]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let dest = folder.path().join("export");
    let mut target = target(format, &dest).expect("a target");
    for item in items {
        target.put(item).expect("put");
        assert!(!dest.exists(), "it has its name only when it is whole");
    }
    target.finish().expect("finished");
    let left = fs::read_dir(folder.path()).expect("folder").count();
    assert_eq!(left, 1, "nothing but the export is left");
    (folder, dest)
}

/// All messages, and all that was told.
fn read_up_to(format: Format, from: &Path, size_max: usize) -> (Vec<Item>, Vec<TransferError>) {
    let (mut items, mut told) = (Vec::new(), Vec::new());
    let mut source = match source(format, from, size_max) {
        Ok(source) => source,
        Err(error) => return (items, vec![error]),
    };
    for _ in 0..10_000 {
        match source.next() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, told),
            Err(error @ TransferError::Stopped { .. }) => {
                told.push(error);
                return (items, told);
            }
            Err(error) => told.push(error),
        }
    }
    panic!("the source has no end")
}

fn read(format: Format, from: &Path) -> (Vec<Item>, Vec<TransferError>) {
    read_up_to(format, from, SIZE_MAX)
}

fn sorted(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by(|one, other| {
        let key = |item: &Item| (item.mailbox.clone(), item.internal_date.unix_s, item.internal_date.offset_minutes);
        key(one).cmp(&key(other)).then_with(|| one.octets.cmp(&other.octets)).then_with(|| one.flags.cmp(&other.flags))
    });
    items
}

fn item(mailbox: &[&str], octets: &[u8]) -> Item {
    let mailbox = mailbox.iter().map(|level| (*level).to_owned()).collect();
    let internal_date = InternalDate { unix_s: 1_700_000_000, offset_minutes: -330 };
    Item { mailbox, flags: vec!["\\Seen".to_owned(), "$Forwarded".to_owned()], internal_date, octets: octets.to_vec() }
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"Subject: x\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"From ",
        b">From ",
        b">>From x 10:00:00 2026\n",
        b"\xff\x80",
        b"a",
        b"\r\nFrom a Thu Nov 26 10:00:00 2026\r\n",
        b"\n\nFrom a Thu Nov 26 10:00:00 2026\n",
        b"Status: RO\r\n",
        b"X-Rockdove-Message: {}\r\n",
        b"X-Keywords: a\n",
        b"\n\n",
        b"\r\n\r\n",
        b" ",
    ];
    let piece = prop_oneof![proptest::sample::select(pieces).prop_map(<[u8]>::to_vec), vec(any::<u8>(), 0..20)];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn level() -> impl Strategy<Value = String> {
    let hostile = [
        "INBOX",
        "inbox",
        "..",
        ".",
        "",
        "a/b",
        "a\0b",
        "Work",
        "work",
        "WORK",
        "x.mbox",
        "x.SBD",
        "1.eml",
        "0000000001.eml",
        "mail",
        "manifest.jsonl",
        "cur",
        "new",
        "tmp",
        "%2E",
        "50% off",
        "%~1",
        "x%~1",
        "Entwürfe",
        "ENTWÜRFE",
        "日本語",
        "a.b",
        "&-",
        "a&b",
        "rockdove-export.json",
        " ",
        "a ",
        "a.",
        "C:\\x",
    ];
    let long = (150_usize..400).prop_map(|count| "é".repeat(count));
    prop_oneof![6 => proptest::sample::select(hostile.to_vec()).prop_map(str::to_owned), 1 => any::<String>(), 1 => long]
}

fn flag() -> impl Strategy<Value = String> {
    let known = [
        "\\Seen",
        "\\Draft",
        "\\Flagged",
        "\\Deleted",
        "\\Answered",
        "$Forwarded",
        "$MDNSent",
        "a",
        "b",
        "A",
        "\\seen",
    ];
    prop_oneof![4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let date = (prop_oneof![0..4_000_000_000_i64, any::<i64>()], any::<i16>());
    let date = date.prop_map(|(unix_s, offset_minutes)| InternalDate { unix_s, offset_minutes });
    let one = (vec(level(), 1..5), vec(flag(), 0..5), date, octets());
    let one = one.prop_map(|(mailbox, flags, internal_date, octets)| Item { mailbox, flags, internal_date, octets });
    vec(one, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(items in items(), format in proptest::sample::select(FORMATS.to_vec())) {
        let (_folder, dest) = write(format, &items);
        let (found, told) = read(format, &dest);
        prop_assert_eq!(told, Vec::new());
        prop_assert_eq!(sorted(found), sorted(items));
    }

    #[test]
    fn damage_is_told_and_nothing_panics(
        items in items(), format in proptest::sample::select(FORMATS.to_vec()), at in any::<prop::sample::Index>(),
        change in any::<Option<u8>>(),
    ) {
        let (_folder, dest) = write(format, &items);
        let mut files = files(&dest);
        let path = files.swap_remove(at.index(files.len()));
        let mut octets = fs::read(&path).expect("file");
        if octets.is_empty() {
            return Ok(());
        }
        let place = at.index(octets.len());
        match change {
            Some(octet) => octets[place] = octet,
            None => octets.truncate(place),
        }
        fs::write(&path, &octets).expect("written");
        let (found, told) = read(format, &dest);
        if format == Format::Archive && change.is_none() {
            prop_assert!(!told.is_empty(), "a cut archive is not whole");
        }
        prop_assert!(found.len() <= items.len() + 40);
    }

    #[test]
    fn names_come_back(level in any::<String>()) {
        prop_assert_eq!(super::names::unescape(&super::names::escape(&level)), level);
    }
}

/// Every file below.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let mut all: Vec<PathBuf> =
        fs::read_dir(path).expect("folder").flat_map(|entry| files(&entry.expect("entry").path())).collect();
    all.sort();
    all
}

fn python(script: &str, args: &[&Path]) -> String {
    let mut command = Command::new("python3");
    let output = command.arg("-B").arg("-c").arg(script).args(args).output().expect("python3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Messages that programs disagree about, and a plain one.
fn odd() -> Vec<Item> {
    let mut items = vec![
        item(&["INBOX"], b"Subject: one\r\n\r\nFrom here\r\n>From there\r\nbody\r\n"),
        item(&["INBOX"], b"Subject: two\r\n\r\n\r\n\r\nFrom a Thu Nov 26 10:00:00 2026\r\n\r\nno end"),
        item(&["INBOX"], b"Subject: three\n\nbare\rcr \xff\xfe\n"),
    ];
    items[0].flags = vec!["\\Seen".into(), "\\Answered".into(), "\\Flagged".into(), "blue".into()];
    items[1].flags = Vec::new();
    items
}

#[test]
fn python_reads_our_mbox() {
    let (_folder, dest) = write(Format::Mbox, &odd());
    let script = "
import mailbox,sys
for m in mailbox.mbox(sys.argv[1]):
    print(m['Subject'], m.get_flags(), m['X-Keywords'], m.get_payload().count('\\n'))";
    let expected = "one ROAF blue 3\ntwo O None 5\nthree RO $Forwarded 1\n";
    assert_eq!(python(script, &[&dest.join("INBOX.mbox")]), expected);
}

#[test]
fn python_reads_our_maildir() {
    let mut all = odd();
    all.push(item(&["Work", "2026"], b"Subject: four\r\n\r\n"));
    let (_folder, dest) = write(Format::Maildir, &all);
    let script = "
import mailbox,sys
box = mailbox.Maildir(sys.argv[1], create=False)
for m in sorted(box, key=lambda m: m['Subject']): print(m['Subject'], m.get_flags(), m.get_subdir(), int(m.get_date()))
for name in box.list_folders(): print(name, len(box.get_folder(name)))";
    let text = python(script, &[&dest]);
    assert_eq!(text, "one FRSa cur 1700000000\nthree PS cur 1700000000\ntwo  cur 1700000000\nWork.2026 1\n");
    assert_eq!(fs::read_to_string(dest.join("dovecot-keywords")).expect("keywords"), "0 blue\n");
}

#[test]
fn we_read_what_python_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "
import mailbox,sys,os
box = mailbox.mbox(os.path.join(sys.argv[1], 'box'))
for n, flags in enumerate(['', 'RO', 'ROAF']):
    m = mailbox.mboxMessage(b'Subject: %d\\n\\nFrom me\\n> quoted\\n\\xe4' % n)
    m.set_flags(flags)
    m.set_from('ada@example.org', __import__('time').gmtime(1700000000 + n))
    box.add(m)
box.close()
dir = mailbox.Maildir(os.path.join(sys.argv[1], 'dir'))
for n, flags in enumerate(['', 'S', 'FRS']):
    m = mailbox.MaildirMessage(b'Subject: %d\\n\\nFrom me\\n> quoted\\n\\xe4' % n)
    m.set_subdir('cur' if flags else 'new')
    m.set_flags(flags)
    m.set_date(1700000000 + n)
    dir.add(m)
dir.add_folder('A.B').add(b'Subject: sub\\n\\n')";
    python(script, &[folder.path()]);
    let (items, told) = read(Format::Mbox, &folder.path().join("box"));
    assert_eq!(told, []);
    let expected = [vec![], vec!["\\Seen"], vec!["\\Seen", "\\Answered", "\\Flagged"]];
    for (n, (item, flags)) in items.iter().zip(&expected).enumerate() {
        assert_eq!(item.mailbox, ["box"]);
        assert_eq!(&item.flags, flags);
        assert_eq!(item.internal_date.unix_s, 1_700_000_000 + i64::try_from(n).expect("small"));
        let start = format!("Subject: {n}\r\n\r\nFrom me\r\n> quoted\r\n").into_bytes();
        assert_eq!(item.octets, [&start[..], b"\xe4\r\n"].concat());
    }
    assert_eq!(items.len(), 3);
    let (items, told) = read(Format::Maildir, &folder.path().join("dir"));
    assert_eq!(told, []);
    let items = sorted(items);
    assert_eq!(items[0].mailbox, ["A", "B"]);
    assert_eq!(items[0].octets, b"Subject: sub\r\n\r\n");
    for (n, item) in items[1..].iter().enumerate() {
        let flags = [vec![], vec!["\\Seen"], vec!["\\Flagged", "\\Answered", "\\Seen"]];
        assert_eq!(
            (item.mailbox.as_slice(), &item.flags),
            (&["INBOX".to_owned()][..], &flags[n].iter().map(|flag| (*flag).to_owned()).collect())
        );
        assert_eq!(item.internal_date.unix_s, 1_700_000_000 + i64::try_from(n).expect("small"));
        assert_eq!(
            item.octets,
            format!("Subject: {n}\r\n\r\nFrom me\r\n> quoted\r\n")
                .into_bytes()
                .into_iter()
                .chain(*b"\xe4")
                .collect::<Vec<u8>>()
        );
    }
    assert_eq!(items.len(), 4);
}

/// What a test writes into files: a path below the folder, and octets.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, octets) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, octets).expect("written");
    }
    folder
}

#[test]
fn another_program_changes_flags_in_our_exports() {
    let (_folder, dest) = write(Format::Mbox, &odd());
    let script = "
import mailbox,sys
box = mailbox.mbox(sys.argv[1])
for key, m in box.items():
    m.set_flags('RO')
    box[key] = m
box.close()";
    python(script, &[&dest.join("INBOX.mbox")]);
    let (items, told) = read(Format::Mbox, &dest);
    assert_eq!((items.len(), told), (3, vec![]));
    for (item, old) in items.iter().zip(odd()).take(2) {
        assert_eq!((item.octets.as_slice(), item.internal_date), (old.octets.as_slice(), old.internal_date));
        assert_eq!(item.flags[0], "\\Seen");
    }
    let (_folder, dest) = write(Format::Maildir, &odd());
    let cur = dest.join("cur");
    let old = files(&cur).swap_remove(0);
    let base = old.to_string_lossy().split(":2,").next().expect("a base").to_owned();
    fs::rename(&old, format!("{base}:2,DSa")).expect("renamed");
    let (items, told) = read(Format::Maildir, &dest);
    assert_eq!((items.len(), told), (3, vec![]));
    assert_eq!(items[0].flags, ["\\Draft", "\\Seen", "blue"]);
    assert_eq!(items[0].octets, odd()[0].octets);
}

#[test]
fn thunderbird_folders() {
    let inbox = b"From - Thu Nov 26 10:00:00 2026\r\nX-Mozilla-Status: 1005\r\nX-Mozilla-Status2: 00000000\r\n\
        X-Mozilla-Keys: $label1 blue      \r\nSubject: a\r\n\r\n>From me\r\nFrom now on\r\n\r\n\
        From \r\nX-Mozilla-Status: 0009\r\n\r\nexpunged\r\n\r\n\
        From \r\nDate: Thu, 26 Nov 2026 10:00:00 +0100\r\n\r\nc\r\n\r\n";
    let folder = folder(&[
        ("Inbox", inbox),
        ("Inbox.msf", b"// <!-- <mdb:mork:z v=\"1.4\"/> -->"),
        ("Inbox.sbd/Work", b"From x Thu Nov 26 10:00:01 2026\nSubject: d\n\n"),
        ("Inbox.sbd/photo", b"GIF89a\n"),
        ("Trash", b""),
    ]);
    let (items, told) = read(Format::Mbox, folder.path());
    let seen: Vec<_> = items.iter().map(|item| (item.mailbox.join("/"), item.internal_date.unix_s)).collect();
    let at = 1_795_687_200;
    assert_eq!(seen, [("Inbox".into(), at), ("Inbox".into(), at - 3600), ("Inbox/Work".into(), at + 1)]);
    assert_eq!(items[0].flags, ["\\Seen", "\\Flagged", "$Forwarded", "$label1", "blue"]);
    assert_eq!(items[0].octets, b"Subject: a\r\n\r\nFrom me\r\nFrom now on\r\n");
    assert_eq!(items[2].octets, b"Subject: d\r\n\r\n");
    assert_eq!(told.len(), 1);
    assert!(told[0].to_string().contains("photo: this is no mbox file"), "{}", told[0]);
}

#[test]
fn maildirs_of_others() {
    let folder = folder(&[
        ("cur/1.a.host:2,Sa", b"Subject: a\n"),
        ("new/2.b.host", b"Subject: b\r\n"),
        ("tmp/3.c.host", b"half"),
        ("dovecot-keywords", b"0 $label1\n1 b\n"),
        (".Entw&APw-rfe.a\\2eb/cur/1.x:2,T", b""),
        (".no/file", b""),
        ("mutt/inner/cur/1.y:2,", b"y"),
    ]);
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("cur/9.link:2,")).expect("a link");
    let (items, told) = read(Format::Maildir, folder.path());
    assert_eq!(told, []);
    let mut seen: Vec<_> = items.iter().map(|item| (item.mailbox.join("/"), item.flags.join(" "))).collect();
    seen.sort();
    let expected = [("Entwürfe/a.b", "\\Deleted"), ("INBOX", ""), ("INBOX", "\\Seen $label1"), ("mutt/inner", "")];
    assert_eq!(seen, expected.map(|(mailbox, flags)| (mailbox.to_owned(), flags.to_owned())));
    assert_eq!(items[0].octets, b"Subject: a\r\n");
}

#[test]
fn eml_files_of_others() {
    let message = b"Date: Thu, 26 Nov 2026 10:00:00 +0100\nSubject: a\n\nbody";
    let folder = folder(&[("a.eml", message), ("Work/2026/b.EML", b"b\n"), ("Work/notes.txt", b"no")]);
    let (items, told) = read(Format::Eml, folder.path());
    assert_eq!(told, []);
    assert_eq!(items.len(), 2);
    assert_eq!(items[0].mailbox, ["INBOX"]);
    assert_eq!(items[0].internal_date, InternalDate { unix_s: 1_795_683_600, offset_minutes: 60 });
    assert_eq!(items[0].octets, b"Date: Thu, 26 Nov 2026 10:00:00 +0100\r\nSubject: a\r\n\r\nbody");
    assert_eq!((items[1].mailbox.join("/").as_str(), items[1].octets.as_slice()), ("Work/2026", b"b\r\n".as_slice()));
}

#[test]
fn a_manifest_leads_nowhere_else() {
    let outside = folder(&[("secret", b"secret")]);
    let line = |file: &str| {
        let hash = blake3::hash(b"secret").to_hex();
        let rest = "\"mailbox\":[\"INBOX\"],\"flags\":[],\"unix_s\":0,\"offset_minutes\":0,\"size\":6";
        format!("{{\"file\":{file:?},{rest},\"blake3\":\"{hash}\"}}\n")
    };
    let secret = outside.path().join("secret");
    let names = ["../secret", "/etc/passwd", &secret.to_string_lossy(), "link/secret", "flat", "missing", "", "."];
    let lines: String = names.iter().map(|name| line(name)).collect();
    let manifest = format!("{{\"rockdove_export\":1}}\n{lines}{{\"messages\":{}}}\n", names.len());
    let inside = folder(&[("manifest.jsonl", manifest.as_bytes())]);
    std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).expect("a link");
    std::os::unix::fs::symlink(&secret, inside.path().join("flat")).expect("a link");
    let (items, told) = read(Format::Eml, inside.path());
    assert_eq!(items, []);
    assert_eq!(told.len(), names.len());
}

#[test]
fn what_is_too_large_is_passed_over() {
    let large = vec![b'x'; 5_000];
    let items = [item(&["INBOX"], b"a\r\n"), item(&["INBOX"], &large), item(&["INBOX"], b"b\r\n")];
    for format in FORMATS {
        let (_folder, dest) = write(format, &items);
        let (found, told) = read_up_to(format, &dest, 4_000);
        assert_eq!(found.len(), 2, "{format:?}");
        assert_eq!(told.len(), 1, "{format:?}");
        assert!(
            told[0].to_string().ends_with("the message has 5000 octets, and at most 4000 are taken"),
            "{}",
            told[0]
        );
    }
}

#[test]
fn an_export_is_whole_or_told() {
    let items = [item(&["INBOX"], b"a\r\n"), item(&["INBOX"], &[b'x'; 3_000])];
    for format in FORMATS {
        let (folder, dest) = write(format, &items);
        assert!(matches!(target(format, &dest), Err(TransferError::Stopped { .. })), "it is there already");
        // One that is going on shuts out another; one that was dropped leaves nothing.
        let other = folder.path().join("other");
        let mut going = target(format, &other).expect("a target");
        going.put(&items[0]).expect("put");
        assert!(target(format, &other).is_err_and(|error| error.to_string().contains("another export")));
        drop(going);
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
        // What was killed is in the way of nothing.
        fs::write(folder.path().join(".other.rockdove-export"), b"half").expect("written");
        target(format, &other).expect("a target").finish().expect("finished");
        assert_eq!(read(format, &other), (vec![], vec![]));
        // The list, or the one file, cut at the end.
        let last = files(&dest).into_iter().find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            path.metadata().is_ok_and(|facts| facts.len() > 2_000)
                || name == "manifest.jsonl"
                || format == Format::Archive
        });
        let last = last.expect("a file");
        let octets = fs::read(&last).expect("read");
        fs::write(&last, &octets[..octets.len() - 5]).expect("written");
        assert!(!read(format, &dest).1.is_empty(), "{format:?}");
    }
}

#[test]
fn an_archive_unpacks_to_the_folder() {
    let items = [item(&["INBOX"], b"a\r\n"), item(&[&"long".repeat(40), "x/y"], b"\0\r\n\xff")];
    let (folder, dest) = write(Format::Archive, &items);
    let plain = folder.path().join("plain.tar");
    let out = zstd::decode_all(fs::File::open(&dest).expect("open")).expect("whole");
    fs::write(&plain, out).expect("written");
    let to = folder.path().join("to");
    fs::create_dir(&to).expect("made");
    let script = "import tarfile,sys\ntarfile.open(sys.argv[1]).extractall(sys.argv[2])";
    python(script, &[&plain, &to]);
    assert_eq!(read(Format::Eml, &to), (items.to_vec(), vec![]));
    let status = Command::new("tar").arg("-tf").arg(&plain).output().expect("tar is installed").status;
    assert!(status.success());
    // Packed by others, it has no records.
    let other = folder.path().join("other.tar.zst");
    let script = "import tarfile,sys\nt = tarfile.open(sys.argv[1], 'w')\nt.add(sys.argv[2], '.')\nt.close()";
    python(script, &[&plain, &to]);
    fs::write(&other, zstd::encode_all(fs::File::open(&plain).expect("open"), 1).expect("packed")).expect("written");
    let (found, told) = read(Format::Archive, &other);
    assert_eq!(found, []);
    assert!(told[0].to_string().contains("unpack it and import the folder"), "{}", told[0]);
}

#[test]
fn a_message_with_too_many_flags_is_passed_over() {
    let mut heavy = item(&["INBOX"], b"a\r\n");
    heavy.flags = vec!["x".repeat(2 << 20)];
    let light = item(&["INBOX"], b"b\r\n");
    for format in FORMATS {
        let folder = tempfile::tempdir().expect("a folder");
        let dest = folder.path().join("export");
        let mut target = target(format, &dest).expect("a target");
        assert!(matches!(target.put(&heavy), Err(TransferError::PassedOver { .. })), "{format:?}");
        target.put(&light).expect("put");
        target.finish().expect("finished");
        assert_eq!(read(format, &dest), (vec![light.clone()], vec![]), "{format:?}");
    }
}
