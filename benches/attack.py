"""Attacks: what one client notices of another that sends little and means harm.

    python3 benches/attack.py [--server PATH] [--module PATH] [--seconds S] [attack …]

Each attack goes on for some seconds, over connections and processes of its own, while another client sends small commands in turn:
`PING`, `GET` of 100 bytes and `EXPCACHE.FETCH` of 64 KiB. The figures are the longest that it waited for a reply, and how long the
server's main thread was at work meanwhile, which does not depend on what else the machine has to do. An attack may be refused: replies of every kind count, and the table says how many were errors.

Attacks of several processes take processors from the server and the other client, too; so beside each attack stands what the
same number of processes do that send `PING` as fast as they can.
"""

import argparse
import gzip
import multiprocessing
import os
import shutil
import struct
import sys
import time

sys.dont_write_bytecode = True

import lab

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULE = os.path.join(ROOT, "target", "release", "libexpcache.so")
KIB, MIB = 1 << 10, 1 << 20
BOUND_MS = 10.0
SECONDS = 3.0
SETTLE_S = 0.3
PIPELINE = 50

SMALL, FETCHED = "other:small", "other:fetched"
# What the other client sends, in turn.
COMMANDS = {"PING": ("PING",), "GET": ("GET", SMALL), "FETCH": ("EXPCACHE.FETCH", FETCHED)}


# ---- Payloads that decode to much ------------------------------------------------------------------------------------


def zstd_bomb(blocks):
    """A frame of blocks that repeat one byte 128 KiB times: four bytes each."""
    block = lambda last: struct.pack("<I", last | 1 << 1 | (128 * KIB) << 3)[:3] + b"x"
    # A window of 128 KiB, no size of the content.
    return b"\x28\xb5\x2f\xfd\x00" + bytes([7 << 3]) + block(0) * (blocks - 1) + block(1)


def gzip_bomb(mebibytes):
    return gzip.compress(bytes(mebibytes * MIB), 9)


def gzip_members(count):
    """Empty members, each of which has to be begun and checked."""
    return gzip.compress(b"", 9) * count + gzip.compress(b"x")


def lz4_empty_blocks():
    """A frame that says that its blocks may have 4 MiB, and has one of a byte."""
    descriptor = b"\x60\x70"
    return b"\x04\x22\x4d\x18" + descriptor + bytes([xxh32(descriptor) >> 8 & 255]) + struct.pack("<I", 1 | 1 << 31) + b"x" + bytes(4)


def xxh32(data):
    """XXH32 of less than 16 bytes, seed 0."""
    mask = (1 << 32) - 1
    rotate = lambda value, by: (value << by | value >> 32 - by) & mask
    accumulator = (374761393 + len(data)) & mask
    while len(data) >= 4:
        accumulator = rotate((accumulator + int.from_bytes(data[:4], "little") * 3266489917) & mask, 17) * 668265263 & mask
        data = data[4:]
    for byte in data:
        accumulator = rotate((accumulator + byte * 374761393) & mask, 11) * 2654435761 & mask
    for shift, factor in ((15, 2246822519), (13, 3266489917), (16, 1)):
        accumulator = (accumulator ^ accumulator >> shift) * factor & mask
    return accumulator


def rows(size):
    text = b"".join(b"%d,vehicle-%d,%d.%06d,2026-05-01,true\n" % (n, n % 97, n % 90, n * 7919 % 999983) for n in range(size // 40 + 1))
    return text[:size]


# ---- Attacks ---------------------------------------------------------------------------------------------------------


class Attack:
    """What it prepares by itself, and what each of its processes then sends over and over."""

    def __init__(self, name, processes, commands, prepare=(), config=()):
        self.name, self.processes, self.commands = name, processes, commands
        self.prepare, self.config = prepare, config


def set_encoded(key, payload, encoding):
    return ("EXPCACHE.SET", key, payload, "ENCODING", encoding)


def payload_attacks():
    """Small commands whose payloads decode to much, and large ones in a row."""
    many = lambda command: [command] * PIPELINE
    zstd, tiny, gz = zstd_bomb(2000), zstd_bomb(20), gzip_bomb(8)
    members, lz4, honest = gzip_members(350), lz4_empty_blocks(), gzip.compress(rows(31 * KIB), 6)
    big = gzip.compress(rows(48 * MIB), 1)
    # What is accepted: within the ratio.
    bomb = gzip.compress(rows(MIB) + bytes(MIB), 9)
    yield Attack("SET of 8 KB zstd that decode to 256 MiB", 1, many(set_encoded("a", zstd, "zstd")))
    yield Attack("the same, six clients", 6, [set_encoded("a", zstd * 2, "zstd")])
    yield Attack("SET of 86 bytes that decode to 2.5 MiB, in pipelines", 2, many(set_encoded("a", tiny, "zstd")))
    yield Attack("SET of 8 KB gzip that decode to 8 MiB, in pipelines", 2, many(set_encoded("a", gz, "gzip")))
    yield Attack("SET of 350 empty gzip members, in pipelines", 2, many(set_encoded("a", members, "gzip")))
    yield Attack("SET of an lz4 frame with blocks of 4 MiB, in pipelines", 2, many(set_encoded("a", lz4, "lz4")))
    yield Attack("the largest that decode on the main thread, in pipelines", 2, many(set_encoded("a", honest, "gzip")))
    yield Attack("FETCH … VERIFY of 1 MiB of RLE, in pipelines", 2, many(("EXPCACHE.FETCH", "v", "VERIFY")), [set_encoded("v", zstd_bomb(8), "zstd")])
    yield Attack("GET of what decodes to 31 KiB, in pipelines", 2, many(("EXPCACHE.GET", "g")), [set_encoded("g", honest, "gzip")])
    yield Attack("RANGE of 350 empty gzip members, in pipelines", 2, many(("EXPCACHE.FETCH", "r", "RANGE", 0, 1)), [set_encoded("r", members, "gzip")])
    yield Attack("RESTORE of what decodes to 1 MiB, in pipelines", 2, many(("EXPCACHE.RESTORE", "e", -1, *restored(zstd_bomb(8), MIB))))
    yield Attack("six clients that SET gzip of 48 MiB", 6, [set_encoded("b", big, "gzip")])
    yield Attack("six clients that GET gzip of 48 MiB", 6, [("EXPCACHE.FETCH", "b", "RANGE", 47 * MIB, 10)], [set_encoded("b", big, "gzip")])
    yield Attack("MGET of the same 2 MiB ten times, six clients", 6, [("EXPCACHE.MGET", *["m"] * 10)], [set_encoded("m", bomb, "gzip")])
    pairs = [word for n in range(1000) for word in (f"w:{n}", rows(8000))]
    threshold = [("EXPCACHE.TYPE", "SET", "default", "THRESHOLD", "1kb", "CODEC", "zstd")]
    yield Attack("MSET of 1,000 x 8 KB, compressed", 1, [("EXPCACHE.MSET", 1000, *pairs)], threshold)


def restored(stored, size):
    """Metadata of a payload kept as zstd, with an MD5 that nothing has, and the payload."""
    metadata = bytes([1, 0]) + struct.pack("<QQ", 1, 0)
    return metadata + b"\x00" * 16 + struct.pack("<I", size), stored


def attacks():
    """All of them, by section."""
    return {"payload": payload_attacks}


# ---- Measuring -------------------------------------------------------------------------------------------------------


def harm(address, commands, stop, counts):
    """Sends the commands over and over, and reads what comes."""
    data, sent, errors = b"".join(lab.resp(*command) for command in commands), 0, 0
    buffer = memoryview(bytearray(64 * MIB))
    with lab.Connection(address) as connection:
        while not stop.is_set():
            connection.send(data)
            for _ in commands:
                try:
                    connection.drain(buffer)
                except lab.ReplyError:
                    errors += 1
                sent += 1
    counts.put((sent, errors))


def pings(processes):
    return Attack("PING", processes, [("PING",)] * PIPELINE)


class Waits:
    """The longest wait for each command, ms: by the clock, and how long the server's main thread was at work meanwhile. The latter is the
    server's part in it, whatever else the machine does."""

    def __init__(self, server):
        self.server, self.clock, self.work = server, {}, {}

    def measure(self, seconds):
        with self.server.connect(address=self.server.socket) as connection:
            pid = connection.info("server")["process_id"]
            with open(f"/proc/{pid}/task/{pid}/schedstat", encoding="ascii") as schedstat:
                end = time.perf_counter() + seconds
                while (now := time.perf_counter()) < end:
                    for name, command in COMMANDS.items():
                        before, start = at_work_ms(schedstat), time.perf_counter()
                        connection.call(*command)
                        self._note(self.clock, name, 1000 * (time.perf_counter() - start))
                        self._note(self.work, name, at_work_ms(schedstat) - before)
                    time.sleep(max(0, 0.001 - (time.perf_counter() - now)))
        return self

    @staticmethod
    def _note(worst, name, ms):
        worst[name] = max(worst.get(name, 0), ms)

    def cell(self, name):
        return f"{self.clock[name]:.1f} ({self.work[name]:.1f})"


def at_work_ms(schedstat):
    schedstat.seek(0)
    return int(schedstat.read().split()[0]) / 1e6


def under(server, attack, seconds):
    """What the other client waits while the attack goes on; and how many commands were sent, and refused."""
    stop, counts = multiprocessing.Event(), multiprocessing.Queue()
    each = [multiprocessing.Process(target=harm, args=(server.socket, attack.commands, stop, counts)) for _ in range(attack.processes)]
    for process in each:
        process.start()
    time.sleep(SETTLE_S)
    try:
        worst = Waits(server).measure(seconds)
    finally:
        stop.set()
    done = [counts.get(timeout=lab.TIMEOUT_S) for _ in each]
    for process in each:
        process.join()
    return worst, sum(sent for sent, _ in done), sum(errors for _, errors in done)


def measure(report, options, attack):
    with lab.Server(options.server, options.module) as server, server.connect() as connection:
        connection.call("SET", SMALL, lab.VALUE)
        connection.call("EXPCACHE.SET", FETCHED, rows(64 * KIB), "FORMAT", "csv")
        for command in [*attack.config, *attack.prepare]:
            connection.call(*command)
        time.sleep(1)
        idle = Waits(server).measure(options.seconds / 2)
        alike, _, _ = under(server, pings(attack.processes), options.seconds / 2)
        busy, sent, errors = under(server, attack, options.seconds)
    worst, work = max(busy.clock.values()), max(busy.work.values())
    held = work <= BOUND_MS and (True if worst <= max(BOUND_MS, 2 * max(alike.clock.values())) else None)
    cells = [attack.name] + [waits.cell(name) for name in COMMANDS for waits in (idle, alike, busy)]
    return cells + [f"{sent:,}", f"{errors:,}", report.verdict(f"{attack.name}: {worst:.1f} ms, {work:.1f} ms at work", held)]


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    server = os.environ.get("EXPCACHE_SERVER", "redis-server")
    parser.add_argument("--server", default=server, help="the server program (default: $EXPCACHE_SERVER, redis-server)")
    parser.add_argument("--module", default=MODULE, help="the module (default: target/release/libexpcache.so)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each attack goes on")
    parser.add_argument("section", nargs="*", help=f"which: {', '.join(attacks())} (default: all)")
    chosen = parser.parse_args()
    if not shutil.which(chosen.server):
        parser.error(f"no such server program: {chosen.server}")
    return chosen


def main():
    chosen, report = options(), lab.Report()
    chosen.module = os.path.abspath(chosen.module)
    head = ["attack", *(f"{name}, {when}" for name in COMMANDS for when in ("idle", "beside PING", "attacked"))]
    head += ["sent", "refused", f"at most {BOUND_MS:g} ms"]
    report.text(
        "The other client's longest wait, ms, and in brackets how long the server's main thread was at work meanwhile: on an idle"
        f" server, beside as many processes that send PING, and under attack. {lab.machine()}."
        f" Bound: {BOUND_MS:g} ms at work; undecided if by the clock it took more than that and than twice what it took beside PING."
    )
    for name, section in attacks().items():
        if not chosen.section or name in chosen.section:
            report.table(head, [measure(report, chosen, attack) for attack in section()])
    report.summary()


if __name__ == "__main__":
    main()
