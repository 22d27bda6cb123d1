"""An export too large to be held whole, with redis-py: `python large_export.py HOST PORT`. It is sent as it is made, and read in parts."""

import hashlib
import secrets
import sys
import time

import redis

PART = 256 * 1024  # bytes
LEASE = 30  # seconds: so soon another may produce it if this process dies


def rows():
    yield b"id,km\n"
    for number in range(200_000):
        yield b"%d,%d\n" % (number, number % 1000)


def read(r, key, produce):
    """The parts of an export: from the cache, or as `produce` makes it now."""
    token = secrets.token_hex(16)
    asked = ["LEASE", f"{LEASE}s", "TOKEN", token, "WAIT", "30s"]
    first = fetch(r, key, "RANGE", 0, PART, *asked)
    if first["lease"]:
        send(r, key, token, produce)
        first = fetch(r, key, "RANGE", 0, PART)
    if first["value"] is None:
        raise TimeoutError("another makes it, and takes long")
    yield first["value"]
    at = len(first["value"])
    while at < first["size"]:
        part = fetch(r, key, "RANGE", at, PART)
        if part["etag"] != first["etag"]:
            raise RuntimeError("it was stored anew, or is gone: begin again")
        yield part["value"]
        at += len(part["value"])


def fetch(r, key, *words):
    reply = r.execute_command("EXPCACHE.FETCH", key, *words)
    return {bytes(field).decode(): value for field, value in reply.items()}


def send(r, key, token, produce):
    md5, buffer, renewed = hashlib.md5(), bytearray(), time.monotonic()
    try:
        for row in produce():
            buffer += row
            if len(buffer) >= PART:
                md5.update(buffer)
                r.execute_command("EXPCACHE.PART", key, token, bytes(buffer))
                buffer.clear()
            if time.monotonic() - renewed > LEASE / 3:
                r.execute_command("EXPCACHE.RENEW", key, token, f"{LEASE}s")
                renewed = time.monotonic()
        md5.update(buffer)
        # The last piece is the value. A piece that was lost or came twice makes another MD5: nothing is stored then.
        words = ["LEASE", token, "PARTS", "HASH", md5.hexdigest(), "FORMAT", "csv", "TAGS", 1, "company:42"]
        r.execute_command("EXPCACHE.SET", key, bytes(buffer), *words)
    except BaseException:
        r.execute_command("EXPCACHE.RELEASE", key, token)  # the pieces go with the lease
        raise


def main(host, port):
    r = redis.Redis(host=host, port=int(port), protocol=3, socket_timeout=60)
    size = sum(len(part) for part in read(r, "reports:42", rows))
    print(size, "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
