"""Thousands of connections of every hostile kind at once, plain and over TLS (SCALE=10: a hundred thousand): descriptors, memory
and threads are as before, the good are served meanwhile, and the log holds what was acknowledged."""
import base64
import collections
import contextlib
import json
import os
import random
import socket
import ssl
import struct
import threading

from certs import Secure, bridge
from client import Connection, connect, post, signed
from servers import SANITIZER_NEEDS, Tap, until

SCALE = int(os.environ.get('SCALE', '1'))
COUNT = 2000 if SCALE == 1 else 10000 * SCALE
WORKERS = 8
LISTENING = 5  # two threads with two listeners, and the admin one
RESET = struct.pack('ii', 1, 0)


def of_process(h):
    """Its sockets, threads and resident bytes. Files of the log come and go by themselves."""
    status = dict(l.split(':\t', 1) for l in open(f'/proc/{h.p.pid}/status').read().split('\n') if ':\t' in l)
    return h.sockets(), int(status['Threads']), int(status['VmRSS'].split()[0]) << 10


class Attack:
    def __init__(self, h, seed):
        self.h, self.random, self.tls = h, random.Random(seed), h.client()
        self.slow, self.acked, self.tried = collections.deque(), set(), 0

    def body(self):
        return b'%d.%d:' % (id(self), self.tried) + b'x' * self.random.randrange(2000)

    def request(self):
        body = self.body()
        return b'POST /hooks/open HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n' % len(body) + body, body

    def end(self, s):
        how = self.random.randrange(3)
        if how == 0:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif how == 1:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_WR)
        s.close()

    def port(self):
        return self.random.choice((self.h.port, self.h.secure))

    def garbage(self):
        s = connect(self.port())
        s.sendall(self.random.randbytes(self.random.randrange(1, 600)))
        self.end(s)

    def cut(self):
        s = connect(self.port())
        data, _ = self.request()
        s.sendall(data[:self.random.randrange(len(data))])
        self.end(s)

    def cut_over_tls(self):
        c = Secure(self.h.secure, self.tls)
        data, _ = self.request()
        c.send(data[:self.random.randrange(len(data))])
        c.f.close()
        self.end(c.s)

    def silent(self):
        self.end(connect(self.port()))

    def held(self):
        s = connect(self.port())
        s.sendall(b'POST')
        self.slow.append(s)
        if len(self.slow) > 20:
            self.end(self.slow.popleft())

    def forged(self):
        c = Connection(self.h.port)
        assert c.ask(signed(f'f{self.tried}', b'{}', key=b'wrong'))[0] == 401
        c.close()

    def half_hello(self):
        s = connect(self.h.secure)
        s.sendall(b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + self.random.randbytes(self.random.randrange(200)))
        self.end(s)

    def good(self):
        c = Secure(self.h.secure, self.tls) if self.random.randrange(2) else Connection(self.h.port)
        data, body = self.request()
        assert c.ask(data)[0] == 200
        self.acked.add(body)
        c.close()

    def run(self, count):
        kinds = (self.garbage, self.cut, self.cut_over_tls, self.silent, self.held, self.forged, self.half_hello, self.good)
        for self.tried in range(count):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                self.random.choice(kinds)()
        for s in self.slow:
            s.close()


def bodies(h):
    after = 0
    while (page := json.loads(h.get(f'/v1/events?after={after}&limit=1000')[1])):
        for e in page:
            after = int(e['lsn'])
            yield base64.b64decode(e['data_base64']) if 'data_base64' in e else b''


def every_kind_at_once():
    """cases 17, 21, 22, 24: random hostile connections by the thousand: nothing is left of them, the good are all there"""
    with bridge(extra='threads: 2', limits='handshake_timeout: 2s, header_timeout: 2s, idle_timeout: 5s') as h:
        def round_of(count, seed):
            attacks = [Attack(h, seed + n) for n in range(WORKERS)]
            threads = [threading.Thread(target=a.run, args=(count // WORKERS,)) for a in attacks]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            until('all are gone', lambda: h.metric('hookline_connections') == 0)
            return set().union(*(a.acked for a in attacks)), attacks
        acked, _ = round_of(COUNT // 4, 100)  # what the allocator keeps is there before
        post(h.port, signed('warm', b'{}'))
        until('all are gone', lambda: h.metric('hookline_connections') == 0)
        until('nothing but listeners', lambda: h.sockets() == LISTENING)
        sockets, threads, memory = of_process(h)
        more, attacks = round_of(COUNT, 200)
        acked |= more
        assert len(more) > COUNT // 20 and all(a.tried == COUNT // WORKERS - 1 for a in attacks), 'a worker gave up'
        until('all sockets and threads are as before', lambda: of_process(h)[:2] == (LISTENING, threads))
        after = of_process(h)
        grown = after[2] - memory
        assert SANITIZER_NEEDS or grown < 16 << 20, grown
        there = list(bodies(h))
        assert acked <= set(there) and h.get('/livez')[0] == 200
        print(f'# {COUNT + COUNT // 4} connections, {len(acked)} acknowledged, sockets {sockets} and {after[0]}, threads {threads} and {after[1]}, '
              f'resident {memory >> 10} and {after[2] >> 10} KiB before and after')


Tap().run(every_kind_at_once)
