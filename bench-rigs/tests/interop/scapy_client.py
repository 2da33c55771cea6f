"""A DHCPv4-over-DHCPv6 client made of scapy's encoders and decoders: obtains, renews, releases and obtains again.

usage: scapy_client.py SOURCE SERVER direct|relayed

Prints what scapy reads of each answer, one JSON object a line. What scapy does not know (the two messages of RFC 7341)
is four octets and an option; its DHCPv4, its relay messages and its DHCPv6 options are scapy's own.
"""

import json
import socket
import sys

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import (
    DHCP6_RelayForward,
    DHCP6_RelayReply,
    DHCP6OptIfaceId,
    DHCP6OptRelayMsg,
    DHCP6OptRemoteID,
    DHCP6OptUnknown,
)
from scapy.packet import Raw

IDENTIFIER = bytes.fromhex("ff0000002a0003000102000000002a")
HARDWARE = bytes.fromhex("02000000002a")
LIST = ("param_req_list", [1, 3, 6, 51, 58, 59, 159])
LINK, CLIENT = "2001:db8:1::1", "fe80::2a"


def own_options(message):
    """The options of one relay's message, by their classes, without those of the messages inside."""
    option = message.payload
    while option:
        yield type(option), option
        option = option.payload


class Client:
    def __init__(self, source, server, relayed):
        self.relayed = relayed
        self.socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.bind((source, 547 if relayed else 546))
        self.socket.settimeout(5)
        self.server = (server, 547)
        self.xid = 0x5CA90000

    def send(self, kind, options, unicast=False, ciaddr="0.0.0.0"):
        """Sends one DHCPv4 message, as RFC 7341 §6 wraps it, and in two relays' envelopes if there are relays."""
        header = BOOTP(op=1, htype=1, hlen=6, xid=self.xid, chaddr=HARDWARE, ciaddr=ciaddr)
        first = [("message-type", kind), ("client_id", IDENTIFIER)]
        message = bytes(header / DHCP(options=first + options + ["end"]))
        option = bytes(DHCP6OptUnknown(optcode=87, data=message))
        payload = bytes([20, 0x80 if unicast else 0, 0, 0]) + option
        if self.relayed:
            inner = DHCP6_RelayForward(hopcount=0, linkaddr=LINK, peeraddr=CLIENT)
            inner /= DHCP6OptIfaceId(ifaceid=b"ge-0/0/1.100")
            inner /= DHCP6OptRemoteID(enterprisenum=2011, remoteid=b"cust-0001")
            inner /= DHCP6OptRelayMsg(message=Raw(payload))
            outer = DHCP6_RelayForward(hopcount=1, linkaddr="::", peeraddr="2001:db8:1::b")
            payload = bytes(outer / DHCP6OptRelayMsg(message=Raw(bytes(inner))))
        self.socket.sendto(payload, self.server)

    def receive(self):
        """The DHCPv4 message of the next answer, its options by name, and the relays around it."""
        payload = self.socket.recv(65535)
        relays = []
        while payload[0] == 13:
            reply = DHCP6_RelayReply(payload)
            options = dict(own_options(reply))
            ident = options.get(DHCP6OptIfaceId)
            relays.append([reply.hopcount, reply.linkaddr, reply.peeraddr,
                           ident.ifaceid.decode() if ident else None])
            payload = bytes(options[DHCP6OptRelayMsg].message)
        option = DHCP6OptUnknown(payload[4:])
        assert payload[0] == 21 and payload[1:4] == bytes(3), payload[:4]
        assert option.optcode == 87 and option.optlen == len(payload) - 8, option
        message = BOOTP(option.data)
        assert message.xid == self.xid and message.op == 2, message
        options = {entry[0]: entry[1] for entry in message[DHCP].options if isinstance(entry, tuple)}
        ports = options.get("v4-portparams")
        print(json.dumps({
            "kind": options["message-type"],
            "ciaddr": message.ciaddr,
            "yiaddr": message.yiaddr,
            "server": options.get("server_id"),
            "lease": options.get("lease_time"),
            "times": [options.get("renewal_time"), options.get("rebinding_time")],
            "same_identifier": options.get("client_id") == IDENTIFIER,
            "same_hardware": message.chaddr[:6] == HARDWARE and message.hlen == 6,
            "ports": list(ports) if ports else None,
            "relays": relays,
        }), flush=True)
        return message.yiaddr, options

    def obtain(self):
        self.xid += 1
        self.send("discover", [LIST])
        address, offer = self.receive()
        ports = ("v4-portparams", offer["v4-portparams"])
        wanted = [("requested_addr", address), ("server_id", offer["server_id"])]
        self.send("request", wanted + [LIST, ports])
        self.receive()
        return address, offer["server_id"], ports

    def renew(self, address, ports, unicast):
        self.xid += 1
        self.send("request", [LIST, ports], unicast, address)
        self.receive()

    def release(self, address, server, ports):
        self.xid += 1
        self.send("release", [("server_id", server), ports], True, address)


def main():
    source, server, path = sys.argv[1:]
    client = Client(source, server, path == "relayed")
    address, identifier, ports = client.obtain()
    client.renew(address, ports, unicast=True)
    client.renew(address, ports, unicast=False)
    client.release(address, identifier, ports)
    client.obtain()


main()
