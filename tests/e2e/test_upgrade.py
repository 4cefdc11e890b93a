"""Logs that older programs left behind (old_logs.py made them), taken over by this one: what was acknowledged is read, what
was not delivered is, repeats are known, and more is appended. A log of a newer format is refused and stays as it is."""
import json
import os
import shutil
import struct
import subprocess
import tarfile

import old_logs
import servers
from client import post, signed
from old_logs import LOGS, SINK, body, configure
from servers import ROOT, Hookline, Redis, Tap, stop_all, until


def log(*argv):
    p = subprocess.run([servers.HOOKLINE, 'log', *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def unpack(name, h):
    """What the archive says is to be expected; the log is h's."""
    with tarfile.open(f'{LOGS}/{name}.tar.gz') as tar:
        tar.extractall(h.dir)
    with open(h.dir + '/expect.json') as f:
        expect = json.load(f)
    expect['events'] = {int(lsn): ident for lsn, ident in expect['events'].items()}
    return expect


def read(h):
    """{LSN: event} of what `hookline log dump` gives out, hookline's own left aside."""
    code, text, err = log('dump', h.dir + '/data')
    assert code == 0, err
    events = [json.loads(line) for line in text.splitlines()]
    return {int(e['lsn']): e for e in events if e['source'] != 'hookline'}


def check_read(h, expect):
    code, _, err = log('verify', h.dir + '/data')
    assert code == 0, err
    got = read(h)
    assert {lsn: e['id'] for lsn, e in got.items()} == expect['events']
    assert all(e['data'] == json.loads(body(e['id'])) for e in got.values())


def check_delivered(h, redis, expect):
    """Each event behind the sink's position once, in order; behind them one that is new."""
    first = min(expect['events'])
    status, _, answer = post(h.port, signed(expect['events'][first], body(expect['events'][first])))
    assert (status, json.loads(answer)['status'], json.loads(answer)['lsn']) == (200, 'duplicate', first), answer
    ident = f'new-{len(expect["events"])}'
    (new,) = old_logs.send(h, [ident])
    assert new > max(expect['events'])
    until('all is delivered', lambda: h.passed('r', new))
    got = [f for _, f in redis.entries('hooks:demo') if f['source'] == b'demo']
    want = [ident for lsn, ident in sorted(expect['events'].items()) if lsn > expect['delivered']] + [ident]
    assert [f['id'].decode() for f in got] == want
    assert all(f['body'] == body(f['id'].decode()) for f in got)
    expect['events'][new] = ident


def check_rest(h, expect):
    for sink, lsns in expect.get('dead', {}).items():
        page = json.loads(h.get(f'/v1/dead/{sink}')[1])
        assert [letter['lsn'] for letter in page['letters']] == lsns, page
    for job, state in expect.get('jobs', {}).items():
        answer = json.loads(h.get('/v1/jobs/' + job.replace('/', '%2F'))[1])
        assert answer.get('state') == state, answer
    damage = h.status()['log']['damage']
    assert damage['segments'] == 0, damage


ONCE = ', delivery: exactly-once', '  away: { redis: { url: "redis://127.0.0.1:1", stream: s } }\n'


def take_over(h, redis, expect):
    """Serves what another program left behind in h's folder, and leaves it as that one could take it over again."""
    check_read(h, expect)
    more, away = ONCE if 'dead' in expect else ('', '')
    configure(h, SINK.format(redis.socket, more) + away)
    h.start()
    check_delivered(h, redis, expect)
    check_rest(h, expect)
    assert h.stop() == 0
    check_read(h, expect)


def taken_over(name):
    def test():
        h, redis = Hookline(), Redis().start()
        try:
            take_over(h, redis, unpack(name, h))
        finally:
            stop_all(h, redis)
    test.__doc__ = f'{name}: {old_logs.FORMATS[name].__doc__}'
    return test


def files(folder):
    return {n: open(os.path.join(folder, n), 'rb').read() for n in sorted(os.listdir(folder)) if n != 'lock'}


def refused(h, code, words, commands=('verify', 'dump', 'repair')):
    """Serving it and those commands about it end with that code; nothing of it has changed."""
    data = h.dir + '/data'
    before = files(data)
    configure(h)
    p = subprocess.run([servers.HOOKLINE, 'serve', '-c', h.config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == code and all(w in p.stderr.decode() for w in words), (p.returncode, p.stderr)
    for command in commands:
        got, out, err = log(command, data)
        assert got == code, (command, got, out, err)
    assert files(data) == before


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def newer_segment():
    """case 35: a segment that takes a newer reader: 78, the release that wrote it is named, nothing is changed"""
    h = Hookline()
    try:
        unpack('plain', h)
        path = h.dir + '/data/0000000000000001.wal'
        with open(path, 'r+b') as f:
            head = bytearray(f.read(92))
            head[8:16] = struct.pack('<II', 2, 2)
            head[56:88] = b'hookline 7.8.9'.ljust(32, b'\0')
            f.seek(0)
            f.write(head + struct.pack('<I', crc32c(head)))
        refused(h, 78, ('format 2', 'hookline 7.8.9', 'use that release'))
    finally:
        stop_all(h)


def newer_identity():
    """case 35: a file `id` of a newer format: 78, and no repair makes another one in its place"""
    h = Hookline()
    try:
        unpack('plain', h)
        head = b'HOOKLID3' + os.urandom(64)
        with open(h.dir + '/data/id', 'wb') as f:
            f.write(head + struct.pack('<I', crc32c(head)))
        refused(h, 78, ('/id was written by a newer release',), ('repair', 'fork'))
    finally:
        stop_all(h)


def before_all():
    """what was written before the format had its name is refused, and stays as it is"""
    h = Hookline()
    try:
        unpack('unnamed', h)
        refused(h, 65, ('/id is damaged',))
    finally:
        stop_all(h)


def first_release():
    """the log that the unit tests read record by record: a sink that is new to it gets all 240"""
    h, redis = Hookline(), Redis().start()
    try:
        shutil.copytree(ROOT + '/tests/data/log-v1', h.dir + '/data')
        configure(h, SINK.format(redis.socket, ', from: oldest').replace('hooks:demo', 'all'), 'retired_sinks: [kafka, redis]\n')
        h.start()
        (new,) = old_logs.send(h, ['new-1'])
        assert new == 241
        until('all is delivered', lambda: h.passed('r', new))
        assert [int(f['lsn']) for _, f in redis.entries('all')] == list(range(1, 242))
        assert h.stop() == 0
    finally:
        stop_all(h, redis)


if __name__ == '__main__':
    Tap().run(*[taken_over(name) for name in old_logs.FORMATS if name != 'unnamed'], first_release, before_all, newer_segment,
              newer_identity)
