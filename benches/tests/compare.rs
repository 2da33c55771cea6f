//! The comparison of two commits, run as a user would: in a repository of its own, whose bench is a program that writes
//! what criterion would.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

/// What "measures" a constant, and writes it where criterion's results are looked for.
const BENCH: &str = r###"fn main() {
    let home = std::path::PathBuf::from(std::env::var_os("CRITERION_HOME").unwrap()).join("toy/new");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("benchmark.json"), r##"{"full_id": "toy"}"##).unwrap();
    let estimates = r##"{"median": {"point_estimate": NANOSECONDS}}"##;
    std::fs::write(home.join("estimates.json"), estimates).unwrap();
}
"###;

/// A package without dependencies, so that nothing has to be fetched.
const MANIFEST: &str = r#"[package]
name = "benches"
version = "0.0.0"
edition = "2024"

[workspace]

[lib]
path = "lib.rs"

[[bench]]
name = "toy"
path = "toy.rs"
harness = false
"#;

fn run(program: &str, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.current_dir(folder).args(arguments).env_remove("CARGO_TARGET_DIR");
    command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.net"];
    let output = run("git", folder, &[&identity, arguments].concat());
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A repository with a commit whose bench takes `nanoseconds`.
fn repository(nanoseconds: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("benches")).unwrap();
    fs::write(path.join("Cargo.toml"), MANIFEST).unwrap();
    fs::write(path.join("lib.rs"), "").unwrap();
    fs::write(path.join("benches/.keep"), "").unwrap();
    fs::write(path.join(".gitignore"), "target\nCargo.lock\n").unwrap();
    git(path, &["init", "--quiet", "--initial-branch=main"]);
    takes(path, nanoseconds);
    git(path, &["add", "."]);
    git(path, &["commit", "--quiet", "--message=base"]);
    folder
}

/// Changes the working tree, so that its bench takes `nanoseconds`.
fn takes(folder: &Path, nanoseconds: &str) {
    fs::write(folder.join("toy.rs"), BENCH.replace("NANOSECONDS", nanoseconds)).unwrap();
}

/// The exit status, what was written, and what went wrong.
fn compare(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let program = env!("CARGO_BIN_EXE_bench-compare");
    let output = run(program, folder, &[&["--rounds", "3"], arguments].concat());
    let text = |octets| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn worktrees(folder: &Path) -> usize {
    git(folder, &["worktree", "list"]).lines().count()
}

#[test]
fn each_side_runs_what_was_built_of_it() {
    let folder = repository("100.0");
    takes(folder.path(), "150.0");
    let (status, report, _) = compare(folder.path(), &[]);
    assert!(report.contains("REGRESSED toy: +50.0 %"), "{report}");
    assert_eq!(status, Some(1));

    git(folder.path(), &["commit", "--quiet", "--all", "--message=slower"]);
    takes(folder.path(), "120.0");
    let (status, report, _) = compare(folder.path(), &[]);
    assert!(report.contains("-20.0%") && report.contains("faster"), "{report}");
    assert_eq!(status, Some(0));

    git(folder.path(), &["checkout", "--quiet", "."]);
    let (status, report, errors) = compare(folder.path(), &[]);
    assert!(report.contains("+50.0 %"), "a clean main is held against what was before: {report}");
    assert_eq!(status, Some(1), "{errors}");
    assert_eq!(worktrees(folder.path()), 1);
}

#[test]
fn what_cannot_be_compared_is_no_regression_and_leaves_nothing_behind() {
    let folder = repository("100.0");
    let (status, _, errors) = compare(folder.path(), &["--base", "nowhere"]);
    assert!(errors.contains("nowhere"), "{errors}");
    assert_eq!(status, Some(2));

    fs::write(folder.path().join("toy.rs"), "this is no program").unwrap();
    let (status, _, errors) = compare(folder.path(), &[]);
    assert!(errors.contains("the benches of the head do not build"), "{errors}");
    assert_eq!(status, Some(2));
    assert_eq!(worktrees(folder.path()), 1);
}
