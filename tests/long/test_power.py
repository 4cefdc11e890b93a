"""Power cuts of a real ext4: the log lies on a loop device over a FUSE file that drops what was not flushed. Needs root, fuse3."""
import os
import random
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'e2e'))
from client import Load, audit, from_redis
from servers import HOOKLINE, SECRET, Hookline, Redis, Skip, Tap, stop_all, until

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = int(os.environ.get('ROUNDS', '10'))
SIZE = 96 << 20
redis = Redis()


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, text=True).stdout.strip()


class Disk:
    """An ext4 that can lose its power."""

    def __init__(self, folder):
        self.program = os.path.join(folder, 'power_disk')
        flags = subprocess.run(['pkg-config', '--cflags', '--libs', 'fuse3'], stdout=subprocess.PIPE, text=True).stdout.split()
        if os.geteuid() or not os.path.exists('/dev/fuse') or not flags or not shutil.which('mkfs.ext4'):
            raise Skip('needs root, /dev/fuse, fuse3 and mkfs.ext4')
        subprocess.run(['cc', '-O2', '-D_FILE_OFFSET_BITS=64', '-o', self.program, os.path.join(HERE, 'power_disk.c'), *flags], check=True)
        self.folder, self.loop, self.fuse, self.mounted = folder, None, None, []
        self.cut_file, self.image = os.path.join(folder, 'cut'), os.path.join(folder, 'image')

    def on(self, where, seed):
        """Power: the file system of the image, or a new one."""
        below = os.path.join(self.folder, 'below')
        os.makedirs(below, exist_ok=True)
        os.makedirs(where, exist_ok=True)
        self.fuse = subprocess.Popen([self.program, str(SIZE), self.cut_file, self.image, str(seed), below])
        disk = os.path.join(below, 'disk')
        until('the disk', lambda: os.path.exists(disk))
        fresh = not os.path.exists(self.image)
        if not fresh:
            run('dd', f'if={self.image}', f'of={disk}', 'bs=1M', 'conv=notrunc,fsync', 'status=none')
        self.loop = run('losetup', '--find', '--show', disk)
        if fresh:
            run('mkfs.ext4', '-q', '-F', self.loop)
        run('mount', self.loop, where)
        self.where, self.below = where, below

    def cut(self):
        open(self.cut_file, 'w').close()
        until('the power is gone', lambda: os.path.exists(self.image) and os.path.getsize(self.image) == SIZE)

    def off(self):
        for argv in (['umount', '-l', self.where], ['losetup', '-d', self.loop], ['umount', '-l', self.below]):
            subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.loop = None
        self.fuse.kill()
        self.fuse.wait()
        if os.path.exists(self.cut_file):
            os.unlink(self.cut_file)


def power_cuts():
    """case 27: power cuts under load: after each, everything acknowledged reaches Redis"""
    h, disk, load = None, None, None
    seed = int(os.environ.get('SEED', time.time()))
    print(f'# SEED={seed}', flush=True)
    rng = random.Random(seed)
    try:
        h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}')
        text = open(h.config).read().replace(f'{h.dir}/data', f'{h.dir}/disk/log')
        text = text.replace('segment_bytes: 8MiB', 'segment_bytes: 2MiB, retain_bytes: 6MiB')
        open(h.config, 'w').write(text)
        disk = Disk(h.dir)
        load = Load(h.port, connections=8)
        for n in range(ROUNDS):
            disk.on(os.path.join(h.dir, 'disk'), rng.randrange(1 << 30))
            h.start()
            acked = load.acked_so_far()
            load.go_on()
            until(f'round {n}: served', lambda: len(load.acked) > len(acked) + 20, 120)
            time.sleep(rng.uniform(0, 1.5))
            if os.path.exists(disk.image):
                os.unlink(disk.image)
            disk.cut()
            h.kill()
            load.hold()
            disk.off()
        disk.on(os.path.join(h.dir, 'disk'), 1)
        h.start()
        load.stop()
        until('redis has all', lambda: h.drained('r'), 120)
        repeats = audit(load, from_redis(redis), 'Redis')
        print(f'# {ROUNDS} power cuts, {len(load.acked)} acknowledged, 0 lost, {repeats} delivered twice', flush=True)
        assert h.stop() == 0
    finally:
        if load:
            load.stop()
        if h:
            h.kill()
        if disk and disk.fuse:
            disk.off()
        if h:
            h.clean()


try:
    redis.start()
    Tap().run(power_cuts)
finally:
    stop_all(redis)
