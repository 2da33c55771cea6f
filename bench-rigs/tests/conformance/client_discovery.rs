//! K01, K04, K34 in the client's machines: what option 88 says, and what its absence does.

use portlease::client::{
    lease::Lease,
    machine::{Action, Loss, OnLoss},
    servers::Servers,
    session::Event,
};

use crate::{
    client_messages::{Answer, information, of_63_ranges},
    client_rig::{Rig, SECOND},
    registry::{Case, client},
};

pub const CASES: &[Case] = &[client("K04", the_option_disappears)];

const DAYS: u32 = 24 * 3600;

/// K01 in the machines: for days, whatever else happens.
pub fn without_the_option_nothing_is_asked() {
    let mut rig = Rig::discovering(OnLoss::Now);
    for _ in 0..5 {
        let request = rig.next_inform();
        rig.handle(Event::Datagram(&information(&request, None)));
        rig.handle(Event::RenewNow);
        rig.handle(Event::SourceChanged);
    }
    rig.run_for(3 * DAYS * SECOND);
    assert!(rig.take_sent().is_empty() && rig.take_events().is_empty());
    assert!(rig.informs.len() > 5, "it goes on asking for option 88");
}

fn the_option_disappears() {
    for on_loss in [OnLoss::Now, OnLoss::LeaseEnd] {
        let mut rig = Rig::discovering(on_loss);
        let lease = obtain(&mut rig);
        // The refresh time is 600 s: long before T1.
        let request = rig.next_inform();
        assert!(Some(rig.now) < lease.renew_at && rig.take_events().is_empty());
        rig.handle(Event::Datagram(&information(&request, None)));
        rig.run_for(SECOND);
        let mut expected = vec![Action::Servers(None), Action::NativeStart];
        let is_kept = on_loss == OnLoss::LeaseEnd;
        if !is_kept {
            expected.insert(0, Action::Lost(lease, Loss::Withdrawn));
        }
        assert_eq!(rig.take_events(), expected, "{on_loss:?}");
        assert_eq!(rig.session.lease(), is_kept.then_some(&lease));
        // No renewal, no rebinding, not by demand either: it only runs out.
        rig.handle(Event::RenewNow);
        rig.run_until(lease.expires_at.unwrap());
        let lost = Action::Lost(lease, Loss::Expired);
        assert_eq!(rig.take_events(), if is_kept { vec![lost] } else { vec![] });
        rig.informs.clear();
        rig.run_for(DAYS * SECOND);
        assert!(rig.take_sent().is_empty(), "{on_loss:?}");
        assert!(rig.informs.len() > 5, "it goes on asking for option 88");
        assert_eq!(rig.session.lease(), None);
    }
}

fn obtain(rig: &mut Rig) -> Lease {
    let request = rig.next_inform();
    rig.handle(Event::Datagram(&information(&request, Some(&["2001:db8::a".parse().unwrap()]))));
    let expected =
        [Action::NativeStop, Action::Servers(Some(Servers::new(["2001:db8::a".parse().unwrap()])))];
    assert_eq!(rig.take_events(), expected, "native DHCPv4 stops before a query leaves");
    assert!(rig.take_sent().is_empty());
    rig.obtain(&Answer::offer(of_63_ranges(0x34)), &Answer::ack(of_63_ranges(0x34)))
}
