"""Servers on the loopback for offline tests of curation: files by range with faults, a STAC API.

`python tests/servers.py ROOT` is the process of the first; it takes rules from stdin as JSON lines.
"""

import contextlib
import datetime as dt
import json
import random
import re
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, is_dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import shapely
from shapely.geometry import shape


@dataclass(frozen=True)
class Faults:
    """Which share of the GETs that would have been answered well fails, in an order set by `seed`.

    `unavailable` of them answer 503 with Retry-After; `truncated` of them get half of the promised
    body and lose the connection.
    """

    seed: int = 0
    unavailable: float = 0.0
    truncated: float = 0.0
    retry_after: int = 0


@dataclass
class TokenRule:
    """Signed access as the Planetary Computer has it: a file needs `sig` of a token in force.

    With `refuses`, tokens are issued but none opens a file.
    """

    lifetime_s: float = 3600.0
    refuses: bool = False

    @property
    def issued(self):
        """How many tokens the server of this rule gave out."""
        return self.server._seen("issued")

    def expire(self):
        """All tokens issued so far become invalid at once, before the expiry they promised."""
        self.server._tell(expire=True)


class _Server(ThreadingHTTPServer):
    """Joins its threads on leaving, so that no socket outlives the test that opened it."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, handler, owner):
        self.owner, self._open = owner, set()
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join()

    def process_request(self, request, client_address):
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for a delayed acknowledgement

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", *, length=None, **headers):
        """Promises `length` bytes, sends `body`; a shorter body ends the connection."""
        length = len(body) if length is None else length
        self.send_response(status)
        for name, value in {"Content-Length": length, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.write(body)
            if len(body) < length:
                self.close_connection = True

    def write(self, body):
        self.wfile.write(body)

    def answer_json(self, status, value, kind="application/json"):
        self.answer(status, json.dumps(value).encode(), Content_Type=kind)


class _Files(_Handler):
    def write(self, body):
        """In pieces, so that what a client hangs up on is not counted as sent."""
        for start in range(0, len(body), 65_536):
            piece = body[start : start + 65_536]
            self.server.owner.count(len(piece))
            self.wfile.write(piece)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        owner, url = self.server.owner, urlsplit(self.path)
        path, body, headers = unquote(url.path), b"", {}
        status, faults = owner.status(path, url.query), owner.faults
        fault = owner.draw(faults) if faults and status == 200 and self.command == "GET" else None
        if fault == "unavailable":
            status, headers = 503, {"Retry_After": faults.retry_after}
        elif status == 200 and path.startswith("/sas/"):
            body = json.dumps(owner.issue()).encode()
            headers = {"Content_Type": "application/json"}
        elif status == 200:
            status, body, headers = self._slice(owner.root / path.lstrip("/"))
        length = len(body)
        if fault == "truncated":
            body = body[: length // 2]
        owner.note(self.command, path, self.headers.get("Range"), status)
        self.answer(status, body, length=length, **headers)

    def _slice(self, file):
        """The bytes of a single range, or of the whole file: an unclear range may be ignored."""
        size = file.stat().st_size
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        first, last = match.groups() if match else ("", "")
        if not first and not last:
            return 200, file.read_bytes(), {"Accept_Ranges": "bytes"} | self._more(file)
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= stop:
            return 416, b"", {"Content_Range": f"bytes */{size}"}
        with file.open("rb") as stream:
            stream.seek(start)
            body = stream.read(stop - start)
        content = f"bytes {start}-{stop - 1}/{size}"
        return 206, body, {"Accept_Ranges": "bytes", "Content_Range": content} | self._more(file)

    def _more(self, file):
        """Headers from the JSON file beside it, if there is one."""
        more = file.with_name(f"{file.name}.headers")
        return json.loads(more.read_text()) if more.is_file() else {}


class _Shelf:
    """What the file server goes by and what it has seen."""

    def __init__(self, root):
        self.root, self.missing, self.broken, self.tokens = Path(root), (), (), None
        self.requests, self.bytes_sent, self.issued, self._ends = [], 0, 0, {}
        self._lock = threading.Lock()
        self.follow(faults=None)

    def follow(self, *, expire=False, **rules):
        kinds = {"faults": Faults, "tokens": TokenRule}
        with self._lock:
            for name, rule in rules.items():
                setattr(self, name, kinds[name](**rule) if rule and name in kinds else rule)
            if "faults" in rules:
                self._random = random.Random(self.faults.seed if self.faults else 0)
            if expire:
                self._ends.clear()

    def report(self):
        with self._lock:
            seen = {"requests": list(self.requests), "bytes_sent": self.bytes_sent}
            return seen | {"issued": self.issued}

    def status(self, path, query):
        if path in self.broken:
            return 500
        if path in self.missing:
            return 404
        if path.startswith("/sas/"):
            return 200 if self.tokens else 404
        if self.tokens and (self.tokens.refuses or not self._allows(query)):
            return 403
        file = (self.root / path.lstrip("/")).resolve()
        return 200 if file.is_file() and file.is_relative_to(self.root.resolve()) else 404

    def draw(self, faults):
        with self._lock:
            at = self._random.random()
        if at < faults.unavailable:
            return "unavailable"
        return "truncated" if at < faults.unavailable + faults.truncated else None

    def issue(self):
        with self._lock:
            lifetime_s = self.tokens.lifetime_s if self.tokens else 0.0
            end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lifetime_s)
            self.issued += 1
            self._ends[str(self.issued)] = end
            expiry = end.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            return {"token": f"sig={self.issued}", "msft:expiry": expiry}

    def _allows(self, query):
        sig = parse_qs(query).get("sig", [""])[0]
        with self._lock:
            return sig in self._ends and dt.datetime.now(dt.UTC) < self._ends[sig]

    def note(self, *request):
        with self._lock:
            self.requests.append(request)

    def count(self, sent):
        with self._lock:
            self.bytes_sent += sent


class RangeServer:
    """Serves the files under `root` by GET and HEAD, from a process of its own.

    A server in threads of the same interpreter takes time from what is tested, and cannot answer
    one who holds the interpreter's lock.

    Args:
        faults, tokens, missing, broken: assign to change them while it runs; `missing` and `broken`
            are sets of paths, such as "/a.tif", that answer 404 and 500.

    `requests` lists (method, path, range header, status), paths without queries; `bytes_sent`
    counts bodies. A file's answers have the headers that `NAME.headers` beside it maps to values.
    """

    RULES = ("faults", "tokens", "missing", "broken")

    def __init__(self, root, *, faults=None, tokens=None, missing=(), broken=()):
        self._root, self._process, self._lock = root, None, threading.Lock()
        self.faults, self.tokens, self.missing, self.broken = faults, tokens, missing, broken

    def __setattr__(self, name, value):
        if name in ("missing", "broken"):
            value = frozenset(value)  # adding to a set here would not reach the server
        if isinstance(value, TokenRule):
            value.server = self
        super().__setattr__(name, value)
        if name in self.RULES and self._process:
            self._tell(**{name: _plain(value)})

    def __enter__(self):
        command = [sys.executable, __file__, str(self._root)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.url = self._process.stdout.readline().strip()
        self._tell(**{name: _plain(getattr(self, name)) for name in self.RULES})
        return self

    def __exit__(self, *_):
        self._last = self._tell()
        process, self._process = self._process, None
        process.stdin.close()
        process.wait()
        process.stdout.close()

    def _tell(self, **changes):
        with self._lock:
            self._process.stdin.write(json.dumps(changes) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def _seen(self, name):
        return (self._tell() if self._process else self._last)[name]

    @property
    def requests(self):
        return [tuple(request) for request in self._seen("requests")]

    @property
    def bytes_sent(self):
        return self._seen("bytes_sent")


@contextlib.contextmanager
def files_from_a_thread(root):
    """The url of the files under `root`, from this interpreter: never while its lock is held."""
    with _Server(_Files, _Shelf(root)) as server:
        yield server.url


def _plain(rule):
    return asdict(rule) if is_dataclass(rule) else list(rule) if rule is not None else None


CONFORMS = [f"https://api.stacspec.org/v1.0.0/{part}" for part in ("core", "item-search")]
SEARCH = {"collections", "ids", "bbox", "intersects", "datetime", "limit", "token"}


def _interval(text):
    """Both ends of an RFC 3339 instant or interval, of which `..` or nothing leaves one open."""
    ends = text.split("/") if "/" in text else [text, text]
    far = (dt.datetime.min, dt.datetime.max)
    return [
        far[i].replace(tzinfo=dt.UTC) if end in ("", "..") else dt.datetime.fromisoformat(end)
        for i, end in enumerate(ends)
    ]


def _matches(feature, asked):
    when = feature["properties"]
    first, last = (when.get(f"{end}_datetime") or when["datetime"] for end in ("start", "end"))
    (first, last), (since, until) = _interval(f"{first}/{last}"), _interval(asked["datetime"])
    return (
        feature["collection"] in asked.get("collections", [feature["collection"]])
        and feature["id"] in asked.get("ids", [feature["id"]])
        and first <= until
        and last >= since
        and (
            "bbox" not in asked
            or shape(feature["geometry"]).intersects(shapely.box(*asked["bbox"]))
        )
        and (
            "intersects" not in asked
            or shape(feature["geometry"]).intersects(shape(asked["intersects"]))
        )
    )


class _Stac(_Handler):
    def do_GET(self):
        url = urlsplit(self.path)
        if url.path in ("", "/"):
            self.answer_json(200, self._landing())
        elif url.path == "/search":
            asked = {name: value for name, (value,) in parse_qs(url.query).items()}
            asked |= {n: asked[n].split(",") for n in ("collections", "ids", "bbox") if n in asked}
            if "intersects" in asked:
                asked["intersects"] = json.loads(asked["intersects"])
            self._search(
                asked,
                lambda token: {
                    "href": f"{self.server.url}/search?"
                    + urlencode(parse_qs(url.query) | {"token": token}, doseq=True)
                },
            )
        else:
            self.answer_json(404, {"code": "NotFound", "description": url.path})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        href = f"{self.server.url}/search"
        self._search(
            asked, lambda token: {"href": href, "method": "POST", "body": asked | {"token": token}}
        )

    def _landing(self):
        url = self.server.url
        links = [
            {"rel": rel, "href": f"{url}/", "type": "application/json"} for rel in ("root", "self")
        ]
        links += [
            {
                "rel": "search",
                "href": f"{url}/search",
                "type": "application/geo+json",
                "method": way,
            }
            for way in ("GET", "POST")
        ]
        head = {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "offline",
            "description": "Tests.",
        }
        return head | {"conformsTo": CONFORMS, "links": links}

    def _search(self, asked, following):
        self.server.before()
        if unknown := asked.keys() - SEARCH:
            self.answer_json(400, {"code": "BadRequest", "description": f"unknown {unknown}"})
            return
        rule = {"datetime": "../.."} | asked
        if "bbox" in asked:
            rule["bbox"] = [float(value) for value in asked["bbox"]]
        found = [feature for feature in self.server.owner if _matches(feature, rule)]
        start, limit = int(asked.get("token", 0)), int(asked.get("limit", 10))
        page = found[start : start + limit]
        links = [{"rel": "root", "href": f"{self.server.url}/", "type": "application/json"}]
        if start + limit < len(found):
            link = {"rel": "next", "type": "application/geo+json"}
            links.append(link | following(str(start + limit)))
        answer = {"type": "FeatureCollection", "features": page, "links": links}
        counts = {"numberMatched": len(found), "numberReturned": len(page)}
        self.answer_json(200, answer | counts, "application/geo+json")


@contextlib.contextmanager
def stac_api(items, before=lambda: None):
    """The url of a STAC API over pystac items, whose asset hrefs must be absolute.

    It knows bbox, intersects, datetime, collections, ids and limit; anything else answers 400.
    `before` is called when a search is asked; the answer waits for it.
    """
    features = [item.to_dict(include_self_link=False, transform_hrefs=False) for item in items]
    with _Server(_Stac, [feature | {"links": []} for feature in features]) as server:
        server.before = before
        yield server.url


class _Pages(_Stac):
    """Gives what it has whatever is asked, page by page; of radar nothing."""

    def _search(self, asked, following):
        rule, start, limit = self.server.rule, int(asked.get("token", 0)), int(asked["limit"])
        if "sentinel-1-grd" in asked.get("collections", ()):
            self.answer_json(200, {"type": "FeatureCollection", "features": []})
            return
        answer = {"type": "FeatureCollection", "features": self.server.owner[start:][:limit]}
        answer["numberMatched"] = rule["counts"] or len(self.server.owner)
        token, href = str(start + limit), f"{self.server.url}/search"
        if rule["loops"]:
            token = str(start)
        if int(token) < len(self.server.owner):
            answer["links"] = [
                {"rel": "next"}
                | {
                    "GET": {"href": f"{href}?{urlencode({'limit': limit, 'token': token})}"},
                    "POST": {"href": href, "method": "POST", "body": asked | {"token": token}},
                    "merge": {
                        "href": href,
                        "method": "POST",
                        "merge": True,
                        "body": {"token": token},
                    },
                }[rule["way"]]
            ]
        self.answer_json(200, answer, "application/geo+json")


@contextlib.contextmanager
def pages_of(records, *, way="POST", loops=False, counts=None):
    """The url of a STAC API whose every answer is these records, be they items or not.

    Args:
        way: how the next page is asked for: a GET, a POST with the whole body, or one to `merge`.
        loops: the next page is the same.
        counts: how many it says there are.
    """
    with _Server(_Pages, records) as server:
        server.rule = {"way": way, "loops": loops, "counts": counts}
        yield server.url


def main():
    shelf = _Shelf(sys.argv[1])
    with _Server(_Files, shelf) as server, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            shelf.follow(**json.loads(line))
            sys.stdout.write(json.dumps(shelf.report()) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
