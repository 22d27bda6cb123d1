"""Large exports: what another client notices of them, what sending one costs the main thread, how fast one client gets it.

An export is as many rows of a real CSV as fit the size. `--export FILE` names the CSV; by default it is the sample of
flights that the demo has. Where it has too few rows, more are drawn from it at random, with two fields of other rows.
"""

import gzip
import os
import random
import subprocess
import tempfile
import time

import bystander
import lab

MIB = 1 << 20
SIZES = [1 * MIB, 16 * MIB, 64 * MIB]
QUICK_SIZES = [1 * MIB]
ROUNDS = 3
WINDOW_S = 3.0
QUICK_WINDOW_S = 1.0
REPEATS = 20  # fetches of one export for a figure of CPU or speed

STALL_BOUND_MS = 1.0  # how much worse than idle the bystander's worst may be
PIECE = 64 << 10
PIECES_STALL_MS = 0.3  # how much worse than idle the bystander's p99 may be while pieces come
PIECES_MEMORY = 1.1  # the server's peak, in what is stored
ACCEPT_BOUND = 1.0  # main thread's CPU for a stored export, against `GET` of as many bytes
ACCEPT_NOISE = 0.05  # two measurements of the same differ by that much
SPEED_BOUND = 0.5  # of what the codec decodes alone

KEY = "export"

# How the two clients reach the server.
NETWORKS = {"Unix socket": lambda server: server.socket, "TCP": lambda server: server.port}


# ---- Exports ---------------------------------------------------------------------------------------------------------


def exports(path, sizes):
    """Of each size one, cut after a row."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        data = file.read()
    larger = grown(data, max(sizes)) if len(data) < max(sizes) else data
    return [cut(data if size <= len(data) else larger, size) for size in sizes]


def cut(data, size):
    return data[: data.rindex(b"\n", 0, size) + 1]


def grown(data, size):
    """More rows of the same kind: drawn at random, two of their fields from other rows, so that little repeats."""
    head, *rows = data.splitlines()
    rows = [row.split(b",") for row in rows]
    rand = random.Random(1)
    parts, length = [head], len(head)
    while length < size:
        row, first, second = list(rand.choice(rows)), rand.choice(rows), rand.choice(rows)
        for other in (first, second):
            at = rand.randrange(len(row))
            row[at] = other[at] if at < len(other) else row[at]
        parts.append(b",".join(row))
        length += len(parts[-1]) + 1
    return b"\n".join(parts) + b"\n"


# ---- Ways to store and fetch -----------------------------------------------------------------------------------------


class Native:
    name = "`SET`, `GET`"
    is_bound = False

    def set(self, export):
        return lab.resp("SET", KEY, export)

    def get(self):
        return lab.resp("GET", KEY)


class Identity:
    name = "`EXPCACHE.SET`, `FETCH`"
    is_bound = True

    def set(self, export):
        return lab.resp("EXPCACHE.SET", KEY, export, "FORMAT", "csv")

    def get(self):
        return lab.resp("EXPCACHE.FETCH", KEY)


class Accepting(Identity):
    name = "`EXPCACHE.SET`, `FETCH … ACCEPT 1 gzip`"

    def get(self):
        return lab.resp("EXPCACHE.FETCH", KEY, "ACCEPT", 1, "gzip")


WAYS = [Native(), Identity(), Accepting()]


# ---- The tables ------------------------------------------------------------------------------------------------------


def run(bench):
    sizes = QUICK_SIZES if bench.quick else SIZES
    all_exports = exports(bench.export, sizes)
    bench.report.text("## Large exports", "", f"Rows of `{os.path.basename(bench.export)}`.")
    codecs(bench, all_exports)
    sending(bench, all_exports[min(1, len(sizes) - 1)])
    others(bench, sizes, all_exports)
    pieces(bench, all_exports[-1])


def others(bench, sizes, all_exports):
    """What another client notices while one stores and fetches an export, over and over."""
    head = ["size", "one client", "exports a second", "other client p99", "idle p99", "worst", "idle worst", "bound"]
    bench.report.text(
        f"One client stores and fetches an export in turn; another sends a native `GET` every millisecond. ms, medians of"
        f" {bench.rounds(ROUNDS)} rounds (in brackets the worst of all). First over Unix sockets, then over TCP on the loopback"
        " interface, where the kernel carries every packet on the processors that the workers and both clients are using:"
        " there the other client also waits for the machine, not only for the server."
    )
    for network in NETWORKS:
        rows = []
        for size, export in zip(sizes, all_exports):
            results = {way: [] for way in WAYS}
            for _ in range(bench.rounds(ROUNDS)):
                for way in WAYS:
                    results[way].append(notice(bench, way, export, NETWORKS[network]))
            rows += [notice_row(bench.report, network, size, way, rounds) for way, rounds in results.items()]
        bench.report.text(f"{network}:")
        bench.report.table(head, rows)
    bench.report.text(
        f"Bound: the median worst at most {STALL_BOUND_MS:g} ms above the idle one, or above that of native commands;"
        " undecided if it was as bad in some idle or native round."
    )


def notice(bench, way, export, address_of):
    window_s = QUICK_WINDOW_S if bench.quick else WINDOW_S
    with bench.server() as server:
        address = address_of(server)
        with server.connect(address=address) as connection, server.connect() as other:
            other.call("SET", bystander.KEY, lab.VALUE)
            with bystander.Probe(server, address) as probe:
                time.sleep(lab.SETTLE_S)
                probe.start()
                done = alternate(connection, way, export, window_s)
                busy = probe.end()
                settle(other, way)
                probe.start()
                time.sleep(window_s)
                idle = probe.end()
    return {"rate": done / window_s, "busy": busy, "idle": idle}


def alternate(connection, way, export, window_s):
    set_command, get_command = way.set(export), way.get()
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < window_s:
        connection.send(set_command)
        connection.expect(b"+OK\r\n")
        connection.send(get_command)
        connection.reply()
        done += 1
    return done


def settle(connection, way):
    """Waits until the workers have nothing to do."""
    if way.is_bound:
        lab.wait_for(lambda: backlog(connection), (0, 0, 0))


def backlog(connection):
    health = connection.call("EXPCACHE.HEALTH")
    checks = dict(zip(health[::2], health[1::2]))
    return tuple(checks[name][1] for name in (b"worker-backlog", b"workers-busy", b"settle-backlog"))


def notice_row(report, network, size, way, rounds):
    figures = {f"{when} {what}": [one[when][what] for one in rounds] for when in ("busy", "idle") for what in ("p99", "worst")}
    worst, idle = lab.median(figures["busy worst"]), lab.median(figures["idle worst"])
    cells = [f"{size // MIB} MiB", way.name, f"{lab.median([one['rate'] for one in rounds]):.1f}"]
    cells += [f"{lab.median(figures[name]):.2f}" for name in ("busy p99", "idle p99")]
    cells += [f"{lab.median(figures[name]):.2f} ({max(figures[name]):.2f})" for name in ("busy worst", "idle worst")]
    if not way.is_bound:
        Native.worst = figures["busy worst"]
        return cells + [""]
    bar = max(idle, lab.median(Native.worst))
    held = worst <= bar + STALL_BOUND_MS
    if not held and worst <= max(figures["idle worst"] + Native.worst):
        held = None
    return cells + [report.verdict(f"{network}, {way.name}, {size // MIB} MiB: other client {worst:.2f} ms, native {bar:.2f}", held)]


def sending(bench, export):
    """What handing an export out costs the main thread, and how fast one client has it."""
    with bench.server() as server, server.connect() as connection:
        connection.send(Identity().set(export))
        connection.expect(b"+OK\r\n")
        settle(connection, Identity())
        stored = dict(pairs(connection.call("EXPCACHE.FETCH", KEY, "ACCEPT", 1, "gzip")))[b"value"]
        connection.call("SET", "stored", stored)
        connection.call("SET", "whole", export)
        ways = {
            "`GET` of as many bytes as are stored": lab.resp("GET", "stored"),
            "`FETCH … ACCEPT 1 gzip`": lab.resp("EXPCACHE.FETCH", KEY, "ACCEPT", 1, "gzip"),
            "`GET` of the whole": lab.resp("GET", "whole"),
            "`FETCH`": lab.resp("EXPCACHE.FETCH", KEY),
        }
        results = {name: [] for name in ways}
        for _ in range(bench.rounds(ROUNDS)):
            for name, command in ways.items():
                results[name].append(cost(connection, command))
    report_sending(bench, export, stored, {name: [min(column) for column in zip(*rounds)] for name, rounds in results.items()})


def pairs(flat):
    return zip(flat[::2], flat[1::2])


def cost(connection, command):
    """Seconds of the main thread, and of the clock, for one command."""
    buffer = memoryview(bytearray(64 * MIB))
    before, start = main_thread_s(connection), time.perf_counter()
    for _ in range(REPEATS):
        connection.send(command)
        connection.drain(buffer)
    elapsed = time.perf_counter() - start
    return (main_thread_s(connection) - before) / REPEATS, elapsed / REPEATS


def main_thread_s(connection):
    info = connection.info("cpu")
    return float(info["used_cpu_sys_main_thread"]) + float(info["used_cpu_user_main_thread"])


def report_sending(bench, export, stored, results):
    native_cpu = results["`GET` of as many bytes as are stored"][0]
    speed = {name: len(export) / 1e6 / elapsed for name, (_, elapsed) in results.items()}
    decode = decoding_speed(export)["gzip"]
    rows = []
    for name, (cpu_s, elapsed) in results.items():
        size = len(stored) if "stored" in name or "ACCEPT" in name else len(export)
        bound = ""
        if "ACCEPT" in name:
            ratio = cpu_s / native_cpu
            bound = bench.report.verdict(f"{name}: {ratio:.2f} x the CPU of `GET`", ratio <= ACCEPT_BOUND + ACCEPT_NOISE)
        if name == "`FETCH`":
            share = speed[name] / decode
            bound = bench.report.verdict(f"{name}: {share:.2f} of the codec's {decode:.0f} MB/s", share >= SPEED_BOUND)
        rows.append([name, f"{size / MIB:.1f}", f"{1000 * cpu_s:.2f}", f"{1000 * elapsed:.1f}", f"{size / 1e6 / elapsed:.0f}", bound])
    bench.report.text(f"Handing out an export of {len(export) / MIB:.0f} MiB, kept as gzip, to one client; best of {bench.rounds(ROUNDS)} x {REPEATS}.")
    bench.report.table(["command", "MiB sent", "main thread ms", "ms", "MB/s", "bound"], rows)
    bench.report.text(
        f"Bounds: `ACCEPT` costs the main thread no more than `GET` (measured to {ACCEPT_NOISE:.0%}); a client that takes it decoded"
        f" gets it at no less than {SPEED_BOUND:g} of the {decode:.0f} MB/s that one thread decodes."
    )


# ---- In pieces -------------------------------------------------------------------------------------------------------


def pieces(bench, export):
    """An export that is sent in pieces, over and over: what another client notices, and what memory the server takes for it."""
    rows = []
    for codec in ("none", "zstd", "gzip"):
        rounds = [in_pieces(bench, export, codec) for _ in range(bench.rounds(ROUNDS))]
        busy, idle = (lab.median([one[when]["p99"] for one in rounds]) for when in ("busy", "idle"))
        peak, kept, store_ms = (lab.median([one[what] for one in rounds]) for what in ("peak", "kept", "store"))
        held = busy <= idle + PIECES_STALL_MS
        if not held and busy <= max(one["idle"]["p99"] for one in rounds):
            held = None
        name = f"{len(export) / MIB:.0f} MiB in pieces, {codec}"
        cells = [codec, f"{lab.median([one['send'] for one in rounds]):.0f}", f"{store_ms:.1f}", f"{busy:.2f}", f"{idle:.2f}"]
        cells.append(bench.report.verdict(f"{name}: other client's p99 {busy:.2f} ms, idle {idle:.2f}", held))
        cells += [f"{kept / MIB:.1f}", f"{peak / MIB:.1f}"]
        # What is compressed as it comes is there before it is.
        bound = PIECES_MEMORY * (kept if codec == "none" else len(export))
        cells.append(bench.report.verdict(f"{name}: {peak / MIB:.1f} MiB at most", peak <= bound))
        rows.append(cells)
    bench.report.text(
        f"An export of {len(export) / MIB:.0f} MiB by `EXPCACHE.PART` in pieces of {PIECE >> 10} KiB, and `SET … PARTS`; another client sends a"
        f" native `GET` every millisecond. Medians of {bench.rounds(ROUNDS)} rounds; memory is `used_memory`, its peak less what it was before."
    )
    head = ["codec", "sent in ms", "stored in ms", "other client p99", "idle p99", "bound", "kept MiB", "peak MiB", "bound"]
    bench.report.table(head, rows)
    bench.report.text(
        f"Bounds: the other client's p99 at most {PIECES_STALL_MS:g} ms above the idle one; the peak at most {PIECES_MEMORY:g} times what is"
        " stored, of what is compressed as it comes the payload."
    )


def in_pieces(bench, export, codec):
    window_s = QUICK_WINDOW_S if bench.quick else WINDOW_S
    chunks = [export[at : at + PIECE] for at in range(0, len(export), PIECE)]
    with bench.server() as server, server.connect() as connection, server.connect() as other:
        other.call("SET", bystander.KEY, lab.VALUE)
        connection.call("EXPCACHE.TYPE", "SET", "default", "CODEC", codec)
        with bystander.Probe(server) as probe:
            time.sleep(lab.SETTLE_S)
            other.call("CONFIG", "RESETSTAT")
            before = int(other.info("memory")["used_memory"])
            probe.start()
            send_s, store_s, done = 0.0, 0.0, 0
            while done == 0 or send_s + store_s < window_s:
                sent, stored = send_in_pieces(connection, chunks)
                send_s, store_s, done = send_s + sent, store_s + stored, done + 1
                if done == 1:
                    peak = int(other.info("memory")["used_memory_peak"]) - before
                    fields = dict(pairs(other.call("EXPCACHE.META", KEY)))
                    kept = fields[b"stored"]
                connection.call("EXPCACHE.DEL", KEY)
            busy = probe.end()
            settle(other, Identity())
            probe.start()
            time.sleep(window_s)
            idle = probe.end()
    return {"busy": busy, "idle": idle, "peak": peak, "kept": kept, "send": 1000 * send_s / done, "store": 1000 * store_s / done}


def send_in_pieces(connection, chunks):
    """Seconds until all were sent, and until they were stored after that."""
    token = "a token of the client's own making"
    connection.call("EXPCACHE.FETCH", KEY, "LEASE", "1m", "TOKEN", token)
    start = time.perf_counter()
    for chunk in chunks:
        connection.call("EXPCACHE.PART", KEY, token, chunk)
    middle = time.perf_counter()
    connection.call("EXPCACHE.SET", KEY, "", "LEASE", token, "PARTS", "FORMAT", "csv")
    return middle - start, time.perf_counter() - middle


# ---- Codecs ----------------------------------------------------------------------------------------------------------


def codec_lines(export):
    """Name, stored bytes, MB/s encoded and decoded, of each codec."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with tempfile.NamedTemporaryFile() as file:
        file.write(export)
        file.flush()
        command = ["cargo", "run", "--quiet", "--release", "-p", "expcache-core", "--example", "codecs", file.name]
        lines = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    return [(name, int(stored), float(encode), float(decode)) for name, stored, encode, decode in map(str.split, lines)]


def decoding_speed(export):
    return {name: decode for name, _, _, decode in codec_lines(export)}


def codecs(bench, all_exports):
    """Ratio and time, beside what Python's `gzip.compress` makes of the same."""
    rows = []
    for export in all_exports:
        lines = codec_lines(export) + [python_gzip(export)]
        for name, stored, encode, decode in lines:
            took = f"{len(export) / 1e3 / encode:.0f}"
            rows.append([f"{len(export) / MIB:.0f} MiB", name, f"{len(export) / stored:.2f}", took, f"{encode:.0f}", f"{decode:.0f}"])
    bench.report.text("Codecs, one thread, best of some rounds.")
    bench.report.table(["export", "codec", "ratio", "encode ms", "encode MB/s", "decode MB/s"], rows)


def python_gzip(export):
    start = time.perf_counter()
    stored = gzip.compress(export)
    middle = time.perf_counter()
    gzip.decompress(stored)
    end = time.perf_counter()
    megabytes = len(export) / 1e6
    return "Python `gzip`", len(stored), megabytes / (middle - start), megabytes / (end - middle)
