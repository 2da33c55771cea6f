//! Attaches one interface to XDP: the program, and an AF_XDP socket a queue. Without feature `xdp` there is neither.

use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::net::link::{Facts, Published};

use super::{config::Datapath, metrics::Snapshot};

#[cfg(feature = "xdp")]
pub(super) use self::with_xdp::{Attached, attach, copies};
#[cfg(not(feature = "xdp"))]
pub(super) use self::without_xdp::{Attached, attach, copies};

/// What is to be attached.
#[cfg_attr(
    not(feature = "xdp"),
    expect(dead_code, reason = "without XDP, nobody asks what is wanted")
)]
pub(super) struct Wanted<'w> {
    /// The interface.
    pub(super) facts: &'w Facts,
    /// What its ports follow.
    pub(super) published: &'w Arc<Published>,
    /// Unicast addresses that are ours.
    pub(super) listen: &'w [Ipv6Addr],
    /// Which modes may be tried.
    pub(super) datapath: Datapath,
    /// The core of each queue; as many queues are served.
    pub(super) cpus: &'w [Option<usize>],
}

#[cfg(feature = "xdp")]
mod with_xdp {
    use tracing::warn;

    use super::{Arc, Datapath, Snapshot, Wanted};
    use crate::net::{
        steer::{Mode, SteerError, Steering},
        sys,
        xdp::{XdpError, XdpOptions, XdpPort},
    };

    /// The program at work on an interface. Dropping it detaches the program.
    pub(in super::super) struct Attached(Steering);

    #[derive(Debug, thiserror::Error)]
    enum AttachError {
        #[error(transparent)]
        Steer(#[from] SteerError),
        #[error(transparent)]
        Socket(#[from] XdpError),
    }

    impl AttachError {
        /// Whether another mode would fail for the same reason.
        fn is_final(&self) -> bool {
            matches!(
                self,
                AttachError::Steer(
                    SteerError::ForeignProgram { .. }
                        | SteerError::NotPermitted { .. }
                        | SteerError::NoLinks { .. }
                        | SteerError::Vanished { .. }
                )
            )
        }
    }

    /// Attaches in the first mode that works, and returns the ports, one a queue. What did not work is told in the
    /// error, or logged if something else did.
    pub(in super::super) fn attach(
        wanted: &Wanted<'_>,
    ) -> Result<(Attached, Vec<XdpPort>), String> {
        let modes: &[Mode] = match wanted.datapath {
            Datapath::Auto => &[Mode::Native, Mode::Generic],
            Datapath::Native => &[Mode::Native],
            Datapath::Generic => &[Mode::Generic],
            Datapath::Socket => &[],
        };
        let mut reasons = Vec::new();
        for &mode in modes {
            match attach_in(mode, wanted) {
                Ok(attached) => {
                    for reason in &reasons {
                        warn!("falling back to xdp-{mode}: {reason}");
                    }
                    return Ok(attached);
                }
                Err(error) => {
                    reasons.push(format!("xdp-{mode}: {error}"));
                    if error.is_final() {
                        break;
                    }
                }
            }
        }
        Err(reasons.join("; "))
    }

    fn attach_in(mode: Mode, wanted: &Wanted<'_>) -> Result<(Attached, Vec<XdpPort>), AttachError> {
        let mut steering = Steering::attach(wanted.facts, wanted.listen, &[mode])?;
        let mut ports = Vec::new();
        for (queue, &cpu) in (0_u32..).zip(wanted.cpus) {
            let port = open_near(cpu, || {
                let published = Arc::clone(wanted.published);
                XdpPort::open(wanted.facts, queue, mode, XdpOptions::default(), published)
            })?;
            steering.admit(queue, port.socket())?;
            ports.push(port);
        }
        Ok((Attached(steering), ports))
    }

    /// Opens a port on its own core, so that its memory is first touched there.
    fn open_near(
        cpu: Option<usize>,
        open: impl FnOnce() -> Result<XdpPort, XdpError> + Send,
    ) -> Result<XdpPort, XdpError> {
        std::thread::scope(|scope| {
            let opener = scope.spawn(|| {
                // The worker will say so if the core is not to be had.
                let _ = cpu.map(|cpu| sys::pin_to_cpus(&[cpu]));
                open()
            });
            opener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    impl Attached {
        /// How: `native` or `generic`.
        pub(in super::super) fn mode(&self) -> String {
            format!("xdp-{}", self.0.mode())
        }

        /// Follows the interface's hardware address.
        pub(in super::super) fn set_mac(&mut self, mac: [u8; 6]) -> Result<(), String> {
            self.0.set_mac(mac).map_err(|error| error.to_string())
        }

        /// Adds what the program has counted.
        pub(in super::super) fn count_into(&self, snapshot: &mut Snapshot) {
            // Counters that cannot be read are no reason to stop.
            let Ok(totals) = self.0.totals() else { return };
            for (name, value) in totals.iter() {
                snapshot.add(format!("xdp-{name}"), value);
            }
        }
    }

    /// How the frames get to us: by the card itself, or copied.
    pub(in super::super) fn copies(ports: &[XdpPort]) -> &'static str {
        if ports.iter().all(XdpPort::is_zero_copy) { "zero-copy" } else { "copy mode" }
    }
}

#[cfg(not(feature = "xdp"))]
mod without_xdp {
    use super::{Snapshot, Wanted};
    use crate::net::udp::UdpPort;

    /// There is none.
    pub(in super::super) enum Attached {}

    pub(in super::super) fn attach(_: &Wanted<'_>) -> Result<(Attached, Vec<UdpPort>), String> {
        Err("this program was built without XDP".to_owned())
    }

    impl Attached {
        pub(in super::super) fn mode(&self) -> String {
            match *self {}
        }

        pub(in super::super) fn set_mac(&mut self, _: [u8; 6]) -> Result<(), String> {
            match *self {}
        }

        pub(in super::super) fn count_into(&self, _: &mut Snapshot) {
            match *self {}
        }
    }

    pub(in super::super) fn copies(_: &[UdpPort]) -> &'static str {
        ""
    }
}
