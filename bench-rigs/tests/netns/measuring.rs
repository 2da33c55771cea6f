//! The rig as a program: a scenario from a file to a page, with the real servers.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use bench_rigs::{
    daemon::{folder_on_disk, sibling_binary},
    interrupt,
    sys::{self, Signal},
};
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

/// Processor time that a process has taken so far, in whole seconds.
fn processor_seconds(pid: u32) -> u64 {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which is in brackets, user and system time in hundredths are fields 12 and 13.
    let (_, fields) = line.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() / 100
}

/// An operator who has seen enough does not wait for the end of a phase, and finds nothing to be cleaned up.
#[test]
fn an_interrupted_turn_ends_soon_and_leaves_nothing_behind() {
    // Programs in a folder of their own: rigs make theirs beside themselves, and other tests run rigs, too.
    let folder = folder_on_disk("interrupted-").unwrap();
    for (package, name) in
        [("bench-rigs", "rig"), ("bench-rigs", "null4o6"), ("portlease", "portlease")]
    {
        let program = sibling_binary(package, name).unwrap();
        fs::hard_link(program, folder.path().join(name)).unwrap();
    }
    let scenario = folder.path().join("long.toml");
    fs::write(&scenario, SCENARIO.replace("seconds = 0.3", "seconds = 60.0")).unwrap();
    let mut command = Command::new(folder.path().join("rig"));
    command.arg("--scenario").arg(&scenario).arg("--output").arg(folder.path());
    let mut rig = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let folders = || {
        let entries = fs::read_dir(folder.path()).unwrap().flatten();
        entries.filter(|entry| entry.path().is_dir()).count()
    };
    // To set the scene takes a fraction of a second of processor time; a phase takes all that there is.
    let pid = rig.id();
    let is_busy = || Ok(folders() > 0 && processor_seconds(pid) > 2);
    interrupt::wait_until("the middle of a phase", Duration::from_mins(1), is_busy).unwrap();
    sys::signal(pid, Signal::Interrupt).unwrap();
    let ended = || Ok(rig.try_wait().is_ok_and(|status| status.is_some()));
    let waited = interrupt::wait_until("the end of the rig", Duration::from_secs(30), ended);
    if waited.is_err() {
        rig.kill().unwrap();
    }
    waited.unwrap();
    let output = rig.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("interrupted"), "{said}");
    assert_eq!(folders(), 0, "what its turn had made is gone");
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
