"""The network between two regions: a pair of TUN devices that delay every packet.

Run in the network's namespace with two device names and the milliseconds of one way; prints a line when it carries packets.
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def device(name):
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return file


def carry(one, other, delay):
    """Forwards packets when they are due. A packet is lost only if the kernel does not accept it."""
    ends = {one: other, other: one}
    waiting = collections.deque()
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    while True:
        timeout = max(0, waiting[0][0] - time.monotonic()) * 1000 if waiting else None
        for end, _ in poll.poll(timeout):
            # Bounded, so that a flood of incoming packets does not hold back those that are due.
            for _ in range(256):
                try:
                    packet = os.read(end, 65536)
                except BlockingIOError:
                    break
                waiting.append((time.monotonic() + delay, ends[end], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, end, packet = waiting.popleft()
            try:
                os.write(end, packet)
            except OSError as error:
                print(error, file=sys.stderr, flush=True)


def main():
    names, delay = sys.argv[1:3], float(sys.argv[3]) / 1000
    ends = [device(name) for name in names]
    print("ready", flush=True)
    carry(*ends, delay)


if __name__ == "__main__":
    main()
