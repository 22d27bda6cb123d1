"""Leases: many clients ask for one missing key; what a hit with `FETCH` costs; what others notice of those who wait.

The crowd asks at once and with one command each, `FETCH … LEASE … WAIT …`. Whoever gets the lease is given the time that a
production takes, stores the value, and from that moment on it counts how long it is until the others have theirs in hand:
with the server's work, the network's, and that of the one Python process that plays the whole crowd.
"""

import gc
import resource
import selectors
import socket
import time

import bystander
import cpu
import lab
import pipeline

CROWDS = [(200, 50), (10_000, 500)]  # (clients, within how many ms all have the value)
QUICK_CROWDS = [(20, 50), (200, 500)]
PRODUCTION_S = 0.2
CROWD_ROUNDS = 5
ASK = ("LEASE", "30s", "WAIT", "60s")

FETCH_BOUND = 1.5  # the main thread's CPU for a hit with FETCH, against GET
NARROW = ("FIELDS", "2", "status", "value")
NARROW_BOUND = 1.25  # of these fields only, for the smallest payload in pipelines
PAYLOADS = [(0, 100), (1, 1024)]  # (database, bytes)
KEYS, QUICK_KEYS = 100_000, 1_000
OPERATIONS, QUICK_OPERATIONS = 1_000_000, 20_000
LONE_OPERATIONS, QUICK_LONE_OPERATIONS = 200_000, 5_000
FETCH_ROUNDS = 5

WAITERS, QUICK_WAITERS = 10_000, 200
WINDOWS = 5
WINDOW_S, QUICK_WINDOW_S = 3.0, 0.5
NOISE_BOUND = 0.15  # when the idle windows differ by more, nothing can be said

SPARE_FILES = 200
CONNECT_AT_ONCE = 256  # less than the server's backlog
END_OF_REPLY = b"$5\r\nretry\r\n$-1\r\n"
MISS, HIT = b"$4\r\nmiss\r\n", b"$3\r\nhit\r\n"
TOKEN = b"$5\r\nlease\r\n$32\r\n"


def run(bench):
    one_key(bench)
    fetch_against_get(bench)
    others(bench)


# ---- A crowd ---------------------------------------------------------------------------------------------------------


class Crowd:
    """Many connections, played by one thread."""

    def __init__(self, server, count):
        self._selector = selectors.DefaultSelector()
        self._sockets = []
        self._connection = server.connect()
        self._connection.call("CONFIG", "SET", "maxclients", count + SPARE_FILES)
        for number in range(1, count + 1):
            one = socket.create_connection(("127.0.0.1", server.port))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setblocking(False)
            self._sockets.append(one)
            self._selector.register(one, selectors.EVENT_READ, bytearray())
            if number % CONNECT_AT_ONCE == 0:
                self._connection.call("PING")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._selector.close()
        for one in self._sockets:
            one.close()

    def ask(self, key):
        """Everybody sends the same command, once."""
        request = lab.resp("EXPCACHE.FETCH", key, *ASK)
        for one in self._sockets:
            if one.send(request) != len(request):
                raise SystemExit("a request of a few bytes was not sent in one go")

    def replies(self, until_s):
        """Those that are complete, each with the moment in which it was read; ends when it is `until_s`."""
        while (left := until_s - time.perf_counter()) > 0:
            for key, _ in self._selector.select(left):
                key.data.extend(key.fileobj.recv(1 << 16))
                if key.data.endswith(END_OF_REPLY):
                    reply, moment = bytes(key.data), time.perf_counter()
                    key.data.clear()
                    yield reply, moment

    def first(self):
        """The reply of who got the lease: its token."""
        for reply, _ in self.replies(time.perf_counter() + lab.TIMEOUT_S):
            if MISS in reply and TOKEN in reply:
                return reply.partition(TOKEN)[2][:32]
            raise SystemExit(f"nobody has stored anything, and yet there is the reply {reply!r}")
        raise SystemExit("nobody got the lease")

    def all_wait(self):
        lab.wait_for(lambda: int(self._connection.info("clients")["blocked_clients"]), len(self._sockets) - 1)

    def store(self, key, token):
        """Stores the value, and waits until everybody has it. Ms after the store, of the one in the middle and of the last."""
        start = time.perf_counter()
        self._connection.call("EXPCACHE.SET", key, lab.VALUE, "LEASE", token)
        latencies = []
        for reply, moment in self.replies(start + lab.TIMEOUT_S):
            if HIT not in reply or lab.VALUE not in reply:
                raise SystemExit(f"not the value: {reply!r}")
            latencies.append(1000 * (moment - start))
            if len(latencies) == len(self._sockets) - 1:
                return lab.median(latencies), latencies[-1]
        raise SystemExit(f"{len(self._sockets) - 1 - len(latencies)} were never answered")

    def counts(self):
        """Leases granted, and commands of the crowd, so far."""
        stats = self._connection.call("EXPCACHE.STATS")
        calls = self._connection.info("commandstats").get("cmdstat_expcache.fetch", "calls=0")
        return dict(zip(stats[::2], stats[1::2]))[b"leases"], int(calls.split(",")[0].removeprefix("calls="))


def may_open(report, count):
    """Lets this process have so many connections; says so if it may not. The server inherits the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 2 * SPARE_FILES
    if most != resource.RLIM_INFINITY and most < wanted:
        report.text(f"{count:,} clients are left out: that takes {wanted:,} open files, and `ulimit -Hn` is {most:,}.")
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if most != resource.RLIM_INFINITY else wanted, most))
    return True


# ---- One missing key -------------------------------------------------------------------------------------------------


def one_key(bench):
    rounds = bench.rounds(CROWD_ROUNDS)
    bench.report.text(
        "## One missing key, many clients",
        "",
        f"All ask with `FETCH key {' '.join(ASK)}`; producing takes {1000 * PRODUCTION_S:.0f} ms. When the others have"
        f" the value, ms after the store: medians of {rounds} rounds (in brackets the worst).",
    )
    head = ["clients", "productions", "commands a client", "in the middle", "last", "bound"]
    crowds = QUICK_CROWDS if bench.quick else CROWDS
    rows = [crowd_row(bench, count, most_ms, rounds) for count, most_ms in crowds if may_open(bench.report, count)]
    bench.report.table(head, rows)


def crowd_row(bench, count, most_ms, rounds):
    with bench.server() as server, Crowd(server, count) as crowd:
        produced = [produce(crowd, f"key:{number}") for number in range(rounds + 1)][1:]  # the first is the warm-up
    leases, calls, middle, last = zip(*produced)
    productions, commands = max(leases), max(calls) / count
    title = f"{count:,} clients, one missing key"
    once = bench.report.verdict(f"{title}: {productions} productions", productions == 1)
    single = bench.report.verdict(f"{title}: {commands:g} commands a client", commands == 1)
    worst = lab.median(last)
    quick = bench.report.verdict(f"{title}: all answered {worst:.0f} ms after the store", worst <= most_ms)
    cells = [f"{count:,}", f"{productions} {once}", f"{commands:g} {single}", f"{lab.median(middle):.1f}"]
    return cells + [f"{worst:.1f} ({max(last):.1f})", f"≤ {most_ms} ms {quick}"]


def produce(crowd, key):
    """One round: leases granted, commands sent, ms until the one in the middle and the last had the value."""
    leases, calls = crowd.counts()
    gc.collect()
    gc.disable()
    try:
        crowd.ask(key)
        token = crowd.first()
        time.sleep(PRODUCTION_S)
        middle, last = crowd.store(key, token)
    finally:
        gc.enable()
    leases_after, calls_after = crowd.counts()
    return leases_after - leases, calls_after - calls, middle, last


# ---- A hit -----------------------------------------------------------------------------------------------------------


def fetch_against_get(bench):
    program = cpu.benchmark_program(bench.binary)
    if not program:
        bench.report.text("No redis-benchmark (or valkey-benchmark) here: `FETCH` against `GET` is left out.")
        return
    rounds = bench.rounds(FETCH_ROUNDS)
    keys = QUICK_KEYS if bench.quick else KEYS
    bench.report.text(
        "## A hit with FETCH",
        "",
        f"µs of the server's main thread a hit, {keys:,} keys, `redis-benchmark` with {pipeline.CONNECTIONS} connections;"
        f" the two commands take turns, medians of {rounds} rounds; ratios round by round (least–most).",
    )
    with bench.server() as server:
        for db, size in PAYLOADS:
            with server.connect(db) as connection:
                template = lab.resp_template("EXPCACHE.SET", lab.KEY, b"x" * size, "EX", lab.TTL_S)
                lab.load(connection, (template % number for number in range(keys)))
        benchmark = cpu.Benchmark(server, program, keys)
        rows = [
            fetch_row(bench, benchmark, db, size, depth, rounds) for db, size in PAYLOADS for depth in (pipeline.DEPTH, 1)
        ]
        with server.connect() as connection:
            stats = connection.call("EXPCACHE.STATS")
    if dict(zip(stats[::2], stats[1::2]))[b"misses"]:
        raise SystemExit("there were misses: this is no fair comparison")
    narrow = "FETCH … " + " ".join(NARROW)
    bench.report.table(["payload", "pipelines of", "EXPCACHE.GET", "EXPCACHE.FETCH", "ratio", "bound", narrow, "ratio", "bound"], rows)


def fetch_row(bench, benchmark, db, size, depth, rounds):
    lone = QUICK_LONE_OPERATIONS if bench.quick else LONE_OPERATIONS
    operations = (QUICK_OPERATIONS if bench.quick else OPERATIONS) if depth > 1 else lone
    key = f"key:{cpu.RANDOM}"
    get = cpu.Series("EXPCACHE.GET")
    fetch = cpu.Series(f"FETCH of {size} bytes, pipelines of {depth}", get, FETCH_BOUND)
    is_bound = depth > 1 and size == PAYLOADS[0][1]
    narrow = cpu.Series(f"FETCH … {' '.join(NARROW)} of {size} bytes, pipelines of {depth}", get, NARROW_BOUND if is_bound else None)
    for _ in range(rounds):
        get.rounds.append(benchmark.run(db, operations, depth, "EXPCACHE.GET", key))
        fetch.rounds.append(benchmark.run(db, operations, depth, "EXPCACHE.FETCH", key))
        narrow.rounds.append(benchmark.run(db, operations, depth, "EXPCACHE.FETCH", key, *NARROW))
    cells = [f"{size:,} B", depth, f"{get.median('main'):.2f}"]
    for one in (fetch, narrow):
        cells += [f"{one.median('main'):.2f}", one.ratio_cell(get), one.verdict(bench.report, "redis-benchmark")]
    return cells


# ---- Others ----------------------------------------------------------------------------------------------------------


def others(bench):
    count = QUICK_WAITERS if bench.quick else WAITERS
    rounds = bench.rounds(WINDOWS)
    if not may_open(bench.report, count):
        return
    bench.report.text(
        "## What others notice of those who wait",
        "",
        f"Another client sends a native `GET` every millisecond, by turns while {count:,} clients wait and while the same"
        f" {count:,} connections do nothing; {rounds} times, latencies in ms.",
    )
    window_s = QUICK_WINDOW_S if bench.quick else WINDOW_S
    with bench.server() as server, Crowd(server, count) as crowd, bystander.Probe(server) as probe:
        with server.connect() as connection:
            connection.call("SET", bystander.KEY, lab.VALUE)
        observe(probe, window_s)
        idle, waiting = [observe(probe, window_s)], []
        for number in range(rounds):
            key = f"key:{number}"
            crowd.ask(key)
            token = crowd.first()
            crowd.all_wait()
            waiting.append(observe(probe, window_s))
            crowd.store(key, token)
            idle.append(observe(probe, window_s))
    rows = []
    for name, windows in (("nobody waits", idle), (f"{count:,} wait", waiting)):
        rows.append([name] + [f"{lab.median([one[what] for one in windows]):.3f}" for what in ("p50", "p99", "worst")])
    bench.report.table(["", "p50", "p99", "worst"], rows)
    bench.report.text(*(verdict_on_others(bench.report, count, what, idle, waiting) for what in ("p50", "p99")))


def observe(probe, window_s):
    time.sleep(lab.SETTLE_S)
    probe.start()
    time.sleep(window_s)
    return probe.end()


def verdict_on_others(report, count, what, idle, waiting):
    """Not measurably slower: a window in which they wait differs from its neighbours no more than these do."""
    trios = [(a[what], mine[what], b[what]) for a, mine, b in zip(idle, waiting, idle[1:])]
    noise = max(abs(a / b - 1) for a, _, b in trios)
    by = lab.median(2 * mine / (a + b) - 1 for a, mine, b in trios)
    held = None if by > NOISE_BOUND and noise > NOISE_BOUND else by <= noise
    held = report.verdict(f"others' GET while {count:,} wait: {what} {by:+.1%}", held)
    return f"- {what}: {by:+.1%} while they wait; idle windows differ by up to {noise:.1%}. Not measurably worse: {held}."
