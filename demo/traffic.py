#!/usr/bin/env python3
"""Exports asked for, made, and invalidated, at random and without end: something to watch.

    traffic.py 6379             against the server at this port, until Ctrl-C
    traffic.py --picture TOP    in a server of its own, with expcache-top (its path) looking on; prints what that shows, as SVG

From the environment: what demo.py takes.
"""

import random
import socket
import subprocess
import sys
import threading
import time

import demo

TYPES = {"trips": 500, "vehicles": 60, "gps_tracks": 900, "reports": 2500, "drivers": 40}  # what making one takes, ms
SHARES = [40, 25, 12, 8, 15]
COMPANIES, EXPORTS = 12, 120
ROUNDS_A_SECOND = 60
LOOKS = ["--svg", "--interval", "300ms", "--looks", "40", "--size", "96x26"]


class Connection:
    """Just enough of a client."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port)).makefile("rwb")

    def call(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        self.stream.flush()
        return self.reply()

    def reply(self):
        line = self.stream.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"-":
            raise SystemExit(f"the server says: {line}")
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b"$":
            return self.stream.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        return rest


def one_round(c, draw):
    """A reader comes; now and then somebody's data changes."""
    of_type = draw.choices(list(TYPES), SHARES)[0]
    # The first companies ask the most, and for the same few exports.
    company = min(int(draw.expovariate(0.4)), COMPANIES - 1)
    key = f"export_cache:{of_type}:{company}-{min(int(draw.expovariate(0.06)), EXPORTS - 1):03}"
    status = c.call("EXPCACHE.FETCH", key)[1]
    if status == b"miss" or status == b"stale" and draw.random() < 0.3:
        rows = b"".join(b"%d,%d.%d\n" % (row, draw.randrange(900), draw.randrange(10)) for row in range(draw.randrange(20, 400)))
        cost_ms = int(TYPES[of_type] * draw.uniform(0.5, 2))
        lifetime = ["PX", draw.randrange(1500, 60000), "GRACE", "2s", "COST", cost_ms, "FORMAT", "csv"]
        c.call("EXPCACHE.SET", key, rows, *lifetime, "TAGS", 2, f"company:{company}", f"user:{draw.randrange(200)}")
    if draw.random() < 0.002:
        c.call("EXPCACHE.INVALIDATE.TAG", f"company:{draw.randrange(COMPANIES)}")


def traffic(port, is_over=lambda: False):
    connection, draw = Connection(port), random.Random(7)
    while not is_over():
        for _ in range(int(draw.uniform(2, 12))):
            one_round(connection, draw)
        time.sleep(1 / ROUNDS_A_SECOND)


def picture(top):
    over = threading.Event()
    with demo.Server() as server:
        Connection(server.port).call("CONFIG", "SET", "maxmemory", "64mb")
        busy = threading.Thread(target=traffic, args=(server.port, over.is_set))
        busy.start()
        try:
            command = [top, "--url", f"redis://127.0.0.1:{server.port}", *LOOKS]
            shown = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        finally:
            over.set()
            busy.join()
    sys.stdout.write(shown.stdout.decode())


def main():
    match sys.argv[1:]:
        case ["--picture", top]:
            picture(top)
        case [port] if port.isdigit():
            traffic(int(port))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
