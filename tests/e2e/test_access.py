"""The access log: a line an answer, found by the request's id, that nobody outside can forge and nobody waits for; log levels."""
import http.client
import json
import os
import subprocess

from client import Connection, Load, exchange, parse_replies, post, signed
from servers import Hookline, Tap, until


class Logging(Hookline):
    """With stdout apart from stderr: in a file, or in a pipe that nobody reads."""

    def __init__(self, logging, pipe=False):
        super().__init__(extra=f'logging: {{ {logging} }}')
        self.pipe = pipe

    def spawn(self, argv, log, env=None):
        with open(os.path.join(self.dir, log), 'ab') as err, open(os.path.join(self.dir, 'access'), 'ab') as out:
            self.p = subprocess.Popen(argv, stdout=subprocess.PIPE if self.pipe else out, stderr=err, cwd=self.dir, env=env)

    def lines(self):
        return self.text('access').splitlines()

    def metric(self, name):
        return int(next(l for l in self.get('/metrics')[1].decode().splitlines() if l.startswith(name + ' ')).split()[1])

    def put(self, path, headers=None):
        c = http.client.HTTPConnection('127.0.0.1', self.admin, timeout=60)
        c.request('PUT', path, headers=headers or {})
        r = c.getresponse()
        return r.status, r.read()


def json_lines():
    """JSON: each answer has its line with the id that the answer carries, the true reason, and nothing a stranger wrote"""
    h = Logging('access: json').start()
    try:
        status, head, body = post(h.port, signed('msg_1', b'{"type":"a.b"}'))
        assert status == 200
        forged = b'{"time":"2026-01-01T00:00:00.000Z","status":200,"id":"forged"}'
        asks = {head['hookline-request']: ('accepted', 200)}
        for data, want in ((signed('msg_1', b'{"type":"a.b"}'), ('duplicate', 200)),
                           (signed('msg_2', b'{}', key=b'other'), ('bad_signature', 401)),
                           (b'GET /hooks/demo HTTP/1.1\r\nHost: a\r\n\r\n', ('method_not_allowed', 405)),
                           (b"POST /a%0a'/b/SECRET?token=SECRET HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", None),
                           (b'\n' + forged + b'\n\r\n', None)):
            status, head, body = post(h.port, data)
            asks[head['hookline-request']] = want or (json.loads(body)['error'], status)
        until('all lines', lambda: len(h.lines()) == len(asks))
        lines = [json.loads(l) for l in h.lines()]
        assert {l['request']: (l['result'], l['status']) for l in lines} == asks, lines
        assert len(asks) == 6 and [l['path'] for l in lines if 'path' in l] == ["/a%0a'/b"]
        assert 'SECRET' not in h.text('access') and 'forged' not in h.text('access')
        first, again, refused = (next(l for l in lines if l['result'] == r) for r in ('accepted', 'duplicate', 'bad_signature'))
        assert (first['id'], first['lsn'], first['source'], first['type'], first['bytes']) == ('msg_1', 1, 'demo', 'a.b', 14), first
        assert first['remote'] == '127.0.0.1' and again['lsn'] == 1
        assert refused['reason'] == 'bad_signature' and 'id' not in refused and 'lsn' not in refused, refused
        assert json.loads(h.get('/v1/rejected')[1])['rejected'][0]['request'] == refused['request']
        assert refused['request'] in h.text('log')
        assert h.get('/status')[2].headers['Hookline-Request'] not in asks
    finally:
        h.clean()


def switched():
    """Text, one in so many, switched on and off by a reload; the level of the log by the admin listener and by a reload"""
    h = Logging('access: off').start()
    try:
        post(h.port, signed('m0', b'{}'))
        h.write_config(extra='logging: { access: text, access_sample: 3 }')
        h.reload()
        until('reloaded', lambda: 'configuration reloaded' in h.text('log'))
        c = Connection(h.port)
        for n in range(9):
            assert c.ask(signed(f'm{n + 1}', b'{}'))[0] == 200
        until('lines', lambda: len(h.lines()) == 3)
        assert [l.split(' id=')[1].split()[0] for l in h.lines()] == ['"m3"', '"m6"', '"m9"'], h.lines()
        assert all(' status=200 result=accepted ' in l for l in h.lines())
        assert json.loads(h.get('/v1/log-level')[1]) == {'level': 'info'}
        assert h.put('/v1/log-level?level=loud')[0] == 400 and h.put('/v1/log-level')[0] == 400
        assert h.put('/v1/log-level?level=debug', {'Origin': 'http://elsewhere.example'})[0] == 403
        assert 'debug answered' not in h.text('log')
        assert h.put('/v1/log-level?level=debug') == (200, b'{"level":"debug"}\n')
        assert c.ask(signed('m10', b'{}'))[0] == 200
        until('a debug line', lambda: 'debug answered' in h.text('log'))
        h.write_config(extra='logging: { format: json, level: warn }')
        h.reload()
        until('reloaded', lambda: json.loads(h.get('/v1/log-level')[1]) == {'level': 'warn'})
        before = h.text('log')
        assert c.ask(signed('m11', b'{}', key=b'other'))[0] == 401
        until('a JSON line', lambda: h.text('log') != before)
        assert json.loads(h.text('log').splitlines()[-1])['message'] == 'a delivery was refused'
        assert len(h.lines()) == 3
    finally:
        h.clean()


def nobody_reads():
    """stdout is a pipe that nobody reads: everything is acknowledged, what is lost is counted, and a stop ends"""
    h = Logging('access: json', pipe=True).start()
    dropped = 'hookline_access_log_dropped_total{reason="full"}'
    try:
        load = Load(h.port, connections=4, total=4000)
        load.join()
        assert len(load.acked) == 4000 and not load.refused
        bad = b''.join(signed('x', b'{}', key=b'other') for _ in range(500))
        while not h.metric(dropped):
            got = exchange(h.port, bad + signed('x', b'{}', key=b'other', close=True))
            assert all(r[0] == 401 for r in parse_replies(got))
        assert post(h.port, signed('last', b'{}'))[0] == 200
        assert h.stop(20) == 0
    finally:
        h.clean()


if __name__ == '__main__':
    Tap().run(json_lines, switched, nobody_reads)
