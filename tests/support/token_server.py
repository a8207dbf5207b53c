"""A server that gives access tokens, as a machine in Azure has one for its managed identity (App Service's form).

Tokens are JSON Web Tokens (RFC 7519) whose signature is none: nobody here checks it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SECRET_HEADER = "known-to-this-machine"  # of the tests alone


@dataclass
class TokenServer:
    """What it gives, and what it was asked for.

    Attributes:
        port: where it listens.
        seconds: how long each token lasts.
        refuses: whether it gives none.
        resources: what tokens were asked for, in order.
        tokens: what was given for that.
    """

    port: int = 0
    seconds: float = 3600.0
    refuses: bool = False
    resources: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which azure-identity finds it."""
        return {"IDENTITY_ENDPOINT": f"http://127.0.0.1:{self.port}/token", "IDENTITY_HEADER": SECRET_HEADER}


@contextlib.contextmanager
def token_server() -> Iterator[TokenServer]:
    """A server for the length of a ``with`` block."""
    state = TokenServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            if state.refuses or self.headers.get("X-IDENTITY-HEADER") != SECRET_HEADER:
                self._answer(400, {"statusCode": 400, "message": "there is no such identity"})
                return
            resource = asked["resource"][0]
            ends = int(time.time() + state.seconds)
            state.resources.append(resource)
            state.tokens.append(_token(len(state.tokens), resource, ends))
            self._answer(
                200,
                {
                    "access_token": state.tokens[-1],
                    "expires_on": str(ends),
                    "resource": resource,
                    "token_type": "Bearer",
                },
            )

        def _answer(self, status: int, document: Mapping[str, object]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def _token(number: int, resource: str, ends: int) -> str:
    claims = {
        "aud": resource,
        "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
        "jti": str(number),
        "nbf": ends - 86400,
        "iat": ends - 86400,
        "exp": ends,
    }
    parts = [json.dumps({"alg": "RS256", "typ": "JWT"}).encode(), json.dumps(claims).encode(), b"none"]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
