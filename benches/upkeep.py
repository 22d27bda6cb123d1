"""Upkeep: what the server does to keys by itself costs more where they are entries, whose index follows. Stores at `maxmemory`, each of
which evicts; many keys that expire together; data that is loaded and saved. Beside native keys with a TTL, in servers of their own that take
turns; the measure is the main thread's CPU.
"""

import os
import time

import bystander
import cpu
import lab

STORES, EXPIRING, LOADED = 300_000, 400_000, 1_000_000
QUICK = 20_000
ROUNDS = 3
ROOM = 100_000  # keys that `maxmemory` has room for, about

EVICT_BOUND = 1.5
EXPIRE_BOUND, EXPIRE_P99_BOUND = 1.6, 1.2
RDB_BOUND, AOF_BOUND, AOF_SIZE_BOUND = 1.5, 1.4, 1.7

MIB = 1 << 20


class Way:
    def __init__(self, name, template, tags=()):
        self.name, self.template, self.tags = name, template, tags

    def commands(self, count, start=0):
        draw = lab.tag_draw(self.tags)
        return (self.template % (number, *draw()) for number in range(start, start + count))


def ways(expiry):
    value, tags = lab.VALUE, [lab.tag_slot(tag) for tag in lab.TAGS]
    return [
        Way("SET", lab.resp_template("SET", lab.KEY, value, *expiry)),
        Way("EXPCACHE.SET", lab.resp_template("EXPCACHE.SET", lab.KEY, value, *expiry)),
        Way("EXPCACHE.SET, 4 tags", lab.resp_template("EXPCACHE.SET", lab.KEY, value, *expiry, "TAGS", 4, *tags), lab.TAGS),
    ]


def run(bench):
    bench.report.text("## Upkeep")
    evicting(bench)
    expiring(bench)
    loading(bench)


# ---- Stores at maxmemory ---------------------------------------------------------------------------------------------


def evicting(bench):
    stores, contenders = QUICK if bench.quick else STORES, ways(["EX", 3600])
    results = {way.name: [] for way in contenders}
    for _ in range(bench.rounds(ROUNDS)):
        for way in contenders:
            results[way.name].append(stores_at_maxmemory(bench, way, stores))
    native = results["SET"]
    rows = []
    for name, rounds in results.items():
        ratio = lab.median([mine["main"] / its["main"] for mine, its in zip(rounds, native)])
        bound = "" if name == "SET" else bench.report.verdict(f"{name} at maxmemory: {ratio:.2f} × native", ratio <= EVICT_BOUND)
        rows.append([f"`{name}`", f"{lab.median([one['main'] for one in rounds]):.2f}", f"{lab.median([one['evicted'] for one in rounds]):.2f}", f"{ratio:.2f} ×", bound])
    bench.report.text(
        f"{stores:,} new keys into a server whose `maxmemory` has room for some {ROOM:,} (`allkeys-lru`): µs of the main thread a store, and"
        f" evictions a store; medians of {bench.rounds(ROUNDS)} rounds."
    )
    bench.report.table(["command", "main thread", "evicted", "to native", f"≤ {EVICT_BOUND}"], rows)


def stores_at_maxmemory(bench, way, stores):
    with bench.server() as server, server.connect() as connection:
        connection.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        lab.load(connection, way.commands(ROOM))
        connection.call("CONFIG", "SET", "maxmemory", connection.info("memory")["used_memory"])
        lab.load(connection, way.commands(ROOM // 10, ROOM))
        evicted = int(connection.info("stats")["evicted_keys"])
        commands = list(way.commands(stores, 2 * ROOM))
        one = cpu.Meter(server).around(stores, False, lambda: lab.load(connection, commands))
        return {"main": one["main"], "evicted": (int(connection.info("stats")["evicted_keys"]) - evicted) / stores}


# ---- Keys that expire together ---------------------------------------------------------------------------------------


def expiring(bench):
    keys = QUICK if bench.quick else EXPIRING
    contenders = ways(["PXAT", 0])
    results = {way.name: [] for way in contenders}
    for _ in range(bench.rounds(ROUNDS)):
        for at, way in enumerate(contenders):
            results[way.name].append(expire_together(bench, at, keys))
    native, rows = results["SET"], []
    for name, rounds in results.items():
        ratio, p99 = (lab.median([mine[what] / its[what] for mine, its in zip(rounds, native)]) for what in ("main", "p99"))
        bounds = ["", ""]
        if name != "SET":
            bounds = [bench.report.verdict(f"{name} expiring: {ratio:.2f} × native", ratio <= EXPIRE_BOUND)]
            bounds.append(bench.report.verdict(f"{name} expiring: others' p99 {p99:.2f} × native", p99 <= EXPIRE_P99_BOUND))
        cells = [f"`{name}`"] + [f"{lab.median([one[what] for one in rounds]):.2f}" for what in ("main", "p99", "seconds")]
        rows.append(cells + [f"{ratio:.2f} ×", bounds[0], f"{p99:.2f} ×", bounds[1]])
    bench.report.text(
        f"{keys:,} keys that expire at the same moment: µs of the main thread a key until all are gone, p99 of another client that sends a"
        f" `GET` every millisecond (ms), and how long it took; medians of {bench.rounds(ROUNDS)} rounds."
    )
    head = ["command", "main thread", "p99", "s", "to native", f"≤ {EXPIRE_BOUND}", "p99 to native", f"≤ {EXPIRE_P99_BOUND}"]
    bench.report.table(head, rows)


def expire_together(bench, at, keys):
    with bench.server() as server, server.connect() as connection, bystander.Probe(server) as probe:
        connection.call("SET", bystander.KEY, lab.VALUE)
        moment_ms = int(time.time() * 1000) + (3_000 if bench.quick else 8_000)
        lab.load(connection, ways(["PXAT", moment_ms])[at].commands(keys))
        loaded = int(connection.call("DBSIZE"))
        if loaded != keys + 1:
            raise SystemExit("the keys expire before they are there")
        meter = cpu.Meter(server)
        time.sleep(max(0, moment_ms / 1000 - time.time() - 0.01))
        probe.start()
        one = meter.around(keys, False, lambda: lab.wait_for(lambda: connection.call("DBSIZE"), 1, every_s=0.02))
        window = probe.end()
    return {"main": one["main"], "p99": window["p99"], "seconds": one["result"]}


# ---- Saved and loaded ------------------------------------------------------------------------------------------------


def loading(bench):
    keys = QUICK if bench.quick else LOADED
    contenders = ways(["EX", 86_400])
    rows = []
    results = {way.name: [save_and_load(bench, way, keys) for _ in range(bench.rounds(1))] for way in contenders}
    native = results["SET"][0]
    for name, (one,) in results.items():
        cells = [f"`{name}`"]
        for what, bound in [("rdb save", None), ("rdb load", RDB_BOUND), ("rdb bytes", None), ("aof load", AOF_BOUND), ("aof bytes", AOF_SIZE_BOUND)]:
            ratio = one[what] / native[what]
            cell = f"{one[what] / MIB:.0f}" if "bytes" in what else f"{one[what]:.2f}"
            if name != "SET":
                cell += f" ({ratio:.2f} ×)"
                if bound:
                    cell += " " + bench.report.verdict(f"{name}, {what}: {ratio:.2f} × native", ratio <= bound)
            cells.append(cell)
        rows.append(cells)
    bench.report.text(
        f"{keys:,} keys, saved (`SAVE`) and loaded (`DEBUG RELOAD NOSAVE`, `DEBUG LOADAOF`; the append-only file as it was written, without a"
        " preamble): seconds and MiB, in brackets to native."
    )
    head = ["command", "RDB saved", f"loaded (≤ {RDB_BOUND})", "MiB", f"AOF loaded (≤ {AOF_BOUND})", f"MiB (≤ {AOF_SIZE_BOUND})"]
    bench.report.table(head, rows)


def save_and_load(bench, way, keys):
    one = {}
    with bench.server("enable-debug-command yes", "aof-use-rdb-preamble no") as server, server.connect() as connection:
        connection.call("CONFIG", "SET", "appendonly", "yes")
        lab.wait_for(lambda: connection.info("persistence")["aof_rewrite_in_progress"], "0")
        lab.load(connection, way.commands(keys))
        folder = connection.call("CONFIG", "GET", "dir")[1].decode()
        one["aof bytes"] = size_of(os.path.join(folder, "appendonlydir"))
        one["aof load"] = timed(connection, "DEBUG", "LOADAOF")
        connection.call("CONFIG", "SET", "appendonly", "no")
        one["rdb save"] = timed(connection, "SAVE")
        one["rdb bytes"] = os.path.getsize(os.path.join(folder, "dump.rdb"))
        one["rdb load"] = timed(connection, "DEBUG", "RELOAD", "NOSAVE")
        if int(connection.call("DBSIZE")) != keys:
            raise SystemExit("something was lost")
    return one


def timed(connection, *command):
    start = time.perf_counter()
    connection.call(*command)
    return time.perf_counter() - start


def size_of(folder):
    return sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
