"""The laboratory of the benches: servers, connections, fast loading, tables and verdicts.

Two habits keep the figures honest. Every comparison is made within one run, the contenders taking turns, so that a busy
neighbour on the machine hits them alike. And every reply is compared with the expected bytes: a command that
answers an error is fast, and must not win.
"""

import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

VALUE_BYTES = 100
VALUE = b"x" * VALUE_BYTES
KEY = b"key:%012d"
TTL_S = 3600
CHUNK = 1000  # commands per write while loading
TIMEOUT_S = 300  # no reply of these benches takes longer; a wrong one would otherwise hang the run
POLL_S = 0.002
SETTLE_S = 0.5  # this long without change counts as at rest
STOLEN = 0.002  # a virtual machine's processors are hardly ever given to others: this share of the time

# Tags with the number of their different values. Drawn independently of one another, which is the hard case for an
# index: nothing clusters.
TAGS = [("company", 1000), ("user", 10000), ("project", 100), ("type", 10)]
MORE_TAGS = [("region", 1000), ("driver", 10000), ("depot", 100), ("state", 10)]
MORE_TAGS += [("vehicle", 1000), ("trip", 10000), ("route", 100), ("month", 10)]


# ---- Servers ---------------------------------------------------------------------------------------------------------


class Server:
    """One server process of our own: free port, temporary directory, nothing written to disk, gone at the end."""

    def __init__(self, binary, module, settings=(), within=()):
        self.port = free_port()
        self._dir = tempfile.mkdtemp(prefix="expcache-bench-")
        self._log = os.path.join(self._dir, "log")
        self.socket = os.path.join(self._dir, "socket")
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f'unixsocket "{self.socket}"',
            f'dir "{self._dir}"',
            f'logfile "{self._log}"',
            'save ""',
            "appendonly no",
            "lua-time-limit 300000",  # else the probe is told BUSY during the long scripts
        ]
        lines += settings
        if module:
            lines.append(f'loadmodule "{module}"')
        config = os.path.join(self._dir, "conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        self._process = subprocess.Popen([*within, binary, config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        try:
            self._await_start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.kill()  # it has nothing worth an orderly end
        self._process.wait()
        shutil.rmtree(self._dir, ignore_errors=True)

    def _await_start(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with self.connect() as connection:
                    connection.call("PING")
                return
            except (OSError, ReplyError):
                time.sleep(0.02)
        raise SystemExit(f"the server did not start:\n{self._log_tail()}")

    def _log_tail(self):
        if not os.path.exists(self._log):
            return "(no log)"
        with open(self._log, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-10:])

    def connect(self, db=0, address=None):
        return Connection(address or self.port, db)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# ---- Connections -----------------------------------------------------------------------------------------------------


def dial(address):
    """A connection to a port of this machine, or to the Unix socket of that path."""
    if isinstance(address, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
    else:
        connection = socket.create_connection(("127.0.0.1", address))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class ReplyError(Exception):
    """An error reply, or bytes other than the expected."""


class Connection:
    """A plain RESP2 connection: one command at a time, or prepared bytes with known replies."""

    def __init__(self, address, db=0):
        self._socket = dial(address)
        self._socket.settimeout(TIMEOUT_S)
        self._reader = self._socket.makefile("rb", buffering=1 << 16)
        if db:
            self.call("SELECT", db)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._reader.close()
        self._socket.close()

    def call(self, *args):
        self.send(resp(*args))
        return self.reply()

    def send(self, data):
        self._socket.sendall(data)

    def expect(self, expected):
        """Reads just as many bytes as `expected` has, and they must be these."""
        got = self._reader.read(len(expected))
        if got != expected:
            raise ReplyError(f"unexpected reply: {got[:200]!r}")

    def skip_to(self, end):
        """Reads until what came ends so."""
        last = b""
        while not last.endswith(end):
            last = last[-len(end) :] + self._reader.read1(1 << 16)

    def info(self, section):
        """A section of INFO as a dict, or with "all" the whole of it."""
        lines = self.call("INFO", section).decode(errors="replace").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def reply(self):
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ReplyError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ReplyError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._reader.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        return rest

    def drain(self, buffer):
        """Reads a reply into a buffer, over and over itself: what is left is the time that the server takes."""
        line = self._reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ReplyError(rest.decode(errors="replace"))
        if kind == b"$" and rest != b"-1":
            left = int(rest) + 2
            while left > 0:
                left -= self._reader.readinto(buffer[:left])
        if kind == b"*" and rest != b"-1":
            for _ in range(int(rest)):
                self.drain(buffer)


def resp(*args):
    """A command as RESP bytes."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def resp_template(*args):
    """As `resp`, but arguments may hold one `%0nd`: the result takes the numbers by `%`.

    The slots have a fixed width, so the lengths are known beforehand; that is what makes loading fast."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        width = len(data % 0) if b"%" in data else len(data)
        parts.append(b"$%d\r\n%b\r\n" % (width, data))
    return b"".join(parts)


# ---- Contenders: the ways to store a tagged entry --------------------------------------------------------------------


class Plain:
    """No tags at all: what everything else is compared with."""

    name = "SET … EX"
    get = "GET"
    keys_per_tag = 0

    def set_template(self, _connection, _tags, key=KEY):
        return resp_template("SET", key, VALUE, "EX", TTL_S)


class Expcache:
    """The module."""

    name = "expcache"
    get = "EXPCACHE.GET"
    keys_per_tag = 0
    options = ()

    def set_template(self, _connection, tags, key=KEY, value=VALUE):
        tag_words = ["TAGS", len(tags), *map(tag_slot, tags)]
        return resp_template("EXPCACHE.SET", key, value, "EX", TTL_S, *tag_words, *self.options)

    def invalidate_command(self, _connection, *tags):
        return resp("EXPCACHE.INVALIDATE.TAG", *tags)


class LuaSets:
    """The classical way: one script an operation, and for each tag a set of the keys that carry it."""

    name = "Lua, sets as tags"
    get = "GET"
    keys_per_tag = 1

    SET = """
        redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
        for i = 2, #KEYS do redis.call('SADD', KEYS[i], KEYS[1]) end
        return redis.status_reply('OK')"""
    INVALIDATE = """
        local gone = 0
        for _, tag in ipairs(KEYS) do
            local keys = redis.call('SMEMBERS', tag)
            for i = 1, #keys, 1000 do
                gone = gone + redis.call('UNLINK', unpack(keys, i, math.min(i + 999, #keys)))
            end
            redis.call('UNLINK', tag)
        end
        return gone"""

    def set_template(self, connection, tags, key=KEY):
        sha = connection.call("SCRIPT", "LOAD", self.SET)
        return resp_template("EVALSHA", sha, 1 + len(tags), key, *map(tag_slot, tags), VALUE, TTL_S)

    def invalidate_command(self, connection, *tags):
        sha = connection.call("SCRIPT", "LOAD", self.INVALIDATE)
        return resp("EVALSHA", sha, len(tags), *tags)


def tag_slot(tag):
    """The template of a tag: `company:%06d`."""
    return tag[0].encode() + b":%06d"


def tag_draw(tags):
    """A function that draws one value for each tag; the same sequence in every run."""
    rand = random.Random(1).random
    sizes = [size for _, size in tags]
    return lambda: tuple([int(rand() * size) for size in sizes])


def shuffled(keys, times, multiple):
    """The numbers below `keys`, each `times` over, every pass in its own random order; cut to a multiple."""
    shuffle = random.Random(2).shuffle
    numbers = []
    for _ in range(times):
        one = list(range(keys))
        shuffle(one)
        numbers += one
    return numbers[: len(numbers) // multiple * multiple]


def load(connection, commands, reply=b"+OK\r\n"):
    """Sends all the commands in large writes; while the server works on one, the next is being put together."""
    pending = 0
    for chunk in chunks(commands, CHUNK):
        connection.expect(reply * pending)
        connection.send(b"".join(chunk))
        pending = len(chunk)
    connection.expect(reply * pending)


def chunks(items, size):
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def wait_for(read, wanted, timeout_s=120, every_s=POLL_S):
    """Waits until `read()` is `wanted`; the seconds it took."""
    start = time.perf_counter()
    while read() != wanted:
        if time.perf_counter() - start > timeout_s:
            raise SystemExit(f"waited {timeout_s} s for {wanted}, and it is {read()}")
        time.sleep(every_s)
    return time.perf_counter() - start


def undisturbed(measure, tries=4):
    """A round during which the host hardly gave this machine's processors to others; if there is none, that of the quietest."""
    rounds = []
    while not rounds or rounds[-1][0] > STOLEN and len(rounds) < tries:
        stolen, ticks = processor_ticks()
        result = measure()
        stolen_since, ticks_since = processor_ticks()
        rounds.append(((stolen_since - stolen) / max(1, ticks_since - ticks), result))
    return min(rounds, key=lambda one: one[0])[1]


def processor_ticks():
    """Of all processors: those that the host gave to others, and all."""
    try:
        with open("/proc/stat", encoding="utf-8") as file:
            ticks = [int(word) for word in file.readline().split()[1:]]
    except OSError:
        return 0, 0
    return ticks[7], sum(ticks[:8])


# ---- Reporting -------------------------------------------------------------------------------------------------------


class Report:
    """Prints Markdown, and keeps the verdicts for the end."""

    def __init__(self):
        self._held = []
        self._missed = []
        self._undecided = []

    def text(self, *lines):
        print(*lines, sep="\n", end="\n\n", flush=True)

    def table(self, head, rows):
        """A table whose columns, but for the first, are figures."""
        rows = [[str(cell) for cell in row] for row in rows]
        widths = [max(len(row[i]) for row in [head] + rows) for i in range(len(head))]
        rule = ["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]
        lines = [self._line(head, widths), "|" + "|".join(rule) + "|"]
        self.text(*lines, *(self._line(row, widths) for row in rows))

    @staticmethod
    def _line(row, widths):
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        return "| " + " | ".join(cells) + " |"

    def verdict(self, what, held):
        """The text for the table's cell; `what` names the bound in the summary. `held` None: it cannot be told."""
        if held is None:
            self._undecided.append(what)
            return "undecided"
        (self._held if held else self._missed).append(what)
        return "held" if held else "**missed**"

    def summary(self):
        total = len(self._held) + len(self._missed) + len(self._undecided)
        lines = [f"- missed: {what}" for what in self._missed]
        lines += [f"- undecided, the machine is too noisy: {what}" for what in self._undecided]
        self.text(f"**{len(self._held)} of {total} bounds held.**", *lines)


def median(values):
    return statistics.median(values)


def machine():
    """What the figures were measured on, in one line."""
    cpu = platform.processor() or platform.machine()
    gib = 0
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        cpu = models[0] if models else cpu
        gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (OSError, ValueError):
        pass
    memory = f", {gib:.0f} GiB" if gib else ""
    return f"{cpu} ({platform.machine()}), {os.cpu_count()} cores{memory}, {platform.system()} {platform.release()}"
