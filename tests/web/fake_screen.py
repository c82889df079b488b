"""Stands for a visitor's screen: says its size, and then what reaches it, packed as Textual's driver packs.

python -m fake_screen KIND COLUMNS ROWS    KIND: obedient; deaf: does not end with its stdin; broken: says why and ends
"""

import os
import sys
import time


def take(size: int) -> bytes:
    taken = b""
    while len(taken) < size:
        piece = os.read(0, size - len(taken))
        if not piece:
            if sys.argv[1] == "deaf":
                time.sleep(60)
            os._exit(0)
        taken += piece
    return taken


def tell(kind: bytes, body: bytes) -> None:
    os.write(1, kind + len(body).to_bytes(4, "big") + body)


if sys.argv[1] == "broken":
    sys.stderr.write("a line before\nno run goes on now\x1b[2J\n")
    sys.exit(2)
os.write(1, b"__GANGLION__\n")
tell(b"D", f"{os.getpid()} {' '.join(sys.argv[2:])} {os.environ.get('COLORTERM')}".encode())
while True:
    head = take(5)
    body = take(int.from_bytes(head[1:], "big"))
    if body == b"open":
        tell(b"M", b'{"type":"open_url","url":"http://example.com","new_tab":true}')
    if body == b"q":
        tell(b"M", b'{"type":"exit"}')
    tell(b"D", head[:1] + body)
