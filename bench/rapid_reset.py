#!/usr/bin/env python3
"""What one peer costs a gRPC port that opens calls over HTTP/2 and resets them in the same breath.

Prints the server's resident memory before, at its highest and at the end, and whether the connection was cut. For a server of
yours on this machine: python3 bench/rapid_reset.py --port 7610 --pid PID --tls-dir certs/scheduler
"""
import argparse
import pathlib
import re
import socket
import ssl
import struct
import threading
import time


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def resets(path, calls):
    """The preface, empty settings, and `calls` times HEADERS and RST_STREAM."""
    block = bytes([0x83, 0x86]) + header(b":path", path.encode()) + header(b":authority", b"x") + \
        header(b"te", b"trailers") + header(b"content-type", b"application/grpc")
    streams = range(1, 2 * calls, 2)
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + b"".join(
        frame(1, 4, stream, block) + frame(3, 0, stream, struct.pack(">I", 8)) for stream in streams)


def connect(port, tls_dir):
    connection = socket.create_connection(("127.0.0.1", port))
    if not tls_dir:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(f"{tls_dir}/tls.crt", f"{tls_dir}/tls.key")
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection)


def resident_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def drain(connection):
    try:
        while connection.recv(65536):
            pass
    except OSError:
        pass


def send(connection, data, result):
    threading.Thread(target=drain, args=(connection,), daemon=True).start()
    began = time.time()
    try:
        for at in range(0, len(data), 65536):
            connection.sendall(data[at:at + 65536])
            result["sent"] = at + 65536
        result["end"] = "all sent"
    except OSError:
        result["end"] = f"cut after {time.time() - began:.2f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--path", default="/grpc.health.v1.Health/Check")
    parser.add_argument("--tls-dir", default="")
    parser.add_argument("--calls", type=int, default=300000)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    data = resets(args.path, args.calls)
    before = peak = resident_mb(args.pid)
    result = {"sent": 0, "end": "not taken any more"}
    threading.Thread(target=send, args=(connect(args.port, args.tls_dir), data, result), daemon=True).start()
    end = time.time() + args.seconds
    while time.time() < end:
        peak = max(peak, resident_mb(args.pid))
        time.sleep(0.02)
    calls = min(result["sent"] * args.calls // len(data), args.calls)
    print(f"{before:.0f} MB before, {peak:.0f} MB at most, {resident_mb(args.pid):.0f} MB at the end; "
          f"{calls} calls sent: {result['end']}")


if __name__ == "__main__":
    main()
