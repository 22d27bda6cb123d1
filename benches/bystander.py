"""Another client, who has nothing to do with what is measured and must not notice it: see probe.py."""

import json
import os
import subprocess
import sys

KEY = "bystander"


class Probe:
    """The bystander's process. Between `start` and `end` it sends a `GET` every millisecond."""

    def __init__(self, server, address=None):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.py")
        command = [sys.executable, script, str(address or server.port), KEY]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._process.stdout.readline()  # it is ready

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def start(self):
        self._tell("start")

    def end(self):
        self._tell("end")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the probe has ended")
        return json.loads(line)

    def _tell(self, what):
        print(what, file=self._process.stdin, flush=True)
