"""The server: what it answers, what it refuses, and decisions that outlive it when it is killed."""

import http.client
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import Future

import numpy as np
import pytest
from PIL import Image

from plankton_embed.images.decisions import read_journal
from plankton_embed.page.document import build_document
from plankton_embed.page.images import gather_images
from plankton_embed.page.journal import Journal
from plankton_embed.page.session import Session
from plankton_embed.table import EmbeddingTable

pytest.importorskip("starlette", reason="starlette is not installed (extra review)")
pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra review)")
testclient = pytest.importorskip(
    "starlette.testclient", reason="httpx is not installed (extra test)", exc_type=Exception
)

from plankton_embed.page import server  # noqa: E402

TOKEN, PORT = "secret-token", 4321
OWN = f"http://127.0.0.1:{PORT}"
HOSTILE = "<script>alert('x')<\\script>\"& name.png"
SERVE = "import sys; from plankton_embed.workflows.review import review; review(sys.argv[1], open_browser=False)"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Images of two classes and some without a label, their files, and files that are not pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = []
    for row in range(9):
        path = folder / (HOSTILE if row == 0 else f"{row}.png")
        Image.fromarray(rng.integers(0, 255, (20 + row, 30), dtype=np.uint8)).save(path, "PNG")
        paths.append(str(path))
    (folder / "note.png").write_text("the secret of another file")
    paths += [str(folder / "note.png"), str(folder / "missing.png"), None]
    vectors = rng.normal(size=(12, 4)) + 5 * np.eye(4)[np.arange(12) % 3]
    labels = [f"class {row % 3}" if row < 8 else None for row in range(12)]
    return EmbeddingTable(vectors, [HOSTILE, *(f"image {n}" for n in range(1, 12))], labels, paths)


@pytest.fixture
def journal_path(tmp_path):
    return tmp_path / "journal.jsonl"


@pytest.fixture
def client(table, journal_path):
    images = gather_images({"": table})
    journal = Journal(journal_path, images.key)
    application = server.PageServer(Session(images, journal), "<!doctype html><p>page", TOKEN, PORT)
    yield testclient.TestClient(application, base_url=f"{OWN}/{TOKEN}", follow_redirects=False)
    journal.close()


def decide(client, values=None, **options):
    wanted = {"action": "relabel", "object_ids": ["image 9"], "label": "new"} if values is None else values
    return client.post("/decide", **({"json": wanted} | options))


def count(path):
    return len(read_journal(path).decisions)


# --- what it answers


def test_the_page_and_its_state(client):
    page = client.get("/")
    assert (page.status_code, page.text) == (200, "<!doctype html><p>page")
    assert page.headers["content-type"].startswith("text/html")
    for name, value in server.HEADERS.items():
        assert page.headers[name] == value
    assert client.get(f"{OWN}/{TOKEN}").headers["location"] == f"/{TOKEN}/"
    state = client.get("/state").json()
    assert state["decisions"] == []
    assert state["guesses"]["classes"] == ["class 0", "class 1", "class 2"]
    assert set(state["guesses"]["label"]) == {"dtype", "base64"}
    assert state["queue"] is None


def test_a_decision_is_saved_and_answered_with_new_guesses(client, journal_path):
    answer = decide(client, {"action": "relabel", "object_ids": [HOSTILE], "label": HOSTILE, "request": "1"})
    assert answer.status_code == 200
    assert answer.json()["n"] == 1
    assert answer.json()["guesses"]["classes"][-1] == HOSTILE
    assert read_journal(journal_path).decisions.of(HOSTILE)["label"] == HOSTILE
    assert client.post("/undo", json={}).json()["decisions"][0]["of"] == 1
    assert client.post("/undo", json={}).status_code == 422
    assert [line["n"] for line in client.get("/state").json()["decisions"]] == [1, 2]


def test_pictures_are_chosen_by_row_and_fit(client, table):
    for row in range(9):
        thumb = client.get(f"/thumb/{row}")
        assert thumb.headers["content-type"] == "image/webp"
        assert thumb.headers["cache-control"].startswith("private")
        assert Image.open(io.BytesIO(thumb.content)).size == (server.THUMBNAIL_SIDE, server.THUMBNAIL_SIDE)
        assert Image.open(io.BytesIO(client.get(f"/image/{row}").content)).size == (30, 20 + row)
    grey = [client.get(f"/thumb/{row}") for row in (9, 10, 11)]
    assert [answer.status_code for answer in grey] == [200] * 3
    assert len({answer.content for answer in grey}) == 1
    assert b"secret" not in grey[0].content


def test_a_part_is_answered_when_it_is_computed(table, journal_path):
    images = gather_images({"": table})
    parts = {name: Future() for name in ("map", "tree", "queue")}
    journal = Journal(journal_path, images.key)
    application = server.PageServer(Session(images, journal), "", TOKEN, PORT, parts)
    client = testclient.TestClient(application, base_url=f"{OWN}/{TOKEN}")
    threading.Timer(0.2, parts["map"].set_result, [{"x": np.arange(3)}]).start()
    assert client.get("/part/map").json() == {"x": {"dtype": "int8", "base64": "AAEC"}}
    parts["tree"].set_result(None)
    assert client.get("/part/tree").json() is None
    parts["queue"].set_exception(server.InputError("too few images"))
    assert (client.get("/part/queue").status_code, client.get("/part/queue").text) == (500, "too few images")
    for name in ("other", "", "../state", "map/"):
        assert client.get(f"/part/{name}").status_code in (404, 200 if name == "../state" else 404)
    journal.close()


def test_the_address_that_the_browser_is_started_with_leads_to_the_page_once(table, journal_path):
    images = gather_images({"": table})
    journal = Journal(journal_path, images.key)
    application = server.PageServer(Session(images, journal), "", TOKEN, PORT, ticket="once")
    client = testclient.TestClient(application, base_url=OWN, follow_redirects=False)
    answers = [client.get("/once") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [307, 404, 404]
    assert answers[0].headers["location"] == f"/{TOKEN}/"
    assert client.get(f"/{TOKEN}/").status_code == 200
    journal.close()


# --- what it refuses


@pytest.mark.parametrize(
    "path",
    [
        "/", "/state", "/decide", "/thumb/0", "/favicon.ico", f"/{TOKEN}x/", f"/x{TOKEN}/state", "/%00/state", "/é/",
        f"/{TOKEN[:-1]}/state", f"/{TOKEN.upper()}/state", f"//{TOKEN}/state", f"/..;/{TOKEN}/state", "//evil.example/",
    ],
)  # fmt: skip
def test_without_the_token_there_is_nothing(client, path):
    for method in ("GET", "POST"):
        answer = client.request(method, OWN + path)
        assert (answer.status_code, answer.text) == (404, "not found")


@pytest.mark.parametrize(
    "path",
    [
        "thumb/12", "thumb/-1", "thumb/1e3", "thumb/", "thumb/0/", "thumb/0/x", "thumb/٣", "thumb/" + "9" * 5000,
        "thumb/..%2f..%2fetc%2fpasswd", "thumb/../state/../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "etc/passwd",
        "image/12", "image//etc/passwd", "thumb/0%00", "thumb/0%0a", "thumb/ 0", "file:///etc/passwd", "page.css",
        "journal.jsonl", "state/", "",
    ],
)  # fmt: skip
def test_only_rows_of_the_page_can_be_read(client, path):
    answer = client.get(f"{OWN}/{TOKEN}/{path}")
    assert answer.status_code == (200 if path == "" else 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize("path", ["", "state", "thumb/0", "decide", "undo"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # DNS rebinding: the name of another site, with this machine's address
        {"Host": f"evil.example:{PORT}"},
        {"Host": f"127.0.0.1.evil.example:{PORT}"},
        {"Host": "127.0.0.1"},
        {"Host": f"127.0.0.1:{PORT + 1}"},
        {"Host": f"0.0.0.0:{PORT}"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://127.0.0.1:{PORT}"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Origin": f"http://127.0.0.1:{PORT}.evil.example"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_other_hosts_and_other_pages_are_refused(client, journal_path, path, headers):
    method = "POST" if path in ("decide", "undo") else "GET"
    body = {"json": {"action": "keep", "object_ids": ["image 1"]}} if method == "POST" else {}
    answer = client.request(method, f"{OWN}/{TOKEN}/{path}", headers=headers, **body)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert count(journal_path) == 0


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}"])
def test_its_own_pages_are_answered(client, host):
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert decide(client, headers=headers).status_code == 200


def test_another_page_gets_no_leave_to_ask(client):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = client.options("/decide", headers=headers)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.options("/decide").status_code == 405


@pytest.mark.parametrize(
    "kind",
    [
        None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json",
        "application/jsonx", "text/plain; application/json",
    ],
)  # fmt: skip
def test_only_json_is_read(client, journal_path, kind):
    body = json.dumps({"action": "keep", "object_ids": ["image 1"]})
    headers = {} if kind is None else {"Content-Type": kind}
    assert client.post("/decide", content=body, headers=headers).status_code == 415
    assert count(journal_path) == 0
    assert client.post("/decide", content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"}).is_success


def test_huge_bodies_are_refused(client, journal_path):
    json_type = {"Content-Type": "application/json"}
    ids = json.dumps({"action": "keep", "object_ids": ["x" * server.MOST_BYTES]})
    assert client.post("/decide", content=ids, headers=json_type).status_code == 413
    read = []

    def endless():
        while True:
            read.append(1)
            yield b"[" * 100_000
            if len(read) > 100:
                return

    assert client.post("/decide", content=endless(), headers=json_type).status_code == 413
    for length in ("1000001", "9" * 30, "-1", "x"):
        assert client.post("/decide", content=b"", headers={**json_type, "Content-Length": length}).status_code == 413
    assert count(journal_path) == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"\xff", 400), (b"[" * 500_000, 400), (b'{"a": ' + b"9" * 10_000 + b"}", 400),
        (b"[]", 400), (b"null", 400), (b'"keep"', 400), (b"NaN", 400),
        (b"{}", 422), (b'{"action": "undo"}', 422), (b'{"action": "keep", "object_ids": ["/etc/passwd"]}', 422),
        (b'{"action": "keep", "object_ids": [NaN]}', 422), (b'{"action": "keep", "rows": [1e999]}', 422),
        (b'{"action": "relabel", "rows": [0], "label": "\\ud800"}', 422),
        (b'{"action": "relabel", "rows": [0], "label": "unknown"}', 422),
        (b'{"action": "relabel", "rows": [0], "label": "\\u0000"}', 422),
        (b'{"__proto__": {}, "action": "keep", "rows": [0]}', 422),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_not_a_decision_is_refused(client, journal_path, body, status):
    answer = client.post("/decide", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/plain")
    assert count(journal_path) == 0


def test_other_methods_are_refused(client, journal_path):
    for path, method in (("/decide", "GET"), ("/undo", "GET"), ("/state", "POST"), ("/", "PUT"), ("/decide", "DELETE")):
        assert client.request(method, path).status_code == 405
    assert client.post("/undo", json={"action": "keep", "rows": [1]}).status_code == 422
    assert client.head("/").status_code == 200
    assert count(journal_path) == 0


def test_a_decision_that_cannot_be_saved_is_reported(client, journal_path):
    journal_path.rename(journal_path.with_name("moved"))
    answer = decide(client)
    assert answer.status_code == 507
    assert "nothing was saved" in answer.text


def test_a_port_that_is_taken_is_an_error(client):
    with server._listen(0) as first:
        with pytest.raises(server.OutputError, match="give another port"):
            server._listen(first.getsockname()[1])
        assert first.getsockname()[0] == "127.0.0.1"
        assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(server.InputError, match="found 70000"):
        server._listen(70_000)


def test_a_browser_in_the_terminal_is_not_opened(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not server._has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert server._has_screen()


# --- a real process


class Process:
    """A real server of `review` in a process of its own."""

    def __init__(self, vectors):
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, str(vectors)], stderr=subprocess.PIPE, text=True)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("http"):
                self.address = line.strip()
                break
        else:
            raise AssertionError("".join(self.lines))
        threading.Thread(target=self._read, daemon=True).start()  # or it would wait until someone reads

    def _read(self):
        self.lines.extend(self.process.stderr)

    @property
    def port(self):
        return int(self.address.split(":")[2].split("/")[0])

    def ask(self, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            text = None if body is None else json.dumps(body)
            given = {} if body is None else {"Content-Type": "application/json"}
            prefix = "/" + self.address.split("/")[3] + "/"
            connection.request("GET" if body is None else "POST", prefix + path, text, {**given, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self, how=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(120)
        return code


@pytest.fixture
def serve(table, tmp_path):
    """Return a function that starts a server of the same vectors."""
    pytest.importorskip("jinja2", reason="jinja2 is not installed (extra report)")
    started = []
    vectors = table.save(tmp_path / "vectors.parquet")

    def start():
        started.append(Process(vectors))
        return started[-1]

    yield start
    for process in started:
        process.stop(signal.SIGKILL)


def test_a_real_server_serves_the_page_refuses_a_second_and_ends_with_ctrl_c(serve, tmp_path):
    process = serve()
    journal = tmp_path / "vectors_journal.jsonl"
    status, page = process.ask("")
    assert status == 200
    assert b"Content-Security-Policy" in page
    assert process.ask("thumb/3")[0] == 200
    assert process.ask("state", headers={"Host": "evil.example"})[0] == 403
    assert process.ask("../state")[0] == 404
    with pytest.raises(AssertionError, match="open in another review"):
        serve()
    status, answer = process.ask("decide", {"action": "delete", "object_ids": [HOSTILE]})
    assert (status, json.loads(answer)["n"]) == (200, 1)
    with socket.create_connection(("127.0.0.1", process.port)) as raw:  # a body that is longer than it may be
        token = process.address.split("/")[3]
        raw.sendall(
            f"POST /{token}/decide HTTP/1.1\r\nHost: 127.0.0.1:{process.port}\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        answered = b""
        try:
            for _ in range(100):
                raw.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
        except OSError:
            pass  # it has closed the connection
        raw.settimeout(60)
        try:
            answered = raw.recv(1000)
        except ConnectionResetError:
            answered = b" 413 "
        assert b" 413 " in answered
    assert process.ask("state")[0] == 200
    outside = socket.gethostbyname(socket.gethostname())
    if not outside.startswith("127."):
        with pytest.raises(OSError), socket.create_connection((outside, process.port), timeout=5):
            pass
    assert process.stop() == 0
    assert not [line for line in process.lines if "Traceback" in line]
    assert count(journal) == 1


def test_a_killed_server_leaves_every_answered_decision(serve, tmp_path):
    process = serve()
    for n in range(3):
        assert process.ask("decide", {"action": "relabel", "rows": [n], "label": f"new {n}"})[0] == 200
    process.stop(signal.SIGKILL)
    journal = tmp_path / "vectors_journal.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"n": 4, "action": "ke')  # as if it had been killed while it wrote
    process = serve()
    state = json.loads(process.ask("state")[1])
    assert [line["label"] for line in state["decisions"]] == ["new 0", "new 1", "new 2"]
    assert json.loads(process.ask("undo", {})[1])["n"] == 4
    assert count(journal) == 4


@pytest.mark.slow
def test_no_decision_is_lost_or_saved_twice_in_20_kills(serve, tmp_path):
    rng = random.Random(0)
    answered, retried = {}, None  # request -> n
    n_sent = 0

    def work(process):
        """Decide until the server is gone; return what it did not answer."""
        nonlocal n_sent, retried
        while True:
            n_sent += retried is None
            wanted = retried or {"action": "relabel", "rows": [n_sent % 12], "label": f"class {n_sent}"}
            wanted.setdefault("request", uuid.uuid4().hex)
            retried = wanted
            try:
                status, text = process.ask("decide", wanted)
            except (OSError, http.client.HTTPException):
                return
            assert status == 200
            answered[wanted["request"]] = json.loads(text)["n"]
            retried = None

    for _ in range(20):
        process = serve()
        client = threading.Thread(target=work, args=[process])
        client.start()
        time.sleep(rng.uniform(0.01, 0.6))
        process.stop(signal.SIGKILL)
        client.join(120)
        assert not client.is_alive()
    lines = read_journal(tmp_path / "vectors_journal.jsonl").decisions.lines
    saved = [line["request"] for line in lines]
    assert len(saved) == len(set(saved))
    assert {line["request"]: line["n"] for line in lines if line["request"] in answered} == answered
    assert len(set(saved) - set(answered)) <= 1  # written, and killed before it was answered
    assert len(answered) > 20


# --- a real browser


def test_the_page_reports_what_is_not_saved_and_has_the_rest_after_a_restart(
    serve, browser_page, browser_faults, wait_until
):
    process = serve()
    browser_page.goto(process.address)
    browser_page.wait_for_selector("html[data-ready]")
    browser_page.evaluate("PE.store.decide({action: 'relabel', object_ids: ['image 9'], label: 'new <b>'})")
    browser_page.get_by_text("1 image decided").wait_for()
    assert browser_page.evaluate("PE.className(PE.images.label[9])") == "new <b>"
    process.stop(signal.SIGKILL)
    browser_page.evaluate("PE.store.decide({action: 'delete', object_ids: ['image 3']}).catch(() => 0)")
    browser_page.get_by_text("cannot be reached").wait_for()
    assert browser_page.get_by_text("1 image decided").is_visible()
    assert browser_page.evaluate("PE.store.of(3)") is None
    assert all("ERR_CONNECTION" in fault or "net::ERR" in fault for fault in browser_faults)
    browser_faults.clear()
    process = serve()
    browser_page.goto(process.address)
    browser_page.wait_for_selector("html[data-ready]")
    browser_page.get_by_text("1 image decided").wait_for()
    assert browser_page.evaluate("[PE.store.of(9).label, PE.store.of(3)]") == ["new <b>", None]
    browser_page.get_by_role("button", name="Undo").click()
    wait_until(browser_page, "PE.store.size() === 0")
    assert browser_page.evaluate("PE.images.label[9]") == -1


def test_parts_arrive_while_the_page_is_in_use(serve, browser_page, wait_until):
    process = serve()
    browser_page.goto(process.address)
    browser_page.wait_for_selector("html[data-ready]")
    for name, found in {"Map": "#part-map canvas", "Suspects": "#part-suspects :is(button, p)"}.items():
        browser_page.get_by_role("tab", name=name).click()
        browser_page.wait_for_selector(found, state="attached")
        browser_page.get_by_text("Computing").wait_for(state="detached")
    assert browser_page.evaluate("PE.data.parts.map.neighbors.length > 0")
    browser_page.get_by_role("tab", name="Next to label").click()
    wait_until(browser_page, "PE.data.parts.queue && PE.data.parts.queue.rows.length > 0")
    before = browser_page.evaluate("PE.data.parts.queue.rows[0]")
    browser_page.evaluate("row => PE.store.decide({action: 'delete', object_ids: [PE.images.id[row]]})", before)
    wait_until(browser_page, "row => !PE.data.parts.queue.rows.includes(row)", arg=before)


def test_a_review_that_starts_without_labels(table, tmp_path, browser_page, wait_until):
    pytest.importorskip("jinja2", reason="jinja2 is not installed (extra report)")
    pytest.importorskip("bokeh", reason="bokeh is not installed (extra report)")
    unlabelled = EmbeddingTable(table.vectors, table.object_id, path=table.path)
    process = Process(unlabelled.save(tmp_path / "unlabelled.parquet"))
    page = browser_page
    choices = "Array.from(document.querySelectorAll('#part-map select')[1].options, (option) => option.text)"
    ids = "rows.map((row) => PE.images.id[row])"
    decide = f"([rows, label]) => PE.store.decide({{action: 'relabel', object_ids: {ids}, label}})"
    try:
        page.goto(f"{process.address}#map")
        page.wait_for_selector("#part-map[data-ready] canvas", state="attached")
        wait_until(page, f"{choices}.includes('group')")  # the groups came after the map
        assert "guess" not in page.evaluate(choices)
        page.evaluate(decide, [[0, 3], "salp"])
        wait_until(page, f"{choices}.includes('guess')")
        page.get_by_label("Colour by").select_option("guess")
        page.evaluate(decide, [[1], "typo"])
        assert page.evaluate("PE.classes") == ["salp", "typo"]
        page.evaluate("PE.store.undo()")
        assert page.evaluate("PE.classes") == ["salp"]  # the typo is not offered again
        assert page.get_by_label("Colour by").input_value() == "guess"
        first = page.evaluate("PE.data.parts.queue.rows[0]")
        page.evaluate(decide, [[first], "salp"])
        page.reload()  # the queue that was computed at the start is old by now
        wait_until(page, "PE.data.parts.queue && PE.data.parts.queue.rows")
        assert first not in page.evaluate("Array.from(PE.data.parts.queue.rows)")
        for size in ({"width": 390, "height": 844}, {"width": 1280, "height": 800}):
            page.set_viewport_size(size)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.goto("about:blank")
        process.stop()


def test_another_page_in_the_browser_cannot_read_or_decide(serve, browser, tmp_path):
    process = serve()
    page = browser.new_page()
    (tmp_path / "evil.html").write_text("<!doctype html><title>evil</title>")
    page.goto((tmp_path / "evil.html").as_uri())
    for script in (
        "fetch(ADDRESS + 'state').then(r => r.text())",
        "fetch(ADDRESS + 'state', {mode: 'no-cors'}).then(r => r.text()).then(t => { if (!t) throw 'empty' })",
        "fetch(ADDRESS + 'decide', {method: 'POST', body: '{}'}).then(r => r.text())",
        "new Promise((ok, no) => { const i = new Image(); i.onload = ok; i.onerror = () => no('error');"
        " i.src = ADDRESS + 'thumb/0' })",
    ):
        failed = script.replace("ADDRESS", json.dumps(process.address)) + ".then(() => 'read', () => 'refused')"
        assert page.evaluate(failed) == "refused"
    page.set_content(f"<iframe src={json.dumps(process.address)}></iframe>")
    page.wait_for_timeout(500)
    assert page.frames[-1].evaluate("document.documentElement.dataset.ready ?? 'no'") == "no"
    page.close()
    assert count(tmp_path / "vectors_journal.jsonl") == 0


def test_a_document_of_the_server_asks_only_the_server(table):
    pytest.importorskip("jinja2", reason="jinja2 is not installed (extra report)")
    images = gather_images({"": table})
    text = build_document(images, {"overview": {}}, title=HOSTILE, live={"token": TOKEN})
    assert "connect-src &#39;self&#39;" in text or "connect-src 'self'" in text
    assert "<script>alert" not in text
    assert os.environ.get("HOME", "/root") not in text
