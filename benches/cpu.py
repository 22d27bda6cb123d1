"""CPU: what an operation costs the server's main thread, beside the native command it stands for.

Three comparisons. With our own pipelining client, whose tags are spread as tags are; the same with values of 1 and 4 KiB of rows, also of
a type that compresses them. With redis-benchmark, as anybody
would try it. And without pipelining, where a command's own cost drowns in the network's and must not stick out.

The contenders take turns, each in its own database of one server, on the same keys; a ratio is that of two runs of the
same round. The main thread's CPU is the measure, because it is the one thing of which a server has no more than one.
"""

import csv
import functools
import os
import shutil
import subprocess

import lab
import pipeline

OPERATIONS, KEYS = 1_000_000, 100_000
QUICK_OPERATIONS, QUICK_KEYS = 100_000, 10_000
LONE_OPERATIONS, QUICK_LONE_OPERATIONS = 200_000, 20_000  # without pipelining
ROUNDS = 5
BENCHMARK_ROUNDS = 3
DISTINCT = 2  # commands prepared for each key, taking turns until there are enough operations

LARGER = [1 << 10, 4 << 10]  # bytes of values beside the usual
GET_BOUND = 1.15
SET_BOUND = 1.7
SET_AIM = 1.5
NOISE_BOUND = 0.15  # when native differs from itself by more, nothing can be said without pipelining

RANDOM = "__rand_int__"  # what redis-benchmark replaces by twelve digits
VALUE_REPLY = b"$%d\r\n%b\r\n" % (lab.VALUE_BYTES, lab.VALUE)


def run(bench):
    keys = QUICK_KEYS if bench.quick else KEYS
    operations = QUICK_OPERATIONS if bench.quick else OPERATIONS
    lone = QUICK_LONE_OPERATIONS if bench.quick else LONE_OPERATIONS
    with bench.server() as server:
        own_client(bench, server, keys, operations)
    for size in LARGER:
        with bench.server() as server:
            larger_values(bench, server, size, keys // 10, operations // 10)
    program = benchmark_program(bench.binary)
    if not program:
        bench.report.text("No redis-benchmark (or valkey-benchmark) here: the other comparisons are left out.")
        return
    with bench.server() as server:
        benchmark = Benchmark(server, program, keys)
        fill(server, benchmark)
        with_benchmark(bench, benchmark, operations)
        without_pipelining(bench, benchmark, lone)


# ---- Measuring -------------------------------------------------------------------------------------------------------


class Meter:
    """Server CPU between two moments."""

    def __init__(self, server):
        self._connection = server.connect()

    def around(self, operations, reads, action):
        """Runs `action`; µs of CPU an operation, of the main thread and of all. No error counts, and no miss."""
        before, main_before = self._connection.info("all"), self._main_thread()
        result = action()
        after, main_after = self._connection.info("all"), self._main_thread()
        for field in ["total_error_replies"] + ["keyspace_misses"] * reads:
            if before[field] != after[field]:
                raise SystemExit(f"{field} rose from {before[field]} to {after[field]}: this is no fair comparison")
        process = sum(float(after[field]) - float(before[field]) for field in ("used_cpu_user", "used_cpu_sys"))
        each = 1e6 / operations
        return {"main": (main_after - main_before) * each, "all": process * each, "result": result}

    def _main_thread(self):
        """Seconds of CPU that the main thread has used."""
        info = self._connection.info("cpu")
        fields = ("used_cpu_user_main_thread", "used_cpu_sys_main_thread")
        if all(field in info for field in fields):
            return sum(float(info[field]) for field in fields)
        pid = self._connection.info("server")["process_id"]
        with open(f"/proc/{pid}/task/{pid}/stat", encoding="utf-8") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Series:
    """The rounds of one contender."""

    def __init__(self, name, base=None, bound=None):
        self.name, self.base, self.bound = name, base, bound
        self.rounds = []

    def median(self, what):
        return lab.median(one[what] for one in self.rounds)

    def ratios(self, base):
        """Round by round, so that what slows a whole round is no difference."""
        return sorted(mine["main"] / its["main"] for mine, its in zip(self.rounds, base.rounds))

    def ratio_cell(self, base):
        if base is None:
            return ""
        ratios = self.ratios(base)
        return f"{lab.median(ratios):.2f} × ({ratios[0]:.2f}–{ratios[-1]:.2f})"

    def verdict(self, report, tool):
        if self.bound is None:
            return ""
        ratio = lab.median(self.ratios(self.base))
        held = report.verdict(f"{self.name}, {tool}: {ratio:.2f} × {self.base.name}", ratio <= self.bound)
        return f"≤ {self.bound} {held}"


# ---- With our own client ---------------------------------------------------------------------------------------------


def own_client(bench, server, keys, operations):
    rounds = bench.rounds(ROUNDS)
    bench.report.text(
        "## CPU an operation",
        "",
        f"{operations:,} operations on {keys:,} keys, {pipeline.CONNECTIONS} connections, pipelines of"
        f" {pipeline.DEPTH}; µs of the server's main thread, medians of {rounds} rounds; ratios round by round"
        " (least–most). An entry always has a TTL, so the last column compares with native keys that have one too."
        " Tags: " + ", ".join(f"{name} of {size:,}" for name, size in lab.TAGS) + ".",
    )
    contenders = own_contenders()
    measure(server, contenders, keys, operations, rounds)
    bench.report.table(OWN_HEAD, [own_row(bench.report, contender) for contender in contenders])
    bench.report.text(f"The aim for `EXPCACHE.SET` with 4 tags is {SET_AIM} ×.")


def measure(server, contenders, keys, operations, rounds):
    """Has the contenders take turns."""
    meter = Meter(server)
    prepared = [prepare(server, contender, keys) for contender in contenders]
    for contender, (batches, expected) in zip(contenders, prepared):
        pipeline.drive(server, contender.db, batches, expected, 1)  # fills the keys, and is the warm-up
    times = max(1, operations // (keys * DISTINCT))
    for _ in range(rounds):
        for contender, (batches, expected) in zip(contenders, prepared):
            count = len(batches) * pipeline.DEPTH * times
            work = functools.partial(pipeline.drive, server, contender.db, batches, expected, times)
            one = meter.around(count, contender.reads, work)
            one["busy"] = min(100, one["main"] * count / one["result"] / 1e4)
            contender.rounds.append(one)


def larger_values(bench, server, size, keys, operations):
    """Values as exports are, which are compressed only where their type asks for it."""
    rounds = bench.rounds(BENCHMARK_ROUNDS)
    value = b"".join(b"%d,vehicle-%d,%d.%06d,2026-05-01,true\n" % (n, n % 97, n % 90, n * 7919 % 999983) for n in range(size))[:size]
    with server.connect() as connection:
        connection.call("EXPCACHE.TYPE", "SET", "compressed", "THRESHOLD", "1kb")

    def setting(command, *options):
        return lambda _: lab.resp_template(command, lab.KEY, value, *options)

    def getting(command):
        return lambda _: lab.resp_template(command, lab.KEY)

    tagged = lambda connection: lab.Expcache().set_template(connection, lab.TAGS, value=value)
    is_bound = size == LARGER[0]
    write, read = Contender("SET", 0, setting("SET")), Contender("GET", 0, getting("GET"))
    write_ttl = Contender("SET … EX", 1, setting("SET", "EX", lab.TTL_S), write)
    read_ttl = Contender("GET, keys with a TTL", 1, getting("GET"), read)
    contenders = [
        write,
        write_ttl,
        Contender("EXPCACHE.SET", 2, setting("EXPCACHE.SET"), write, write_ttl),
        Contender("EXPCACHE.SET, 4 tags", 3, tagged, write, write_ttl, SET_BOUND if is_bound else None, lab.TAGS),
        Contender("EXPCACHE.SET, compressed", 4, setting("EXPCACHE.SET", "TYPE", "compressed"), write, write_ttl),
        read,
        read_ttl,
        Contender("EXPCACHE.GET", 2, getting("EXPCACHE.GET"), read, read_ttl, GET_BOUND if is_bound else None),
        Contender("EXPCACHE.GET, compressed", 4, getting("EXPCACHE.GET"), read, read_ttl),
    ]
    for contender in contenders:
        contender.tool = f"values of {size // 1024} KiB"
        contender.reply = b"$%d\r\n%b\r\n" % (size, value) if contender.reads else b"+OK\r\n"
    measure(server, contenders, keys, operations, rounds)
    bench.report.text(f"The same with values of {size // 1024} KiB, rows of a CSV; medians of {rounds} rounds.")
    bench.report.table(OWN_HEAD, [own_row(bench.report, one) for one in contenders])


OWN_HEAD = ["command", "main thread", "all threads", "server busy", "to native", "bound", "to native with TTL"]


def own_row(report, contender):
    cells = [f"`{contender.name}`", f"{contender.median('main'):.2f}", f"{contender.median('all'):.2f}"]
    cells.append(f"{contender.median('busy'):.0f} %")
    cells += [contender.ratio_cell(contender.base), contender.verdict(report, contender.tool)]
    return cells + [contender.ratio_cell(contender.like)]


class Contender(Series):
    """A command of the own client: its template, and the database in which it works."""

    def __init__(self, name, db, template, base=None, like=None, bound=None, tags=()):
        super().__init__(name, base, bound)
        self.db, self.template, self.like, self.tags = db, template, like, tags
        self.tool = "own client"
        self.reads = "GET" in name
        self.reply = VALUE_REPLY if self.reads else b"+OK\r\n"


def own_contenders():
    """Writers first: what they leave is what the readers read."""
    native_set = lab.resp_template("SET", lab.KEY, lab.VALUE)
    cache_set = lab.resp_template("EXPCACHE.SET", lab.KEY, lab.VALUE)
    native_get = lab.resp_template("GET", lab.KEY)
    cache_get = lab.resp_template("EXPCACHE.GET", lab.KEY)

    def tagged(contender):
        return lambda connection: contender.set_template(connection, lab.TAGS)

    write = Contender("SET", 0, lambda _: native_set)
    write_ttl = Contender("SET … EX", 1, tagged(lab.Plain()), write)
    read = Contender("GET", 0, lambda _: native_get)
    read_ttl = Contender("GET, keys with a TTL", 1, lambda _: native_get, read)
    return [
        write,
        write_ttl,
        Contender("EXPCACHE.SET", 2, lambda _: cache_set, write, write_ttl),
        Contender("EXPCACHE.SET, 4 tags", 3, tagged(lab.Expcache()), write, write_ttl, SET_BOUND, lab.TAGS),
        Contender("Lua: SET, 4 × SADD", 4, tagged(lab.LuaSets()), write, write_ttl, None, lab.TAGS),
        read,
        read_ttl,
        Contender("EXPCACHE.GET", 3, lambda _: cache_get, read, read_ttl, GET_BOUND),
    ]


def prepare(server, contender, keys):
    """The batches, each key as often as the others but in a random order, and a batch's replies."""
    with server.connect() as connection:
        template = contender.template(connection)
    draw = lab.tag_draw(contender.tags)
    tags = [draw() for _ in range(keys)]  # an export's tags follow from what it is of: the same each time it is stored
    commands = (template % (number, *tags[number]) for number in lab.shuffled(keys, DISTINCT, pipeline.DEPTH))
    return pipeline.batches(commands), contender.reply * pipeline.DEPTH


# ---- With redis-benchmark --------------------------------------------------------------------------------------------


class Benchmark:
    """redis-benchmark against one server."""

    def __init__(self, server, program, keys):
        self.server, self.keys = server, keys
        self._program = program
        self._meter = Meter(server)

    def run(self, db, operations, depth, *command):
        """CPU an operation, requests a second, and latencies in ms."""
        args = [self._program, "-p", str(self.server.port), "--dbnum", str(db), "-c", str(pipeline.CONNECTIONS)]
        args += ["-P", str(depth), "-n", str(operations), "-r", str(self.keys), "--csv", *command]
        work = functools.partial(subprocess.run, args, capture_output=True, text=True, check=True)
        one = self._meter.around(operations, "GET" in command[0], work)
        head, figures = list(csv.reader(one["result"].stdout.splitlines()))[-2:]
        found = dict(zip(head, figures))
        one.update(rps=float(found["rps"]), p50=float(found["p50_latency_ms"]), p99=float(found["p99_latency_ms"]))
        return one


def benchmark_program(server_binary):
    """The server's own if it stands beside it, else the one on the path."""
    beside = os.path.dirname(os.path.realpath(shutil.which(server_binary)))
    for where in (beside, None):
        for name in ("redis-benchmark", "valkey-benchmark"):
            if found := shutil.which(name, path=where):
                return found
    return None


def fill(server, benchmark):
    """Every key, natively in database 0, with a TTL in 6, and as entries with 4 tags in database 1: there are only hits."""
    for db, expiry in (0, []), (6, [b"EX", b"3600"]):
        with server.connect(db=db) as connection:
            template = lab.resp_template("SET", lab.KEY, lab.VALUE, *expiry)
            lab.load(connection, (template % number for number in range(benchmark.keys)))
    with server.connect(db=1) as connection:
        template = lab.Expcache().set_template(connection, lab.TAGS)
        draw = lab.tag_draw(lab.TAGS)
        lab.load(connection, (template % (number, *draw()) for number in range(benchmark.keys)))


def with_benchmark(bench, benchmark, operations):
    depth, rounds = pipeline.DEPTH, bench.rounds(BENCHMARK_ROUNDS)
    bench.report.text(
        f"The same with `redis-benchmark -P {depth} -c {pipeline.CONNECTIONS} -n {operations} -r {benchmark.keys}`,"
        f" medians of {rounds} rounds. It draws anew for each command, so a random tag is another one each time a key is"
        " stored, and has hardly a second entry: the hardest case there is for an index.",
    )
    series = benchmark_series()
    for _, db, command in series:
        benchmark.run(db, operations // 4, depth, *command)  # so that the writers, too, find their keys there
    for _ in range(rounds):
        for one, db, command in series:
            one.rounds.append(benchmark.run(db, operations, depth, *command))
    head = ["command", "main thread", "p50, ms", "p99, ms", "ratio to native", "bound"]
    bench.report.table(head, [benchmark_row(bench.report, one) for one, _, _ in series])


def benchmark_series():
    """(series, database, command)."""
    key, value = f"key:{RANDOM}", lab.VALUE.decode()
    common = ["TAGS", "4", "company:acme", "user:7", "project:3", "type:trips"]
    shared = ["TAGS", "4", "company:acme", f"user:{RANDOM}", f"project:{RANDOM}", "type:trips"]
    alone = ["TAGS", "4", *(f"{name}:{RANDOM}" for name, _ in lab.TAGS)]
    write, read = Series("SET"), Series("GET")
    read_ttl = Series("GET, keys with a TTL", read)
    cache_set = ["EXPCACHE.SET", key, value]
    return [
        (write, 0, ["SET", key, value]),
        (Series("EXPCACHE.SET", write), 2, cache_set),
        (Series("EXPCACHE.SET, 4 tags", write, SET_BOUND), 5, cache_set + common),
        (Series("EXPCACHE.SET, 2 tags and 2 that are never the same", write), 3, cache_set + shared),
        (Series("EXPCACHE.SET, 4 tags that are never the same", write), 4, cache_set + alone),
        (read, 0, ["GET", key]),
        (Series("EXPCACHE.GET", read, GET_BOUND), 1, ["EXPCACHE.GET", key]),
        (read_ttl, 6, ["GET", key]),
        (Series("EXPCACHE.GET, to keys with a TTL", read_ttl, GET_BOUND), 1, ["EXPCACHE.GET", key]),
    ]


def benchmark_row(report, one):
    cells = [f"`{one.name}`", f"{one.median('main'):.2f}", f"{one.median('p50'):.2f}", f"{one.median('p99'):.2f}"]
    return cells + [one.ratio_cell(one.base), one.verdict(report, "redis-benchmark")]


# ---- Without pipelining ----------------------------------------------------------------------------------------------


def without_pipelining(bench, benchmark, operations):
    """The module between two native runs, so that a drift of the machine is in both neighbours' mean."""
    rounds = bench.rounds(ROUNDS)
    bench.report.text(
        f"Without pipelining (`-P 1 -n {operations}`), {rounds} times: `GET`, `EXPCACHE.GET`, `GET` again."
    )
    key = f"key:{RANDOM}"
    first, cache, again = Series("GET"), Series("EXPCACHE.GET"), Series("GET, again")
    for _ in range(rounds):
        first.rounds.append(benchmark.run(0, operations, 1, "GET", key))
        cache.rounds.append(benchmark.run(1, operations, 1, "EXPCACHE.GET", key))
        again.rounds.append(benchmark.run(0, operations, 1, "GET", key))
    head = ["command", "requests a second", "main thread, µs", "p50, ms", "p99, ms"]
    bench.report.table(head, [lone_row(one) for one in (first, cache, again)])
    bench.report.text(
        lone_verdict(bench.report, "requests a second", "rps", -1, first, cache, again),
        lone_verdict(bench.report, "CPU an operation", "main", 1, first, cache, again),
    )


def lone_row(one):
    cells = [f"`{one.name}`", f"{one.median('rps'):,.0f}", f"{one.median('main'):.2f}"]
    return cells + [f"{one.median('p50'):.3f}", f"{one.median('p99'):.3f}"]


def lone_verdict(report, title, what, worse, first, cache, again):
    """Not measurably slower: the module differs from native no more than native from itself."""
    trios = [[one[what] for one in trio] for trio in zip(first.rounds, cache.rounds, again.rounds)]
    native = max(abs(a / b - 1) for a, _, b in trios)
    by = lab.median(2 * mine / (a + b) - 1 for a, mine, b in trios)
    held = None if native > NOISE_BOUND else worse * by <= native
    held = report.verdict(f"EXPCACHE.GET without pipelining: {title} {by:+.1%}", held)
    against = f"{by:+.1%} against native; native against itself up to {native:.1%}"
    return f"- {title}: {against}. Not measurably worse: {held}."
