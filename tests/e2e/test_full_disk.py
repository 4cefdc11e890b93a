"""A log on a disk that is full: a start without room for a segment drains, and serves by itself once there is room."""
import os
import subprocess

from client import from_redis, post, signed
from servers import HOOKLINE, Hookline, Redis, Skip, Tap, stop_all, until


def mount(path, size):
    os.makedirs(path, exist_ok=True)
    if os.geteuid() or subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', path], stderr=subprocess.DEVNULL).returncode:
        raise Skip('mounting a small file system needs root')


def spare(data):
    """the highest segment: nothing was written to it yet"""
    return os.path.join(data, max(n for n in os.listdir(data) if n.endswith('.wal')))


def fill(path):
    with open(path, 'wb', buffering=0) as f:
        try:
            while True:
                f.write(bytes(4096))
        except OSError:
            pass


def starts_without_room():
    """case 30: killed, and started without room for a segment: sinks deliver, senders get 503 storage_full; resumes by itself"""
    redis, h = Redis(), None
    try:
        redis.start()
        h = Hookline(sinks=f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}')
        data = os.path.join(h.dir, 'data')
        mount(data, '40m')
        h.start()
        redis.pause()
        for i in range(50):
            assert post(h.port, signed(f'e{i}', b'{}'))[0] == 200
        h.kill()
        os.unlink(spare(data))
        ballast = os.path.join(data, 'ballast')
        fill(ballast)
        redis.resume()
        h.spawn([HOOKLINE, 'serve', '-c', h.config], 'log')
        until('hookline started', lambda: h.get('/startupz')[0] == 200)
        r = post(h.port, signed('full', b'{}'))
        assert r[0] == 503 and b'storage_full' in r[2] and r[1]['retry-after'] == '30', r
        assert h.get('/readyz')[0] == 503 and b'hookline_log_full 1' in h.get('/metrics')[1]
        until('what is known to be durable is delivered', lambda: len(from_redis(redis)) >= 49)
        os.unlink(ballast)
        until('served again', lambda: post(h.port, signed('room', b'{}'))[0] == 200)
        until('all delivered', lambda: len(from_redis(redis)) >= 51)
        h.stop()
    finally:
        if h:
            h.kill()
            subprocess.run(['umount', '-l', os.path.join(h.dir, 'data')], stderr=subprocess.DEVNULL)
        stop_all(*([h] if h else []), redis)


Tap().run(starts_without_room)
