"""Answers only browsers on this machine that hold the token; others see no record text.

The Host must be this server's own, which stops a foreign name that points here (DNS rebinding). A
foreign Origin is refused, and so is a request that comes from another site's page. The token comes
once in the address. The answer is a cookie that scripts cannot read and other sites cannot send,
and a redirect that removes the token from the address. Only GET and HEAD are allowed.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import traceback
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("ehrmind.view")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
FOREIGN_HOST = (
    "This view answers to 127.0.0.1 and localhost only, under its own port; open the address that `ehrmind view`"
    " printed."
)
FOREIGN_ORIGIN = "Another site's page asked for this, which is refused; open the address that `ehrmind view` printed."
NO_TOKEN = (
    "This view needs its token: paste the whole address that `ehrmind view` printed into the browser's address field."
)
READ_ONLY = "This view is read-only and knows GET and HEAD alone."
FAULT = (
    "Something went wrong in the view; the terminal it runs in names the place, and its text is withheld because it may"
    " quote a record."
)


def guarded(app: ASGIApp, port: int, token: str | None) -> ASGIApp:
    """`app` behind the checks; without a token everybody on this machine may ask."""
    cookie, session = f"ehrmind-view-{port}", secrets.token_urlsafe(32)

    def refused(request: Request) -> Response | None:
        """The refusal, or None where the app may answer."""
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse(READ_ONLY, 405, {"Allow": "GET, HEAD"})
        if request.headers.getlist("host") not in ([f"127.0.0.1:{port}"], [f"localhost:{port}"]):
            return PlainTextResponse(FOREIGN_HOST, 403)
        if _is_foreign(request):
            return PlainTextResponse(FOREIGN_ORIGIN, 403)
        if token is None:
            return None
        if request.scope["path"] == "/" and "token" in request.query_params:
            if not _same(request.query_params["token"], token):
                return PlainTextResponse(NO_TOKEN, 403)
            answer = RedirectResponse("/", 303)
            answer.set_cookie(cookie, session, path="/", httponly=True, samesite="strict")
            return answer
        return None if _same(request.cookies.get(cookie, ""), session) else PlainTextResponse(NO_TOKEN, 403)

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # uvicorn is configured for http only
        started = False

        async def dressed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                ours = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
                message["headers"] = [
                    *((name, value) for name, value in message["headers"] if name.lower() not in ours),
                    *ours.items(),
                ]
            await send(message)

        try:
            await (refused(Request(scope)) or app)(scope, receive, dressed)
        except Exception as error:  # noqa: BLE001 - outermost: the server would log the text of the error
            LOG.error("%s in %s", type(error).__name__, _place(error))
            if not started:
                await PlainTextResponse(FAULT, 500)(scope, receive, dressed)

    return answered


def _is_foreign(request: Request) -> bool:
    """Whether another site's page asks; a person may open `/` from anywhere."""
    if any(origin != f"http://{request.headers['host']}" for origin in request.headers.getlist("origin")):
        return True
    opened = request.scope["path"] == "/" and request.headers.get("sec-fetch-mode") == "navigate"
    return not opened and request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _place(error: BaseException) -> str:
    """File and line of the innermost frame of this room."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent == Path(__file__).parent
    ]
    return f"view/{Path(frames[-1].filename).name}, line {frames[-1].lineno}"
