"""The procedures of docs/operating.md that no other test goes through, with its commands as they stand there: backup and restore, scaling
down, a lost volume, moving from another receiver, measuring a volume."""
import http.server
import json
import os
import shutil
import subprocess
import threading

from client import Load, from_redis, post, signed
from servers import HOOKLINE, SECRET, Hookline, Redis, Skip, Tap, stop_all, until
from test_guides import DOCS, blocks


def sink_of(redis):
    return f'  r: {{ redis: {{ url: "unix:{redis.socket}", stream: "hooks:demo" }} }}'


def command(word, *places):
    """The block of commands that has the word, with what stands for paths and names replaced."""
    (text,) = [t for _, t in blocks(os.path.join(DOCS, 'operating.md'), 'sh') if word in t]
    for old, new in places:
        assert old in text, old
        text = text.replace(old, new)
    return text


def shell(text, cwd, codes=(0,)):
    env = dict(os.environ, PATH=os.path.dirname(HOOKLINE) + ':' + os.environ['PATH'])
    p = subprocess.run(['sh', '-c', text], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert p.returncode in codes, (text, p.returncode, p.stderr)
    return p.stdout.decode()


def send(port, ident, path='/hooks/demo'):
    status, _, answer = post(port, signed(ident, json.dumps({'type': 'batch.succeeded', 'id': ident}).encode(), path=path))
    return status, json.loads(answer) if answer else None


def backup():
    """backup while it runs under load, with tar as it is written there; restored, it has what was acknowledged before, and verify agrees"""
    redis, other = Redis().start(), Redis().start()
    h, copy, load = Hookline(sinks=sink_of(redis), extra='limits: { body_bytes: 64KiB }'), Hookline(sinks=sink_of(other)), None
    try:
        with open(h.config) as f:
            text = f.read()
        with open(h.config, 'w') as f:
            f.write(text.replace('segment_bytes: 8MiB', 'segment_bytes: 1MiB'))
        h.start()
        load = Load(h.port, connections=4)
        until('several segments', lambda: h.status()['log']['segments'] >= 3)
        acked = load.acked_so_far()
        shell(command('tar cf', ('/var/lib/hookline', h.dir + '/data'), ('/backup', h.dir)), h.dir, codes=(0, 1))
        load.stop()
        os.mkdir(copy.dir + '/data')
        shell(f'tar xf {h.dir}/hookline.tar -C {copy.dir}/data && hookline log verify {copy.dir}/data', copy.dir)
        copy.start()
        until('the copy has delivered', lambda: copy.drained('r'))
        delivered = {d[0] for d in from_redis(redis)} | {d[0] for d in from_redis(other)}
        assert set(acked) <= delivered
    finally:
        if load:
            load.stop()
        stop_all(h, copy, redis, other)


def scaled_down():
    """serve --drain: 75 while the queue is away, 0 once everything is delivered; senders find nobody meanwhile"""
    redis = Redis()
    h = Hookline(sinks=sink_of(redis))
    try:
        h.start()
        assert all(send(h.port, f'id-{n}')[0] == 200 for n in range(50))
        assert h.stop() == 0
        with open(h.config) as f:
            text = f.read()
        with open(h.config, 'w') as f:
            f.write(text.replace('timeout: 20s', 'timeout: 1s'))
        drain = [HOOKLINE, 'serve', '--drain', '-c', h.config]
        assert subprocess.run(drain, stderr=subprocess.DEVNULL, timeout=60).returncode == 75
        h.spawn(drain, 'draining')
        try:
            post(h.port, b'x')
            raise AssertionError('somebody listens for senders')
        except ConnectionRefusedError:
            pass
        h.kill()
        redis.start()
        assert subprocess.run(drain, stderr=subprocess.DEVNULL, timeout=60).returncode == 0
        assert [f['id'].decode() for _, f in redis.entries('hooks:demo')] == [f'id-{n}' for n in range(50)]
    finally:
        stop_all(h, redis)


def lost_volume():
    """a replica whose folder is gone starts anew; once its marks are out of the shared index, what the provider sends again is taken"""
    index, sink = Redis(), Redis()
    extra = f'dedup: {{ redis: "unix:{index.socket}" }}'
    lost, other = Hookline(sinks=sink_of(sink), extra=extra), Hookline(sinks=sink_of(sink), extra=extra)
    try:
        index.start()
        lost.start()
        other.start()
        idents = [f'id-{n}' for n in range(30)]
        assert all(send(lost.port, i)[1]['status'] == 'accepted' for i in idents)
        assert send(other.port, 'kept')[1]['status'] == 'accepted'
        logid = lost.status()['log']['id']
        lost.kill()
        shutil.rmtree(lost.dir + '/data')
        lost.start()
        assert lost.status()['log']['id'] != logid
        assert send(other.port, idents[0])[1]['status'] == 'duplicate'  # the index believes in the lost log
        shell(command('--scan', ('redis-cli', f'redis-cli -s {index.socket}'), ('LOGID', logid)), lost.dir)
        assert all(send(where.port, i)[1]['status'] == 'accepted' for i, where in zip(idents, [lost, other] * 15))
        assert send(lost.port, 'kept')[1]['status'] == 'duplicate'
        sink.start()
        until('all is delivered', lambda: lost.drained('r') and other.drained('r'))
        assert sorted(f['id'].decode() for _, f in sink.entries('hooks:demo')) == sorted([*idents, 'kept'])
    finally:
        stop_all(lost, other, index, sink)


class Old(http.server.BaseHTTPRequestHandler):
    """The receiver that is to be replaced."""
    taken = []

    def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        self.taken.append(self.headers['webhook-id'])
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *args):
        pass


def moved():
    """two endpoints for a while: the comparison names exactly what only one of the two has; afterwards nothing is missing"""
    old = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Old)
    threading.Thread(target=old.serve_forever, daemon=True).start()
    redis = Redis().start()
    h = Hookline(sinks=sink_of(redis).replace('hooks:demo', 'hooks:gemini'), sources=f"""
  gemini: {{ provider: gemini, secrets: ["{SECRET}"] }}""")
    try:
        def provider(numbers, ports):
            for n in numbers:
                for port in ports:
                    assert send(port, f'id-{n:02}', '/hooks/gemini')[0] == 200
        old_port = old.server_address[1]
        provider(range(10), [old_port])
        h.start()
        provider(range(10, 30), [old_port, h.port])
        provider([30], [h.port])
        with open(h.dir + '/there', 'w') as f:
            f.write('\n'.join(Old.taken) + '\n')
        out = shell(command('comm -3', ('hookline tail', f'hookline tail --admin http://127.0.0.1:{h.admin}')), h.dir)
        assert out.split('\n') == [*(f'id-{n:02}' for n in range(10)), '\tid-30', ''], out
        old.shutdown()
        provider(range(31, 40), [h.port])
        until('all is delivered', lambda: h.drained('r'))
        got = {f['id'].decode() for _, f in redis.entries('hooks:gemini')}
        assert got | set(Old.taken) == {f'id-{n:02}' for n in range(40)}
    finally:
        old.server_close()
        stop_all(h, redis)


def measured():
    """the line that measures a volume runs, and says how long a sync takes"""
    if not shutil.which('fio'):
        raise Skip('fio is not installed')
    h = Hookline()
    try:
        out = shell(command('fio', ('/var/lib/hookline', h.dir), ('--runtime=20', '--runtime=1')), h.dir)
        assert 'fsync/fdatasync' in out and '99.00th' in out, out
    finally:
        h.clean()


if __name__ == '__main__':
    Tap().run(backup, scaled_down, lost_volume, moved, measured)
