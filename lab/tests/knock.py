"""Knocks at PostgreSQL: HOST ROLE DATABASE KEY OTHER-KEY. The keys are paths without their endings; the first that exists is shown."""

import pathlib
import socket
import ssl
import struct
import sys

host, role, database, *keys = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/ssl/cluster/ca.crt")
shown = next((key for key in keys if key and pathlib.Path(f"{key}.key").exists()), None)
if shown:
    context.load_cert_chain(f"{shown}.crt", f"{shown}.key")
plain = socket.create_connection((host, 5432), 5)
plain.sendall(struct.pack("!II", 8, 80877103))
assert plain.recv(1) == b"S", "no TLS"
try:
    server = context.wrap_socket(plain, server_hostname=host)
    settings = {"user": role, "database": database}
    if database == "replication":
        settings = {"user": role, "replication": "true"}
    body = b"".join(name.encode() + b"\0" + value.encode() + b"\0" for name, value in settings.items()) + b"\0"
    server.sendall(struct.pack("!II", 8 + len(body), 196608) + body)
    kind, length = struct.unpack("!cI", server.recv(5))
    text = server.recv(length - 4)
except OSError as error:
    # TLS 1.3 tells a client late that its certificate is refused.
    print(f"refused: {error}")
else:
    print("asks for the password" if kind == b"R" else text.replace(b"\0", b" ").decode())
