//! Runs every conversation in `tests/transcripts` in several chunkings: whole, byte by byte, and cut at random places, in
//! both directions. What is sent, and what the host is asked, must not depend on how the octets arrived.

mod host;

use std::{fs, path::Path};

use host::{Cuts, check_transcript};

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("the folder of transcripts")
        .map(|entry| entry.expect("a folder entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    names.sort();
    assert!(names.len() >= 1, "transcripts are missing");
    for path in names {
        let text = fs::read_to_string(&path).expect("a transcript");
        // Conversations in one file are separated by lines of dashes.
        for (number, part) in text.split("\n----").enumerate() {
            let part = part.trim_start_matches('-');
            let name = format!("{} part {}", path.file_name().unwrap_or_default().to_string_lossy(), number + 1);
            for cuts in [Cuts::Whole, Cuts::Single].into_iter().chain((0..8).map(Cuts::Random)) {
                check_transcript(&name, part, cuts);
            }
        }
    }
}
