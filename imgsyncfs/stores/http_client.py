"""GETs over libcurl: kept connections, proxies and TLS.

libcurl's own texts stay here: they may hold URLs, and a shared access signature is part of a URL.

Threads: any number may use one client. A session (connections, and the handles that use them) belongs to the thread
that took it until it is put back. The table of kept sessions is a deque, whose ends may be used without a lock.
Sessions are made when they are first needed, so a process that was forked before has none of its parent's.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pycurl

MOST_CONNECTIONS = 8
"""Connections that one call uses side by side: more only queue up in a near server."""

IDLE_SECONDS = 110.0
"""libcurl uses no connection again that was idle for 118 s."""

_RECEIVE_BYTES = 512 << 10
_MOST_DISCARDED = 64 << 10
"""How much of an unwanted body is received to keep the connection."""

# See "openssl-verification-options", OpenSSL's manual.
_CERTIFICATE_FAULTS = {
    9: "it is not yet valid",
    10: "it has expired",
    18: "it is self-signed",
    19: "a self-signed certificate is in its chain",
    20: "its issuer is unknown",
    62: "it is for another host",
    64: "it is for another host",
}
_E_PROXY = 97
"""CURLE_PROXY, for which pycurl has no name."""

_BY_OS_ERROR = {pycurl.E_COULDNT_CONNECT, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR}
_POLL_EVENTS = {
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}


@dataclass(frozen=True, slots=True)
class Body:
    """Takes the body of an answer.

    Attributes:
        byte_count: the length that the body must have.
        write: called with the bytes as they come.
    """

    byte_count: int
    write: Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Get:
    """A GET to send.

    Attributes:
        url: percent-encoded; sent as it is.
        headers: of the request.
        accept: called with status and headers when a body begins; returns what takes it, or None to discard it.
    """

    url: str
    headers: Mapping[str, str]
    accept: Callable[[int, Mapping[str, str]], Body | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        status: of HTTP.
        headers: a mapping that ignores case.
        is_taken: whether the body was accepted, has been written, and has the length that it must have.
        has_body: whether there was a body of at least a byte.
    """

    status: int
    headers: Mapping[str, str]
    is_taken: bool = False
    has_body: bool = False


def time_left(deadline: float, most: float) -> float:
    """Seconds until a deadline.

    Args:
        deadline: a time of `time.monotonic`.
        most: the result's upper limit, in seconds.

    Raises:
        TimeoutError: the deadline has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return min(left, most)


class HttpClient:
    """Sends GETs, and keeps the connections for the next ones.

    Args:
        proxy: URL of the proxy; empty if there is none.
        authorities: file or folder with the certificates to trust.
        stall_timeout: how long a connection may be silent, in seconds.
        most_kept: how many threads may use the client without new connections.
        idle_seconds: after this time connections that nobody uses are closed.
    """

    def __init__(
        self,
        *,
        proxy: str,
        authorities: str,
        stall_timeout: float,
        most_kept: int,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._proxy = proxy
        self._authorities = authorities
        self._stall_timeout = stall_timeout
        self._idle_seconds = idle_seconds
        self._kept: deque[_Session] = deque(maxlen=most_kept)

    def get(self, request: Get, *, deadline: float) -> Answer:
        """Send a GET and receive the answer.

        Args:
            request: what to send.
            deadline: until when, a time of `time.monotonic`.

        Raises:
            OSError: the connection failed, the answer came too late (`TimeoutError`) or broke off, or what came is no
                HTTP.
            Exception: what left `Body.write`.
        """
        (transfer,) = self._run([request], deadline)
        if transfer.answer is None:
            raise transfer.error or TimeoutError("timed out")
        return transfer.answer

    def get_all(self, requests: Sequence[Get], *, deadline: float) -> list[Answer | None]:
        """Send several GETs, `MOST_CONNECTIONS` side by side, and receive the answers.

        Args:
            requests: what to send.
            deadline: as for `get`.

        Returns:
            The answers; None for each request that failed.
        """
        return [transfer.answer for transfer in self._run(requests, deadline)]

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while (session := self._pop()) is not None:
            session.close()

    def _run(self, requests: Sequence[Get], deadline: float) -> list[_Transfer]:
        """Run requests; each transfer has an answer or an error afterwards, or neither if it came too late."""
        transfers = [_Transfer(request) for request in requests]
        session = self._pop() or _Session(self._new_handle)
        try:
            session.run(transfers, deadline=deadline, stall_timeout=self._stall_timeout)
        except TimeoutError:
            session.close()
            # A firewall that forgot these connections has probably forgotten the idle ones too: each costs a wait.
            self.close()
        except BaseException:
            session.close()
            raise
        else:
            self._keep(session)
        for transfer in transfers:
            if transfer.raised is not None:
                raise transfer.raised
        return transfers

    def _pop(self) -> _Session | None:
        """The kept session that was used last, since its connections are the most likely to be open."""
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def _keep(self, session: _Session) -> None:
        self._kept.append(session)
        try:
            oldest = self._kept.popleft()
        except IndexError:
            return
        if time.monotonic() < oldest.used_at + self._idle_seconds:
            self._kept.appendleft(oldest)
        else:
            oldest.close()

    def _new_handle(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        handle.setopt(pycurl.NOSIGNAL, 1)
        handle.setopt(pycurl.BUFFERSIZE, _RECEIVE_BYTES)
        # What is signed must be sent as it is. No request follows a redirect: libcurl does so only if told to.
        handle.setopt(pycurl.PATH_AS_IS, 1)
        handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        # Both set, so that libcurl does not look into the environment itself.
        handle.setopt(pycurl.PROXY, self._proxy)
        handle.setopt(pycurl.NOPROXY, "")
        if Path(self._authorities).is_dir():
            options = (pycurl.CAPATH, pycurl.PROXY_CAPATH)
        else:
            options = (pycurl.CAINFO, pycurl.PROXY_CAINFO)
        for option in options:
            handle.setopt(option, self._authorities)
        return handle


class _Headers(Mapping[str, str]):
    """An answer's headers; most are never asked for, so each is searched for when it is."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._folded = head.lower()

    def __getitem__(self, name: str) -> str:
        before = b"\n" + name.lower().encode("latin-1") + b":"
        start = self._folded.find(before)
        if start < 0:
            raise KeyError(name)
        start += len(before)
        return self._head[start : self._head.find(b"\n", start)].strip().decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        names = (line.partition(b":")[0] for line in self._folded.splitlines()[1:] if b":" in line)
        return (name.decode("latin-1") for name in dict.fromkeys(names))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Transfer:
    """A GET on its way: libcurl's callbacks, and what became of it.

    Attributes:
        request: what is sent.
        answer: what came.
        error: what went wrong on the way.
        raised: what left `Body.write`.
    """

    def __init__(self, request: Get) -> None:
        self.request = request
        self.answer: Answer | None = None
        self.error: OSError | None = None
        self.raised: BaseException | None = None
        self._lines: list[bytes] = []
        self._status = 0
        self._headers = _Headers(b"")
        self._body: Body | None = None
        self._received = self._most = 0
        self._is_cut = False

    def prepare(self, handle: pycurl.Curl) -> None:
        """Give a handle what it needs for this request.

        Raises:
            ValueError: the URL or a header holds a character that could make two headers of one.
        """
        request = self.request
        headers = [f"{name}: {value}" for name, value in request.headers.items()]
        text = "".join((request.url, *headers))
        if not (text.isascii() and text.isprintable()):
            raise ValueError("A request holds a control character, or a letter that is not ASCII.")
        handle.setopt(pycurl.URL, request.url)
        # Some proxies compress what they pass on unless they are told not to.
        handle.setopt(pycurl.HTTPHEADER, ["Accept-Encoding: identity", *headers])
        handle.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        handle.setopt(pycurl.WRITEFUNCTION, self._write)

    def end(self, handle: pycurl.Curl, code: int) -> None:
        """Note how the transfer ended.

        Args:
            handle: the transfer's.
            code: libcurl's; 0 if all went well.
        """
        if not code and not self._received:
            self._begin()
        left = self._body.byte_count - self._received if self._body is not None else None
        if code and left != 0 and not self._is_cut:
            self.error = _error(handle, code)
        # libcurl takes a connection that ends within the head for the end of an answer without a body.
        elif (left is not None and left > 0) or self._lines[-1].strip():
            self.error = ConnectionError("the connection ended early")
        else:
            self.answer = Answer(self._status, self._headers, is_taken=left == 0, has_body=self._received > 0)

    def release(self) -> None:
        """Forget what takes the body: a kept handle refers to this transfer until it gets another one."""
        self._body = None

    def _write(self, content: bytes) -> int | None:
        """Take the next bytes of the body; -1 ends the transfer. No exception can pass through libcurl."""
        try:
            if not self._received:
                self._begin()
            self._received += len(content)
            if self._received > self._most:
                self._is_cut = True
                return -1
            if self._body is not None:
                self._body.write(content)
        except BaseException as error:  # noqa: BLE001  # `HttpClient` raises it
            self.raised = error
            return -1
        return None

    def _begin(self) -> None:
        """Look at the head: of the last answer, for one of a proxy or an interim one may stand before it."""
        head = b"".join(self._lines)
        head = head[head.rfind(b"\nHTTP/") + 1 :]
        self._status, self._headers = int(head.split(None, 2)[1]), _Headers(head)
        self._body = self.request.accept(self._status, self._headers)
        self._most = _MOST_DISCARDED if self._body is None else self._body.byte_count


class _Session:
    """Connections, and the handles that use them; for one thread at a time.

    Sockets are watched with poll: libcurl's own waiting and pycurl's `select` know no descriptors beyond 1023.

    Args:
        new_handle: makes a handle.

    Attributes:
        used_at: when it was used last, a time of `time.monotonic`.
    """

    def __init__(self, new_handle: Callable[[], pycurl.Curl]) -> None:
        self._new_handle = new_handle
        self._handles: list[pycurl.Curl] = []
        self._sockets = select.poll()
        self._timer = math.inf
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, MOST_CONNECTIONS)
        self._multi.setopt(pycurl.M_MAXCONNECTS, MOST_CONNECTIONS)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self.used_at = 0.0

    def run(self, transfers: Sequence[_Transfer], *, deadline: float, stall_timeout: float) -> None:
        """Run transfers side by side. None of them touches memory afterwards, however this ends.

        Args:
            transfers: what to run.
            deadline: until when, a time of `time.monotonic`.
            stall_timeout: how long all connections may be silent together, in seconds.

        Raises:
            TimeoutError: some came too late; those have neither an answer nor an error.
        """
        under_way: dict[pycurl.Curl, _Transfer] = {}
        try:
            for transfer in transfers:
                handle = self._handles.pop() if self._handles else self._new_handle()
                transfer.prepare(handle)
                self._multi.add_handle(handle)
                under_way[handle] = transfer
            try:
                self._drive(deadline, stall_timeout)
            finally:
                self._note_ended(under_way)
        finally:
            for handle, transfer in under_way.items():
                self._multi.remove_handle(handle)
                transfer.release()
        # No more are kept than are in flight at a time.
        handles = [*self._handles, *under_way]
        self._handles = handles[:MOST_CONNECTIONS]
        for handle in handles[MOST_CONNECTIONS:]:
            handle.close()
        self.used_at = time.monotonic()

    def close(self) -> None:
        """Close all connections."""
        for handle in self._handles:
            handle.close()
        self._multi.close()

    def _drive(self, deadline: float, stall_timeout: float) -> None:
        silent_until = time.monotonic() + stall_timeout
        _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        while running:
            seconds = time_left(min(deadline, silent_until), stall_timeout)
            seconds = min(seconds, max(0.0, self._timer - time.monotonic()))
            events = self._sockets.poll(math.ceil(seconds * 1000))
            for descriptor, event in events:
                _, running = self._multi.socket_action(descriptor, _ready(event))
            if events:
                # After the callbacks, which may take their time.
                silent_until = time.monotonic() + stall_timeout
            if time.monotonic() >= self._timer:
                self._timer = math.inf
                _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _note_ended(self, under_way: Mapping[pycurl.Curl, _Transfer]) -> None:
        left = 1
        while left:
            left, good, failed = self._multi.info_read()
            for handle, code in (*((handle, 0) for handle in good), *((handle, code) for handle, code, _ in failed)):
                under_way[handle].end(handle, code)

    def _watch(self, event: int, descriptor: int, _multi: object, _attached: object) -> None:
        if event == pycurl.POLL_REMOVE:
            self._sockets.unregister(descriptor)
        else:
            self._sockets.register(descriptor, _POLL_EVENTS[event])

    def _set_timer(self, milliseconds: int) -> None:
        self._timer = math.inf if milliseconds < 0 else time.monotonic() + milliseconds / 1000


def _ready(event: int) -> int:
    """A result of poll in libcurl's words."""
    ready = 0
    if event & (select.POLLIN | select.POLLHUP):
        ready |= pycurl.CSELECT_IN
    if event & select.POLLOUT:
        ready |= pycurl.CSELECT_OUT
    if event & (select.POLLERR | select.POLLNVAL):
        ready |= pycurl.CSELECT_ERR
    return ready


def _error(handle: pycurl.Curl, code: int) -> OSError:
    """The exception for a transfer that failed, without libcurl's text."""
    os_error = handle.getinfo(pycurl.OS_ERRNO)
    connect_status = handle.getinfo(pycurl.HTTP_CONNECTCODE)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return TimeoutError("timed out")
    if code == pycurl.E_COULDNT_RESOLVE_HOST:
        return socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    if code == pycurl.E_COULDNT_RESOLVE_PROXY:
        return OSError(errno.EHOSTUNREACH, "the proxy's host name is unknown")
    if code in {pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE}:
        return _certificate_error(handle, code)
    if code == pycurl.E_SSL_CONNECT_ERROR:
        return OSError(errno.EPROTO, "the TLS handshake failed")
    if connect_status >= 300:
        return OSError(errno.ECONNREFUSED, f"the proxy refused with HTTP {connect_status}")
    if code == _E_PROXY:
        return OSError(errno.ECONNREFUSED, "the proxy did not connect")
    if code in _BY_OS_ERROR and os_error:
        return OSError(os_error, os.strerror(os_error))
    return ConnectionError("the connection broke off")


def _certificate_error(handle: pycurl.Curl, code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    verify_result = handle.getinfo(pycurl.SSL_VERIFYRESULT)
    if code == pycurl.E_SSL_CACERT_BADFILE:
        error.verify_message = "the file of trusted certificates cannot be read"
    else:
        # 0 or 1 where OpenSSL found no fault: libcurl compares the names itself.
        unknown = f"OpenSSL's code {verify_result}" if verify_result > 1 else "it is for another host"
        error.verify_message = _CERTIFICATE_FAULTS.get(verify_result, unknown)
    return error
