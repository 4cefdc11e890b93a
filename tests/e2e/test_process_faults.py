"""case 40: the process under fire: signals under load, clocks that jump, memory that runs out, a log that nobody reads."""
import fcntl
import glob
import json
import mmap
import os
import signal
import struct
import subprocess
import time

from client import Connection, Load, audit, from_redis, post, signed
from servers import HOOKLINE, SECRET, Hookline, Redis, Skip, Tap, stop_all, until

HERE = os.path.dirname(os.path.abspath(__file__))
SANITIZED = '/asan/' in HOOKLINE or '/tsan/' in HOOKLINE
SAMPLES = int(os.environ.get('MALLOCS', '24'))  # of the allocations at a start; 0: each of them
DAY = 86400
redis = Redis()


def sink(more=''):
    return f'  r: {{ redis: {{ url: "unix:{redis.socket}" }}{more} }}'


def all_arrived(h, load):
    until('redis has all', lambda: h.drained('r'), 120)
    return audit(load, from_redis(redis), 'Redis')


def busy(load, more=300):
    """Waits until so many more were acknowledged."""
    want = len(load.acked) + more
    until('acknowledgements go on', lambda: len(load.acked) >= want)


def signals_under_load():
    """case 40: SIGTERM and SIGINT under load: exit 0, what is in flight is answered, the restart goes on, nothing lost"""
    h = Hookline(sink()).start()
    load = Load(h.port, connections=8)
    try:
        for sig in (signal.SIGTERM, signal.SIGINT) * 2:
            busy(load)
            h.p.send_signal(sig)
            assert h.p.wait(60) == 0, (sig, h.text('log')[-2000:])
            h.p = None
            h.start()
        busy(load)
        load.stop()
        assert all(status == 503 for status in load.refused.values()), set(load.refused.values())
        assert all_arrived(h, load) == 0, 'a stop waits for what is outstanding, so nothing comes again'
    finally:
        load.stop()
        stop_all(h)
        redis('FLUSHALL')


def reloads_under_load():
    """case 40: SIGHUP under load, good files and bad ones in turn: taken or refused as a whole, nobody is turned away"""
    h = Hookline(sink()).start()
    load = Load(h.port, connections=8)
    try:
        for n in range(10):
            h.write_config(sink(), sources=f'\n  demo: {{ provider: gemini, secrets: ["{SECRET}"] }}\n  n{n}: {{ provider: none }}')
            h.reload()
            until('the new source', lambda: post(h.port, signed(f'x{n}', b'{}', path=f'/hooks/n{n}'))[0] == 200)
            h.write_config(sink(), sources=f'\n  demo: {{ provider: nonsense }}')
            h.reload()
            until('refused', lambda: b'hookline_config_reload_success 0' in h.get('/metrics')[1])
            assert post(h.port, signed(f'y{n}', b'{}', path=f'/hooks/n{n}'))[0] == 200, 'the old one is kept'
        busy(load)
        load.stop()
        assert not load.refused, load.refused
        assert all_arrived(h, load) == 0
    finally:
        load.stop()
        stop_all(h)
        redis('FLUSHALL')


def clock_jumps():
    """case 40: the clock jumps by a day forth and back under load: nothing is trimmed, refused, lost or late"""
    libs = glob.glob('/usr/lib/*/faketime/libfaketime.so.1')
    if not libs or SANITIZED:
        raise Skip('libfaketime is not installed, or the build does not go with it')
    source = (f'\n  demo: {{ provider: gemini, secrets: ["{SECRET}"], signature: {{ timestamp: {{ tolerance: 9d, future: 9d }} }} }}')
    h = Hookline(sink(), sources=source)
    clock = os.path.join(h.dir, 'clock')

    def jump(seconds):
        with open(clock + '.new', 'w') as f:
            f.write(f'{seconds:+d}\n')
        os.replace(clock + '.new', clock)
    load = None
    try:
        jump(0)
        h.start(wrap=['env', 'DONT_FAKE_MONOTONIC=1', 'FAKETIME_NO_CACHE=1', f'FAKETIME_TIMESTAMP_FILE={clock}', f'LD_PRELOAD={libs[0]}'])
        load = Load(h.port, connections=4)
        for seconds in DAY, 0, -DAY, 3 * DAY, -3 * DAY, 0:
            busy(load)
            jump(seconds)
            busy(load)
            assert h.get('/readyz')[0] == 200
        load.stop()
        assert not load.refused, load.refused
        assert all_arrived(h, load) == 0
        times = {f['time'][:10] for _, f in redis.entries('hooks:demo')}
        assert len(times) >= 4, f'the clock did not jump: {times}'
        assert h.status()['log']['first_lsn'] == 1
        assert h.stop() == 0
    finally:
        if load:
            load.stop()
        stop_all(h)
        redis('FLUSHALL')


class Pipe:
    """A pipe of one page that is full and that nobody reads yet."""

    def __init__(self):
        self.r, self.w = os.pipe()
        fcntl.fcntl(self.w, 1031, 4096)  # F_SETPIPE_SZ
        os.set_blocking(self.w, False)
        try:
            while True:
                os.write(self.w, b'x' * 512)
        except BlockingIOError:
            os.set_blocking(self.w, True)

    def empty(self):
        os.set_blocking(self.r, False)
        try:
            return os.read(self.r, 65536)
        except BlockingIOError:
            return b''

    def close(self):
        os.close(self.r)
        os.close(self.w)


def talk(h):
    """Requests, and things that are logged."""
    for n in range(30):
        assert post(h.port, signed(f'w{time.monotonic_ns()}', b'{}'))[0] == 200
        assert post(h.port, signed('bad', b'{}', key=b'x' * 32))[0] == 401
    h.reload()
    assert post(h.port, signed(f'v{time.monotonic_ns()}', b'{}'))[0] == 200


def nobody_reads_the_log():
    """case 40: stderr is a full pipe, or a disk that is full: acknowledgements go on, lost lines are counted, a stop is clean"""
    for kind in 'pipe', 'disk':
        h, pipe = Hookline(), Pipe() if kind == 'pipe' else None
        full = None if pipe else open('/dev/full', 'wb')
        try:
            h.p = subprocess.Popen([HOOKLINE, 'serve', '-c', h.config], stderr=pipe.w if pipe else full, cwd=h.dir)
            until('ready', lambda: h.get('/readyz')[0] == 200)
            talk(h)
            if pipe:
                pipe.empty()
                h.reload()

                def told():
                    talk(h)
                    return b'lines of this log are lost' in pipe.empty()
                until('told how many lines are lost', told)
                talk(h)
            assert h.stop() == 0
        finally:
            stop_all(h)
            (pipe or full).close()


class Memory:
    """The file that oom.c shares with us."""

    def __init__(self, folder):
        self.shim, self.path = os.path.join(folder, 'oom.so'), os.path.join(folder, 'oom')
        subprocess.run(['cc', '-shared', '-fPIC', '-o', self.shim, os.path.join(HERE, 'oom.c')], check=True)
        with open(self.path, 'wb') as f:
            f.write(bytes(16))
        with open(self.path, 'r+b') as f:
            self.map = mmap.mmap(f.fileno(), 16)

    def wrap(self):
        return ['env', f'LD_PRELOAD={self.shim}', f'OOM={self.path}']

    def fail(self, n):
        """The n-th allocation from now on fails; 0: none."""
        self.map[:8] = struct.pack('=q', n)

    def calls(self):
        return struct.unpack('=q', self.map[8:])[0]


def start_or_end(h, wrap):
    """Starts it; whether it lives. How it ends is judged: by a message and a code, or by abort(), never by a stray pointer."""
    h.spawn([*wrap, HOOKLINE, 'serve', '-c', h.config], 'log')
    return alive(h)


def alive(h):
    until('ready or ended', lambda: h.p.poll() is not None or h.get('/readyz')[0] == 200)
    if h.p.poll() is None:
        return True
    code, h.p = h.p.returncode, None
    assert code == -signal.SIGABRT or code > 0, (code, h.text('log')[-2000:])
    return False


def a_few(h, history, n):
    """Three requests; what was answered. True while it lives."""
    for k in range(3):
        ident, body = f'o{n}-{k}', json.dumps({'n': n, 'k': k, 'pad': 'x' * 3000 * k}).encode()
        history['sent'][ident] = body
        try:
            r = post(h.port, signed(ident, body))
        except OSError:
            r = None
        if r:
            assert r[0] in (200, 503), (n, r)
            if r[0] == 200:
                history['acked'][ident] = json.loads(r[2])['lsn']
    return True


def events(h):
    """{id: (lsn, body)} of all that the log holds."""
    out, after = {}, 0
    while True:
        page = json.loads(h.get(f'/v1/events?after={after}&limit=500')[1])
        for e in page:
            out[e['id']] = int(e['lsn']), e['data']
        if len(page) < 500:
            return out
        after = int(page[-1]['lsn'])


def memory_fails():
    """case 40: each allocation of a start and of a request fails in turn: 503 or a clean end, and nothing acknowledged is lost"""
    if SANITIZED:
        raise Skip('the sanitizers bring an allocator of their own')
    h = Hookline(extra='threads: 1')
    memory, history = Memory(h.dir), {'sent': {}, 'acked': {}}
    try:
        assert start_or_end(h, memory.wrap())
        startup = memory.calls()
        a_few(h, history, 0)
        step = 1 if SAMPLES == 0 else max(1, startup // SAMPLES)
        h.kill()
        ended = 0
        for n in range(1, startup, step):
            memory.fail(n)
            if start_or_end(h, memory.wrap()):
                memory.fail(0)
                a_few(h, history, f's{n}')
            ended += h.p is None
            h.kill()
        memory.fail(0)
        assert start_or_end(h, memory.wrap())
        before = memory.calls()
        a_few(h, history, 'count')
        requests, died = memory.calls() - before, 0
        for n in range(1, requests + 1):
            memory.fail(n)
            a_few(h, history, f'r{n}')
            memory.fail(0)
            if not alive(h):
                died += 1
                assert start_or_end(h, memory.wrap())
        got = events(h)
        for ident, lsn in history['acked'].items():
            assert got[ident] == (lsn, json.loads(history['sent'][ident])), ident
        print(f'# {startup} allocations at a start, every {step} failed: {ended} ended it; {requests} of three requests, each '
              f'failed: {died} ended it; {len(history["acked"])} of {len(history["sent"])} acknowledged, all there')
    finally:
        stop_all(h)


def no_blame_for_it():
    """case 40: each allocation in checking a JSON Web Token fails in turn: nobody is told that the signature is bad"""
    if SANITIZED:
        raise Skip('the sanitizers bring an allocator of their own')
    h = Hookline()
    memory = Memory(h.dir)
    url = f'http://127.0.0.1:{h.port}/hooks/jwt'
    subprocess.run([HOOKLINE, 'providers', 'keygen', 'google-pubsub', h.dir], check=True, stdout=subprocess.DEVNULL)
    h.write_config(extra='threads: 1', sources=f'''
  jwt: {{ provider: google-pubsub, audience: "{url}", email: push@example.iam.gserviceaccount.com,
          jwks: {{ file: "{h.dir}/jwks.json" }} }}''')

    def send():
        return subprocess.run([HOOKLINE, 'send', '--provider', 'google-pubsub', '--key', f'{h.dir}/private.pem', url],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert start_or_end(h, memory.wrap())
        r = send()
        assert r.returncode == 0, r
        before = memory.calls()
        send()
        calls, ended = memory.calls() - before, 0
        for n in range(1, calls + 1, max(1, calls * 2 // SAMPLES if SAMPLES else 1)):
            memory.fail(n)
            r = send()
            memory.fail(0)
            assert b'401' not in r.stdout, (n, r.stdout)
            if not alive(h):
                ended += 1
                assert start_or_end(h, memory.wrap())
                assert send().returncode == 0  # what a first token makes is there again
            assert h.status()['sources']['jwt']['rejected'] == {}, (n, h.status()['sources'])
        print(f'# {calls} allocations in a request with a token, {ended} ended it')
    finally:
        stop_all(h)


GROUP = '/sys/fs/cgroup/memory/hookline-e2e-%d'


def killed_for_memory():
    """case 40: the kernel's OOM killer ends it under load (a memory cgroup): after the restart nothing acknowledged is lost"""
    group = GROUP % os.getpid()
    try:
        os.mkdir(group)
        with open(group + '/memory.limit_in_bytes', 'w') as f:
            f.write(str(48 << 20))
    except OSError as e:
        raise Skip(f'no memory cgroup can be made here: {e}')
    h, load, held = Hookline(sink()).start(), None, []
    try:
        with open(group + '/cgroup.procs', 'w') as f:
            f.write(str(h.p.pid))
        load = Load(h.port, connections=4)
        busy(load)
        for n in range(200):  # bodies that are all but whole stay in memory
            try:
                c = Connection(h.port)
                held.append(c)
                c.send(signed(f'big{n}', b'x' * 1000000)[:-1])
            except OSError:
                pass
            if h.p.poll() is not None:
                break
        assert h.p.wait(60) == -signal.SIGKILL
        h.p = None
        h.start()
        busy(load)
        load.stop()
        all_arrived(h, load)
    finally:
        for c in held:
            c.close()
        if load:
            load.stop()
        stop_all(h)
        redis('FLUSHALL')
        until('the group is empty', lambda: os.rmdir(group) or True)


try:
    redis.start()
    only = os.environ.get('TEST')
    tests = (signals_under_load, reloads_under_load, clock_jumps, nobody_reads_the_log, memory_fails, no_blame_for_it,
             killed_for_memory)
    Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
finally:
    stop_all(redis)
