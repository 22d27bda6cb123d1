"""The bystander: a client that sends `GET` of a native key every millisecond, in a process of its own.

    python3 benches/probe.py ADDRESS KEY

The address is a port of this machine or the path of a Unix socket. When it is ready it says so. Then each line on its input starts a window or, if one is
open, ends it; at its end comes one line of JSON with the window's latencies in milliseconds. Its own process, because a
Python thread beside the loader would measure Python.

A request that could not be sent in time because the one before it was still unanswered counts from the moment when it
was due, as for a user who comes at that moment. Without that, a stall of seconds is a single slow request among
thousands, and p99 does not see it.
"""

import gc
import json
import select
import sys
import time

import lab

INTERVAL_S = 0.001


def ask(connection, request):
    """One request and its reply, which must be a value and comes in one piece, being so short."""
    connection.sendall(request)
    reply = connection.recv(4096)
    if not reply.startswith(b"$"):
        raise SystemExit(f"the probe got {reply!r}")


def window(connection, request):
    """Latencies in seconds, until there is input."""
    latencies = []
    due = time.perf_counter()
    while not select.select([sys.stdin], [], [], 0)[0]:
        now = time.perf_counter()
        if now < due:
            time.sleep(due - now)
            due = time.perf_counter()  # an oversleep is this process's fault, not the server's
        ask(connection, request)
        latencies.append(time.perf_counter() - due)
        due += INTERVAL_S
    sys.stdin.readline()
    return latencies


def summary(latencies):
    latencies.sort()

    def at(share):
        return 1000 * latencies[min(len(latencies) - 1, int(share * len(latencies)))]

    return {"requests": len(latencies), "p50": at(0.5), "p99": at(0.99), "p99.9": at(0.999), "worst": at(1)}


def main():
    address, key = sys.argv[1:]
    connection = lab.dial(int(address) if address.isdigit() else address)
    request = f"*2\r\n$3\r\nGET\r\n${len(key)}\r\n{key}\r\n".encode()
    for _ in range(100):
        ask(connection, request)
    gc.disable()
    print("ready", flush=True)  # a window that ends before it was seen to begin would never end
    while sys.stdin.readline():
        print(json.dumps(summary(window(connection, request))), flush=True)


if __name__ == "__main__":
    main()
