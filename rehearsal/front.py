"""Ends TLS before a service: front.py CERTIFICATE ADDRESS:PORT TARGET-PORT."""

import socket
import ssl
import sys
import threading

certificate, listen, target = sys.argv[1:]
address, _, port = listen.partition(":")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(plain):
    try:
        with context.wrap_socket(plain, server_side=True) as client, socket.create_connection(("127.0.0.1", int(target))) as service:
            back = threading.Thread(target=copy, args=(service, client), daemon=True)
            back.start()
            copy(client, service)
            back.join()
    except OSError:
        plain.close()


with socket.create_server((address, int(port))) as server:
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
