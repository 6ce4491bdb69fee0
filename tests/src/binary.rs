//! Where the program under test lies, and whether it is the one the sources describe.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

const ADVICE: &str = "run `cargo build -p rockdove` first (`make test` and `cargo test --workspace` do)";

/// The `rockdove` program that was built beside this test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/PROFILE/deps/test-hash -> target/PROFILE
        let test = env::current_exe().expect("the path of this test");
        let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
        let binary = profile.join("rockdove");
        assert!(binary.is_file(), "there is no {}: {ADVICE}", binary.display());
        if let Some(newer) = newer_source(&binary) {
            unreachable!("{} is older than {newer}: {ADVICE}", binary.display());
        }
        binary
    })
}

/// A source that was changed after the program was built from it. Cargo leaves a list of them beside the program.
fn newer_source(binary: &Path) -> Option<String> {
    let changed = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let built = changed(binary);
    let list = fs::read_to_string(binary.with_extension("d")).ok()?;
    let sources = list.split_once(": ")?.1.replace("\\ ", "\u{0}");
    let mut sources = sources.split_whitespace().map(|source| source.replace('\u{0}', " "));
    sources.find(|source| changed(Path::new(source)) > built)
}
