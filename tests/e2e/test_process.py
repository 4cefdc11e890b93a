"""The process: the order of sync and answer, a dying disk, locks, signals, reloads, the command line, the HTTP queue."""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

from client import Connection, post, signed
from servers import HOOKLINE, Hookline, Skip, Tap, SECRET, stop_all, until


def cli(*args, **kw):
    return subprocess.run([HOOKLINE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, **kw)


def sync_before_answer():
    """strace: no 200 leaves before the fdatasync that covers it returned"""
    if not shutil.which('strace') or '/tsan/' in HOOKLINE:
        raise Skip('strace is not installed, or the build does not go with it')
    h = Hookline(extra='threads: 1')
    trace = os.path.join(h.dir, 'trace')
    try:
        h.start(wrap=['strace', '-D', '-f', '-qq', '-s', '200', '-e', 'trace=pwrite64,fdatasync,sendto,write', '-o', trace])
        for i in range(50):
            assert post(h.port, signed(f's{i}', b'{}'))[0] == 200
        h.stop()
        time.sleep(0.5)  # the tracer writes its last lines
        synced = pending = answers = 0
        for line in open(trace, errors='replace'):
            if 'pwrite64(' in line and 'HLB1' in line:
                pending += 1
            elif 'fdatasync' in line and '= 0' in line:
                synced = pending
            elif 'sendto(' in line and 'HTTP/1.1 200' in line and 'application/json' in line:
                answers += 1
                assert synced == pending and pending >= answers, f'an answer before its sync: {line}'
        assert answers == 50, answers
    finally:
        stop_all(h)


def sync_fails():
    """case 28: a failed fdatasync: 503 storage_failed, no 2xx after it, exit 74, everything acknowledged is there after"""
    if not shutil.which('strace'):
        raise Skip('strace is not installed')
    h = Hookline()
    try:
        h.start()
        for i in range(20):
            assert post(h.port, signed(f'a{i}', b'{}'))[0] == 200
        time.sleep(0.5)  # the mark behind the last one is on disk
        tracer = subprocess.Popen(['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fdatasync', '-e',
                                   'inject=fdatasync:error=EIO', '-p', str(h.p.pid)], stderr=subprocess.DEVNULL)
        time.sleep(1)
        r = post(h.port, signed('b', b'{}'))
        assert r is None or (r[0] == 503 and b'storage_failed' in r[2]), r
        assert h.p.wait(30) == 74
        tracer.wait(30)
        h.p = None
        assert 'Input/output error' in h.text('log')
        h.start()
        events = json.loads(h.get('/v1/events?limit=100')[1])
        assert {f'a{i}' for i in range(20)} <= {e['id'] for e in events}
    finally:
        stop_all(h)


def locked():
    """case 35: a second process on the folder: 75"""
    h = Hookline().start()
    try:
        other = Hookline()
        text = open(h.config).read().replace(str(h.port), str(other.port)).replace(str(h.admin), str(other.admin))
        open(other.config, 'w').write(text)
        r = cli('serve', '-c', other.config)
        assert r.returncode == 75 and b'locked by pid' in r.stderr, r
        other.clean()
    finally:
        stop_all(h)


def stops():
    """SIGTERM under way: what is in flight is answered, exit 0; the restart goes on"""
    h = Hookline().start()
    try:
        answers = []

        def one(i):
            answers.append(post(h.port, signed(f't{i}', b'{}'))[0])
        threads = [threading.Thread(target=one, args=(i,)) for i in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert h.stop() == 0
        assert answers == [200] * 20
        h.start()
        assert h.status()['log']['last_lsn'] == 20
    finally:
        stop_all(h)


def reloads():
    """SIGHUP: a good file is taken, a bad one changes nothing and is reported"""
    h = Hookline().start()
    try:
        h.write_config(sources=f'\n  demo: {{ provider: gemini, secrets: ["{SECRET}"] }}\n  two: {{ provider: none }}')
        h.reload()
        until('the new source', lambda: post(h.port, signed('x', b'{}', path='/hooks/two'))[0] == 200)
        h.write_config(sources='\n  demo: { provider: nonsense }')
        h.reload()
        until('the report', lambda: b'hookline_config_reload_success 0' in h.get('/metrics')[1])
        assert post(h.port, signed('y', b'{}'))[0] == 200
        assert post(h.port, signed('z', b'{}', path='/hooks/two'))[0] == 200
        assert 'unknown provider nonsense' in h.text('log')
    finally:
        stop_all(h)


def http_queue():
    """the log as a queue: pages, a long poll that waits, one event, 404, 409, a stream, metrics"""
    h = Hookline().start()
    try:
        assert post(h.port, signed('q1', b'{"type":"a.b","data":{"id":"j"}}'))[0] == 200
        status, body, r = h.get('/v1/events')
        event = json.loads(body)[0]
        assert status == 200 and event['id'] == 'q1' and event['data'] == {'type': 'a.b', 'data': {'id': 'j'}}
        assert event['specversion'] == '1.0' and event['lsn'] == '1' and event['subject'] == 'j'
        assert r.headers['Hookline-Next'] == '1' and r.headers['Hookline-Log'] == event['logid']
        got = []
        waiter = threading.Thread(target=lambda: got.append(json.loads(h.get('/v1/events?after=1&wait=30')[1])))
        waiter.start()
        time.sleep(0.3)
        assert not got
        assert post(h.port, signed('q2', b'\xff'))[0] == 200
        waiter.join(20)
        assert got[0][0]['id'] == 'q2' and got[0][0]['data_base64'] == '/w=='
        assert h.get('/v1/events/2')[0] == 200 and h.get('/v1/events/3')[0] == 404
        assert h.get('/v1/events?after=99')[0] == 409 and h.get('/v1/events?log=other')[0] == 409
        assert h.get('/v1/events?after=x')[0] == 400 and h.get('/nothing')[0] == 404
        c = Connection(h.admin)
        c.send(b'GET /v1/events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nLast-Event-ID: 1\r\n\r\n')
        while c.f.readline() != b'\r\n':
            pass
        assert c.f.readline() == b'id: 2\n' and c.f.readline().startswith(b'data: {')
        c.close()
        text = h.get('/metrics')[1].decode()
        series = [l.rsplit(' ', 1)[0] for l in text.split('\n') if l and l[0] != '#']
        assert len(series) == len(set(series)), 'a series twice'
        if shutil.which('promtool'):
            p = subprocess.run(['promtool', 'check', 'metrics'], input=text.encode(), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
            assert p.returncode == 0, p.stdout
    finally:
        stop_all(h)


def command_line():
    """--help everywhere, exit codes, check with FILE:LINE, print round trip, log ls and verify, health"""
    assert cli('--help').returncode == 0
    for c in ('serve', 'check', 'health', 'send', 'tail', 'log', 'providers', 'version'):
        assert cli(c, '--help').returncode == 0, c
    assert cli('nonsense').returncode == 64 and cli('serve', '--nonsense').returncode == 64
    assert b'gemini' in cli('providers').stdout and cli('providers', 'gemini').stdout.startswith(b'gemini:')
    assert cli('health', '--admin', 'http://127.0.0.1:1').returncode == 69
    h = Hookline()
    try:
        bad = os.path.join(h.dir, 'bad.yaml')
        open(bad, 'w').write('sources:\n  a: { provider: none }\nlog:\n  retian: 1h\nthread: 2\n')
        r = cli('check', '-c', bad)
        assert r.returncode == 78 and b'bad.yaml:4: ' in r.stderr and b'bad.yaml:5: ' in r.stderr, r
        h.start()
        url = f'http://127.0.0.1:{h.port}/hooks/demo'
        assert cli('send', '--secret', SECRET, '--count', '3', url).returncode == 0
        assert cli('send', '--secret', 'whsec_AAAA', url).returncode == 69
        printed = cli('send', '--secret', SECRET, '--print', url).stdout.decode()
        assert subprocess.run(['sh', '-c', printed], stdout=subprocess.PIPE).stdout.startswith(b'{"status":"accepted"')
        r = cli('tail', '--once', '--admin', f'http://127.0.0.1:{h.admin}')
        assert r.returncode == 0 and len(r.stdout.splitlines()) == 4, r
        assert cli('health', '--admin', f'http://127.0.0.1:{h.admin}').returncode == 0
        data = os.path.join(h.dir, 'data')
        assert b'records 4' in cli('log', 'ls', data).stdout
        assert cli('log', 'verify', data).returncode == 0
        assert len(cli('log', 'dump', data).stdout.splitlines()) == 4
        h.stop()
        path = os.path.join(data, '0000000000000001.wal')
        with open(path, 'r+b') as f:
            f.seek(4300)
            f.write(b'\xff\xff\xff')
        r = cli('serve', '-c', h.config)
        assert r.returncode == 65 and re.search(rb'corrupt record seg 0+1.wal off \d+ \(LSN 1 is acknowledged\)', r.stderr), r
    finally:
        stop_all(h)


Tap().run(sync_before_answer, sync_fails, locked, stops, reloads, http_queue, command_line)
