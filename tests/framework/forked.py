"""``Popen`` and ``run`` of our commands by the fork server (`fork_server`); as those of ``subprocess`` otherwise."""

# mypy: disable-error-code=attr-defined
# typeshed has only the public half of subprocess.Popen
from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from typing import Any

from tests.framework.fork_server import MODULES


class ForkServer:
    """This process's fork server. It is no child of ours: tests look whether they have left any."""

    _asked: socket.socket | None = None

    @classmethod
    def start(cls) -> None:
        """It makes itself ready while others go on."""
        cls._asked, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.framework.fork_server"]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # a thread would not be there after a fork
        with there:
            pid = os.fork()
            if not pid:
                try:
                    subprocess.Popen(command, stdin=there, env=environment)
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)

    @classmethod
    def ask(cls, message: dict[str, object], fds: list[int]) -> None:
        if cls._asked is None:
            cls.start()
        assert cls._asked is not None
        socket.send_fds(cls._asked, [json.dumps(message).encode()], fds)


class Popen(subprocess.Popen[Any]):
    """``subprocess.Popen`` of ``[sys.executable, "-m", module, *arguments]``, where ``module`` is one of MODULES.

    Takes what the tests use of its options: stdin, stdout, stderr, text, cwd, env, pass_fds, bufsize.
    """

    _status = -1  # the pipe on which the server says how it has ended

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo,  # type: ignore[no-untyped-def]
                       creationflags, shell, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite,
                       restore_signals, gid, gids, uid, umask, start_new_session, process_group):  # fmt: skip
        python, option, module, *arguments = map(str, args)
        assert (python, option) == (sys.executable, "-m")
        assert module in MODULES
        assert [preexec_fn, shell, start_new_session, process_group] == [None, False, False, -1]
        streams = [own if given == -1 else given for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        message: dict[str, object] = {"module": module, "arguments": arguments, "cwd": os.fspath(cwd or os.getcwd()),
                   "environment": dict(os.environ if env is None else env),
                   "numbers": [0, 1, 2, *pass_fds]}  # fmt: skip
        self._status, there = os.pipe()
        try:
            ForkServer.ask(message, [there, *streams, *pass_fds])
        finally:
            os.close(there)
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        self.pid = self._number()
        self._child_created = True

    def _number(self) -> int:
        answer = os.read(self._status, 4)
        if len(answer) < 4:
            raise RuntimeError("the fork server has ended")
        return int.from_bytes(answer, "little")

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        ready = select.select([self._status], [], [], 0 if wait_flags & os.WNOHANG else None)[0]
        if not ready:
            return 0, 0
        status = self._number()
        os.close(self._status)
        return self.pid, status

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def run(command: list[str], *, input: Any = None, capture_output: bool = False, timeout: float | None = None,
        check: bool = False, **options: Any) -> subprocess.CompletedProcess[Any]:  # fmt: skip
    """``subprocess.run`` by the fork server."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(command, **options) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done
