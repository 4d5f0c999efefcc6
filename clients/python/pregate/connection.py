"""How a server is reached: its address, and the files of a certificate."""

import os
import pathlib

import grpc

# Our own retries look at what has come already; a server that restarts is found again within two seconds. The "minimum" is
# how long one attempt to connect may take.
_OPTIONS = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
)


def channel_options(server_name: str | None) -> list[tuple[str, object]]:
    """gRPC's settings; `server_name` is compared with the server's certificate instead of the address."""
    return [*_OPTIONS, *([("grpc.ssl_target_name_override", server_name)] if server_name else [])]


def credentials(certs: str | os.PathLike[str] | None) -> grpc.ChannelCredentials | None:
    """Mutual TLS with tls.crt, tls.key and ca.crt of a folder (`pregate certs init` makes them); None: plaintext."""
    if certs is None:
        return None
    ca, key, certificate = ((pathlib.Path(certs) / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    return grpc.ssl_channel_credentials(ca, key, certificate)
