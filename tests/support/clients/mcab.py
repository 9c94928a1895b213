"""Drives Debian's mcabber on a terminal of its own, by its FIFO: STARTTLS demanded, the certificate checked; sends one message,
waits for one, and quits.

Usage: mcab.py HOST PORT JID PASSWORD ROOTS TO BODY
"""

import os
import pty
import select
import sys
import tempfile
import time

host, port, jid, password, roots, to, body = sys.argv[1:8]
home = tempfile.mkdtemp(prefix="mcabber-")
fifo, log = os.path.join(home, "fifo"), os.path.join(home, "log")
history = os.path.join(home, "history", to)
os.mkdir(os.path.join(home, "history"), 0o700)
settings = {
    "jid": jid,
    "password": f'"{password}"',
    "server": host,
    "port": port,
    "tls": "1",
    "ssl_ca": roots,
    "resource": "mcabber",
    "logging": "1",
    "logging_dir": os.path.join(home, "history"),
    "tracelog_level": "2",
    "tracelog_file": log,
    "fifo_name": fifo,
}
rc = os.path.join(home, "mcabberrc")
with open(rc, "w") as file:
    os.chmod(rc, 0o600)
    file.writelines(f"set {key} = {value}\n" for key, value in settings.items())
    file.write("module load fifo\n")
environment = dict(os.environ, HOME=home, TERM="xterm", LANG="C.UTF-8", LINES="50", COLUMNS="160")
child, terminal = pty.fork()
if child == 0:
    os.execvpe("mcabber", ["mcabber", "-f", rc], environment)
screen = b""


def read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def until(what, done, seconds=25):
    """Reads the screen away until it is done."""
    global screen
    end = time.time() + seconds
    while not done():
        if time.time() > end:
            print(f"no {what}; its log:\n{read(log)}\nscreen:\n{screen[-4000:].decode(errors='replace')}", file=sys.stderr)
            os.kill(child, 9)
            sys.exit(1)
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                screen += os.read(terminal, 65536)
            except OSError:
                end = 0


def say(line):
    with open(fifo, "w") as file:
        file.write(line + "\n")


until("FIFO", lambda: os.path.exists(fifo))
until("login", lambda: "Connection established." in read(log))
say(f"/say_to -q {to} {body}")
# A line of the history: kind, day and time, how many lines follow, text.
until("message", lambda: any(line.startswith("MR ") for line in read(history).splitlines()))
heard = [line for line in read(history).splitlines() if line.startswith("MR ")]
print("HEARD " + heard[0].split(" ", 3)[3])
say("/quit")
os.waitpid(child, 0)
print("RESULT true")
