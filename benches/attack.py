"""Attacks: what one client notices of another that means harm and needs little for it.

    python3 benches/attack.py [--server PATH] [--module PATH] [--seconds S] [--rounds N] [section …]

Sections: `payload` (small commands whose payloads decode to much, in pipelines and by several clients), `transaction` (the same in
`MULTI` and in scripts, where nobody can wait), `names` (patterns that match badly, long names, very many tags), `whole` (questions about
everything, commands of very many keys), `warming` (workers that may have nothing, very many keys that are kept in mind).

Each attack goes on for some seconds, from processes of its own, while another client sends two small commands in turn: `GET` of 100 bytes
and `EXPCACHE.FETCH` of 64 KiB. Measured is the longest that it waited for a reply, and in brackets for how long the server's main thread was
at work meanwhile, which does not depend on what else the machine has to do. Beside it stand the same of an idle server, and of a
*native counterpart*: what a client may do to others by the server's own commands, with as many processes and about as many bytes or
keys; where there is none, `PING` as fast as it goes. Each figure is the median of the rounds' worst. An attack may be refused: replies of every kind
count, and the table says how many were errors.
"""

import argparse
import gzip
import multiprocessing
import os
import shutil
import statistics
import struct
import sys
import time

sys.dont_write_bytecode = True

import lab

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODULE = os.path.join(ROOT, "target", "release", "libexpcache.so")
KIB, MIB = 1 << 10, 1 << 20
BOUND_MS = 10.0
SECONDS, ROUNDS = 1.5, 3
SETTLE_S = 0.3
PIPELINE = 50

SMALL, FETCHED = "other:small", "other:fetched"
# What the other client sends, in turn.
COMMANDS = {"GET": ("GET", SMALL), "FETCH": ("EXPCACHE.FETCH", FETCHED)}


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
    """What each of its processes sends over and over, and what the native counterpart's do; what is stored before (a function of a connection),
    which may hand back the commands to be sent."""

    def __init__(self, name, processes, commands, native=None, prepare=None):
        self.name, self.processes, self.commands = name, processes, commands
        self.native = native or [("PING",)] * PIPELINE
        self.prepare = prepare or (lambda _connection: None)


def many(*command):
    return [command] * PIPELINE


def encoded(key, payload, encoding):
    return ("EXPCACHE.SET", key, payload, "ENCODING", encoding)


def calls(*commands):
    """A function of a connection that sends them."""
    return lambda connection: [connection.call(*command) for command in commands] and None


def payload_attacks():
    """Small commands whose payloads decode to much, and large ones in a row."""
    zstd, tiny, gz = zstd_bomb(2000), zstd_bomb(20), gzip_bomb(8)
    members, lz4, honest = gzip_members(350), lz4_empty_blocks(), gzip.compress(rows(31 * KIB), 6)
    big, repeated = gzip.compress(rows(48 * MIB), 1), gzip.compress(rows(MIB) + bytes(MIB), 9)
    plain = lambda payload: many("SET", "n", payload)
    native = lambda size: calls(("SET", "n", rows(size)))
    both = lambda size, *more: lambda connection: (native(size)(connection), calls(*more)(connection)) and None
    yield Attack("SET of 8 KB zstd that decode to 256 MiB", 1, many(*encoded("a", zstd, "zstd")), plain(zstd))
    yield Attack("the same, six clients", 6, [encoded("a", zstd * 2, "zstd")], [("SET", "n", zstd * 2)])
    yield Attack("SET of 86 bytes that decode to 2.5 MiB, in pipelines", 2, many(*encoded("a", tiny, "zstd")), plain(tiny))
    yield Attack("SET of 8 KB gzip that decode to 8 MiB, in pipelines", 2, many(*encoded("a", gz, "gzip")), plain(gz))
    yield Attack("SET of 350 empty gzip members, in pipelines", 2, many(*encoded("a", members, "gzip")), plain(members))
    yield Attack("SET of an lz4 frame with blocks of 4 MiB, in pipelines", 2, many(*encoded("a", lz4, "lz4")), plain(lz4))
    yield Attack("SET of what decodes to 31 KiB, in pipelines", 2, many(*encoded("a", honest, "gzip")), plain(rows(31 * KIB)))
    yield Attack(
        "FETCH … VERIFY of 1 MiB of RLE, in pipelines", 2, many("EXPCACHE.FETCH", "v", "VERIFY"), many("GET", "n"),
        both(MIB, encoded("v", zstd_bomb(8), "zstd")),
    )
    yield Attack(
        "GET of what decodes to 31 KiB, in pipelines", 2, many("EXPCACHE.GET", "g"), many("GET", "n"), both(31 * KIB, encoded("g", honest, "gzip"))
    )
    yield Attack(
        "RANGE of 350 empty gzip members, in pipelines", 2, many("EXPCACHE.FETCH", "r", "RANGE", 0, 1), many("GETRANGE", "n", 0, 1),
        both(8 * KIB, encoded("r", members, "gzip")),
    )
    bad = restored(zstd_bomb(8), MIB)
    yield Attack("RESTORE of what decodes to 1 MiB, in pipelines", 2, many("EXPCACHE.RESTORE", "e", -1, *bad), plain(bad[1]))
    yield Attack("six clients that SET gzip of 48 MiB", 6, [encoded("b", big, "gzip")], [("SET", "n", big)])
    yield Attack(
        "six clients that FETCH a part of gzip of 48 MiB", 6, [("EXPCACHE.FETCH", "b", "RANGE", 47 * MIB, 10)], [("GETRANGE", "n", 47 * MIB, 47 * MIB + 10)],
        both(48 * MIB, encoded("b", big, "gzip")),
    )
    yield Attack(
        "MGET of the same 2 MiB ten times, six clients", 6, [("EXPCACHE.MGET", *["m"] * 10)], [("MGET", *["n"] * 10)],
        both(2 * MIB, encoded("m", repeated, "gzip")),
    )


def transaction_attacks():
    """Very many that decode to a little each, where no worker can help."""
    bomb, count = zstd_bomb(8), 300
    in_multi = lambda *command: [("MULTI",), *[command] * count, ("EXEC",)]
    script = "for n = 1, ARGV[1] do redis.pcall(unpack(ARGV, 2)) end"
    in_script = lambda *command: [("EVAL", script, 0, count, *command)]
    stored = calls(encoded("k", bomb, "zstd"), ("SET", "n", rows(MIB)))
    for where, of in (("MULTI", in_multi), ("a script", in_script)):
        yield Attack(f"{count} SET of 32 bytes that decode to 1 MiB, in {where}", 1, of(*encoded("a", bomb, "zstd")), of("SET", "n", rows(MIB)))
        yield Attack(f"{count} SET of 8 KB that are refused, in {where}", 1, of(*encoded("a", zstd_bomb(2000), "zstd")), of("SET", "n", rows(MIB)))
        yield Attack(f"{count} GET of 1 MiB, in {where}", 1, of("EXPCACHE.GET", "k"), of("GET", "n"), stored)
        yield Attack(f"{count} FETCH … VERIFY of 1 MiB, in {where}", 1, of("EXPCACHE.FETCH", "k", "RANGE", 0, 1, "VERIFY"), of("GET", "n"), stored)


def restored(stored, size):
    """Metadata of a payload kept as zstd, with an MD5 that nothing has, and the payload."""
    metadata = bytes([1, 0]) + struct.pack("<QQ", 1, 0)
    return metadata + b"\x00" * 16 + struct.pack("<I", size), stored


def name_attacks():
    """Patterns that match badly, and long names."""
    plain, mixed = b"*" + b"a" * 1000 + b"*b*", b"*" + b"a?" * 500 + b"b*"
    wide = [word for n in range(1000) for word in ("MATCH", b"*%da*" % n)]
    own = ["ANY", 1, "acme"]

    def names_of_2_kb(connection):
        store(connection, (b"acme:%03d:" % n + b"a" * 2048 for n in range(256)), ["acme"])

    def name_of_200_kb(connection):
        store(connection, [b"acme:" + b"a" * 200_000], ["acme"])

    def fenced(connection):
        key = b"acme:" + b"a" * 30_000
        token = dict(pairs(connection.call("EXPCACHE.FETCH", key, "LEASE", "1h")))[b"lease"]
        purges = (lab.resp("EXPCACHE.PURGE", "ANY", 1, "acme", "MATCH", b"*%d?" % n + b"a" * 500) for n in range(1000))
        lab.load(connection, purges, b":0\r\n")
        return [("EXPCACHE.SET", key, "v", "TAGS", 1, "acme", "LEASE", token)]

    keys = lambda pattern: [("KEYS", pattern)]
    some = [word for n in range(8) for word in ("MATCH", b"*a?%d" % n + b"a?" * 60 + b"*")]
    yield Attack("256 names of 2 KB, a long literal", 1, [("EXPCACHE.PURGE", *own, "MATCH", plain)], keys(plain), names_of_2_kb)
    yield Attack("256 names of 2 KB, `a?a?…`", 1, [("EXPCACHE.PURGE", *own, "MATCH", mixed)], keys(mixed), names_of_2_kb)
    yield Attack("256 names of 2 KB, 1,000 patterns", 1, [("EXPCACHE.PURGE", *own, *wide)], keys(plain), names_of_2_kb)
    yield Attack("one name of 200 KB", 1, [("EXPCACHE.COUNT", *own, "MATCH", glob) for glob in (plain, mixed)], keys(plain), name_of_200_kb)
    yield Attack("SCAN of it", 1, [("EXPCACHE.SCAN", 0, *own, "MATCH", glob) for glob in (plain, mixed)], [("SCAN", 0, "MATCH", plain)], name_of_200_kb)
    yield Attack("SCAN of it with 8 patterns", 1, [("EXPCACHE.SCAN", 0, *own, *some)], [("SCAN", 0, "MATCH", plain)], name_of_200_kb)
    yield Attack("COUNT of it with 8 patterns in MULTI", 1, [("MULTI",), *[("EXPCACHE.COUNT", *own, *some)] * 50, ("EXEC",)], keys(plain) * 50, name_of_200_kb)
    yield Attack("1,000 fences with patterns", 1, None, None, fenced)


def whole_attacks():
    """Questions about everything, and commands of very many words."""
    entries, tags, few = 200_000, 50_000, 1000
    payload = rows(KIB)
    set_of = lambda of, size: [word for n in range(of) for word in (f"w:{n}", rows(size))]
    values = [word for n in range(5000) for word in (f"w:{n}", payload)]
    named = [f"tag:{n}" for n in range(few)]

    def stored(connection):
        store(connection, (b"key:%06d" % n for n in range(entries)), [f"all{n}" for n in range(8)])

    def tagged(connection):
        sets = (("EXPCACHE.SET", f"k{n}", "v", "TAGS", 50, *(f"tag:{n + m}" for m in range(50))) for n in range(0, tags, 50))
        lab.load(connection, (lab.resp(*words) for words in sets))

    def formats(connection):
        sets = (
            lab.resp("EXPCACHE.SET", f"type{of}:{n}", "v", "TYPE", f"type{of}", "FORMAT", f"f{of}:{n}") for of in range(few) for n in range(32)
        )
        lab.load(connection, sets)

    every = [word for n in range(64) for word in ("ALL", 1, f"all{n % 8}")]
    drop = lambda of: [("EXPCACHE.INVALIDATE.TAG", *(f"tag:{n}" for n in range(of)))]
    delete = lambda of: [("DEL", *(f"tag:{n}" for n in range(of)))]
    scan = [("SCAN", 0, "COUNT", 10_000)]
    yield Attack("SCAN COUNT 200000", 1, [("EXPCACHE.SCAN", 0, "COUNT", entries)], scan, stored)
    yield Attack("SCAN COUNT 200000 of 64 clauses", 1, [("EXPCACHE.SCAN", 0, "COUNT", entries, *every)], scan, stored)
    for clause in ("ANY", "ALL", "NONE"):
        yield Attack(f"SCAN COUNT 200000 {clause} of 1,000 tags", 1, [("EXPCACHE.SCAN", 0, clause, few, *named, "COUNT", entries)], scan, tagged)
    yield Attack("PURGE … KEYS 10000", 1, [("EXPCACHE.PURGE", "ANY", 1, "all0", "DRYRUN", "KEYS", 10_000)], scan, stored)
    yield Attack("TAGS COUNT 200000", 1, [("EXPCACHE.TAGS", 0, "COUNT", entries)], scan, tagged)
    yield Attack("INVALIDATE.TAG of 4,096 tags", 1, drop(4096), delete(4096), tagged)
    yield Attack("INVALIDATE.TAG of 300,000 tags (refused)", 1, drop(300_000), delete(300_000), tagged)
    for what in ("STATS", "STATS WINDOW 1h", "STATS TYPE type7", "HEALTH"):
        yield Attack(f"{what} of 1,000 types × 32 formats", 1, [("EXPCACHE." + what.split()[0], *what.split()[1:])], [("INFO", "all")], formats)
    yield Attack("INFO of 1,000 types", 1, [("INFO", "expcache")], [("INFO", "all")], formats)
    yield Attack("MSET of 5,000 x 1 KB", 1, [("EXPCACHE.MSET", 5000, *values)], [("MSET", *values)])
    many_of_8, small = set_of(few, 8000), calls(("EXPCACHE.TYPE", "SET", "default", "THRESHOLD", "1kb", "CODEC", "zstd"))
    yield Attack("MSET of 1,000 x 8 KB, compressed", 1, [("EXPCACHE.MSET", few, *many_of_8)], [("MSET", *many_of_8)], small)


def warming_attacks():
    """Keys that are kept in mind to be warmed: many at once, and workers that may have none of them."""
    kept, workers = 10_000, 1000
    someone = ("AUTH", "someone", "secret")
    sets = [("EXPCACHE.SET", f"w:{n}", "v", "TYPE", "warm", "TAGS", 1, "all") for n in range(kept)]
    news = [("EXPCACHE.SET", "w:1", "v", "TYPE", "warm", "TAGS", 1, "one"), ("EXPCACHE.INVALIDATE.TAG", "one")]
    plain = [("SET", f"n:{n}", "v") for n in range(kept)]

    def known(connection):
        connection.call("EXPCACHE.TYPE", "SET", "warm", "TTL", "1h", "WARM", kept)
        connection.call("ACL", "SETUSER", "someone", "on", ">secret", "~own:*", "+@all")
        lab.load(connection, (lab.resp(*words) for words in sets))
        lab.load(connection, (lab.resp("EXPCACHE.GET", f"w:{n}") for n in range(kept) for _ in range(3)), b"$1\r\nv\r\n")

    def due(connection):
        known(connection)
        connection.call("EXPCACHE.INVALIDATE.TAG", "all")

    def waiting(*words):
        def prepare(connection):
            due(connection)
            address = connection.call("CONFIG", "GET", "unixsocket")[1].decode()
            connection.others = [lab.Connection(address) for _ in range(workers)]
            for one in connection.others:
                one.call(*someone)
                one.send(lab.resp("EXPCACHE.WARM", "WAIT", "1h", *words))

        return prepare

    def long_name(connection):
        known(connection)
        connection.call("EXPCACHE.SET", b"x" * MIB, "v", "TYPE", "warm")
        connection.call("SET", b"y" * MIB, "v")

    def many_types(connection):
        connection.call("CONFIG", "SET", "expcache.max-types", 16_384)
        connection.call("CONFIG", "SET", "expcache.warm-memory", "1mb")
        connection.call("EXPCACHE.TYPE", "SET", "default", "WARM", 100)
        lab.load(connection, (lab.resp("EXPCACHE.SET", f"t:{n}", "v", "TYPE", f"type{n}") for n in range(16_000)))

    of_types = [("EXPCACHE.SET", f"t:{n}", "v", "TYPE", f"type{n}") for n in range(0, 16_000, 16)]
    types = ["TYPES", 1024, *(f"nothing{n}" for n in range(1024))]
    scan = [("SCAN", 0, "COUNT", 1000)]
    yield Attack("WARM of what is another's", 1, [someone, ("EXPCACHE.WARM", "COUNT", 1000)], scan, due)
    yield Attack("WARM COUNT 1000 DRYRUN", 1, [("EXPCACHE.WARM", "COUNT", 1000, "DRYRUN")], scan, due)
    yield Attack("WARM of 1,024 types", 1, many("EXPCACHE.WARM", *types), many("EXISTS", *types), due)
    yield Attack("10,000 keys stored and invalidated at once", 1, [*sets, ("EXPCACHE.INVALIDATE.TAG", "all")], [*plain, ("UNLINK", *(f"n:{n}" for n in range(kept)))], known)
    yield Attack("1,000 workers that may have nothing, and news", 1, news, many("SET", "n", "v"), waiting())
    yield Attack("1,000 workers of 1,024 types, and news", 1, news, many("SET", "n", "v"), waiting(*types))
    yield Attack("GET of a name of 1 MiB", 1, [("EXPCACHE.GET", b"x" * MIB)] * 4, [("GET", b"y" * MIB)] * 4, long_name)
    yield Attack("SET of 16,000 types in a memory that is full", 1, of_types, [("SET", f"n:{n}", "v") for n in range(1000)], many_types)


def pairs(flat):
    return zip(flat[::2], flat[1::2])


def store(connection, keys, tags):
    lab.load(connection, (lab.resp("EXPCACHE.SET", key, "v", "TAGS", len(tags), *tags) for key in keys))


SECTIONS = {"payload": payload_attacks, "transaction": transaction_attacks, "names": name_attacks, "whole": whole_attacks, "warming": warming_attacks}


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


def under(server, processes, commands, seconds):
    """What the other client waits while they are sent; and how many were sent, and refused."""
    stop, counts = multiprocessing.Event(), multiprocessing.Queue()
    each = [multiprocessing.Process(target=harm, args=(server.socket, commands, stop, counts)) for _ in range(processes)]
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


class Series:
    """The worst waits of several rounds."""

    def __init__(self):
        self.rounds = []

    def worst(self, name=None):
        """Medians of the worst, by the clock and at work: of one command, or whichever was worse."""
        of = lambda figures: figures[name] if name else max(figures.values())
        return statistics.median(of(one.clock) for one in self.rounds), statistics.median(of(one.work) for one in self.rounds)

    def cell(self, name):
        return "{:.1f} ({:.1f})".format(*self.worst(name))


def measure(report, options, attack):
    with lab.Server(options.server, options.module) as server, server.connect() as connection:
        connection.call("SET", SMALL, lab.VALUE)
        connection.call("EXPCACHE.SET", FETCHED, rows(64 * KIB), "FORMAT", "csv")
        commands = attack.prepare(connection) or attack.commands
        time.sleep(1)
        (idle, native, attacked), sent, errors = (Series(), Series(), Series()), 0, 0
        for _ in range(options.rounds):
            idle.rounds.append(Waits(server).measure(options.seconds / 2))
            native.rounds.append(under(server, attack.processes, attack.native, options.seconds)[0])
            worst, more, refused = under(server, attack.processes, commands, options.seconds)
            attacked.rounds.append(worst)
            sent, errors = sent + more, errors + refused
    (waited, worked), (natives_wait, natives_work) = attacked.worst(), native.worst()
    is_within = waited <= BOUND_MS or worked <= max(BOUND_MS, natives_work)
    held = None if is_within and waited > max(BOUND_MS, 2 * natives_wait) else is_within
    cells = [series.cell(name) for name in COMMANDS for series in (idle, native, attacked)]
    return [attack.name, *cells, f"{sent:,}", f"{errors:,}", report.verdict(f"{attack.name}: {waited:.1f} ms, {worked:.1f} ms at work", held)]


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    server = os.environ.get("EXPCACHE_SERVER", "redis-server")
    parser.add_argument("--server", default=server, help="the server program (default: $EXPCACHE_SERVER, redis-server)")
    parser.add_argument("--module", default=MODULE, help="the module (default: target/release/libexpcache.so)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each attack goes on in each round")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many rounds each attack has")
    parser.add_argument("section", nargs="*", help=f"which: {', '.join(SECTIONS)} (default: all)")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.section if name not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}")
    if not shutil.which(chosen.server):
        parser.error(f"no such server program: {chosen.server}")
    return chosen


def main():
    chosen, report = options(), lab.Report()
    chosen.module = os.path.abspath(chosen.module)
    head = ["attack", *(f"{name}, {when}" for name in COMMANDS for when in ("idle", "native", "attacked"))]
    head += ["sent", "refused", f"at most {BOUND_MS:g} ms, or as native"]
    report.text(
        "The other client's longest wait, ms, and in brackets how long the server's main thread was at work meanwhile: on an idle server, beside"
        f" native commands of the kind, and attacked; medians of {chosen.rounds} rounds' worst. {lab.machine()}."
        f" Bound: {BOUND_MS:g} ms by the clock, or at work that or what the native commands take; undecided where only the clock says otherwise."
    )
    for name, section in SECTIONS.items():
        if not chosen.section or name in chosen.section:
            report.table(head, [measure(report, chosen, attack) for attack in section()])
    report.summary()


if __name__ == "__main__":
    main()
