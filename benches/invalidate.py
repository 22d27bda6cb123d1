"""Invalidating many entries: how long the asker waits, what a bystander notices, when the memory is back.

For each size the ways take turns, each time in a fresh server: the module by a tag; the classical Lua way; and the module
softly, and by patterns for keys. Among the members stand other entries, one to four, which must survive. The bystander
(probe.py) measures twice: while the members are invalidated and their keys dealt with, and for the same time
afterwards, while nothing happens; the second window is what "idle" means on this machine at this moment.
"""

import time

import bystander
import lab

SIZES = [1_000, 10_000, 100_000, 1_000_000]
QUICK_SIZES = [1_000, 10_000]
ROUNDS = 3
OTHERS_EVERY = 4  # after so many members comes one entry that is not one

REPLY_BOUND_MS = 1.0  # the invalidation's reply, at any size; a search for names takes its time
STALL_BOUNDS_MS = {"p99": 0.15, "p99.9": 0.5}  # how much worse than idle the bystander may be served
ALONE_BOUND_S = 6.0  # until the keys of the largest size are reclaimed, while nobody else is there

WINDOW_S = 1.0  # the least time the bystander measures
TAIL_S = 0.5  # and for so long after the last key is dealt with, to work off requests that came due in a stall
SAMPLES = 100  # entries read after the reply
TAGS = lab.TAGS[1:]  # the company is the tag to be invalidated
TAG = b"company:000042"
MEMBER_KEY = b"cache:trips:%012d"
OTHER_KEY = b"cache:other:%012d"


# ---- Ways ------------------------------------------------------------------------------------------------------------


class ByTag(lab.Expcache):
    """The module, by a tag that all members bear."""

    name = "expcache: `INVALIDATE.TAG`"
    reply_bound_ms = REPLY_BOUND_MS
    rounds_of_most = ROUNDS
    settings = ()

    def command(self, connection):
        return self.invalidate_command(connection, TAG)

    def keys_left(self, keys, size):
        return keys - size

    def backlog(self, connection):
        """How many keys are not dealt with yet."""
        health = connection.call("EXPCACHE.HEALTH")
        check = dict(zip(health[::2], health[1::2]))[b"reclaim-backlog"]
        return dict(zip(check[::2], check[1::2]))[b"figure"]


class WithoutRehashing(ByTag):
    """The same on a server that does not take a millisecond, ten times a second, to make its tables smaller."""

    name = "the same, `activerehashing no`"
    settings = ("activerehashing no",)


class Softly(ByTag):
    """The module, by the same tag: members turn stale, and their keys are given the expiry of their grace."""

    name = "expcache: `PURGE ANY … SOFT`"
    rounds_of_most = 1
    options = ("GRACE", "1h")

    def command(self, _connection):
        return lab.resp("EXPCACHE.PURGE", "ANY", 1, TAG, "SOFT")

    def keys_left(self, keys, _size):
        return keys


class ByPrefix(ByTag):
    """The module, by a pattern that begins with what the names begin with."""

    name = "expcache: `PURGE MATCH cache:trips:*`"
    pattern = "cache:trips:*"
    reply_bound_ms = 60.0
    rounds_of_most = 1

    def command(self, _connection):
        return lab.resp("EXPCACHE.PURGE", "MATCH", self.pattern)


class ByPattern(ByPrefix):
    """The module, by a pattern for which every name must be looked at as a whole."""

    name = "expcache: `PURGE MATCH *:trips:*`"
    pattern = "*:trips:*"
    reply_bound_ms = 120.0


class ByScript(lab.LuaSets):
    """The classical way."""

    rounds_of_most = 1
    settings = ()

    def command(self, connection):
        return self.invalidate_command(connection, TAG)

    def keys_left(self, keys, size):
        return keys - size - self.keys_per_tag

    def backlog(self, _connection):
        return 0


WAYS = [ByTag(), WithoutRehashing(), ByScript(), Softly(), ByPrefix(), ByPattern()]


# ---- The table -------------------------------------------------------------------------------------------------------


def run(bench):
    count = bench.rounds(ROUNDS)
    bench.report.text(
        "## Invalidating many",
        "",
        f"Entries with 4 tags; figures in ms, medians of {count} rounds (in brackets the worst of all); the further ways"
        " one round at the largest size. The other client sends a native `GET` every millisecond, during the"
        " invalidation and the reclaiming, and as long without. Rounds during which a virtual machine's host gives its processors to"
        " others are measured again, up to three times.",
    )
    head = ["members", "way", "reply, best", "reply", "other client p99", "idle", "p99.9", "idle", "worst", "idle", "reclaimed after"]
    rows = []
    sizes = QUICK_SIZES if bench.quick else SIZES
    for size in sizes:
        results = {way: [] for way in WAYS}
        for number in range(count):
            for way in WAYS:
                if size < SIZES[-1] or number < way.rounds_of_most:
                    results[way].append(lab.undisturbed(lambda: measure(bench, way, size)))
        rows += [row(bench.report, way, size, rounds) for way, rounds in results.items()]
    bench.report.table(head + ["bounds"], rows)
    bench.report.text(
        f"Bounds: the median reply within {REPLY_BOUND_MS:g} ms ({ByPrefix.reply_bound_ms:g} and {ByPattern.reply_bound_ms:g} for the"
        " two searches for names); the other client's p99 at most"
        f" {STALL_BOUNDS_MS['p99']:g} ms and its p99.9 at most {STALL_BOUNDS_MS['p99.9']:g} ms above the idle one (undecided if it was as bad"
        " in some idle round)."
    )
    alone(bench, sizes[-1])


def row(report, way, size, rounds):
    column = {key: [one[key] for one in rounds] for key in rounds[0]}
    cells = [f"{size:,}", way.name, f"{min(column['reply']):.2f}", f"{lab.median(column['reply']):.2f}"]
    cells += [f"{lab.median(column[f'{when} {what}']):.2f}" for what in STALL_BOUNDS_MS for when in ("busy", "idle")]
    cells += [f"{lab.median(column[key]):.2f} ({max(column[key]):.2f})" for key in ("busy worst", "idle worst")]
    cells.append(f"{lab.median(column['reclaimed']):.0f}")
    return cells + ["" if isinstance(way, ByScript) else verdicts(report, way, size, column)]


def verdicts(report, way, size, column):
    what, reply = f"{way.name}, {size:,}", lab.median(column["reply"])
    told = [report.verdict(f"{what}: reply {reply:.2f} ms", reply <= way.reply_bound_ms)]
    for name, bound in STALL_BOUNDS_MS.items():
        busy, idle = lab.median(column[f"busy {name}"]), column[f"idle {name}"]
        held = busy <= lab.median(idle) + bound
        if not held and busy <= max(idle):
            held = None  # nothing was going on, and a request took as long
        told.append(report.verdict(f"{what}: other client {name} {busy:.2f} ms", held))
    return ", ".join(told)


def alone(bench, size):
    """Nobody else is there, and somebody looks ten times a second whether all is reclaimed."""
    way, seconds = WAYS[0], []
    for _ in range(bench.rounds(ROUNDS)):
        with bench.server() as server:
            fill(server, way, size)
            with server.connect() as connection:
                time.sleep(lab.SETTLE_S)
                start = time.perf_counter()
                connection.send(way.command(connection))
                connection.reply()
                lab.wait_for(lambda: way.backlog(connection), 0, every_s=0.1)
                seconds.append(time.perf_counter() - start)
    took = lab.median(seconds)
    verdict = bench.report.verdict(f"{size:,} reclaimed alone: {took:.1f} s", took <= ALONE_BOUND_S)
    bench.report.text(f"{size:,} keys are reclaimed within {took:.1f} s while nobody else is there (≤ {ALONE_BOUND_S:g}: {verdict}).")


# ---- A round ---------------------------------------------------------------------------------------------------------


def measure(bench, way, size):
    """One round: load, invalidate under observation, then observe the same server idle."""
    with bench.server(*way.settings) as server:
        fill(server, way, size)
        with server.connect() as connection, bystander.Probe(server) as probe:
            time.sleep(lab.SETTLE_S)
            start = time.perf_counter()
            probe.start()
            result = invalidate(connection, way, size)
            await_end(start)
            busy = probe.end()
            duration = time.perf_counter() - start
            idle = observe_idle(connection, probe, duration)
    result.update({f"busy {key}": busy[key] for key in ("p99", "p99.9", "worst")})
    result.update({f"idle {key}": idle[key] for key in ("p99", "p99.9", "worst")})
    return result


def fill(server, way, size):
    """`size` members, others between them, and the bystander's native key."""
    with server.connect() as connection:
        connection.call("SET", bystander.KEY, lab.VALUE)
        lab.load(connection, entries(connection, way, size))


def entries(connection, way, size):
    one_more = [("company", 1000)] + TAGS
    member, other = (way.set_template(connection, one_more, key) for key in (MEMBER_KEY, OTHER_KEY))
    draw = lab.tag_draw(TAGS)
    for number in range(size):
        yield member % (number, 42, *draw())
        if is_before_other(number):
            yield other % (number, 43, *draw())


def is_before_other(number):
    return number % OTHERS_EVERY == OTHERS_EVERY - 1


def invalidate(connection, way, size):
    """Invalidates, checks the number and that no member can be read any more, and waits for the keys to be dealt with."""
    keys_left = way.keys_left(connection.call("DBSIZE"), size)
    command = way.command(connection)
    start = time.perf_counter()
    connection.send(command)
    count = connection.reply()
    reply_ms = 1000 * (time.perf_counter() - start)
    if count != size:
        raise SystemExit(f"{way.name}: {size} members, and the invalidation says {count}")
    check_reads(connection, way, size)
    # Asked so seldom that the asking is no load.
    left = lambda: (connection.call("DBSIZE"), way.backlog(connection))
    lab.wait_for(left, (keys_left, 0), every_s=max(lab.POLL_S, size / 1e7))
    return {"reply": reply_ms, "reclaimed": 1000 * (time.perf_counter() - start)}


def check_reads(connection, way, size):
    """Straight after the reply: members spread over the whole are not served, the entries between them are."""
    numbers = [i * size // SAMPLES + i % OTHERS_EVERY for i in range(SAMPLES)]
    members = [(MEMBER_KEY % number, True) for number in numbers]
    others = [(OTHER_KEY % number, False) for number in numbers if is_before_other(number)]
    for key, is_gone in members + others:
        if (connection.call(way.get, key) is None) != is_gone:
            raise SystemExit(f"{way.name}: {key} {'is still there' if is_gone else 'is gone'}")


def observe_idle(connection, probe, duration_s):
    """The same time once more, and nothing to do in it."""
    start = time.perf_counter()
    probe.start()
    while time.perf_counter() - start < duration_s:
        connection.call("DBSIZE")
        time.sleep(lab.POLL_S)
    return probe.end()


def await_end(start):
    """The busy window's end: the tail after the reclaiming, and the least duration."""
    time.sleep(max(TAIL_S, start + WINDOW_S - time.perf_counter()))
