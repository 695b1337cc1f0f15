"""`up` accepts only its own host and origin; its state folder is private."""

import contextlib
import http.server
import stat
import threading
from collections.abc import Iterator

import httpx

from visionflows.serve.api import api_client

pytest_plugins = ["e2e_fixtures"]
FILTER = "/api/flows/filter"
# What a page of another origin can try: a form without preflight, JSON, reading, a websocket.
ATTACK = """<script>
async function tried(what) {
  try { return await what() } catch (error) { return String(error) }
}
function socket() {
  return new Promise(done => {
    const it = new WebSocket("ws" + SERVER.slice(4) + "/api/events/in");
    it.onopen = () => done("open");
    it.onerror = () => done("refused");
  });
}
async function attack() {
  const post = (type, mode) => tried(async () => {
    const options = {method: "POST", mode, body: "{}", headers: {"content-type": type}};
    const answer = await fetch(SERVER + "/api/flows/filter", options);
    return answer.type + answer.status;
  });
  return [
    await post("text/plain", "no-cors"), await post("application/json", "cors"),
    await tried(async () => (await fetch(SERVER + "/api/admin/version")).status),
    await tried(socket),
  ];
}
</script>"""


def test_another_host_is_refused(server):
    port = httpx.URL(server.url).port
    for host in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", ""):
        for path in ("/", "/api/health", "/api/csrf-token?client=x"):
            answer = httpx.get(f"{server.url}{path}", headers={"host": host})
            assert answer.status_code == 400, (host, path)
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", "localhost:8080"):
        answer = httpx.get(f"{server.url}/api/health", headers={"host": host})
        assert answer.status_code == 200, host


def test_every_request_of_another_origin_is_refused(server):
    for origin in ("http://evil.example", "null", "http://localhost:1", f"{server.url}.evil"):
        headers = {"origin": origin, "access-control-request-method": "POST"}
        for method, path in (("OPTIONS", FILTER), ("POST", FILTER), ("GET", "/api/admin/version")):
            answer = httpx.request(method, server.url + path, headers=headers)
            assert answer.status_code == 403, (origin, method)
            assert "access-control-allow-origin" not in answer.headers
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "navigate"}
        framed = httpx.get(server.url, headers={**headers, "sec-fetch-dest": "iframe"})
        linked = httpx.get(server.url, headers={**headers, "sec-fetch-dest": "document"})
        assert (framed.status_code, linked.status_code) == (403, 307)  # to the UI's own path


def test_changes_need_prefects_token(server):
    assert httpx.post(server.url + FILTER, json={}).status_code == 403
    with api_client({"PREFECT_API_URL": f"{server.url}/api"}) as client:
        assert client.post("/flows/filter", json={}).status_code == 200
        own = {"origin": server.url}
        assert client.post("/flows/filter", json={}, headers=own).status_code == 200


def test_a_page_of_another_origin_in_the_same_browser_gets_nothing(server, page):
    with elsewhere(ATTACK) as url:
        page.goto(url)
        page.evaluate(f"window.SERVER = '{server.url}'")
        form, json, read, socket = page.evaluate("attack()")
    assert form == "opaque0"  # the page cannot see the status, which is 403 as above
    assert "TypeError" in json
    assert "TypeError" in read
    assert socket == "refused"
    page.goto(server.url)  # the server's own page works, also its websocket
    opened = page.evaluate(
        """() => new Promise(done => {
          const it = new WebSocket(`ws://${location.host}/api/events/out`, ["prefect"]);
          it.onopen = () => done(true);
          it.onerror = () => done(false);
        })"""
    )
    assert opened
    page.get_by_text("Flow Runs").first.wait_for()


def test_only_the_owner_can_enter_the_state_folder(server):
    state = server.folder / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for file in state.glob("prefect.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@contextlib.contextmanager
def elsewhere(html: str) -> Iterator[str]:
    """A page of another origin, on another port of the same machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
