//! The rig as a program: a scenario from a file to a page, with the real servers.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

const SCENARIO: &str = r#"
    title = "Two servers for a moment"
    kind = "exchanges"
    servers = ["null xdp-native", "portlease xdp-native"]
    windows = [16]
    [full]
    repetitions = 2
    seconds = 0.3
    [quick]
    repetitions = 1
    seconds = 0.1
"#;

fn rig(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rig"));
    command.arg("--output").arg(folder).args(arguments);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_scenario_becomes_a_page_with_figures_of_every_turn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dora.toml");
    fs::write(&path, SCENARIO).unwrap();
    let (done, said) = rig(folder.path(), &["--scenario", path.to_str().unwrap()]);
    assert!(done, "{said}");

    let text = fs::read_to_string(folder.path().join("performance/turns.json")).unwrap();
    let run: Value = serde_json::from_str(&text).unwrap();
    let turns = run["turns"].as_array().unwrap();
    let mut seen: Vec<_> = turns
        .iter()
        .map(|turn| {
            (turn["server"].as_str(), turn["measure"].as_str(), turn["repetition"].as_u64())
        })
        .collect();
    seen.sort_unstable();
    let mut expected = Vec::new();
    for server in ["null xdp-native", "portlease xdp-native"] {
        for measure in ["new", "renew"] {
            expected.extend([1, 2].map(|turn| (Some(server), Some(measure), Some(turn))));
        }
    }
    assert_eq!(seen, expected);
    for turn in turns {
        let figure = |name: &str| turn["figures"][name].as_f64().unwrap();
        assert!(figure("rate") > 0.0 && figure("cpu_us") > 0.0, "{turn}");
        assert!(figure("user_us") <= figure("threads_us"), "{turn}");
        assert!(figure("busy_share") <= 1.0, "{turn}");
    }
    let page = fs::read_to_string(folder.path().join("PERFORMANCE.md")).unwrap();
    assert!(page.contains("## Two servers for a moment") && page.contains("| P1 |"), "{page}");
    assert!(folder.path().join("performance/rates.svg").is_file());
}

#[test]
fn what_is_planned_is_told_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let (done, said) = rig(folder.path(), &["--list", "--quick"]);
    assert!(done && said.contains("dora") && said.contains("in all"), "{said}");
    let (done, said) = rig(folder.path(), &["--scenario", "race"]);
    assert!(!done && said.contains("no scenario `race`") && said.contains("latency"), "{said}");
    assert!(!folder.path().join("PERFORMANCE.md").exists());
}
