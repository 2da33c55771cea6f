//! Stateless DHCPv6 and somebody else's codec: what dhcproto writes we read, what we write it
//! reads.

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v6::{DhcpOption, DhcpOptions, Message, MessageType, ORO, OptionCode},
};
use portlease::wire::{
    dhcpv6::{self, Relays, Reply, Request, put_option, softwire},
    writer::Writer,
};
use proptest::{collection::vec, option, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn we_read_an_information_request_of_dhcproto(
        transaction: [u8; 3],
        client in option::of(vec(any::<u8>(), 3..=130)),
        server in option::of(vec(any::<u8>(), 3..=130)),
        codes in vec(1..200_u16, 0..20),
        elapsed: u16,
    ) {
        let mut options = DhcpOptions::new();
        if let Some(duid) = &client {
            options.insert(DhcpOption::ClientId(duid.clone()));
        }
        if let Some(duid) = &server {
            options.insert(DhcpOption::ServerId(duid.clone()));
        }
        options.insert(DhcpOption::ElapsedTime(elapsed));
        let asked = codes.iter().map(|code| OptionCode::from(*code)).collect();
        options.insert(DhcpOption::ORO(ORO { opts: asked }));
        let mut message = Message::new_with_id(MessageType::InformationRequest, transaction);
        message.set_opts(options);
        let mut octets = Vec::new();
        message.encode(&mut Encoder::new(&mut octets)).unwrap();

        let Ok(Request::Information(request)) = Request::parse(&octets) else {
            panic!("{octets:?} is an Information-request");
        };
        prop_assert_eq!(request.transaction, transaction);
        prop_assert_eq!(request.client_id, client.as_deref());
        prop_assert_eq!(request.server_id, server.as_deref());
        prop_assert!(!request.has_identity_association && request.relays.is_empty());
        for code in 0..200 {
            prop_assert_eq!(request.requested.contains(code), codes.contains(&code), "{}", code);
        }
    }

    #[test]
    fn dhcproto_reads_a_reply_of_ours(
        transaction: [u8; 3],
        duid in vec(any::<u8>(), 3..=130),
        servers in vec(any::<u128>(), 0..4),
        seconds: u32,
        relay: u128,
    ) {
        let servers: Vec<u8> = servers.iter().flat_map(|server| server.to_be_bytes()).collect();
        let mut buffer = [0; 1024];
        let mut w = Writer::new(&mut buffer);
        let envelope = dhcpv6::begin_reply(&mut w, Relays::NONE, transaction);
        put_option(&mut w, dhcpv6::OPTION_SERVER_ID, &duid);
        put_option(&mut w, dhcpv6::OPTION_4O6_SERVER, &servers);
        let refresh = dhcpv6::OPTION_INFORMATION_REFRESH_TIME;
        put_option(&mut w, refresh, &seconds.to_be_bytes());
        softwire::put_container_lw(&mut w, &[relay.into()], None);
        envelope.finish(&mut w);
        let length = w.finish().unwrap();
        let octets = &buffer[..length];

        let message = Message::decode(&mut Decoder::new(octets)).unwrap();
        prop_assert_eq!(message.msg_type(), MessageType::Reply);
        prop_assert_eq!(message.xid(), transaction);
        let options = message.opts();
        prop_assert_eq!(options.get(OptionCode::ServerId), Some(&DhcpOption::ServerId(duid)));
        let unknown = |code: OptionCode| match options.get(code) {
            Some(DhcpOption::Unknown(option)) => option.data().to_vec(),
            other => panic!("{code:?}: {other:?}"),
        };
        let refresh = unknown(OptionCode::InformationRefreshTime);
        prop_assert_eq!(refresh, seconds.to_be_bytes());
        prop_assert_eq!(unknown(OptionCode::Dhcp4ODhcp6Server), servers.clone());
        let container = [&[0, 90, 0, 16][..], &relay.to_be_bytes()].concat();
        prop_assert_eq!(unknown(OptionCode::S46ContLw), container);

        let reply = Reply::parse(octets).unwrap();
        prop_assert_eq!(reply.transaction, transaction);
        prop_assert_eq!(reply.option(dhcpv6::OPTION_4O6_SERVER), Some(&servers[..]));
    }
}
