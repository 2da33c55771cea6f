"""Asks all DHCPv6 servers on the link for what stateless clients ask for, with scapy's encoders.

usage: scapy_information.py INTERFACE CODE...

Prints what scapy reads of the Reply: the transaction's match, the refresh time, and each option in hexadecimal.
"""

import json
import socket
import sys

from scapy.layers.dhcp6 import (
    DHCP6_InfoRequest,
    DHCP6_Reply,
    DHCP6OptClientId,
    DHCP6OptElapsedTime,
    DHCP6OptInfoRefreshTime,
    DHCP6OptOptReq,
    DUID_LL,
)


def main():
    interface, codes = sys.argv[1], [int(code) for code in sys.argv[2:]]
    request = DHCP6_InfoRequest(trid=0x5CA9F1)
    request /= DHCP6OptClientId(duid=DUID_LL(lladdr="02:00:00:00:00:2a"))
    request /= DHCP6OptElapsedTime(elapsedtime=0) / DHCP6OptOptReq(reqopts=codes)

    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.settimeout(5)
    udp.bind(("::", 546))
    udp.sendto(bytes(request), ("ff02::1:2", 547, 0, socket.if_nametoindex(interface)))
    payload, source = udp.recvfrom(65535)

    reply = DHCP6_Reply(payload)
    options, refresh, option = {}, None, reply.payload
    while option:
        if isinstance(option, DHCP6OptInfoRefreshTime):
            refresh = option.reftime
        length = 4 + option.optlen
        options[option.optcode] = bytes(option)[4:length].hex()
        option = option.payload
    print(json.dumps({
        "kind": reply.msgtype,
        "same_transaction": reply.trid == request.trid,
        "same_client": options[1] == bytes(request[DHCP6OptClientId].duid).hex(),
        "refresh": refresh,
        "port": source[1],
        "link_local": source[0].startswith("fe80:"),
        "options": options,
    }))


main()
