"""The routes of the live view, and the server that answers them on the loopback address only."""

from __future__ import annotations

import json
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from threading import Lock

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ehrmind.runs import Run
from ehrmind.types import InputError
from ehrmind.view.cases import Cases
from ehrmind.view.curves import curves, stamp
from ehrmind.view.guard import FAULT, guarded
from ehrmind.view.paging import Page, choices, page_of, places_of, positions, whole
from ehrmind.view.rollout_detail import detail, difference, group, rest
from ehrmind.view.rollout_index import Index, Rollouts
from ehrmind.view.run_index import described, known_runs, run_of, why_none
from ehrmind.view.search import Search

MOST_RUNS = 4  # kept in memory with the index of their rollouts
STATIC = {  # the files of the page by address: (package, path in it, media type)
    "/": ("ehrmind.view", "static/index.html", "text/html"),
    "/page.css": ("ehrmind.report", "templates/page.css", "text/css"),
    "/view.css": ("ehrmind.view", "static/view.css", "text/css"),
    **{
        f"/{name}.js": ("ehrmind.view", f"static/{name}.js", "text/javascript")
        for name in ("view", "dom", "curves", "rollouts", "rollout_detail")
    },
}
NOT_HERE = "There is nothing at this address; the view begins at /."


@dataclass(frozen=True)
class Shown:
    """A run that was looked at, with its index, cases and search."""

    run: Run
    index: Index
    cases: Cases
    search: Search = field(default_factory=Search)


def application(root: Path, port: int, token: str | None) -> ASGIApp:
    """The view of the runs under `root`, behind its guard."""
    kept: OrderedDict[str, Shown] = OrderedDict()
    lock = Lock()

    def shown(request: Request) -> Shown:
        name = request.query_params.get("run", "")
        run = run_of(root, name)
        with lock:
            found = kept.pop(name, None) or Shown(run, Index(run), Cases(run))
            kept[name] = found
            while len(kept) > MOST_RUNS:
                kept.popitem(last=False)
        return found

    def runs(request: Request) -> Response:
        return _json([described(name, run) for name, run in known_runs(root).items()])

    def figures(request: Request) -> Response:
        run = shown(request).run
        name = request.query_params["run"]
        return _unless_known(request, stamp(run), lambda: {**described(name, run), **curves(run)})

    def filters(request: Request) -> Response:
        rollouts = shown(request).index.rollouts()
        return _unless_known(request, rollouts.version, lambda: choices(rollouts))

    def page(request: Request) -> Response:
        here = shown(request)
        rollouts = here.index.rollouts()
        return _unless_known(request, f"{rollouts.version}-{request.url.query}", lambda: _page(here, rollouts, request))

    routes = {"runs": runs, "figures": figures, "filters": filters, "rollouts": page, **_opening(shown)}
    return guarded(
        Starlette(
            routes=[*(Route(f"/api/{name}", answer) for name, answer in routes.items()), *_files()],
            exception_handlers={
                InputError: _said,
                HTTPException: _said,
                Exception: _said,  # the guard logs the place of a fault
            },
        ),
        port,
        token,
    )


def _opening(shown: Callable[[Request], Shown]) -> dict[str, Callable[[Request], Response]]:
    """The routes of details: one rollout, a group, two answers, the rest of a long text."""

    def one(request: Request) -> Response:
        here, rollouts = shown(request), shown(request).index.rollouts(whole=True)
        return _json(detail(rollouts, here.cases, *_at(rollouts, request)))

    def side_by_side(request: Request) -> Response:
        here, rollouts = shown(request), shown(request).index.rollouts(whole=True)
        return _json(group(rollouts, here.cases, _at(rollouts, request)[0], request.query_params.get("case", "")))

    def places(request: Request) -> Response:
        return _json(places_of(shown(request).index.rollouts(whole=True), request.query_params.get("case", "")))

    def compared(request: Request) -> Response:
        rollouts = shown(request).index.rollouts(whole=True)
        return _json(difference(rollouts, _at(rollouts, request), _at(rollouts, request, "to_")))

    def more(request: Request) -> Response:
        here, rollouts = shown(request), shown(request).index.rollouts(whole=True)
        what, start = request.query_params.get("what"), whole(request.query_params, "start", 0)
        return _json(
            rest(rollouts, here.cases, *_at(rollouts, request), "record" if what == "record" else "text", start)
        )

    return {"rollout": one, "group": side_by_side, "places": places, "difference": compared, "rest": more}


def serve(root: Path, port: int, token: str | None, say: Callable[[str], None]) -> None:
    """Serves until the keyboard or a signal ends it; passes its address to `say`.

    Raises InputError when the port is taken or the folder is not there.
    """
    known_runs(root)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"Port {port} cannot be used ({error.strerror}); choose another with --port, such as 0 for any."
            ) from None
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            application(root, port, token),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,  # an address may hold the text of a search
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        listening.listen()  # a browser that opens the address at once waits and is not refused
        say(f"http://127.0.0.1:{port}/{f'?token={token}' if token else ''}")
        uvicorn.Server(config).run(sockets=[listening])


def new_token() -> str:
    return secrets.token_urlsafe(32)


class PageOfRun(Page):
    """A page with the number of all rollouts; `none` says why there are none."""

    of: int
    not_searched: int
    none: str


def _page(here: Shown, rollouts: Rollouts, request: Request) -> PageOfRun:
    wanted = dict(request.query_params)
    found, left = positions(rollouts, wanted), 0
    if wanted.get("text"):
        found, left = here.search.within(rollouts, found, wanted["text"], here.cases.records())
    shown = page_of(rollouts, found, whole(wanted, "page", 0))
    return {
        **shown,
        "of": rollouts.frame.height,
        "not_searched": left,
        "none": "" if rollouts.frame.height else why_none(here.run),
    }


def _at(rollouts: Rollouts, request: Request, prefix: str = "") -> tuple[int, int]:
    """(file, row) of the stage, step and row in the address."""
    asked = request.query_params
    return rollouts.number_of(asked.get(f"{prefix}stage", ""), whole(asked, f"{prefix}step")), whole(
        asked, f"{prefix}row", 0
    )


def _unless_known(request: Request, version: str, make: Callable[[], Mapping[str, object]]) -> Response:
    """304 where the page has this version; an answer that is still incomplete has no version."""
    tag = f'"{version}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    made = make()
    return _json(made, {} if made.get("not_searched") or made.get("left") else {"ETag": tag})


def _json(value: object, headers: dict[str, str] | None = None) -> Response:
    """JSON in ASCII, so that no character of a text is lost, not even a lone surrogate."""
    return Response(json.dumps(value, allow_nan=False), headers=headers, media_type="application/json")


def _said(request: Request, error: Exception) -> Response:
    if isinstance(error, InputError):
        return PlainTextResponse(str(error), 404)
    if isinstance(error, HTTPException):
        return PlainTextResponse(NOT_HERE, error.status_code)
    return PlainTextResponse(FAULT, 500)


def _files() -> list[Route]:
    def route(address: str, room: str, name: str, kind: str) -> Route:
        content = (resources.files(room) / name).read_bytes()
        return Route(address, lambda request: Response(content, media_type=kind))

    return [route(address, *found) for address, found in STATIC.items()]
