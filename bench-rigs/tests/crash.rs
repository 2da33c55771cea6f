//! kill -9 loses nothing: the daemon is killed under load and while it recovers, and every acknowledged lease renews.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

use bench_rigs::{crash::Ordeal, daemon::target_folder};

fn survive(datapath: &str, kills: u32) {
    let ordeal = Ordeal {
        kills,
        acknowledged_min: 3000,
        clients: 1000,
        recovery_kill_share: 0.4,
        datapath: datapath.to_owned(),
        folder: target_folder().unwrap(),
    };
    let outcome = ordeal.run(|number, blow| println!("kill {number}: {blow:?}")).unwrap();
    println!("{outcome}");
    assert!(outcome.kept_every_promise(), "{outcome}");
    assert_eq!(outcome.blows.len(), kills as usize);
    assert!(outcome.blows.iter().all(|blow| blow.renewed > 0), "{outcome}");
}

#[test]
fn five_kills_over_native_xdp_lose_nothing() {
    survive("xdp-native", 5);
}

#[test]
fn two_kills_over_the_socket_lose_nothing() {
    survive("socket", 2);
}
