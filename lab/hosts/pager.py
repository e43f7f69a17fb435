"""The operator's pager: receives alerts by webhook and mail, and writes each as a line of JSON to the given file."""

import functools
import http.server
import json
import pathlib
import socketserver
import sys
import threading

from lab.hosts import plan

HTTP_PORT, SMTP_PORT = 9095, 2525
RECEIVERS = {
    "mail": {"to": "operator@example.org", "from": "alerts@example.org", "smarthost": f"{plan.OPERATOR}:{SMTP_PORT}", "require_tls": False},
    "webhooks": [f"http://{plan.OPERATOR}:{HTTP_PORT}/alerts"],
    "deadman_webhook": f"http://{plan.OPERATOR}:{HTTP_PORT}/deadman",
}


def note(file, way, content):
    with file.open("a") as notes:
        notes.write(json.dumps({"way": way, "content": content}) + "\n")


def notes(run):
    """The alerts that the operator of a run received so far."""
    file = path(run)
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def path(run):
    return run.folder / "notifications"


class Webhook(http.server.BaseHTTPRequestHandler):
    def __init__(self, file, *arguments):
        self.file = file
        super().__init__(*arguments)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        note(self.file, self.path.strip("/"), json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Mail(socketserver.StreamRequestHandler):
    """The part of SMTP that a mail client needs."""

    def __init__(self, file, *arguments):
        self.file = file
        super().__init__(*arguments)

    def handle(self):
        self.say("220 operator")
        while line := self.rfile.readline():
            word = line.split()[0].upper() if line.split() else b""
            if word == b"DATA":
                self.say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                note(self.file, "mail", b"".join(lines).decode(errors="replace"))
            if word == b"QUIT":
                self.say("221 bye")
                return
            self.say("250 operator")

    def say(self, text):
        self.wfile.write(f"{text}\r\n".encode())


def main():
    file = pathlib.Path(sys.argv[1])
    web = http.server.ThreadingHTTPServer((plan.OPERATOR, HTTP_PORT), functools.partial(Webhook, file))
    mail = socketserver.ThreadingTCPServer((plan.OPERATOR, SMTP_PORT), functools.partial(Mail, file))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    mail.serve_forever()


if __name__ == "__main__":
    main()
