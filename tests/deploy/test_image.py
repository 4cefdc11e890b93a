"""The image as it is shipped: built by the unmodified Dockerfile, run read-only, as nobody in particular, without a
capability; killed, stopped, starved of disk and memory."""
import json
import os
import subprocess
import tarfile
import tempfile
import threading

from container import ROOT, Tap, call, enter, events, podman, post, ready, run, until

NAME, VOLUME = 'hookline', 'hookline-log'
IMAGE = 'localhost/hookline:test'
CONFIG = """listen: 127.0.0.1:8080
log: { dir: /var/lib/hookline, segment_bytes: 1MiB, reserve_bytes: 1MiB }
limits: { body_bytes: 64KiB }
shutdown: { delay: 0s, timeout: 20s }
sources: { open: { provider: none } }
"""
LOCKED = ['--network', 'host', '--read-only', '--read-only-tmpfs=false', '--cap-drop', 'all', '--security-opt', 'no-new-privileges',
          '--pids-limit', '64', '--tmpfs', '/tmp:rw,size=1m,noexec']
folder = tempfile.mkdtemp(prefix='hookline-deploy-')


def settings(text):
    path = os.path.join(folder, 'hookline.yaml')
    with open(path, 'w') as f:
        f.write(text)
    return path


def start(volume=VOLUME, image=IMAGE, name=NAME, memory='128m', config=CONFIG, options=(), command=('serve',)):
    path = settings(config)
    podman('run', '-d', '--name', name, *LOCKED, '--memory', memory, '-v', f'{volume}:/var/lib/hookline', '-v',
           f'{path}:/etc/hookline/hookline.yaml:ro', *options, image, *command)


def exit_code():
    return int(podman('inspect', '-f', '{{.State.ExitCode}}', NAME))


def remove(volume=VOLUME):
    podman('rm', '-f', '-v', NAME)
    if not volume.startswith('/'):
        podman('volume', 'rm', '-f', volume)


def parts():
    """the list of the image's parts names each package that a library is from, with its version"""
    podman('create', '--name', NAME, IMAGE)
    try:
        podman('cp', NAME + ':/var/lib/dpkg/status.d', folder + '/status')
        podman('export', '-o', folder + '/root.tar', NAME)
    finally:
        podman('rm', NAME)
    with tarfile.open(folder + '/root.tar') as tar:
        libraries = {os.path.basename(m.name) for m in tar if '.so' in m.name}
    files = [os.path.join(folder, 'status', n) for n in os.listdir(folder + '/status')]
    found = json.loads(run(ROOT + '/scripts/sbom', '1.2.3', *files).stdout)
    names = {c['name'] for c in found['components']}
    assert {'libc6', 'libssl3t64', 'librdkafka1', 'libhiredis1.1.0', 'libcurl4t64', 'libyaml-0-2', 'libjq1', 'ca-certificates'} <= names, names
    assert all(c['version'] and c['purl'].startswith('pkg:deb/debian/') for c in found['components']), found
    assert len(names) > 25 and len(libraries) > 25, (names, libraries)
    print(f'# {len(libraries)} libraries of {len(names)} packages')


def locked_in():
    """uid 10001, no capability, no new privileges, seccomp, no shell, a root that cannot be written"""
    start()
    try:
        ready(NAME)
        pid = podman('inspect', '-f', '{{.State.Pid}}', NAME)
        with open(f'/proc/{pid}/status') as f:
            status = dict(line.strip().split(':\t', 1) for line in f if ':\t' in line)
        assert set(status['Uid'].split()) == {'10001'} and set(status['Gid'].split()) == {'10001'}, status
        assert {status[k] for k in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')} == {'0' * 16}, status
        assert status['NoNewPrivs'] == '1' and status['Seccomp'] == '2', status
        mounts = [line.split() for line in open(f'/proc/{pid}/mountinfo')]
        assert [m[5].split(',')[0] for m in mounts if m[4] == '/'] == ['ro'], mounts
        assert run('podman', 'exec', NAME, '/bin/sh', '-c', 'true', check=False).returncode != 0
        assert post(1)[0] == 200
        where = podman('volume', 'inspect', '-f', '{{.Mountpoint}}', VOLUME)
        about = os.stat(where)
        assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (10001, 10001, 0o750), about
        segments = [os.stat(os.path.join(where, n)) for n in os.listdir(where) if n.endswith('.wal')]
        assert segments and {(s.st_uid, s.st_mode & 0o777) for s in segments} == {(10001, 0o600)}, os.listdir(where)
    finally:
        remove()


def health():
    """the health check says 0, and 1 once nothing answers any more"""
    start()
    try:
        ready(NAME)
        podman('healthcheck', 'run', NAME)
        podman('pause', NAME)
        assert run('podman', 'healthcheck', 'run', NAME, check=False).returncode != 0
        podman('unpause', NAME)
        # the one of the image asks the admin port, which nobody listens on here
        other = CONFIG + 'admin: { listen: 127.0.0.1:9999 }\n'
        podman('rm', '-f', NAME)
        start(config=other)
        ready(NAME, '127.0.0.1:9999')
        assert run('podman', 'healthcheck', 'run', NAME, check=False).returncode == 1
        podman('rm', '-f', NAME)
        start(config=other, options=['-e', 'HOOKLINE_ADMIN=http://127.0.0.1:9999'])
        ready(NAME, '127.0.0.1:9999')
        podman('healthcheck', 'run', NAME)
    finally:
        remove()


def stops():
    """SIGTERM ends PID 1, without an init, with 0; a missing or a wrong configuration is 78 and says so"""
    start()
    try:
        ready(NAME)
        podman('stop', '-t', '30', NAME)
        assert exit_code() == 0, podman('logs', NAME)
        podman('rm', NAME)
        start(config=CONFIG + 'nonsense: 1\n')
        assert podman('wait', NAME) == '78'
        logs = run('podman', 'logs', NAME).stderr.decode()
        assert 'nonsense' in logs and 'hookline.yaml:6' in logs, logs
    finally:
        remove()
    p = run('podman', 'run', '--rm', *LOCKED, IMAGE, check=False)
    assert p.returncode == 78 and b'/etc/hookline/hookline.yaml' in p.stderr, p


class Senders:
    """Post from four threads until told to stop; remember what was acknowledged."""

    def __init__(self, first=0):
        self.sent, self.codes, self.on, self.lock, self.next = [], set(), True, threading.Lock(), first
        self.threads = [threading.Thread(target=self.work) for _ in range(4)]
        for t in self.threads:
            t.start()

    def work(self):
        while self.on:
            with self.lock:
                self.next += 1
                n = self.next
            try:
                code = post(n, size=500)[0]
            except OSError:
                continue
            except Exception:  # cut off in the middle of an answer
                continue
            self.codes.add(code)
            if code == 200:
                self.sent.append(n)

    def stop(self):
        self.on = False
        for t in self.threads:
            t.join()
        return self.sent


def killed():
    """kill -9 under load and a start on the same volume: everything acknowledged is there, three times over"""
    start()
    sent = []
    try:
        for _ in range(3):
            ready(NAME)
            s = Senders(first=max(sent, default=0) + 1000)
            until('some are acknowledged', lambda: len(s.sent) > 50)
            podman('kill', '-s', 'KILL', NAME)
            podman('wait', NAME)
            assert exit_code() == 137
            sent += s.stop()
            podman('start', NAME)
        ready(NAME)
        lost = set(sent) - set(events())
        assert not lost, lost
        print(f'# {len(sent)} acknowledged over 3 kills, 0 lost')
    finally:
        remove()


def memory():
    """a process beside it that eats the memory limit is killed for it, and so may be hookline: nothing is lost"""
    # the smallest limit at which it serves is far below this one; the eater is in the same cgroup
    start(image='localhost/hookline:debug', memory='96m')
    try:
        ready(NAME)
        s = Senders()
        until('some are acknowledged', lambda: len(s.sent) > 50)
        # both score alike, so the larger one, the eater, goes first; then PID 1 gets what is left of it
        run('podman', 'exec', NAME, 'perl', '-e', 'my @a; push @a, "x" x 1048576 while 1', check=False)
        events_file = run('podman', 'inspect', '-f', '{{.State.OOMKilled}}', NAME).stdout
        assert call('GET', '127.0.0.1:9180/livez')[0] == 200, events_file
        sent = s.stop()
        # now the bridge itself: a limit below what it holds, so that its next page ends it
        pid = podman('inspect', '-f', '{{.State.Pid}}', NAME)
        group = [line.split(':', 2)[2].strip() for line in open(f'/proc/{pid}/cgroup') if ':memory:' in line][0]
        limit = f'/sys/fs/cgroup/memory{group}/memory.limit_in_bytes'
        s = Senders(first=max(sent) + 1000)
        until('some are acknowledged', lambda: len(s.sent) > 50)
        for mib in range(64, 0, -1):
            try:
                with open(limit, 'w') as f:
                    f.write(str(mib << 20))
            except OSError:
                pass  # what is in use cannot be given back: the next page is one too many
            if podman('inspect', '-f', '{{.State.Running}}', NAME) == 'false':
                break
        podman('wait', NAME)
        sent += s.stop()
        assert exit_code() == 137, exit_code()
        podman('start', NAME)
        ready(NAME)
        lost = set(sent) - set(events())
        assert not lost, lost
        print(f'# {len(sent)} acknowledged, killed for memory, 0 lost')
    finally:
        remove()


def full_disk():
    """a disk of 16 MB: 200 until it is full, then 503 and not ready, never an end; what was acknowledged is there"""
    image, where = os.path.join(folder, 'disk'), os.path.join(folder, 'mnt')
    os.mkdir(where)
    with open(image, 'wb') as f:
        f.truncate(16 << 20)
    run('mkfs.ext4', '-q', '-F', '-m', '0', image)
    run('mount', '-o', 'loop', image, where)
    try:
        os.chown(where, 10001, 10001)
        # a sink that nobody answers, so that nothing can be trimmed
        start(volume=where, config=CONFIG + 'sinks: { away: { redis: { url: "redis://127.0.0.1:1", stream: s } } }\n')
        ready(NAME)
        codes, sent = [], []
        while len(codes) < 3000 and codes[-1:] != [503]:
            codes.append(post(len(codes), size=30000)[0])
            if codes[-1] == 200:
                sent.append(len(codes) - 1)
        assert codes[-1] == 503 and set(codes[:-1]) == {200} and len(sent) > 50, codes[-5:]
        assert b'storage_full' in post(0, size=30000)[1]
        status, why = call('GET', '127.0.0.1:9180/readyz')
        assert status == 503 and b'full' in why, why
        assert call('GET', '127.0.0.1:9180/livez')[0] == 200
        podman('stop', '-t', '30', NAME)
        assert exit_code() == 0
        podman('start', NAME)
        until('the log is read', lambda: call('GET', '127.0.0.1:9180/startupz')[0] == 200)
        assert set(sent) <= set(events())
        print(f'# 16 MB: {len(sent)} events of 30 kB, then 503')
    finally:
        remove(where)
        run('umount', where)


def refused_volumes():
    """a volume that is tmpfs, read-only or somebody else's: the message says what mends it"""
    other = os.path.join(folder, 'other')
    os.mkdir(other, 0o700)
    for options, code, words in ((['--tmpfs', '/var/lib/hookline:rw,mode=1777'], '78', ('tmpfs', 'allow_volatile')),
                                 (['-v', f'{other}:/var/lib/hookline'], '74', ('chown', '10001')),
                                 (['-v', f'{other}:/var/lib/hookline:ro'], '74', ())):
        path = settings(CONFIG)
        p = run('podman', 'run', '--rm', *LOCKED, '-v', f'{path}:/etc/hookline/hookline.yaml:ro', *options, IMAGE, check=False)
        text = p.stderr.decode()
        assert str(p.returncode) == code and all(w in text for w in words), (options, p.returncode, text)


def small():
    """the image is small, and says its version"""
    size = int(podman('image', 'inspect', '-f', '{{.Size}}', IMAGE))
    assert size < 40e6, size
    with open(os.path.join(ROOT, 'VERSION')) as f:
        version = f.read().strip()
    assert podman('image', 'inspect', '-f', '{{index .Labels "org.opencontainers.image.version"}}', IMAGE) == version
    assert run('podman', 'run', '--rm', *LOCKED, IMAGE, 'version').stdout.decode() == f'hookline {version}\n'
    packed = subprocess.run(f'podman save {IMAGE} | gzip -c | wc -c', shell=True, stdout=subprocess.PIPE).stdout
    print(f'# {size / 1e6:.1f} MB, {int(packed) / 1e6:.1f} MB packed')


if __name__ == '__main__':
    enter('hookline', 'debug')
    remove()
    Tap().run(small, parts, locked_in, health, stops, killed, memory, full_disk, refused_volumes)
