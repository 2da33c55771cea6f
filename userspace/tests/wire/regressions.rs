//! The packets that the fuzz targets keep, through the checks of their targets.

use std::{fs, path::Path};

use crate::checks;

/// What a fuzz target does with its octets.
type Check = fn(&[u8]);

/// The fuzz targets and their checks.
const TARGETS: &[(&str, Check)] = &[
    ("wire_frame", checks::frames::frame),
    ("wire_query", checks::query),
    ("wire_reply", checks::reply),
];

#[test]
fn kept_packets_stay_harmless() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    for (target, check) in TARGETS {
        let mut packets = 0;
        for entry in fs::read_dir(folder.join(target)).unwrap() {
            check(&fs::read(entry.unwrap().path()).unwrap());
            packets += 1;
        }
        assert!(packets > 0, "{target} has no packets");
    }
    let folders = fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("wire_"))
        .count();
    assert_eq!(folders, TARGETS.len(), "a folder for each target, and no other");
}
