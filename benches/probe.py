"""The bystander: a client that sends `GET` of a native key every millisecond, in a process of its own.

    python3 benches/probe.py ADDRESS KEY

The address is a port of this machine or the path of a Unix socket. When it is ready it says so. Then each line on its input starts a window or, if one is
open, ends it; at its end comes one line of JSON with the window's latencies in milliseconds. Its own process, because a
Python thread beside the loader would measure Python.

It sends whether or not the requests before are answered, as users do who each have a connection of their own: all that come
while the server is at something wait for that, and none waits for the others' turns.
"""

import collections
import gc
import json
import select
import sys
import time

import lab

INTERVAL_S = 0.001


def reply_length(connection, request):
    """How long a reply is, which must be a value and comes in one piece, being so short."""
    connection.sendall(request)
    reply = connection.recv(4096)
    if not reply.startswith(b"$"):
        raise SystemExit(f"the probe got {reply!r}")
    return len(reply)


def window(connection, request):
    """Latencies in seconds, until there is input and all is answered."""
    length = reply_length(connection, request)
    latencies, sent, got, is_over = [], collections.deque(), 0, False
    due = time.perf_counter()
    while sent or not is_over:
        now = time.perf_counter()
        if now < due or is_over:
            wait = None if is_over else due - now
            readable = select.select([connection] if is_over else [connection, sys.stdin], [], [], wait)[0]
            if connection in readable:
                got += len(connection.recv(1 << 16))
                now = time.perf_counter()
                while got >= length:
                    got -= length
                    latencies.append(now - sent.popleft())
            is_over = is_over or sys.stdin in readable
        else:
            # Sent late is this process's fault, and not the server's.
            connection.sendall(request)
            sent.append(now)
            due = max(due + INTERVAL_S, now)
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
        reply_length(connection, request)
    gc.disable()
    print("ready", flush=True)  # a window that ends before it was seen to begin would never end
    while sys.stdin.readline():
        print(json.dumps(summary(window(connection, request))), flush=True)


if __name__ == "__main__":
    main()
