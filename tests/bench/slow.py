#!/usr/bin/env python3
"""slow.py PORT COUNT: so many connections that send the headers of a request a byte every two seconds, until killed. One that is closed
comes again. Prints a line once all are there."""
import selectors
import socket
import sys
import time

PORT, COUNT = int(sys.argv[1]), int(sys.argv[2])
EVERY = 2
sel = selectors.DefaultSelector()


def come():
    s = socket.create_connection(('127.0.0.1', PORT))
    s.setblocking(False)
    sel.register(s, selectors.EVENT_READ)
    return s


def say(s):
    """A byte; who has got his answer and the end begins again."""
    try:
        s.send(b'P')
        return s
    except OSError:
        sel.unregister(s)
        s.close()
        return come()


slow = []
for n in range(COUNT):
    slow.append(say(come()))
    if n % 100 == 0:
        time.sleep(0.02)
print('all are there', flush=True)
while True:
    for n in range(COUNT):
        slow[n] = say(slow[n])
        if n % (COUNT // 100) == 0:
            time.sleep(EVERY / 100)
