//! The house rules that a program can check. Each failure says where, and what to do about it. Each rule is also shown a
//! sample that breaks it, because a check that cannot fail proves nothing.

use std::{fs, path::Path};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// Lines of a file.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, from `fn` to the closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// What a crate's and a folder's header say, in this order.
const HEADER_BULLETS: [&str; 5] = ["* What:", "* In:", "* Out:", "* Never:", "* Fails:"];
/// Names that say nothing.
const EMPTY_NAMES: [&str; 10] =
    ["common", "core", "utils", "util", "types", "helpers", "helper", "misc", "shared", "stuff"];
/// Licences a dependency may have. Others (`Unlicense`, `CC0-1.0`, `0BSD`, `BSL-1.0` ...) may only stand beside one of
/// these after an `OR`.
const LICENCES: [&str; 8] =
    ["Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "MPL-2.0", "Unicode-3.0"];
/// Which of our crates a crate may name in its manifest.
const IMPORTS: [(&str, &[&str]); 10] = [
    ("rockdove-mail", &[]),
    ("rockdove-engine", &["rockdove-mail"]),
    ("rockdove-smtp", &["rockdove-mail"]),
    ("rockdove-imap", &["rockdove-mail"]),
    ("rockdove-pop3", &["rockdove-mail"]),
    ("rockdove-milter", &["rockdove-mail"]),
    (
        "rockdove",
        &["rockdove-engine", "rockdove-mail", "rockdove-smtp", "rockdove-imap", "rockdove-pop3", "rockdove-milter"],
    ),
    ("rockdove-fuzz", &["rockdove-engine", "rockdove-mail", "rockdove-smtp", "rockdove-imap", "rockdove-pop3"]),
    ("rockdove-benches", &["rockdove-engine", "rockdove-mail", "rockdove-smtp", "rockdove-imap", "rockdove-pop3"]),
    (
        "rockdove-tests",
        &["rockdove", "rockdove-engine", "rockdove-mail", "rockdove-smtp", "rockdove-imap", "rockdove-pop3"],
    ),
];

/// A text file of the house; the path is relative to the root.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    fn is_manifest(&self) -> bool {
        self.path.ends_with("Cargo.toml") && self.path != "Cargo.toml"
    }

    fn is_product(&self) -> bool {
        self.is_rust() && ["engine/src/", "protocols/", "server/src/"].iter().any(|room| self.path.starts_with(room))
    }
}

/// A rule: what is wrong in these files, one line each.
type Rule = fn(&[File]) -> Vec<String>;

fn house() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut files = Vec::new();
    walk(root, root, &mut files);
    assert!(files.len() > 50, "the house was not found");
    files
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("name").to_owned();
        // What is built, fuzzed or kept by git is not written by us. In a second working tree `.git` is a file.
        if ["target", "corpus", "artifacts", ".git", "demo"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            files.push(File { path: relative, text });
        }
    }
}

/// A token of code (no comment, no literal) and its line.
struct Token {
    text: String,
    line: usize,
}

/// All tokens but those of `#[cfg(test)]` items when `with_tests` is false.
fn tokens(text: &str, with_tests: bool) -> Vec<Token> {
    let mut all = Vec::new();
    if let Ok(stream) = text.parse::<TokenStream>() {
        flatten(stream, with_tests, &mut all);
    }
    all
}

fn flatten(stream: TokenStream, with_tests: bool, all: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Punct(hash) if hash.as_char() == '#' && !with_tests => {
                let test = trees.peek().is_some_and(|next| next.to_string().replace(' ', "") == "[cfg(test)]");
                if test {
                    // The item goes up to its braces or its semicolon.
                    let ends = |tree: &TokenTree| match tree {
                        TokenTree::Group(group) => group.delimiter() == proc_macro2::Delimiter::Brace,
                        TokenTree::Punct(punct) => punct.as_char() == ';',
                        _ => false,
                    };
                    trees.by_ref().find(ends);
                } else {
                    all.push(Token { text: "#".to_owned(), line });
                }
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                all.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), with_tests, all);
                all.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
            TokenTree::Literal(_) => all.push(Token { text: "\"".to_owned(), line }),
            other => all.push(Token { text: other.to_string(), line }),
        }
    }
}

/// Lines where the tokens of `pattern`, separated by spaces, follow one another.
fn find(tokens: &[Token], pattern: &str) -> Vec<usize> {
    let pattern: Vec<&str> = pattern.split(' ').collect();
    let at = tokens.windows(pattern.len()).filter(|window| window.iter().zip(&pattern).all(|(t, p)| t.text == *p));
    at.filter_map(|window| window.first().map(|token| token.line)).collect()
}

fn names_stay_home(files: &[File], with_tests: bool, names: &[&str], homes: &[&str], why: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_product() && !homes.iter().any(|home| file.path.starts_with(home))) {
        let tokens = tokens(&file.text, with_tests);
        for name in names {
            wrong.extend(find(&tokens, name).iter().map(|line| {
                let name = name.replace(' ', "");
                format!("{}:{line}: `{name}` belongs in {}: {why}", file.path, homes.join(" or "))
            }));
        }
    }
    wrong
}

fn manifests_import_downwards(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_manifest()) {
        let manifest: toml::Table = match file.text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                wrong.push(format!("{}: {error}", file.path));
                continue;
            }
        };
        let name = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
        let Some((name, allowed)) = IMPORTS.into_iter().find(|(known, _)| Some(*known) == name) else {
            wrong.push(format!("{}: a new crate needs a line in IMPORTS of the house rules", file.path));
            continue;
        };
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let named = manifest.get(section).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
            for import in named.filter(|import| import.starts_with("rockdove") && !allowed.contains(&import.as_str())) {
                wrong.push(format!("{}: {name} may not import {import}; move the shared part down or ask", file.path));
            }
        }
    }
    wrong
}

fn only_one_file_names_rocksdb(files: &[File]) -> Vec<String> {
    names_stay_home(files, true, &["rocksdb"], &["engine/src/kv/rocks.rs"], "go through the Kv contract")
}

fn only_the_runtime_names_io_uring(files: &[File]) -> Vec<String> {
    let homes = ["server/src/runtime/", "server/src/net/"];
    names_stay_home(files, true, &["io_uring", "tokio_uring"], &homes, "go through runtime::wire")
}

fn only_one_file_names_tls_connections(files: &[File]) -> Vec<String> {
    let names = [
        "ServerConnection",
        "ClientConnection",
        "UnbufferedServerConnection",
        "UnbufferedClientConnection",
        "rustls : : Connection",
    ];
    // A test may play the client.
    let homes = ["server/src/net/tls.rs", "server/tests/"];
    names_stay_home(files, false, &names, &homes, "everyone else sees octets in clear")
}

fn time_chance_and_threads_come_in_as_values(files: &[File]) -> Vec<String> {
    let names = [
        "Instant : : now",
        "SystemTime : : now",
        "thread : : spawn",
        "thread : : Builder",
        "env : : var",
        "env : : var_os",
        "env : : vars",
        "getrandom",
        "SystemRandom",
    ];
    let homes = ["server/src/runtime/", "server/src/main.rs", "server/tests/", "engine/tests/"];
    let mut wrong =
        names_stay_home(files, false, &names, &homes, "take the time, the seed or the setting as an argument");
    // RocksDB tells nobody when a write stall is over; the wait there is bounded.
    let homes = ["server/src/runtime/", "server/tests/", "engine/tests/", "engine/src/kv/rocks.rs"];
    wrong.extend(names_stay_home(files, false, &["thread : : sleep"], &homes, "wait for what you wait for"));
    wrong
}

fn unsafe_stays_below_and_explains_itself(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let home = ["server/src/runtime/", "server/src/net/"].iter().any(|home| file.path.starts_with(home));
        let lines: Vec<&str> = file.text.lines().collect();
        for line in find(&tokens(&file.text, true), "unsafe") {
            let above = lines.get(line.saturating_sub(8)..line).unwrap_or_default();
            if !home {
                wrong.push(format!("{}:{line}: `unsafe` may stand in runtime/ and net/ only", file.path));
            } else if !above.iter().any(|line| line.contains("SAFETY:")) {
                wrong.push(format!("{}:{line}: say above, after `SAFETY:`, why this is sound", file.path));
            }
        }
        let root = file.path == "engine/src/lib.rs"
            || (file.path.starts_with("protocols/") && file.path.ends_with("/src/lib.rs"));
        if root && find(&tokens(&file.text, true), "forbid ( unsafe_code )").is_empty() {
            wrong.push(format!("{}: add #![forbid(unsafe_code)]", file.path));
        }
    }
    wrong
}

fn files_stay_short(files: &[File]) -> Vec<String> {
    let long = |file: &&File| file.is_rust() && file.text.lines().count() > FILE_LINES_MAX;
    let say = |file: &File| {
        format!("{}: {} lines; split at a seam below {FILE_LINES_MAX}", file.path, file.text.lines().count())
    };
    files.iter().filter(long).map(say).collect()
}

#[derive(Default)]
struct Functions {
    /// Name, first line, number of lines.
    found: Vec<(String, usize, usize)>,
}

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        self.found.push((signature.ident.to_string(), first, last.saturating_sub(first) + 1));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

fn functions_stay_short(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let parsed = match syn::parse_file(&file.text) {
            Ok(parsed) => parsed,
            Err(error) => {
                wrong.push(format!("{}: cannot be read: {error}", file.path));
                continue;
            }
        };
        let mut functions = Functions::default();
        functions.visit_file(&parsed);
        for (name, line, length) in functions.found {
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!("{}:{line}: fn {name} has {length} lines; cut it into named stages", file.path));
            }
        }
    }
    wrong
}

fn rooms_have_headers(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.path.contains("src/")) {
        if !(file.path.ends_with("/lib.rs") || file.path.ends_with("/mod.rs")) {
            continue;
        }
        let header: Vec<&str> = file.text.lines().filter_map(|line| line.strip_prefix("//!")).collect();
        let missing: Vec<&str> = HEADER_BULLETS
            .into_iter()
            .filter(|bullet| !header.iter().any(|line| line.trim_start().starts_with(bullet)))
            .collect();
        if !missing.is_empty() {
            wrong.push(format!("{}: the header lacks {}", file.path, missing.join(" ")));
        }
    }
    wrong
}

fn names_say_something(files: &[File]) -> Vec<String> {
    let empty = |name: &str| EMPTY_NAMES.contains(&name);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if file.path.trim_end_matches(".rs").split('/').any(empty) {
            wrong.push(format!("{}: name it for what it does", file.path));
        }
        let tokens = tokens(&file.text, true);
        for window in tokens.windows(2).filter(|window| window[0].text == "mod" && empty(&window[1].text)) {
            wrong.push(format!("{}:{}: mod {}: name it for what it does", file.path, window[0].line, window[1].text));
        }
    }
    for (name, _) in IMPORTS.iter().filter(|(name, _)| name.split('-').any(empty)) {
        wrong.push(format!("crate {name}: name it for what it does"));
    }
    wrong
}

fn dependencies_have_reasons(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.path == "Cargo.toml") {
        let (mut inside, mut reason) = (false, String::new());
        for (index, line) in file.text.lines().enumerate() {
            if line.starts_with('[') {
                inside = line == "[workspace.dependencies]";
            } else if let Some(comment) = line.strip_prefix('#') {
                comment.clone_into(&mut reason);
            } else if line.is_empty() {
                reason.clear();
            } else if inside && let Some((name, _)) = line.split_once('=') {
                let name = name.trim();
                let named = reason.split_once(':').is_some_and(|(names, why)| {
                    !why.trim().is_empty() && names.split(',').any(|known| known.trim() == name)
                });
                if !name.starts_with("rockdove") && !named {
                    wrong.push(format!("Cargo.toml:{}: say above in `# {name}: ...` why we have it", index + 1));
                }
            }
        }
    }
    wrong
}

fn no_test_is_skipped_and_nothing_is_unfinished(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let tokens = tokens(&file.text, true);
        for (pattern, advice) in [
            ("# [ ignore", "make the test quick enough to run, or remove it"),
            ("todo !", "finish it"),
            ("unimplemented !", "finish it"),
        ] {
            wrong.extend(find(&tokens, pattern).iter().map(|line| format!("{}:{line}: {advice}", file.path)));
        }
    }
    wrong
}

fn nothing_names_one_machine(files: &[File]) -> Vec<String> {
    // Put together here, so that this file keeps the rule too.
    let folders = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/tmp/", "bash_jobs"]].map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            if let Some(folder) = folders.iter().find(|folder| line.contains(folder.as_str())) {
                wrong.push(format!("{}:{}: {folder} is a path of one machine", file.path, index + 1));
            }
        }
    }
    wrong
}

/// Whether an SPDX expression lets us use the work under the licences we accept. `None` when it cannot be read.
fn licence_allowed(expression: &str) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let allowed = any_of(&mut rest)?;
    rest.is_empty().then_some(allowed)
}

fn any_of(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = all_of(rest)?;
    while let Some((&"OR", after)) = rest.split_first() {
        *rest = after;
        allowed |= all_of(rest)?;
    }
    Some(allowed)
}

fn all_of(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = one_licence(rest)?;
    while let Some((&"AND", after)) = rest.split_first() {
        *rest = after;
        allowed &= one_licence(rest)?;
    }
    Some(allowed)
}

fn one_licence(rest: &mut &[&str]) -> Option<bool> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    if *first == "(" {
        let allowed = any_of(rest)?;
        let (close, after) = rest.split_first()?;
        *rest = after;
        return (*close == ")").then_some(allowed);
    }
    if [")", "OR", "AND", "WITH"].contains(first) {
        return None;
    }
    if let Some((&"WITH", after)) = rest.split_first() {
        // An exception only ever adds permissions.
        *rest = after.split_first()?.1;
    }
    Some(LICENCES.contains(first))
}

/// Packages that end up in the program or run while it is built, by name, with their licence.
fn licences_of_what_we_ship() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let mut reached = list(&metadata["workspace_members"]);
    let mut next = 0;
    while let Some(id) = reached.get(next).cloned() {
        next += 1;
        let deps = nodes.iter().filter(|node| node["id"] == id).flat_map(|node| list(&node["deps"]));
        for dep in deps {
            let shipped = list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
            if shipped && !reached.contains(&dep["pkg"]) {
                reached.push(dep["pkg"].clone());
            }
        }
    }
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let shipped = list(&metadata["packages"]).into_iter().filter(|package| reached.contains(&package["id"]));
    shipped.map(|package| (text(&package["name"]), text(&package["license"]))).collect()
}

fn forbidden(packages: &[(String, String)]) -> Vec<String> {
    let wrong = packages.iter().filter(|(_, licence)| licence_allowed(licence) != Some(true));
    wrong.map(|(name, licence)| format!("{name}: licence `{licence}` is not one we accept; do without it")).collect()
}

/// Every rule with files that break it.
const RULES: [(Rule, &[(&str, &str)]); 13] = [
    (
        manifests_import_downwards,
        &[
            ("engine/Cargo.toml", "[package]\nname = \"rockdove-engine\"\n[dependencies]\nrockdove-smtp = \"1\""),
            ("protocols/imap/Cargo.toml", "[package]\nname = \"rockdove-imap\"\n[dev-dependencies]\nrockdove = \"1\""),
            ("new/Cargo.toml", "[package]\nname = \"rockdove-new\""),
        ],
    ),
    (only_one_file_names_rocksdb, &[("engine/src/store/mod.rs", "use rocksdb::DB;")]),
    (only_the_runtime_names_io_uring, &[("server/src/fronts/x.rs", "fn x() { tokio_uring::start(async {}) }")]),
    (
        only_one_file_names_tls_connections,
        &[
            ("server/src/net/link.rs", "use rustls::ServerConnection;"),
            ("server/src/x.rs", "type C = rustls::Connection;"),
        ],
    ),
    (
        time_chance_and_threads_come_in_as_values,
        &[
            ("engine/src/x.rs", "fn x() { let now = std::time::Instant::now(); }"),
            ("protocols/pop3/src/x.rs", "fn x() { std::thread::spawn(|| ()); }"),
            ("server/src/fronts/x.rs", "fn x() { std::env::var(\"X\"); }"),
            ("server/src/fronts/y.rs", "fn x() { std::thread::sleep(d); }"),
        ],
    ),
    (
        unsafe_stays_below_and_explains_itself,
        &[
            ("server/src/fronts/x.rs", "// SAFETY: none\nfn x() { unsafe { y() } }"),
            ("server/src/net/x.rs", "fn x() { unsafe { y() } }"),
            ("protocols/smtp/src/lib.rs", "//! no attribute"),
        ],
    ),
    (files_stay_short, &[("engine/src/x.rs", LONG_FILE)]),
    (functions_stay_short, &[("engine/src/x.rs", LONG_FUNCTION)]),
    (
        rooms_have_headers,
        &[("engine/src/x/mod.rs", "//! X.\n//!\n//! * What: x\n//! * In: y\n//! * Out: z\n//! * Never: w\nfn f() {}")],
    ),
    (
        names_say_something,
        &[("engine/src/utils.rs", ""), ("engine/src/common/x.rs", ""), ("engine/src/lib.rs", "mod helpers { }")],
    ),
    (
        dependencies_have_reasons,
        &[("Cargo.toml", "[workspace.dependencies]\n# bytes: buffers\nbytes = \"1\"\nserde = \"1\"")],
    ),
    (
        no_test_is_skipped_and_nothing_is_unfinished,
        &[("tests/tests/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn x() {}"), ("engine/src/x.rs", "fn x() { todo!() }")],
    ),
    (nothing_names_one_machine, &[("README.md", concat!("see /ro", "ot/notes"))]),
];

const LONG_FUNCTION: &str = "impl X {\n    fn long(&self) {\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n    }\n}\n";
const LONG_FILE: &str = {
    const LINES: [u8; FILE_LINES_MAX + 1] = [b'\n'; FILE_LINES_MAX + 1];
    match std::str::from_utf8(&LINES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

#[test]
fn the_house_keeps_its_rules() {
    let files = house();
    let wrong: Vec<String> = RULES.iter().flat_map(|(rule, _)| rule(&files)).collect();
    assert!(wrong.is_empty(), "{} breaches:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_rule_can_fail() {
    for (index, (rule, samples)) in RULES.into_iter().enumerate() {
        for (path, text) in samples {
            let file = File { path: (*path).to_owned(), text: (*text).to_owned() };
            assert_eq!(rule(&[file]).len(), 1, "rule {index} on the sample {path}");
        }
    }
}

#[test]
fn comments_texts_and_tests_are_not_code() {
    let innocent = "// Instant::now() would be wrong\nconst X: &str = \"Instant::now()\";\n\
                    #[cfg(test)]\nmod tests { fn x() { std::time::Instant::now(); } }\n";
    let file = File { path: "engine/src/x.rs".to_owned(), text: innocent.to_owned() };
    assert!(time_chance_and_threads_come_in_as_values(&[file]).is_empty());
}

#[test]
fn everything_we_ship_has_a_licence_we_accept() {
    let packages = licences_of_what_we_ship();
    assert!(packages.len() > 50, "the dependencies were not found");
    let wrong = forbidden(&packages);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn licences_are_read_as_spdx_says() {
    for (expression, want) in [
        ("MIT", Some(true)),
        ("GPL-3.0-only", Some(false)),
        ("MIT OR GPL-3.0-only", Some(true)),
        ("MIT AND GPL-3.0-only", Some(false)),
        ("(MIT OR GPL-3.0-only) AND ISC", Some(true)),
        // AND binds tighter than OR.
        ("GPL-3.0-only AND MIT OR ISC", Some(true)),
        ("ISC OR MIT AND GPL-3.0-only", Some(true)),
        ("MIT/Apache-2.0", Some(true)),
        ("Apache-2.0 WITH LLVM-exception", Some(true)),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Some(false)),
        ("CC0-1.0", Some(false)),
        ("CC0-1.0 OR MIT-0 OR Apache-2.0", Some(true)),
        ("", None),
        ("MIT OR", None),
        ("(MIT", None),
        ("MIT Apache-2.0", None),
    ] {
        assert_eq!(licence_allowed(expression), want, "{expression}");
    }
    assert_eq!(forbidden(&[("x".to_owned(), "AGPL-3.0-only".to_owned()), ("y".to_owned(), String::new())]).len(), 2);
}
