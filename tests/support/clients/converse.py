"""converse.js in headless Chromium, as a person uses it: logs in, writes, reads, and loads the page anew.

converse.py DIST GATE ADDRESS JID PASSWORD TO WORD WHILE AGAIN: DIST is the folder of converse.js, GATE the address that the host in
ADDRESS is at. It says WORD, then WHILE right before the page is loaded anew, then AGAIN; each is answered with "back: " before it.
The last line is JSON: what was seen on the wire.
"""

import functools
import http.server
import json
import sys
import threading
import time
import urllib.parse

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

dist, gate, address, jid, password, to, word, meanwhile, again = sys.argv[1:]
host = urllib.parse.urlsplit(address).hostname
PAGE = """<!doctype html><html><head><meta charset="utf-8"><link rel="stylesheet" href="/converse.min.css">
<script type="module" src="/converse.min.js"></script></head><body class="converse-fullscreen"><script type="module">
window.heard = []; window.events = [];
converse.plugins.add('watch', { initialize() {
  const { api } = this._converse; window.api = api; window._converse = this._converse;
  for (const name of ['connected', 'reconnected', 'disconnected', 'initialized', 'statusInitialized', 'chatBoxesFetched'])
    api.listen.on(name, () => window.events.push(name));
  api.listen.on('message', (data) => { const s = data.stanza; const b = s && s.querySelector('body'); if (b) window.heard.push(b.textContent); });
}});
converse.initialize({ authentication: 'login', auto_login: true, jid: %s, password: %s, websocket_url: %s, enable_smacks: true,
  discover_connection_methods: false, assets_path: '/', i18n: 'en', view_mode: 'fullscreen', whitelisted_plugins: ['watch'],
  allow_non_roster_messaging: true, keepalive: true, loglevel: 'debug', persistent_store: 'sessionStorage', clear_cache_on_logout: true, omemo_default: false });
</script></body></html>"""
page = (PAGE % tuple(json.dumps(text) for text in (jid, password, address))).encode()


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path.split("?")[0] != "/chat":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), functools.partial(Handler, directory=dist))
threading.Thread(target=server.serve_forever, daemon=True).start()

# What the certificate is worth is checked by the clients under node.
options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
for flag in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server", "--ignore-certificate-errors",
             f"--host-resolver-rules=MAP {host} {gate}"]:
    options.add_argument(flag)
options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
frames = []


def look():
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        kind = {"Network.webSocketFrameReceived": "in", "Network.webSocketFrameSent": "out"}.get(message["method"])
        if kind:
            frames.append((kind, message["params"]["response"]["payloadData"]))
        elif message["method"] in ("Network.webSocketCreated", "Network.webSocketClosed", "Network.webSocketFrameError"):
            frames.append((message["method"], json.dumps(message["params"])[:300]))


def until(what, holds, limit=60):
    end = time.time() + limit
    while time.time() < end:
        look()
        if holds():
            return
        time.sleep(0.2)
    console = driver.get_log("browser")
    print(*frames, sep="\n")
    print(*[entry["message"][:300] for entry in console], sep="\n")
    raise SystemExit(f"{what}: not within {limit} s")


def seen(kind, text, behind=0):
    return any(k == kind and text in payload for k, payload in frames[behind:])


def send(text):
    driver.execute_async_script("""const [to, text, done] = arguments;
      api.chats.open(to, {}, true).then((chat) => chat.sendMessage({ body: text })).then(() => done(null), (e) => done(String(e)));""", to, text)


try:
    driver.set_script_timeout(30)
    driver.get("http://127.0.0.1:8080/chat")
    until("a login", lambda: seen("in", "<enabled"))
    send(word)
    until("the answer", lambda: seen("in", "back: " + word))
    send(meanwhile)
    until("the word before the page goes", lambda: seen("out", meanwhile))
    before = len(frames)
    driver.refresh()
    until("a resumption", lambda: seen("in", "<resumed", before) or seen("in", "<failed", before))
    resumed = seen("in", "<resumed", before)
    until("the page to be there again", lambda: driver.execute_script("return !!(window.api && window.events.length)"))
    # The answer to what was said before came to the page that went, or to this one: what is lost is counted by the clients under node.
    send(again)
    until("the answer behind the resumption", lambda: seen("in", "back: " + again, before))
    closed = driver.execute_async_script("const done = arguments[0]; api.user.logout().then(() => done(true), (e) => done(String(e)));")
    until("the end of the stream", lambda: seen("in", "<close", before) or seen("Network.webSocketClosed", "", before))
    print("RESULT " + json.dumps({"resumed": resumed, "frames": len(frames), "closed": closed}))
finally:
    driver.quit()
