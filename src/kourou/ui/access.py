"""Who may see the dashboard: whoever shows its token, once in the URL, then by a cookie; from pages of its own only.

The token is the dashboard's, made when it starts. It may stop and restart nodes and read what they print; a run's
token may run any code in them, and is in no URL.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import urllib.parse
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_HEADER = "x-kourou"
"""What asks for a change has this header: a page of another site cannot send it without being let to, and none is."""

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_STRANGER = """<!doctype html><meta charset="utf-8"><title>kourou</title>
<p>This is a dashboard of kourou. It shows itself to whoever opens it with the URL that <code>kourou ui</code> printed,
which has a token. That URL is good for as long as the dashboard runs.</p>"""


class Access:
    """Lets nobody in who does not know the token, and nobody else's page do anything.

    Args:
        app: what is behind it.
        token: the dashboard's.
        host: where it listens: a name or an address.
    """

    def __init__(self, app: ASGIApp, *, token: str, host: str) -> None:
        self._app = app
        self._token = token.encode()
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """What is answered instead; None: it may come in."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host):
            return PlainTextResponse(f"this dashboard is not called {host!r}\n", 403)
        shown = urllib.parse.parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        if scope["method"] == "GET" and self._is_token(shown):
            return self._welcome(scope)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie_name(scope), "")
        if not self._is_token(bearer) and not self._is_token(cookie):
            return HTMLResponse(_STRANGER, 401, {"www-authenticate": "Bearer"})
        if scope["method"] not in {"GET", "HEAD"}:
            origin = headers.get("origin")
            if CSRF_HEADER not in headers or origin not in {None, f"{scope['scheme']}://{host}"}:
                return PlainTextResponse(f"what changes something is asked for with the header {CSRF_HEADER}\n", 403)
        return None

    def _welcome(self, scope: Scope) -> Response:
        """The same page without the token in its URL, and a cookie in its place."""
        query = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        rest = urllib.parse.urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + urllib.parse.quote(scope["path"].lstrip("/"))  # "//host" would lead elsewhere
        answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(self._cookie_name(scope), self._token.decode(), httponly=True, samesite="lax", path="/")
        return answer

    def _cookie_name(self, scope: Scope) -> str:
        """Cookies are of a host and not of a port, and one host may have several dashboards."""
        server = scope.get("server") or ("", 0)
        return f"kourou-ui-{server[1]}"

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(errors="replace"), self._token)

    def _is_ours(self, host: str) -> bool:
        """Whether a request is for this server: somebody else's name may have come to lead here (DNS rebinding)."""
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        return name in {self._host, "localhost", socket.gethostname()} or _is_address(name.strip("[]"))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
