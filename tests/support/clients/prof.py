"""Drives Debian's profanity on a terminal of its own: connects with STARTTLS required, sends one message, quits.

Usage: prof.py HOST PORT JID PASSWORD TO BODY
"""

import fcntl
import os
import pty
import select
import struct
import sys
import tempfile
import termios
import time

host, port, jid, password, to, body = sys.argv[1:7]
home = tempfile.mkdtemp(prefix="profanity-")
environment = dict(os.environ, HOME=home, XDG_CONFIG_HOME=home, XDG_DATA_HOME=home, TERM="xterm", LANG="C.UTF-8")
child, terminal = pty.fork()
if child == 0:
    os.execvpe("profanity", ["profanity", "-l", "DEBUG"], environment)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
screen = b""


def until(words, seconds=20):
    """Reads the screen until one of these words is on it."""
    global screen
    end = time.time() + seconds
    while not any(word in screen for word in words):
        if time.time() > end:
            print(f"none of {words} on the screen:\n{screen.decode(errors='replace')}", file=sys.stderr)
            sys.exit(1)
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                screen += os.read(terminal, 65536)
            except OSError:
                end = 0


def say(line):
    """Types a line; what is on the screen already no longer counts."""
    global screen
    screen = b""
    os.write(terminal, line.encode() + b"\r")


until([b"/help"])
say(f"/connect {jid} server {host} port {port} tls force")
until([b"password", b"Password"])
time.sleep(0.3)
say(password)
until([b"logged in successfully"])
say(f"/msg {to} {body}")
time.sleep(1.0)
say("/quit")
os.waitpid(child, 0)
print("RESULT true")
