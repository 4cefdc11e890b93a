"""old_logs.py NAME REVISION: makes tests/data/logs/NAME.tar.gz, a log as the program of that revision leaves it behind.

The program is built from the revision, driven over HTTP, stopped or killed; beside the folder `data` the archive holds
`expect.json`, what its sender and its readers had been told. A change of what stands on the disk gets a row in FORMATS."""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import servers
from client import post, signed
from servers import ROOT, Hookline, Redis, until

LOGS = os.path.join(ROOT, 'tests/data/logs')
LOG = 'segment_bytes: 256KiB, retain: 2400h'
SINK = '  r: {{ redis: {{ url: "unix:{}", stream: "hooks:demo" }}{} }}\n'


def body(ident):
    n = int(ident.split('-')[1])
    return json.dumps({'type': 'batch.succeeded', 'data': {'id': f'batches/{n}'}, 'pad': chr(97 + n % 26) * (n * 37 % 1100)}).encode()


def configure(h, sinks='', extra='', log=LOG):
    h.write_config(sinks, f'limits: {{ body_bytes: 4KiB }}\ndedup: {{ window: 2400h }}\n{extra}')
    with open(h.config) as f:
        text = f.read()
    with open(h.config, 'w') as f:
        f.write(text.replace('segment_bytes: 8MiB', log))


def send(h, idents):
    """{LSN: id}, as the sender was told."""
    got = {}
    for ident in idents:
        status, _, answer = post(h.port, signed(ident, body(ident)))
        answer = json.loads(answer)
        assert (status, answer['status']) == (200, 'accepted'), (status, answer)
        got[answer['lsn']] = ident
    return got


def ids(first, last):
    return [f'old-{n}' for n in range(first, last + 1)]


def cli(*argv):
    return subprocess.run([servers.HOOKLINE, *argv], check=True, stdout=subprocess.PIPE).stdout.decode()


def backlog(h, redis, first, last):
    """Events that a sink has, and behind them as many that it has not; its Redis is gone afterwards."""
    middle = (first + last) // 2
    events = send(h, ids(first, middle))
    until('the first half is delivered', lambda: h.drained('r'))
    delivered = max(events)
    redis.kill()
    events.update(send(h, ids(middle + 1, last)))
    return events, delivered


def plain(h, redis):
    """stopped cleanly"""
    configure(h, SINK.format(redis.socket, ''))
    h.start()
    events, delivered = backlog(h, redis, 1, 120)
    assert h.stop() == 0
    return {'events': events, 'delivered': delivered}


def is_recycled(h):
    """Whether the segment that is written to, before the spare, was one before."""
    return open(sorted(glob.glob(h.dir + '/data/*.wal'))[-2:][0], 'rb').read(92)[88] & 1


def recycled(h, redis):
    """killed in a segment that was one before: behind the new batches lie old ones"""
    configure(h, SINK.format(redis.socket, ''), log='segment_bytes: 256KiB, retain: 0s')
    h.start()
    first = {}
    while not is_recycled(h):
        first.update(send(h, ids(len(first) + 1, len(first) + 100)))
        until('all is delivered', lambda: h.drained('r'))
        assert len(first) < 10000, 'no segment is recycled'
    events, delivered = backlog(h, redis, len(first) + 1, len(first) + 100)
    h.kill()
    kept = {int(lsn) for lsn in re.findall(r'"lsn":"(\d+)"', cli('log', 'dump', h.dir + '/data'))}
    assert 1 not in kept and delivered in kept
    return {'events': {lsn: i for lsn, i in {**first, **events}.items() if lsn in kept}, 'delivered': delivered}


def letters(h, redis):
    """dead letters, one dropped and one sent again; an exactly-once sink; then a fork, which gives the log another id"""
    configure(h, SINK.format(redis.socket, ', delivery: exactly-once')
              + '  away: { redis: { url: "redis://127.0.0.1:1", stream: s } }\n')
    h.start()
    events = send(h, ids(1, 20))
    until('all is delivered', lambda: h.drained('r'))
    assert h.stop() == 0
    configure(h, SINK.format(redis.socket, ', delivery: exactly-once'), 'retired_sinks: [away]\n')
    h.start()
    assert h.stop() == 0
    away = f'  away: {{ redis: {{ url: "unix:{redis.socket}", stream: away }} }}\n'
    configure(h, SINK.format(redis.socket, ', delivery: exactly-once') + away)
    h.start()
    admin = ('--admin', f'http://127.0.0.1:{h.admin}')
    cli('dead', 'drop', 'away', '3', *admin)
    cli('dead', 'redrive', 'away', '4', *admin)
    assert h.stop() == 0
    cli('log', 'fork', h.dir + '/data')
    h.start()
    more, delivered = backlog(h, redis, 21, 60)
    assert h.stop() == 0
    return {'events': {**events, **more}, 'delivered': delivered, 'dead': {'away': [n for n in range(1, 21) if n not in (3, 4)]}}


def mended(h, redis):
    """a damaged record set aside, and two kills: what recovery had saved stands in a segment of its own"""
    configure(h, SINK.format(redis.socket, ''), log=LOG + ', on_damage: quarantine')
    h.start()
    events, delivered = backlog(h, redis, 1, 40)
    h.kill()
    lost = delivered + 5
    path = h.dir + '/data/0000000000000001.wal'
    with open(path, 'r+b') as f:
        at = f.read().index(f'"batches/{lost}"'.encode())
        f.seek(at + 1)
        f.write(b'B')
    h.start()
    events.update(send(h, ids(41, 60)))
    h.kill()
    assert events.pop(lost) == f'old-{lost}'
    return {'events': events, 'delivered': delivered, 'lost': [lost]}


def jobs(h, redis):
    """records of hookline's own: a job that is expected, one that is overdue"""
    configure(h, SINK.format(redis.socket, ''))
    h.start()
    events = send(h, ids(1, 10))
    for job, deadline in (('batches%2F500', '2399h'), ('batches%2F501', '1s')):
        assert call(h, 'PUT', f'/v1/jobs/{job}?deadline={deadline}') == 204
    until('it is overdue', lambda: h.get('/v1/jobs/batches%2F501')[1].find(b'"overdue"') > 0)
    until('all is delivered', lambda: h.drained('r'))
    more, delivered = backlog(h, redis, 11, 30)
    assert h.stop() == 0
    return {'events': {**events, **more}, 'delivered': delivered, 'jobs': {'batches/500': 'expected', 'batches/501': 'overdue'}}


def call(h, method, path):
    import http.client
    c = http.client.HTTPConnection('127.0.0.1', h.admin, timeout=60)
    try:
        c.request(method, path)
        return c.getresponse().status
    finally:
        c.close()


# each format that a landed revision wrote: the last one before the next
FORMATS = {'unnamed': plain, 'plain': plain, 'recycled': recycled, 'letters': letters, 'mended': mended, 'jobs': jobs}


def build(revision, where):
    tree = subprocess.run(['git', '-C', ROOT, 'archive', revision], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(['tar', '-x', '-C', where], input=tree, check=True)
    subprocess.run(['make', '-s', '-j2', 'CFLAGS=-O1', 'build/hookline'], cwd=where, check=True)
    return where + '/build/hookline'


def make(name, revision):
    where = tempfile.mkdtemp(prefix='hookline-old-')
    h, redis = Hookline(), Redis().start()
    try:
        servers.HOOKLINE = build(revision, where)
        expect = FORMATS[name](h, redis)
        expect['revision'] = revision
        with open(h.dir + '/expect.json', 'w') as f:
            json.dump(expect, f)
        os.remove(h.dir + '/data/lock')
        with tarfile.open(f'{LOGS}/{name}.tar.gz', 'w:gz') as tar:
            for entry in ('expect.json', 'data'):
                tar.add(f'{h.dir}/{entry}', entry)
        print(name, len(expect['events']), 'events', os.path.getsize(f'{LOGS}/{name}.tar.gz'), 'bytes')
    finally:
        servers.stop_all(h, redis)
        shutil.rmtree(where)


if __name__ == '__main__':
    make(*sys.argv[1:])
