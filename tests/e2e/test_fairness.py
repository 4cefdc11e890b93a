"""Nobody can have all of what everybody needs: who floods is told to come back, others are served."""
import contextlib
import json
import os
import select

from certs import Bridge, bridge
from client import Connection
from servers import Tap, stalling, until

SEATS = 400  # of the one thread, as many as connections


def post_to(path, close=False):
    return f'POST {path} HTTP/1.1\r\nHost: a\r\n{"Connection: close" + chr(13) + chr(10) if close else ""}Content-Length: 1\r\n\r\nx'.encode()


@contextlib.contextmanager
def hanging(**settings):
    """A bridge whose disk hangs until the test lets go of it: everybody waits for the log. Yields it and what lets go."""
    wrap, stall = stalling()
    h = Bridge(limits=f'connections: {SEATS}, commit_timeout: 60s, per_network: {{ connections: {SEATS} }}', extra='threads: 1', **settings)
    try:
        h.start(wrap=wrap)
        open(stall, 'w').close()
        yield h, lambda: os.unlink(stall)
        assert h.stop() == 0
    finally:
        h.clean()
        for path in (stall, stall + '.so'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def come(h, path='/hooks/open', source=None):
    c = Connection(h.port)
    c.send((f'PROXY TCP4 {source} 192.0.2.250 1 2\r\n'.encode() if source else b'') + post_to(path))
    return c


def answered(connections):
    return [c for c in connections if select.select([c.s], [], [], 0)[0]]


def told_to_come_back(c):
    status, headers, body = c.reply()
    assert status == 503 and json.loads(body)['error'] == 'overloaded' and int(headers['retry-after']) >= 1, (status, body)


def of_a_source():
    """fairness: a flood on one source while the log hangs gets half of the seats, the rest 503 with Retry-After; another source is served"""
    with hanging(sources="""
  open: { provider: none, dedup: off }
  other: { provider: none, dedup: off }""") as (h, release):
        flood = [come(h) for _ in range(SEATS // 2 + 50)]
        until('the last are refused', lambda: len(answered(flood)) == 50)
        for c in answered(flood):
            told_to_come_back(c)
            flood.remove(c)
            c.close()
        others = [come(h, '/hooks/other') for _ in range(50)]
        again = come(h)
        told_to_come_back(again)
        assert not answered(others) and not answered(flood)
        release()
        assert all(c.reply()[0] == 200 for c in others + flood)
        assert again.ask(post_to('/hooks/open'))[0] == 200
        assert h.metric('hookline_requests_total{source="other",code="200"}') == 50
        assert h.metric('hookline_requests_total{source="open",code="503"}') == 51


def of_an_address():
    """fairness: a flood from one address while the log hangs leaves seats to the others; it gets 503 with Retry-After"""
    with hanging(plain=', proxy_protocol: true', sources="""
  open: { provider: none, dedup: off }""") as (h, release):
        # the first quarter is given to everybody, then nobody gets more than is left
        waiting, refused = SEATS // 4 + (SEATS - SEATS // 4) // 2, 30
        flood = [come(h, source='198.51.100.1') for _ in range(waiting + refused)]
        until('the last are refused', lambda: len(answered(flood)) == refused)
        for c in answered(flood):
            told_to_come_back(c)
            flood.remove(c)
            c.close()
        others = [come(h, source=f'198.51.100.{n}') for n in range(2, 40)]
        told_to_come_back(come(h, source='198.51.100.1'))
        assert not answered(others)
        release()
        assert all(c.reply()[0] == 200 for c in others + flood)


def of_the_connections():
    """fairness: by default one address has half of all connections and no more; this machine may have all"""
    with bridge(plain=', proxy_protocol: true', limits='connections: 40', extra='threads: 1') as h:
        held = [come(h, source='198.51.100.1') for _ in range(20)]
        assert all(c.reply()[0] == 200 for c in held)
        assert come(h, source='198.51.100.1').closed()
        others = [come(h, source=f'198.51.100.{n}') for n in range(2, 20)]
        assert all(c.reply()[0] == 200 for c in others)
    with bridge(limits='connections: 40', extra='threads: 1') as h:
        held = [come(h) for _ in range(40)]
        assert all(c.reply()[0] == 200 for c in held)


Tap().run(of_a_source, of_an_address, of_the_connections)
