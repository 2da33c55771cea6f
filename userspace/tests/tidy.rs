//! The house rules that a compiler does not know: which layer may use which, where `unsafe` may stand, how long a
//! file may be, and which calls have a better replacement here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What each layer may use of the crate, besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("lease", &["memory", "sync", "wire"]),
    ("engine", &["lease", "wire"]),
    ("journal", &["lease", "memory", "sync"]),
    ("net", &["memory", "wire"]),
    ("server", &["engine", "journal", "lease", "memory", "net", "wire"]),
    ("client", &["net", "wire"]),
];

/// The only files of the workspace with `unsafe` code. `memory.rs` has hints to the processor and the kernel, `unsafe`
/// in form only, and owners of items that lie side by side: they hide the latency of memory, which is most of what a
/// reply costs in a large table.
const UNSAFE_FILES: &[&str] = &[
    "userspace/src/memory.rs",
    "userspace/src/net/frames.rs",
    "userspace/src/net/sys.rs",
    "userspace/src/net/udp.rs",
    "userspace/tests/zero_alloc.rs",
    "xdp-ebpf/src/main.rs",
    "bench-rigs/src/sys.rs",
    "bench-rigs/src/sys/batch.rs",
    "bench-rigs/src/sys/bpf.rs",
    "bench-rigs/src/sys/frames.rs",
];

/// Lines of a file, tests included.
const FILE_LINES_MAX: usize = 600;

/// Columns of a line.
const LINE_COLUMNS_MAX: usize = 120;

/// Words that may not stand in the product's code, and what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("todo!(", "write it"),
    ("unimplemented!(", "write it"),
    ("FIXME", "mend it"),
    ("#[allow(", "#[expect(lint, reason = \"…\")]"),
    ("#[ignore", "a test that runs, or none"),
    ("Instant::now", "the clock that the caller passes in"),
    ("SystemTime::now", "the clock that the caller passes in"),
    ("thread::sleep", "a wait for the event itself"),
    ("println!", "tracing, or a writer that the caller passes in"),
];

/// Files that may read the clock, wait or print, because that is what they are for.
const EXEMPT: &[(&str, &[&str])] = &[
    ("Instant::now", &["journal/", "server/", "client/run", "net/"]),
    ("SystemTime::now", &["server/", "client/run", "client/output", "net/sys.rs"]),
    ("thread::sleep", &["net/"]),
    ("println!", &["main.rs", "server/check.rs", "client/output.rs"]),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All Rust files under `folder`, with their paths relative to the workspace.
fn rust_files(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(workspace()).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!files.is_empty(), "no Rust files under {}", folder.display());
    files
}

fn all_files() -> Vec<(String, String)> {
    ["userspace/src", "userspace/tests", "xdp-ebpf/src", "benches", "bench-rigs"]
        .iter()
        .flat_map(|folder| rust_files(&workspace().join(folder)))
        .collect()
}

/// The text without its comment lines.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules of the crate that `text` names after `crate::`.
fn used_modules(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, found) in text.match_indices("crate::") {
        let rest = &text[at + found.len()..];
        match rest.strip_prefix('{') {
            None => used.extend(first_word(rest)),
            Some(group) => used.extend(group_heads(group)),
        }
    }
    used
}

fn first_word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first word of each item of a `use` group, up to its closing brace.
fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut item) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.extend(first_word(std::mem::take(&mut item).trim_start())),
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    heads.extend(first_word(item.trim_start()));
    heads
}

#[test]
fn the_reader_of_use_groups_finds_every_module() {
    let text = "use crate::{\n    lease::{key::A, pool::B},\n    wire::C,\n};\nuse crate::net::D;";
    let found: Vec<_> = used_modules(text).into_iter().collect();
    assert_eq!(found, ["lease", "net", "wire"]);
}

#[test]
fn layers_point_one_way() {
    for (layer, may_use) in LAYERS {
        for (name, text) in rust_files(&workspace().join("userspace/src").join(layer)) {
            for module in used_modules(&code(&text)) {
                assert!(
                    module == *layer || may_use.contains(&module.as_str()),
                    "{name} uses crate::{module}; {layer} may use only {may_use:?}"
                );
            }
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    for (name, text) in all_files() {
        if name == "userspace/tests/tidy.rs" {
            continue;
        }
        let unsafe_line = code(&text).lines().map(str::to_owned).find(|line| {
            ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
                .iter()
                .any(|word| line.contains(word))
        });
        let allowed = UNSAFE_FILES.contains(&name.as_str());
        assert!(allowed || unsafe_line.is_none(), "{name} has unsafe code: {unsafe_line:?}");
        assert!(
            !allowed || unsafe_line.is_some(),
            "{name} has no unsafe code any more: strike it off"
        );
    }
}

#[test]
fn files_and_lines_stay_readable() {
    for (name, text) in all_files() {
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{name} has {lines} lines: does it hold two things?");
        for (number, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            assert!(columns <= LINE_COLUMNS_MAX, "{name}:{} has {columns} columns", number + 1);
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (name, text) in all_files() {
        assert!(text.starts_with("//!"), "{name} does not open with a //! comment");
    }
}

#[test]
fn banned_words_do_not_stand_in_the_product() {
    for (name, text) in rust_files(&workspace().join("userspace/src")) {
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in product.lines().enumerate() {
            for (word, instead) in BANNED {
                let comment = line.trim_start().starts_with("//") && *word != "FIXME";
                let exempt = EXEMPT
                    .iter()
                    .filter(|(exempt, _)| exempt == word)
                    .any(|(_, places)| places.iter().any(|place| name.contains(place)));
                assert!(
                    comment || exempt || !line.contains(word),
                    "{name}:{} has {word}: {instead}",
                    number + 1
                );
            }
        }
    }
}
