"""Statistics: how long each question takes, among few entries and among many.

Entries of 100 types with four tags, all of them hit, with a cost and a format; then each question many times, one after the
other, by the server's own clock (`INFO commandstats`): it answers nothing else meanwhile, so that is what others wait.
"""

import lab

SIZES = [10_000, 1_000_000]
QUICK_SIZES = [1_000, 10_000]
TYPES = 100
ASKED = 200

BOUND_MS = 1.0  # a question
GROWTH = 2.0  # from the smaller number of entries to the larger, beyond what is noise
NOISE_MS = 0.1

QUESTIONS = [
    ("EXPCACHE.STATS",),
    ("EXPCACHE.STATS", "WINDOW", "24h"),
    ("EXPCACHE.STATS", "TYPE", "type:7"),
    ("EXPCACHE.STATS", "TYPE", "type:7", "WINDOW", "30d"),
    ("EXPCACHE.TOP", "BY", "hits"),
    ("EXPCACHE.TOP", "BY", "saved", "COUNT", "64"),
    ("EXPCACHE.TOP", "TYPE", "type:7", "BY", "size"),
    ("EXPCACHE.HEALTH",),
    ("INFO", "expcache"),
]


def run(bench):
    sizes = QUICK_SIZES if bench.quick else SIZES
    bench.report.text(
        "## Statistics",
        "",
        f"What an answer takes of the server's time, ms, on average of {ASKED}, among entries of {TYPES} types, each with a cost, a"
        " format, four tags and a hit.",
    )
    answers = {size: measure(bench, size) for size in sizes}
    head = ["question"] + [f"{size:,} entries" for size in sizes] + ["bounds"]
    rows = [row(bench.report, question, [answers[size][question] for size in sizes]) for question in QUESTIONS]
    bench.report.table(head, rows)
    bench.report.text(
        f"Bounds: at most {BOUND_MS:g} ms, and from the first column to the last no more than {GROWTH:g} times"
        f" as much (differences under {NOISE_MS:g} ms aside)."
    )


def row(report, question, took):
    name, few, many = " ".join(question), took[0], took[-1]
    texts = [
        report.verdict(f"statistics: {name} takes {many:.3f} ms", many <= BOUND_MS),
        report.verdict(f"statistics: {name} grows from {few:.3f} ms", many <= max(few * GROWTH, few + NOISE_MS)),
    ]
    return [f"`{name}`", *(f"{ms:.3f}" for ms in took), ", ".join(texts)]


def measure(bench, size):
    with bench.server() as server, server.connect() as connection:
        lab.load(connection, (entry(number) for number in range(size)))
        keys = (b"k%07d" % number for number in range(size))
        lab.load(connection, (lab.resp("EXPCACHE.GET", key) for key in keys), reply=b"$100\r\n" + VALUE + b"\r\n")
        return {question: ask(connection, question) for question in QUESTIONS}


VALUE = b"x" * 100


def entry(number):
    tags = [f"company:{number % 1000}", f"user:{number % 5000}", f"object:{number % 20000}", f"day:{number % 365}"]
    options = ["TYPE", f"type:{number % TYPES}", "EX", 3600 + number % 86400, "COST", number % 5000, "FORMAT", "csv"]
    return lab.resp("EXPCACHE.SET", b"k%07d" % number, VALUE, "TAGS", len(tags), *tags, *options)


def ask(connection, question):
    """What it takes on average, ms."""
    connection.call("CONFIG", "RESETSTAT")
    for _ in range(ASKED):
        connection.call(*question)
    stats = connection.info("commandstats")["cmdstat_" + question[0].lower()]
    return float(dict(field.split("=") for field in stats.split(","))["usec_per_call"]) / 1000
