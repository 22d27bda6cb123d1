"""Memory: bytes an entry costs over a plain `SET … EX`, bytes for one more tag, bytes left over when all are gone.

From `used_memory`, each measurement in a fresh server, so that nothing is left from the one before. The resident
set is shown beside it: memory that does not come from the server's allocator would show there only.
"""

import time

import lab

SIZES = [100_000, 1_000_000]
QUICK_SIZES = [10_000]

ENTRY_BOUND = 100  # bytes over plain, with 4 tags
TAG_BOUND = 8  # bytes for a further membership
LEFT_BOUND = 1  # bytes that remain for each former entry, over what plain keys leave behind

PLAIN, EXPCACHE, LUA = lab.Plain(), lab.Expcache(), lab.LuaSets()
FOUR, TWELVE = lab.TAGS, lab.TAGS + lab.MORE_TAGS
REST_S = 30  # the longest wait for memory to come to rest
STILL_BYTES = 4096  # it is at rest when it changes by less in four looks


def run(bench):
    tags = ", ".join(f"{name} of {size:,}" for name, size in TWELVE)
    bench.report.text(
        "## Memory",
        "",
        f"Bytes an entry, from `used_memory` (in brackets from the resident set). Tags: {tags}; the first four, then"
        " all twelve. “A further tag” is an eighth of the difference: the allocator's blocks grow in steps, so one tag"
        " more costs the entry's block nothing at most times, and at times a whole step. “Left” is what remains for each"
        " former entry when all have expired (those with four tags) or were invalidated (those with twelve).",
    )
    head = ["entries", "way", "an entry", "over plain", "a further tag", "left, expired", "left, invalidated", "bounds"]
    rows = []
    for size in QUICK_SIZES if bench.quick else SIZES:
        plain = measure(bench, PLAIN, size, FOUR, expire)
        rows.append([f"{size:,}", PLAIN.name, both(plain["entry"]), "", "", f"{plain['left']:.1f}", "", ""])
        rows += [way(bench, contender, size, plain) for contender in (EXPCACHE, LUA)]
    bench.report.table(head, rows)
    bench.report.text(
        f"Bounds: at most {ENTRY_BOUND} bytes over plain, {TAG_BOUND} for a further tag,"
        f" and {LEFT_BOUND} left over what plain keys leave."
    )


def way(bench, contender, size, plain):
    """One row: the contender with four tags and with twelve, expired and invalidated."""
    four = measure(bench, contender, size, FOUR, expire)
    twelve = measure(bench, contender, size, TWELVE, invalidate)
    entry, plain_entry = four["entry"], plain["entry"]
    over = [mine - its for mine, its in zip(entry, plain_entry)]
    tag = (twelve["entry"][0] - entry[0]) / (len(TWELVE) - len(FOUR))
    cells = [f"{size:,}", contender.name, both(entry), both(over), f"{tag:.1f}"]
    cells += [f"{four['left']:.1f}", f"{twelve['left']:.1f}"]
    if contender is not EXPCACHE:
        return cells + [""]
    left = max(four["left"], twelve["left"]) - plain["left"]
    return cells + [verdicts(bench.report, size, over[0], tag, left)]


def verdicts(report, size, over, tag, left):
    texts = [
        report.verdict(f"memory {size:,}: {over:.1f} bytes over plain", over <= ENTRY_BOUND),
        report.verdict(f"memory {size:,}: {tag:.1f} bytes for a further tag", tag <= TAG_BOUND),
        report.verdict(f"memory {size:,}: {left:.1f} bytes left for a former entry", left <= LEFT_BOUND),
    ]
    return ", ".join(texts)


def both(figures):
    used, resident = figures
    return f"{used:.1f} ({resident:.0f})"


def measure(bench, contender, size, tags, removal):
    """Bytes an entry (used, resident), and bytes left for each when `removal` has taken them all away."""
    with bench.server() as server:
        with server.connect() as connection:
            connection.call("CONFIG", "SET", "active-expire-effort", 10)
            # Of a size of its own, whatever the number of entries: up to 512 KB.
            connection.call("CONFIG", "SET", "expcache.miss-memory", 0)
            connection.call("CONFIG", "SET", "latency-tracking", "no")  # 20 KB at each command's first use
        before = memory_at_rest(server)
        with server.connect() as connection:
            lab.load(connection, entries(connection, contender, size, tags))
        loaded = memory_at_rest(server)
        with server.connect() as connection:
            removal(connection, contender, size)
        after = memory_at_rest(server)
    entry = [(full - empty) / size for full, empty in zip(loaded, before)]
    return {"entry": entry, "left": (after[0] - before[0]) / size}


def entries(connection, contender, size, tags):
    template = contender.set_template(connection, tags)
    if contender is PLAIN:
        return (template % number for number in range(size))
    draw = lab.tag_draw(tags)
    return (template % (number, *draw()) for number in range(size))


def expire(connection, contender, size):
    """Every key's time is up at once; the server finds them by itself."""
    template = lab.resp_template("PEXPIRE", lab.KEY, 1)
    lab.load(connection, (template % number for number in range(size)), b":1\r\n")
    await_keys_gone(connection, contender, size)


def invalidate(connection, contender, size):
    """Every entry has one of the types."""
    tags = [b"type:%06d" % value for value in range(dict(FOUR)["type"])]
    connection.send(contender.invalidate_command(connection, *tags))
    count = connection.reply()
    if count != size:
        raise SystemExit(f"{contender.name}: {size} entries, and the invalidation says {count}")
    await_keys_gone(connection, contender, size)


def await_keys_gone(connection, contender, size):
    """By the last entry's going: the sets of the Lua way are keys as well, and stay."""
    if contender.keys_per_tag == 0:
        lab.wait_for(lambda: connection.call("DBSIZE"), 0)
        return
    names = [lab.KEY % number for number in range(size)]
    for chunk in lab.chunks(names, lab.CHUNK):
        lab.wait_for(lambda: connection.call("EXISTS", *chunk), 0)


def memory_at_rest(server):
    """`used_memory` and the resident set, once the first has stopped changing; tables shrink by and by."""
    with server.connect() as connection:
        deadline = time.monotonic() + REST_S
        seen = []
        while len(seen) < 4 or max(seen[-4:]) - min(seen[-4:]) > STILL_BYTES:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
            info = connection.info("memory")
            seen.append(int(info["used_memory"]))
    return seen[-1], int(info["used_memory_rss"])
