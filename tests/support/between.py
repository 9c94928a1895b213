"""A stretch of road: takes TCP connections at one address and carries their octets to another and back.

It stands in for a server that is killed, frozen or slow: its sockets are what the gateway talks to, and the signals that
end, stop or continue this process do to them what they do to those of a server.

    between.py HERE THERE [OCTETS-PER-SECOND]        each as ADDRESS:PORT
"""

import socket
import sys
import threading
import time


def place(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def carry(source, sink, rate):
    try:
        while octets := source.recv(max(1, min(65536, rate // 20)) if rate else 65536):
            sink.sendall(octets)
            if rate:
                time.sleep(len(octets) / rate)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def main():
    here, there = place(sys.argv[1]), place(sys.argv[2])
    rate = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    with socket.create_server(here) as listener:
        print("ready", flush=True)
        while True:
            near, _ = listener.accept()
            try:
                # From the address that it listens at, as a server of that address would.
                far = socket.create_connection(there, source_address=(here[0], 0))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((near, far), (far, near)):
                threading.Thread(target=carry, args=(*ends, rate), daemon=True).start()


main()
