"""Serves recorded advisories as OSV does: advisories.py FOLDER; prints its port.

It answers for a package's exact name and version, and refuses what OSV refuses: another path, a package of an ecosystem that is
none, a query without a version.
"""

import http.server
import json
import pathlib
import sys

RECORDED = [json.loads(path.read_text()) for path in pathlib.Path(sys.argv[1]).glob("*.json")]
ECOSYSTEMS = {"PyPI", "crates.io", "npm", "Debian"}


def concerns(advisory, name, version):
    """Whether a version is affected: it is before the fixed one, in the simple form that our records have."""
    numbers = [int(part) for part in version.split(".") if part.isdigit()]
    for affected in advisory["affected"]:
        fixed = [int(part) for part in affected["ranges"][0]["events"][1]["fixed"].split(".")]
        if affected["package"] == {"name": name, "ecosystem": "PyPI"} and numbers < fixed:
            return True
    return False


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        package, version = asked.get("package", {}), asked.get("version")
        if self.path != "/v1/query" or not version or package.get("ecosystem") not in ECOSYSTEMS:
            status, said = 400, {"code": 3, "message": "Invalid query."}
        else:
            found = [one for one in RECORDED if concerns(one, package["name"], version)]
            status, said = 200, {"vulns": found} if found else {}
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
