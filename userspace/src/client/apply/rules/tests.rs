//! The text of the rules, as `nft` gets to read it.

use super::*;
use crate::wire::portparams::PortParams;

fn assignment(offset: u8, psid_length: u8, psid: u16) -> Assignment {
    let address = Ipv4Addr::new(192, 0, 2, 18);
    Assignment { address, port_params: PortParams::new(offset, psid_length, psid) }
}

fn guard() -> Guard {
    Guard::new("sw0", 7)
}

#[test]
fn k31_the_rules_of_63_ranges_have_these_and_no_others() {
    let text = guard().open(assignment(6, 8, 0x34), Some(3600));
    let expected: Vec<_> =
        (1..64).map(|i| format!("{}-{}", i * 1024 + 208, i * 1024 + 211)).collect();
    let elements = format!("elements = {{ {} }}", expected.join(", "));
    assert_eq!(text.matches(&elements).count(), 2, "ports and identifiers");
    assert_eq!(text.matches("62 : 192.0.2.18 . 64720-64723").count(), 5, "four tries, and in turn");
    assert_eq!(text.matches("ct count over 4 }").count(), 4);
    assert!(!text.contains("63 : "));
}

#[test]
fn one_range_reads_well() {
    let text = guard().open(assignment(0, 6, 1), Some(3600));
    let (ip, _) = text.split_once("table arp portlease_sw0 {").unwrap();
    insta::assert_snapshot!(ip, @r#"
    add table ip portlease_sw0
    delete table ip portlease_sw0
    add table arp portlease_sw0
    delete table arp portlease_sw0
    table ip portlease_sw0 {
    	comment "192.0.2.18 PSID 1 (offset 0, length 6)"
    	set address {
    		type ipv4_addr
    		flags timeout
    		elements = { 192.0.2.18 timeout 3600s }
    	}
    	set ports {
    		type inet_service
    		flags interval
    		elements = { 1024-2047 }
    	}
    	set numbers {
    		typeof icmp id
    		flags interval
    		elements = { 1024-2047 }
    	}
    	chain translate {
    		type nat hook postrouting priority srcnat - 10
    		oifname != "sw0" accept
    		meta l4proto { tcp, udp, icmp } snat ip to 192.0.2.18:1024-2047
    	}
    	chain outward {
    		type filter hook postrouting priority 250
    		oifname != "sw0" accept
    		ip saddr != @address counter drop comment "not translated"
    		meta l4proto { tcp, udp } th sport @ports accept
    		icmp type { echo-request, echo-reply } icmp id @numbers accept
    		icmp type { destination-unreachable, time-exceeded, parameter-problem } jump outward_errors
    		counter drop comment "no port of the set"
    	}
    	chain outward_errors {
    		@th,64,8 != 0x45 return
    		@th,192,32 != 0xc0000212 return
    		@th,136,8 { 6, 17 } @th,240,16 @numbers accept
    		@th,136,8 1 @th,224,8 { 0, 8 } @th,256,16 @numbers accept
    	}
    	chain inward {
    		type filter hook prerouting priority raw
    		iifname != "sw0" accept
    		ip daddr != @address counter drop comment "not for us"
    		meta l4proto { tcp, udp } th dport @ports accept
    		icmp type { echo-request, echo-reply } icmp id @numbers accept
    		icmp type { destination-unreachable, time-exceeded, parameter-problem } jump inward_errors
    		counter drop comment "no port of the set"
    	}
    	chain inward_errors {
    		@th,64,8 != 0x45 return
    		@th,160,32 != 0xc0000212 return
    		@th,136,8 { 6, 17 } @th,224,16 @numbers accept
    		@th,136,8 1 @th,224,8 { 0, 8 } @th,256,16 @numbers accept
    	}
    }
    "#);
}

#[test]
fn a_whole_address_is_translated_and_nothing_else_leaves() {
    insta::assert_snapshot!(guard().open(assignment(0, 0, 0), None), @r#"
    add table ip portlease_sw0
    delete table ip portlease_sw0
    add table arp portlease_sw0
    delete table arp portlease_sw0
    table ip portlease_sw0 {
    	comment "192.0.2.18 PSID 0 (offset 0, length 0)"
    	set address {
    		type ipv4_addr
    		flags timeout
    		elements = { 192.0.2.18 }
    	}
    	chain translate {
    		type nat hook postrouting priority srcnat - 10
    		oifname != "sw0" accept
    		snat ip to 192.0.2.18
    	}
    	chain outward {
    		type filter hook postrouting priority 250
    		oifname != "sw0" accept
    		ip saddr != @address counter drop comment "not translated"
    	}
    	chain inward {
    		type filter hook prerouting priority raw
    		iifname != "sw0" accept
    		ip daddr != @address counter drop comment "not for us"
    	}
    }
    table arp portlease_sw0 {
    	chain input {
    		type filter hook input priority 0
    		iifname "sw0" counter drop
    		arp saddr ip 192.0.2.18 counter drop
    		arp daddr ip 192.0.2.18 counter drop
    	}
    	chain output {
    		type filter hook output priority 0
    		oifname "sw0" counter drop
    		arp saddr ip 192.0.2.18 counter drop
    		arp daddr ip 192.0.2.18 counter drop
    	}
    }
    "#);
    let none = Assignment { port_params: None, ..assignment(0, 0, 0) };
    let text = guard().open(none, None);
    assert!(!text.contains("@ports") && text.contains("\t\tsnat ip to 192.0.2.18\n"));
}

#[test]
fn a_length_of_zero_with_an_offset_leaves_out_the_low_ports_of_tcp_and_udp_alone() {
    let text = guard().open(assignment(6, 0, 0), None);
    assert!(text.contains("meta l4proto { tcp, udp } snat ip to 192.0.2.18:1024-65535\n"));
    assert!(text.contains("\t\tsnat ip to 192.0.2.18\n"), "others are only translated");
    assert!(text.contains("th sport != @ports counter drop"));
    assert!(!text.contains("icmp type"));
}

#[test]
fn single_ports_and_very_many_ranges_are_written_as_nft_wants_them() {
    let text = guard().open(assignment(6, 10, 1), None);
    assert!(text.contains("0 : 192.0.2.18 . 1025, 1 : 192.0.2.18 . 2049"));
    assert!(text.contains("ct count over 1 }"));
    let text = guard().open(assignment(15, 1, 1), None);
    assert!(!text.contains("jhash") && !text.contains("busy"));
    assert_eq!(text.matches("32766 : 192.0.2.18 . 65535 }").count(), 1);
}

#[test]
fn an_extension_touches_nothing_but_the_time() {
    let address = Ipv4Addr::new(192, 0, 2, 18);
    insta::assert_snapshot!(guard().extended(address, Some(60)), @r#"
    flush set ip portlease_sw0 address
    add element ip portlease_sw0 address { 192.0.2.18 timeout 60s }
    "#);
    assert!(guard().extended(address, None).ends_with("address { 192.0.2.18 }\n"));
    assert!(guard().extended(address, Some(0)).contains("timeout 1s"));
}

#[test]
fn k18_closed_is_closed() {
    insta::assert_snapshot!(guard().closed(), @r#"
    add table ip portlease_sw0
    delete table ip portlease_sw0
    add table arp portlease_sw0
    delete table arp portlease_sw0
    table ip portlease_sw0 {
    	chain outward {
    		type filter hook postrouting priority 250
    		oifname "sw0" counter drop comment "no lease"
    	}
    	chain inward {
    		type filter hook prerouting priority raw
    		iifname "sw0" counter drop comment "no lease"
    	}
    }
    table arp portlease_sw0 {
    	chain input {
    		type filter hook input priority 0
    		iifname "sw0" counter drop
    	}
    	chain output {
    		type filter hook output priority 0
    		oifname "sw0" counter drop
    	}
    }
    "#);
}
