//! Hostile networks, disks and configurations, at random and as the fuzzer kept them. The fuzzer calls the same checks
//! with octets of its own.

mod common;

#[path = "checks/client.rs"]
mod client;
#[path = "checks/config.rs"]
mod config;
#[path = "checks/recovery.rs"]
mod recovery;

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*, sample::select};

/// What a fuzz target does with its octets.
type Check = fn(&[u8]);

/// The fuzz targets whose kept inputs this file runs.
const TARGETS: &[(&str, Check)] = &[
    ("client", client::life),
    ("config", config::text),
    ("discovery", client::search),
    ("recovery", recovery::log),
];

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn kept_inputs_stay_harmless() {
    for (target, check) in TARGETS {
        let kept = fs::read_dir(folder().join("fuzz/regressions").join(target)).unwrap();
        let inputs: Vec<_> = kept.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty(), "{target} has no inputs");
        for input in &inputs {
            check(input);
        }
    }
}

/// A step of a log's life, more often one that keeps the log in order.
fn life() -> impl Strategy<Value = Vec<u8>> {
    let commit = (0..8_u8, vec(any::<[u8; 128]>(), 0..8))
        .prop_map(|(steps, records)| recovery::step(steps << 2, &records.concat()));
    let overwrite = (any::<[u8; 2]>(), vec(any::<u8>(), 1..64))
        .prop_map(|(place, octets)| recovery::step(1, &[&place[..], &octets].concat()));
    let other = (2..4_u8).prop_map(|what| recovery::step(what, &[]));
    prop_oneof![6 => commit, 1 => overwrite, 1 => other]
}

/// The example with a value, a key or a line spoiled.
fn spoiled() -> impl Strategy<Value = String> {
    let example = fs::read_to_string(folder().join("examples/reference.toml")).unwrap();
    let lines = example.lines().count();
    let junk = vec![
        "\"\"",
        "-1",
        "0",
        "65536",
        "[]",
        "\"::1/129\"",
        "1e9",
        "true",
        "\"0.0.0.0-255.255.255.255\"",
        "99999999999999999999",
        "\"9d\"",
        "[[1]]",
        "nan",
        "'\u{e9}'",
        "{ a = 1 }",
    ];
    (vec((0..lines, select(junk), 0..4_u8), 1..4)).prop_map(move |changes| {
        let mut lines: Vec<String> = example.lines().map(str::to_owned).collect();
        for (at, junk, how) in changes {
            let line = &mut lines[at];
            *line = match (how, line.split_once('=')) {
                (0, Some((key, _))) => format!("{key}= {junk}"),
                (1, _) => junk.to_owned(),
                (2, _) => format!("{line}\n{line}"),
                _ => line.chars().rev().collect(),
            };
        }
        lines.join("\n")
    })
}

/// A step of a client's life: a reply that is right, or nearly, and now and then anything else.
fn happening() -> impl Strategy<Value = Vec<u8>> {
    let reply = (0..8_u8, 0..16_u8, vec(any::<u8>(), 0..10))
        .prop_map(|(pause, shape, spoils)| client::step(pause | shape << 3, &spoils));
    let right = (0..3_u8, select(vec![0_u8, 4, 8, 12]))
        .prop_map(|(pause, shape)| client::step(pause | shape << 3, &[]));
    let other = (0..8_u8, 16..32_u8, vec(any::<u8>(), 0..40))
        .prop_map(|(pause, what, octets)| client::step(pause | what << 3, &octets));
    prop_oneof![4 => right, 2 => reply, 2 => other]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_life_of_a_log_keeps_what_was_promised(steps in vec(life(), 0..20)) {
        recovery::log(&steps.concat());
    }

    #[test]
    fn any_life_of_a_client_is_lawful(choice: u8, steps in vec(happening(), 0..40)) {
        client::life(&[&[choice][..], &steps.concat()].concat());
    }

    #[test]
    fn any_answers_leave_a_searching_client_sane(choice: u8, steps in vec(happening(), 0..40)) {
        client::search(&[&[choice][..], &steps.concat()].concat());
    }

    #[test]
    fn any_configuration_compiles_or_says_where_it_does_not(text in spoiled()) {
        config::text(text.as_bytes());
    }
}
