"""The disk and the process die at chosen places: failpoints, short and failed calls, slow and hanging syncs."""
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import threading

from client import Connection, Load, audit, from_redis, parse_replies, connect, post, signed
from servers import HOOKLINE, SECRET, Hookline, Redis, Skip, Tap, stop_all, until

HERE = os.path.dirname(os.path.abspath(__file__))
WINDOW = 500
LONG = os.environ.get('LONG')
redis = Redis()
shims = tempfile.mkdtemp(prefix='hookline-shims-')


def preload(name, **env):
    """What runs hookline with tests/e2e/NAME.c preloaded."""
    path = os.path.join(shims, name + '.so')
    if not os.path.exists(path):
        if not shutil.which('cc'):
            raise Skip('no C compiler')
        subprocess.run(['cc', '-shared', '-fPIC', '-w', '-o', path, os.path.join(HERE, name + '.c'), '-ldl'], check=True)
    return ['env', f'LD_PRELOAD={path}', 'ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0',
            *(f'{k}={v}' for k, v in env.items())]


def failpoint(what):
    return preload('failpoint', FAILPOINT=what)


def small(sinks='', log='', limits=''):
    """A log of small segments, so that it rotates and trims."""
    h = Hookline()
    with open(h.config, 'w') as f:
        f.write(f"""listen: 127.0.0.1:{h.port}
admin: {{ listen: 127.0.0.1:{h.admin} }}
shutdown: {{ delay: 0s, timeout: 20s }}
threads: 1
limits: {{ body_bytes: 64KiB{limits} }}
log: {{ dir: "{h.dir}/data", reserve_bytes: 1MiB, segment_bytes: 256KiB, allow_volatile: true{log} }}
sources:
  demo: {{ provider: gemini, secrets: ["{SECRET}"] }}
""" + (f'sinks:\n{sinks}\n' if sinks else ''))
    return h


def to_redis():
    return f'  r: {{ redis: {{ url: "unix:{redis.socket}" }}, in_flight: {{ events: {WINDOW} }} }}'


def die_at(what):
    """Load until the process is dead there, a restart, the audit."""
    h = small(to_redis(), ', retain_bytes: 512KiB')
    load = None
    try:
        h.spawn([*failpoint(what), HOOKLINE, 'serve', '-c', h.config], 'log')
        load = Load(h.port, connections=8)
        until(f'{what}: the process is dead', lambda: h.p.poll() is not None)
        assert h.p.returncode in (-9, 137), (what, h.p.returncode, h.text('log')[-1000:])
        h.p = None
        h.start()
        before = len(load.acked)
        until(f'{what}: served again', lambda: len(load.acked) > before + 50)
        load.stop()
        until(f'{what}: redis has all', lambda: h.drained('r'))
        repeats = audit(load, from_redis(redis), what)
        assert repeats <= WINDOW, (what, repeats)
        assert h.stop() == 0
    finally:
        if load:
            load.stop()
        h.clean()
        redis('FLUSHALL')


def killed_at_writes():
    """case 26: kill -9 before and after a write and a sync of the log"""
    for what in ('pwrite:.wal:30', 'fdatasync:.wal:20'):
        for when in ('kill-before', 'kill-after'):
            die_at(f'{what}:{when}')


def killed_at_answers():
    """case 26: kill -9 before and after an answer"""
    for when in ('kill-before', 'kill-after'):
        die_at(f'send:x:30:{when}')


def killed_at_rotation():
    """case 26: kill -9 before and after the next segment gets its name, and its bytes"""
    for what in ('rename:.wal:4', 'fsync:spare.tmp:4'):
        for when in ('kill-before', 'kill-after'):
            die_at(f'{what}:{when}')


def killed_at_cursors():
    """case 26: kill -9 before and after a cursor is written, and synced"""
    for what in ('pwrite:.cursor:6', 'fdatasync:.cursor:2'):
        for when in ('kill-before', 'kill-after'):
            die_at(f'{what}:{when}')


def killed_at_trimming():
    """case 26: kill -9 before and after a delivered segment is set aside"""
    for when in ('kill-before', 'kill-after'):
        die_at(f'rename:/data/spare.tmp:1:{when}')


def short_and_interrupted():
    """case 29: short reads and writes and interruptions are not seen from outside"""
    for what in ('pwrite:.wal:0:short', 'pwrite:.wal:9:eintr', 'pread:.wal:0:short'):
        h = small()
        try:
            h.start(wrap=failpoint(what))
            for i in range(30):
                assert post(h.port, signed(f'e{i}', b'x' * 3000))[0] == 200, what
            h.kill()
            h.start(wrap=failpoint(what))
            assert h.status()['log']['last_lsn'] == 30, what
            assert h.stop() == 0
        finally:
            h.clean()


def failed_write(action):
    h = small()
    try:
        h.start(wrap=failpoint(f'pwrite:.wal:40:{action}'))
        acked = []
        for i in range(200):
            with contextlib.suppress(OSError):
                r = post(h.port, signed(f'e{i}', b'{}'))
                if r and r[0] == 200:
                    assert len(acked) == i, 'a 200 after the failure'
                    acked.append(f'e{i}')
                elif r:
                    assert r[0] == 503 and b'storage_failed' in r[2], r
            if h.p.poll() is not None:
                break
        assert h.p.wait(60) == 74, action
        h.p = None
        h.start()
        events = json.loads(h.get('/v1/events?limit=1000')[1])
        assert set(acked) <= {e['id'] for e in events}
    finally:
        h.clean()


def writes_fail():
    """case 29: EIO and EAGAIN at a write of the log: 503 storage_failed, no 2xx after it, exit 74, nothing lost"""
    failed_write('eio')
    failed_write('eagain')


def content(folder):
    out = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), 'rb') as f:
            out[name] = hashlib.sha256(f.read()).hexdigest() if name != 'lock' else ''
    return out


def recovery_cannot_read():
    """case 29: EIO while recovery reads: exit 74 naming file and offset, nothing changed"""
    h = small()
    try:
        h.start()
        for i in range(20):
            assert post(h.port, signed(f'e{i}', b'{}'))[0] == 200
        h.kill()
        data = os.path.join(h.dir, 'data')
        before = content(data)
        r = subprocess.run([*failpoint('pread:0000000000000001.wal:3:eio'), HOOKLINE, 'serve', '-c', h.config],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert r.returncode == 74, r
        assert b'0000000000000001.wal off ' in r.stdout and b'Input/output error' in r.stdout, r.stdout
        assert content(data) == before
        h.start()
        assert h.status()['log']['last_lsn'] == 20
    finally:
        h.clean()


def backlog_quota():
    """case 31: the backlog of a dead sink reaches its quota: 503 backlog_full, Retry-After; on by itself, nothing lost"""
    h = small(to_redis(), ', backlog_bytes: 1MiB')
    try:
        h.start()
        redis.pause()
        acked = []

        def is_full():
            for _ in range(20):
                r = post(h.port, signed(f'e{len(acked)}', b'x' * 20000))
                if r[0] == 503:
                    assert b'backlog_full' in r[2] and int(r[1]['retry-after']) > 0, r
                    return True
                assert r[0] == 200, r
                acked.append(f'e{len(acked)}')
            return False
        until('the quota is reached', is_full)
        redis.resume()
        until('served again', lambda: post(h.port, signed('more', b'{}'))[0] == 200)
        until('redis has all', lambda: h.drained('r'))
        got = [f['id'].decode() for _, f in redis.entries('hooks:demo')]
        assert set(acked) <= set(got)
        assert h.stop() == 0
    finally:
        redis.resume()
        h.clean()
        redis('FLUSHALL')


def read_only():
    """case 35: a read-only file system: 74 with the path, nothing modified"""
    h = small()
    data = os.path.join(h.dir, 'data')
    os.makedirs(data)
    if os.geteuid() or subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', data], stderr=subprocess.DEVNULL).returncode:
        h.clean()
        raise Skip('mounting a file system needs root')
    try:
        h.start()
        assert post(h.port, signed('a', b'{}'))[0] == 200
        h.stop()
        before = content(data)
        subprocess.run(['mount', '-o', 'remount,ro', data], check=True)
        r = subprocess.run([HOOKLINE, 'serve', '-c', h.config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert r.returncode == 74 and data.encode() in r.stdout and b'Read-only file system' in r.stdout, r
        assert content(data) == before
    finally:
        h.kill()
        subprocess.run(['umount', '-l', data], stderr=subprocess.DEVNULL)
        h.clean()


def slow_sync():
    """case 36: a sync of 2 s: the answer comes after it, 200; the others share the next one"""
    h = small()
    try:
        h.start(wrap=failpoint('fdatasync:.wal:3:sleep-2000'))
        answers = []
        threads = [threading.Thread(target=lambda i=i: answers.append(post(h.port, signed(f's{i}', b'{}'))[0])) for i in range(30)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert answers == [200] * 30, answers
        assert h.stop() == 0
    finally:
        h.clean()


def ask(port, ident, body):
    with connect(port) as s:
        s.sendall(signed(ident, body, close=True))
        got = b''
        while (piece := s.recv(65536)):
            got += piece
        [(status, headers, text)] = parse_replies(got)
        return status, headers, json.loads(text).get('error')


def hanging_sync():
    """case 36: a sync that hangs: commit_timeout for who waits, overloaded for who comes, SIGTERM is no deadlock; an alarm at
    30 s, for which only `make long` waits"""
    stall = os.path.join(shims, 'stall')
    h = small(limits=', buffer_bytes: 1MiB, commit_timeout: 1s')
    held = []
    try:
        h.start(wrap=preload('stall', STALL=stall))
        assert post(h.port, signed('before', b'{}'))[0] == 200
        open(stall, 'w').close()
        status, headers, error = ask(h.port, 'late', b'{}')
        assert (status, error) == (503, 'commit_timeout') and int(headers['retry-after']) > 0, (status, error)

        def overloaded():
            for i in range(40):
                c = Connection(h.port)
                held.append(c)
                c.send(signed(f'o{len(held)}', b'x' * 60000))
            return 'overloaded' in [ask(h.port, f'x{len(held)}', b'x' * 60000)[2] for _ in range(3)]
        until('overloaded', overloaded)
        until('not ready', lambda: h.get('/readyz')[0] == 503)
        if LONG:
            until('the alarm', lambda: 'takes very long' in h.text('log'), 120)
        h.p.terminate()
        os.unlink(stall)
        assert h.p.wait(60) == 0
        h.p = None
        h.start()
        ids = {e['id'] for e in json.loads(h.get('/v1/events?limit=1000')[1])}
        assert {'before', 'late'} <= ids  # who was told commit_timeout may be delivered, and is
        assert json.loads(post(h.port, signed('late', b'{}'))[2])['status'] == 'duplicate'
    finally:
        for c in held:
            c.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stall)
        h.clean()


try:
    redis.start()
    only = os.environ.get('TEST')
    tests = (killed_at_writes, killed_at_answers, killed_at_rotation, killed_at_cursors, killed_at_trimming,
             short_and_interrupted, writes_fail, recovery_cannot_read, backlog_quota, read_only, slow_sync, hanging_sync)
    Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
finally:
    stop_all(redis)
    shutil.rmtree(shims, ignore_errors=True)
