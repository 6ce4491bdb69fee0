//! What fuzzing found worth keeping is run by the ordinary tests.

use std::{fs, path::Path};

/// Octets of all corpora together: enough for shapes, not for bulk.
const CORPUS_BYTES_MAX: u64 = 2 * 1024 * 1024;

#[test]
fn corpora() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut bytes = 0;
    for (name, target) in rockdove_fuzz::TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(root.join(name)).expect("every target has a corpus") {
            let path = entry.expect("entry").path();
            let data = fs::read(&path).expect("file");
            bytes += data.len() as u64;
            count += 1;
            if std::panic::catch_unwind(|| target(&data)).is_err() {
                unreachable!("{} breaks {name}", path.display());
            }
        }
        assert!(count > 0, "{name} has no corpus");
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} octets of corpora; minimise them with `cargo fuzz cmin`");
}
