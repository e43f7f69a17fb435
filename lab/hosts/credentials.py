"""Keys, certificates and passwords of one run; all of them are removed with it."""

import json
import secrets

from lab.hosts import nspawn, plan

PASSWORDS = ("patroni_superuser_password", "patroni_replication_password", "patroni_rewind_password", "service_database_password")
# Not a secret, but it changes together with one.
LOGIN = "service_database_login"
BUCKET_SECRETS = ("pgbackrest_cipher_pass", "pgbackrest_s3_key", "pgbackrest_s3_secret")


class Credentials:
    """A folder with all secrets."""

    def __init__(self, folder, vault, venv):
        self.folder, self.vault, self.ansible_vault = folder, vault, venv / "bin/ansible-vault"
        self.ssh_key = folder / "ssh"
        self.known_hosts = folder / "known_hosts"
        self.ca, self.ca_key = folder / "ca.crt", folder / "ca.key"
        self.vault_password = folder / "vault-password"
        self.apt_key = folder / "apt.key"
        self.apt_public_key = folder / "apt.asc"

    def make(self):
        """Creates everything; the passwords go into an Ansible vault, which only playbooks read."""
        self.folder.mkdir(mode=0o700)
        nspawn.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", self.ssh_key)
        self._authority()
        self._apt_key()
        self.vault_password.write_text(secrets.token_urlsafe())
        self.vault.parent.mkdir(parents=True)
        names = [*PASSWORDS, *(f"{name}_{region}" for name in BUCKET_SECRETS for region in plan.NETWORKS)]
        self.keep({name: secrets.token_urlsafe() for name in names})

    def keep(self, values):
        """Writes the vault."""
        command = (self.ansible_vault, "encrypt", "--vault-password-file", self.vault_password, "--output", self.vault)
        nspawn.run(*command, input=json.dumps(values))

    def renew(self):
        """Puts new passwords into the vault, and the service's other role."""
        held = self.secrets()
        login = "dob" if held.get(LOGIN) == "dob_b" else "dob_b"
        self.keep(held | {name: secrets.token_urlsafe() for name in PASSWORDS} | {LOGIN: login})

    def secrets(self):
        """The contents of the vault, by name."""
        text = nspawn.run(self.ansible_vault, "view", "--vault-password-file", self.vault_password, self.vault).stdout
        return json.loads(text)

    def passwords(self):
        return [value for name, value in self.secrets().items() if name != LOGIN]

    def certificate(self, name):
        """A key with the authority's certificate for a name of the network."""
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        authority = ("-CA", self.ca, "-CAkey", self.ca_key, "-days", "825", "-subj", f"/CN={name}")
        usages = ("-addext", f"subjectAltName=DNS:{name}", "-addext", "keyUsage=critical,digitalSignature")
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        nspawn.run("openssl", "req", "-x509", "-config", "/dev/null", *kind, *authority, *usages, "-keyout", key, "-out", certificate)
        return certificate.read_text() + key.read_text()

    def _authority(self):
        # Python 3.13 accepts an authority only if it states the usages of its key.
        usages = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-subj", "/CN=cluster")
        # The machine's own configuration would add the first of the usages a second time.
        files = ("-config", "/dev/null", "-keyout", self.ca_key, "-out", self.ca)
        nspawn.run("openssl", "req", "-x509", *kind, *usages, *files)

    def _apt_key(self):
        home = self.folder / "gnupg"
        home.mkdir(mode=0o700)
        gpg = ("gpg", "--homedir", home, "--batch", "--passphrase", "")
        nspawn.run(*gpg, "--quick-generate-key", "cluster <cluster@example.org>", "ed25519", "sign", "never")
        self.apt_key.write_text(nspawn.run(*gpg, "--armor", "--export-secret-keys").stdout)
        self.apt_public_key.write_text(nspawn.run(*gpg, "--armor", "--export").stdout)
        nspawn.run("gpgconf", "--homedir", home, "--kill", "all")

    def host_key(self, path, address):
        """Creates a host's ssh key. From then on only this key is trusted at the host's address."""
        nspawn.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", address, "-f", path)
        kind, key, _ = path.with_suffix(".pub").read_text().split()
        known = self.known_hosts.read_text().splitlines() if self.known_hosts.exists() else []
        others = [line for line in known if not line.startswith(f"{address} ")]
        self.known_hosts.write_text("\n".join([*others, f"{address} {kind} {key}", ""]))

    def public_key(self):
        return self.ssh_key.with_suffix(".pub").read_text()

    def ssh_options(self):
        return [*("-i", str(self.ssh_key)), *("-o", f"UserKnownHostsFile={self.known_hosts}"), *("-o", "StrictHostKeyChecking=yes")]
