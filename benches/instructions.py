"""Instructions: what an operation takes the server, by whose code it is, however fast or busy the machine is.

    python3 benches/instructions.py [--server PATH] [--module PATH] [section …]

Sections: `stores`, `reads`, `keys` (what the server does to keys by itself). callgrind counts them (`apt install valgrind`); it does not count
what the kernel does, nor for how long the processor waits for memory. The module must be a build whose names are kept, as `make build`'s are.

Who wrote a function is told by its name and by the file that it was compiled from. Of a server without symbols, as Debian's, only the names that it
exports are known: the rest is *the server*.
"""

import argparse
import collections
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True

import lab
import pipeline
import upkeep

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULE = os.path.join(ROOT, "target", "release", "libexpcache.so")
KEYS, COUNTED = 5_000, 4_800
UPKEEP_KEYS = 20_000
LONG_S = 900  # callgrind takes fifty times as long

# In this order; the first that fits the line of a function has it.
OWNERS = [
    ("the module's index", r"core/src/index|expcache_core::index|roaring"),
    ("the module's rooms", r"expcache(_core)?::|src/\S+\.rs:|::.*\.so\]"),
    ("the allocator", r"jemalloc|je_|:z?(malloc|calloc|realloc|free)\b|zmalloc|zrealloc|zcalloc|ztry"),
    ("the module interface", r":(RM_|VM_|module|RedisModule|ValkeyModule|autoMemory)"),
    ("libc", r"libc[.-]|/ld-|libm[.-]|libpthread"),
]
THE_SERVER = "the server"
ROWS = [THE_SERVER, "the module interface", "the allocator", "libc", "the module's rooms", "the module's index"]


# ---- Counting --------------------------------------------------------------------------------------------------------


class Counted:
    """A server within callgrind, which counts between two moments."""

    def __init__(self, chosen, *settings):
        self._dir = tempfile.mkdtemp(prefix="expcache-callgrind-")
        self._out = os.path.join(self._dir, "out")
        within = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={self._out}"]
        self.server = lab.Server(chosen.server, chosen.module, ["enable-debug-command yes", *settings], within)

    def __enter__(self):
        try:
            self.server.__enter__()
            self.connection = self.server.connect()
            self._pid = self.connection.info("server")["process_id"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.server.__exit__()
        shutil.rmtree(self._dir, ignore_errors=True)

    def around(self, operations, action):
        """Instructions an operation, by owner."""
        self._control("-i", "on")
        self._control("-z")
        action()
        self._control("-d")
        self._control("-i", "off")
        newest = max(glob.glob(self._out + "*"), key=os.path.getmtime)
        return {owner: count / operations for owner, count in by_owner(newest).items()}

    def _control(self, *words):
        subprocess.run(["callgrind_control", *words, self._pid], check=True, capture_output=True)


def by_owner(path):
    annotate = ["callgrind_annotate", "--threshold=100", "--auto=no", path]
    counts = collections.Counter()
    for line in subprocess.run(annotate, check=True, capture_output=True, text=True).stdout.splitlines():
        found = re.match(r"\s*([\d,]+) \([^)]*\)\s+(.*:.*)", line)
        if found:
            counts[owner_of(found[2])] += int(found[1].replace(",", ""))
    return counts


def owner_of(function):
    return next((owner for owner, pattern in OWNERS if re.search(pattern, function)), THE_SERVER)


def pipelined(connection, commands):
    """In pipelines, any reply but an error."""
    for batch in lab.chunks(commands, pipeline.DEPTH):
        connection.send(b"".join(batch))
        for _ in batch:
            connection.reply()


# ---- Commands --------------------------------------------------------------------------------------------------------


def templated(template, draw=lambda _number: ()):
    """The command of a number, by a template that takes a key's number and what is drawn."""
    return lambda number: template % (number * 7919 % KEYS, *draw(number))


def of_tags(number):
    return [number * prime % size for prime, (_, size) in zip((1, 31, 1, 1), lab.TAGS)]


def new_tags(number):
    return range(4 * number, 4 * number + 4)


def stores():
    new = ["TAGS", 4, *[b"tag:%012d"] * 4]
    entry = lab.Expcache()
    return {
        "SET": templated(lab.resp_template("SET", lab.KEY, lab.VALUE)),
        "SET … EX": templated(lab.Plain().set_template(None, ())),
        "EXPCACHE.SET": templated(entry.set_template(None, ())),
        "4 tags": templated(entry.set_template(None, lab.TAGS), of_tags),
        "4 new tags": templated(lab.resp_template("EXPCACHE.SET", lab.KEY, lab.VALUE, *new), new_tags),
    }


def count_stores(chosen):
    """Keys that are there already."""
    columns = {}
    for name, command in stores().items():
        with Counted(chosen) as counted:
            pipelined(counted.connection, map(command, range(3 * KEYS)))
            more = [command(number) for number in range(3 * KEYS, 3 * KEYS + COUNTED)]
            columns[name] = counted.around(COUNTED, lambda: pipelined(counted.connection, more))
    table("A store of 100 bytes over a key that is there", columns)


def count_reads(chosen):
    """Of keys with a TTL; entries without tags."""
    native = stores()["SET … EX"], ("GET", lab.KEY)
    entry = stores()["EXPCACHE.SET"]
    ways = {
        "GET": (*native, None),
        "EXPCACHE.GET": (entry, ("EXPCACHE.GET", lab.KEY), None),
        "GET, AUDIT all": (entry, ("EXPCACHE.GET", lab.KEY), ("EXPCACHE.TYPE", "SET", "default", "AUDIT", "all")),
        "FETCH, two fields": (entry, ("EXPCACHE.FETCH", lab.KEY, "FIELDS", 2, "status", "value"), None),
        "FETCH": (entry, ("EXPCACHE.FETCH", lab.KEY), None),
    }
    columns = {}
    for name, (fill, read, before) in ways.items():
        with Counted(chosen) as counted:
            pipelined(counted.connection, map(fill, range(KEYS)))
            if before:
                counted.connection.call(*before)
            command = templated(lab.resp_template(*read))
            pipelined(counted.connection, map(command, range(KEYS)))
            reads = [command(number) for number in range(COUNTED)]
            columns[name] = counted.around(COUNTED, lambda: pipelined(counted.connection, reads))
    table("A read of 100 bytes", columns)


# ---- What the server does to keys by itself --------------------------------------------------------------------------


def count_keys(chosen):
    kinds = {
        "A key that expires": (expiring, 1000),
        "A store at `maxmemory`, which evicts one": (evicting, 10**9),
        "A key loaded from an RDB file": (loading_rdb, 10**9),
        "A key loaded from an append-only file without preamble": (loading_aof, 10**9),
    }
    for title, (count, ttl_ms) in kinds.items():
        table(title, {way.name: count(chosen, way) for way in upkeep.ways(["PX", ttl_ms])})


def expiring(chosen, way):
    with Counted(chosen) as counted:
        connection = counted.connection
        connection.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        pipelined(connection, way.commands(UPKEEP_KEYS))

        def expire():
            connection.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
            lab.wait_for(lambda: connection.info("stats")["expired_keys"], str(UPKEEP_KEYS), LONG_S, 0.5)

        return counted.around(UPKEEP_KEYS, expire)


def evicting(chosen, way):
    with Counted(chosen, "maxmemory-policy allkeys-lru") as counted:
        connection = counted.connection
        pipelined(connection, way.commands(UPKEEP_KEYS))
        connection.call("CONFIG", "SET", "maxmemory", connection.info("memory")["used_memory"])
        pipelined(connection, way.commands(COUNTED, UPKEEP_KEYS))
        more = list(way.commands(COUNTED, 2 * UPKEEP_KEYS))
        evicted = lambda: int(connection.info("stats")["evicted_keys"])
        before = evicted()
        instructions = counted.around(COUNTED, lambda: pipelined(connection, more))
        if abs(evicted() - before - COUNTED) > COUNTED / 20:
            raise SystemExit(f"{evicted() - before} keys were evicted by {COUNTED} stores")
        return instructions


def loading_rdb(chosen, way):
    with Counted(chosen) as counted:
        pipelined(counted.connection, way.commands(UPKEEP_KEYS))
        counted.connection.call("SAVE")
        counted.connection.call("FLUSHALL")
        return counted.around(UPKEEP_KEYS, lambda: loaded(counted.connection, "RELOAD", "NOSAVE"))


def loading_aof(chosen, way):
    with Counted(chosen, "appendonly yes", "aof-use-rdb-preamble no") as counted:
        connection = counted.connection
        pipelined(connection, way.commands(UPKEEP_KEYS))
        connection.call("BGREWRITEAOF")
        running = ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
        lab.wait_for(lambda: [connection.info("persistence")[what] for what in running], ["0", "0"], LONG_S, 0.5)
        connection.call("CONFIG", "SET", "appendonly", "no")
        connection.call("FLUSHALL")
        return counted.around(UPKEEP_KEYS, lambda: loaded(connection, "LOADAOF"))


def loaded(connection, *words):
    connection.call("DEBUG", *words)
    if connection.call("DBSIZE") != UPKEEP_KEYS:
        raise SystemExit("not all were loaded")


# ---- The tables ------------------------------------------------------------------------------------------------------


def table(title, columns):
    report = lab.Report()
    report.text(f"{title}, instructions:")
    rows = [[row, *(f"{column.get(row, 0):,.0f}" for column in columns.values())] for row in ROWS]
    first = sum(next(iter(columns.values())).values())
    rows.append(["all", *(f"{sum(one.values()):,.0f} ({sum(one.values()) / first:.2f} ×)" for one in columns.values())])
    report.table(["", *columns], rows)


SECTIONS = {"stores": count_stores, "reads": count_reads, "keys": count_keys}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=os.environ.get("EXPCACHE_SERVER", "redis-server"))
    parser.add_argument("--module", default=MODULE)
    parser.add_argument("section", nargs="*", help=", ".join(SECTIONS))
    chosen = parser.parse_args()
    chosen.module = os.path.abspath(chosen.module)
    if not shutil.which("valgrind"):
        parser.error("no valgrind here (apt install valgrind)")
    for name in chosen.section or SECTIONS:
        SECTIONS[name](chosen)


if __name__ == "__main__":
    main()
