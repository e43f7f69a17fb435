"""A machine in QEMU that boots an image, on a network of hosts."""

import base64
import re
import socket
import subprocess
import threading
import time

from lab.hosts import nspawn

UEFI = {"amd64": "/usr/share/OVMF/OVMF_CODE_4M.fd", "arm64": "/usr/share/AAVMF/AAVMF_CODE.fd"}
# The serial line of an arm64 host in EC2 is on PCI; the firmware speaks on the board's own.
BOTH = ("-chardev", "stdio,id=serial,mux=on,signal=off", "-serial", "chardev:serial", "-device", "pci-serial,chardev=serial")
BOARD = {
    "amd64": ("qemu-system-x86_64", "-cpu", "max", "-serial", "stdio"),
    "arm64": ("qemu-system-aarch64", "-machine", "virt", "-cpu", "neoverse-n1", *BOTH),
}


class Machine:
    """Boots a disk; its writes are thrown away. What systemd takes from the firmware as credentials changes no byte of it."""

    def __init__(self, network, subnet, image, firmware, credentials):
        self.network, self.address = network, f"{subnet}.50"
        namespace = network.namespace
        network.ip("tuntap", "add", "tap0", "mode", "tap")
        network.ip("link", "set", "tap0", "master", network.bridge(subnet), "up")
        self.control, partner = socket.socketpair()
        given = []
        for name, text in credentials.items():
            given += ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={base64.b64encode(text.encode()).decode()}"]
        arch = image.stem.rpartition("_")[2]
        boot = ["-drive", f"if=pflash,format=raw,readonly=on,file={UEFI[arch]}"] if firmware == "uefi" else []
        self.started = time.monotonic()
        # The machine's clock counts its instructions: on a busy machine it runs late, but no time-out of its kernel fires early.
        self.process = network.owner.spawn(
            *("nice", *BOARD[arch], "-accel", "tcg,thread=single", "-icount", "shift=1", "-m", "1024", "-nodefaults", "-display", "none"),
            *("-chardev", f"socket,id=c,fd={partner.fileno()}", "-mon", "chardev=c,mode=readline", *boot, *given),
            *("-drive", f"if=none,id=disk,format=raw,snapshot=on,file={image}", "-device", "nvme,drive=disk,serial=vol"),
            *("-netdev", "tap,id=net,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=net,romfile="),
            namespace=namespace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[partner.fileno()],
        )
        partner.close()
        self.lines, self.log = [], (network.owner.folder / f"console-{firmware}").open("w", buffering=1)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic() - self.started, line.decode(errors="replace").strip()))
            print(*self.lines[-1], file=self.log)

    @property
    def console(self):
        return "\n".join(line for _, line in list(self.lines))

    def said(self, pattern):
        """When the console first showed a line with this pattern, in seconds since power-on; None if it has not."""
        return next((at for at, line in list(self.lines) if re.search(pattern, line)), None)

    def wait_for(self, pattern, deadline=1200):
        def seen():
            if self.process.poll() is not None:
                raise nspawn.Failed(f"the machine ended:\n{self.console[-3000:]}")
            return self.said(pattern)

        try:
            return nspawn.wait_until(seen, pattern, deadline)
        except TimeoutError as error:
            raise nspawn.Failed(f"{error}\n{self.console[-3000:]}") from error

    def curl(self, path, *options, port=8080):
        """What a client on the network gets, with the status at its end; nothing if there is no answer."""
        client = ("ip", "netns", "exec", self.network.namespace, "curl", "-sS", "-m", "20", "-w", "%{http_code}", *options)
        return nspawn.run(*client, f"http://{self.address}:{port}{path}", check=False).stdout

    def press_power_button(self):
        self.control.sendall(b"system_powerdown\n")

    def remove(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.control.close()
        self.log.close()
        self.network.ip("link", "del", "tap0")
