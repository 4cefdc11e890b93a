"""A sink is held back over the admin listener: it gets nothing, acknowledgements and the other sinks go on, a reload and a
kill change nothing, and then all arrives in order. On a real Redis."""
import http.client
import json

from client import Load, post, signed
from servers import Hookline, Redis, Tap, free_port, stop_all, until

BOTH = """  held: {{ redis: {{ url: "unix:{0}", stream: held }} }}
  other: {{ redis: {{ url: "unix:{0}", stream: other }} }}"""


def ask(h, method, path, headers=None):
    c = http.client.HTTPConnection('127.0.0.1', h.admin, timeout=60)
    try:
        c.request(method, path, headers=headers or {})
        r = c.getresponse()
        return r.status, json.loads(r.read())
    finally:
        c.close()


def paused(h, sink):
    return f'hookline_sink_paused{{sink="{sink}"}} 1\n' in h.get('/metrics')[1].decode()


def send(h, n, start=0):
    for i in range(start, start + n):
        r = post(h.port, signed(f'm{i}', json.dumps({'type': 'a.b', 'n': i}).encode()))
        assert r[0] == 200, r


def ids(redis, stream):
    return [f['id'].decode() for _, f in redis.entries(stream)]


def held_back():
    """a paused sink gets nothing while acknowledgements and another sink go on; after the resume all is there in order"""
    redis = Redis().start()
    h = Hookline(BOTH.format(redis.socket)).start()
    try:
        send(h, 3)
        until('all are passed', lambda: h.drained('held') and h.drained('other'))
        for _ in range(2):
            status, said = ask(h, 'POST', '/v1/sinks/held/pause')
            assert status == 200 and said['state'] == 'paused' and '/v1/sinks/held/resume' in said['reason'], said
        send(h, 20, 3)
        until('the other has all', lambda: h.drained('other'))
        assert ids(redis, 'other') == [f'm{i}' for i in range(23)]
        assert ids(redis, 'held') == ['m0', 'm1', 'm2']
        until('its lag is shown', lambda: h.status()['sinks']['held']['lag_seconds'] > 0)
        s = h.status()['sinks']
        assert s['held']['state'] == 'paused' and s['held']['lag_events'] == 20 and s['other']['state'] == 'running', s
        assert paused(h, 'held') and not paused(h, 'other')
        assert h.get('/readyz')[0] == 200
        h.reload()
        until('it has reloaded', lambda: 'configuration reloaded' in h.text('log'))
        h.kill()
        h.start()
        send(h, 1, 23)
        until('the other has all', lambda: h.drained('other'))
        assert h.status()['sinks']['held']['state'] == 'paused' and ids(redis, 'held') == ['m0', 'm1', 'm2']
        status, said = ask(h, 'POST', '/v1/sinks/held/resume')
        assert status == 200 and said['state'] in ('running', 'retrying'), said
        until('all has come', lambda: h.drained('held'))
        assert ids(redis, 'held') == [f'm{i}' for i in range(24)]
        assert ask(h, 'POST', '/v1/sinks/held/resume')[1]['state'] == 'running'
        h.kill()
        h.start()
        until('it goes on', lambda: h.status()['sinks']['held']['state'] == 'running')
    finally:
        stop_all(h, redis)


def under_load():
    """paused and resumed again and again under load, nothing is lost, nothing repeated, and the order stays"""
    redis = Redis().start()
    h = Hookline(BOTH.format(redis.socket)).start()
    load = Load(h.port, 8, 3000)
    try:
        n = 0
        while load.threads[0].is_alive():
            n += 1
            assert ask(h, 'POST', f'/v1/sinks/held/{"pause" if n % 2 else "resume"}')[0] == 200
        load.join()
        assert n > 2 and len(load.acked) == 3000
        assert ask(h, 'POST', '/v1/sinks/held/resume')[0] == 200
        until('all has come', lambda: h.drained('held') and h.drained('other'))
        assert ids(redis, 'held') == ids(redis, 'other') and len(set(ids(redis, 'held'))) == 3000
    finally:
        load.stop()
        stop_all(h, redis)


def refusals():
    """who may not, no such sink, no such word, the wrong method, a page of another origin"""
    h = Hookline('  held: { redis: { url: "unix:/nowhere" } }').start()
    try:
        for method, path, headers, want in [('POST', '/v1/sinks/none/pause', {}, 404), ('POST', '/v1/sinks/held', {}, 404),
                                            ('POST', '/v1/sinks/held/stop', {}, 404), ('GET', '/v1/sinks/held/pause', {}, 405),
                                            ('POST', '/v1/sinks/held/pause/', {}, 404),
                                            ('POST', '/v1/sinks/held/pause', {'Origin': 'http://evil.example'}, 403)]:
            status, said = ask(h, method, path, headers=headers)
            assert status == want, (method, path, status, said)
        assert h.status()['sinks']['held']['state'] != 'paused'
        said = ask(h, 'POST', '/v1/sinks/held/pause')[1]
        assert said['state'] == 'paused' and 'retrying: ' in said['reason'], said
    finally:
        stop_all(h)


def never_reached():
    """how long an event has waited is known also of a sink that was never reached"""
    h = Hookline(f'  away: {{ redis: {{ url: "redis://127.0.0.1:{free_port()}" }} }}').start()
    try:
        until('it was tried', lambda: 'refused' in h.status()['sinks']['away']['reason'])
        send(h, 2)
        until('its age is shown', lambda: h.status()['sinks']['away']['lag_seconds'] > 0)
    finally:
        stop_all(h)


if __name__ == '__main__':
    Tap().run(held_back, under_load, refusals, never_reached)
