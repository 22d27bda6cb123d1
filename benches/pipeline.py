"""A load generator for prepared commands: many connections, each always with one pipeline under way.

It exists beside redis-benchmark because that draws all its random numbers from one range, and tags are not so: there
are few companies and many users. Everything is made beforehand, so that this side costs less than the server.
"""

import selectors
import socket
import time

import lab

CONNECTIONS = 50
DEPTH = 16


def batches(commands):
    """Commands put together as one write each."""
    return [b"".join(chunk) for chunk in lab.chunks(commands, DEPTH)]


def drive(server, db, prepared, expected, times):
    """Sends all the prepared batches, `times` over; each must be answered by `expected`. The seconds it took."""
    lanes = [Lane(server, db, expected) for _ in range(CONNECTIONS)]
    waiting = selectors.DefaultSelector()
    try:
        for lane in lanes:
            waiting.register(lane.socket, selectors.EVENT_READ, lane)
        return exchange(waiting, lanes, prepared, times)
    finally:
        waiting.close()
        for lane in lanes:
            lane.socket.close()


def exchange(waiting, lanes, prepared, times):
    todo = (batch for _ in range(times) for batch in prepared)
    idle = 0
    start = time.perf_counter()
    for lane in lanes:
        idle += not lane.send_next(todo)
    while idle < len(lanes):
        ready = waiting.select(lab.TIMEOUT_S)
        if not ready:
            raise SystemExit("the server has stopped answering")
        for key, _ in ready:
            if key.data.answered():
                idle += not key.data.send_next(todo)
    return time.perf_counter() - start


class Lane:
    """One connection. It blocks in sending, which a server that reads never lets happen."""

    def __init__(self, server, db, expected):
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=lab.TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(lab.resp("SELECT", db))
        if self.socket.recv(100) != b"+OK\r\n":
            raise SystemExit(f"cannot select database {db}")
        self._expected = expected
        self._got = b""

    def send_next(self, todo):
        """Sends the next batch; False when there is none."""
        batch = next(todo, None)
        if batch is None:
            return False
        self.socket.sendall(batch)
        return True

    def answered(self):
        """Reads what is there; True when the batch's replies are complete."""
        data = self._got + self.socket.recv(1 << 16)
        if data == self._expected:
            self._got = b""
            return True
        if not data or not self._expected.startswith(data):
            raise SystemExit(f"unexpected reply: {data[:200]!r}")
        self._got = data
        return False
