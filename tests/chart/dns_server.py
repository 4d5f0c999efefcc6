#!/usr/bin/env python3
"""A cluster's DNS in small: A queries, answered from a JSON file {name: [addresses]} as it is then.

usage: dns_server.py FILE ADDRESS
"""

import json
import pathlib
import socket
import struct
import sys

TTL_S = 5  # CoreDNS answers for services with 5 to 30


def parse_question(packet):
    """(name, type, end of the question) of a query with one question."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("ascii", "replace"))
        at += 1 + packet[at]
    return ".".join(labels).lower(), struct.unpack("!H", packet[at + 1 : at + 3])[0], at + 5


def answer(packet, names):
    """The reply: addresses, no addresses of that type, or NXDOMAIN."""
    name, kind, end = parse_question(packet)
    addresses = names.get(name)
    records = [socket.inet_aton(a) for a in addresses or []] if kind == 1 else []
    code = 3 if addresses is None else 0
    header = packet[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(records), 0, 0)
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, TTL_S, 4) + record for record in records)
    return header + packet[12:end] + body


def main():
    """Serves until killed."""
    names = pathlib.Path(sys.argv[1])
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((sys.argv[2], 53))
    while True:
        packet, sender = server.recvfrom(1500)
        try:
            server.sendto(answer(packet, json.loads(names.read_text())), sender)
        except (IndexError, struct.error):
            continue  # not a query


if __name__ == "__main__":
    main()
