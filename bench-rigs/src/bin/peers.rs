//! scratch
use bench_rigs::*;
fn main() -> anyhow::Result<()> {
    let stage = stage::Stage::new(1)?;
    let folder = daemon::folder_on_disk("kea")?;
    let kea = kea::Kea::start(&stage.server, stage::SERVER_INTERFACE, folder.path(), 0)?;
    let mut load = stage.clients.enter(|| {
        load::Load::new(load::Options {
            place: load::Place {
                server: stage.unicast(),
                sources: vec![stage::CLIENT],
                foreign: false,
                interface: None,
                relay: None,
            },
            clients: 20000,
            seed: 1,
            sharing: false,
            pace: load::Pace::Closed { window: 64 },
            timeout: std::time::Duration::from_secs(1),
            tries: Some(4),
            reserved: vec![0..=1023],
            server_id: None,
            release_rate: 10000.,
            renew_share: 0.5,
            progress: true,
        })
    })??;
    let c = load::Control::default();
    for p in ["new", "renew", "release"] {
        load.run(p.parse().map_err(anyhow::Error::msg)?, &c)?;
    }
    println!("{}", load.summary());
    println!(
        "{}\n{}",
        kea.dhcp4.log().lines().take(60).collect::<Vec<_>>().join("\n"),
        kea.dhcp6.log().lines().take(30).collect::<Vec<_>>().join("\n")
    );
    Ok(())
}
