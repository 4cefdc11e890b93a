"""process.user: root binds, reads and makes what only root may, and then is the user for good."""
import contextlib
import ctypes
import os
import pwd
import shutil
import socket
import subprocess

from certs import Bridge, secure_post
from client import post, signed
from servers import HOOKLINE, SANITIZER_NEEDS, SECRET, Skip, Tap, until

USER = pwd.getpwnam('nobody')


def need_root():
    if os.geteuid():
        raise Skip('not root')
    if SANITIZER_NEEDS:
        raise Skip('the sanitizers need what is given up')


def has_landlock():
    """landlock_create_ruleset tells its version."""
    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1) > 0


def low_port():
    """One that only root may bind."""
    for port in range(1023, 600, -1):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(('127.0.0.1', port))
            return port
    raise Skip('no port below 1024 is free')


class Dropping(Bridge):
    """A bridge with secrets and keys of root's own, in a folder that others may pass through."""

    def __init__(self, sandbox='auto', user='nobody'):
        super().__init__(extra=f'threads: 2\nreload_interval: 100ms\nprocess: {{ user: {user}, sandbox: {sandbox} }}')
        os.chmod(self.dir, 0o711)
        self.secret = os.path.join(self.dir, 'secret')
        with open(self.secret, 'w') as f:
            f.write(SECRET)
        os.chmod(self.secret, 0o600)
        self.port = low_port()
        self.write(sources=f"""
  demo: {{ provider: gemini, secrets: [{{ file: "{self.secret}" }}] }}
  open: {{ provider: none, dedup: off }}""")
        os.chmod(self.config, 0o644)

    def serves(self, ident):
        return post(self.port, signed(ident, b'{}'))[0] == 200 and secure_post(self.secure, self.client(), signed(ident + 's', b'{}'))[0] == 200

    def rejected(self, text):
        until(f'rejected: {text}', lambda: text in (self.status()['config'].get('error') or ''))
        assert not self.status()['config']['reload_ok']


def is_user(pid):
    """Every thread of it is the user in all four ways, in the user's groups, and can do nothing more."""
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/status') as f:
            s = dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)
        assert s['Uid'].split() == [str(USER.pw_uid)] * 4 and s['Gid'].split() == [str(USER.pw_gid)] * 4, s
        assert set(map(int, s['Groups'].split())) == set(os.getgrouplist(USER.pw_name, USER.pw_gid)), s['Groups']
        assert not any(int(s[c], 16) for c in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')), s


def all_files_are_the_users(folder):
    paths = [folder] + [os.path.join(at, n) for at, dirs, names in os.walk(folder) for n in dirs + names]
    assert len(paths) > 4
    for p in paths:
        with contextlib.suppress(FileNotFoundError):  # a segment made ahead has got its name
            st = os.stat(p)
            assert (st.st_uid, st.st_gid) == (USER.pw_uid, USER.pw_gid) and not st.st_mode & 0o007, p


def the_drop():
    """process.user: a port below 1024, secrets and keys that only root reads; all threads are the user, the log is his; again after kill -9"""
    need_root()
    h = Dropping(sandbox='strict' if has_landlock() else 'auto')
    try:
        for life in range(2):
            h.start()
            is_user(h.p.pid)
            assert h.serves(f'm{life}')
            all_files_are_the_users(os.path.join(h.dir, 'data'))
            h.kill()
        warned = [line for line in h.text('log').split('\n') if 'process.user cannot read this file' in line]
        assert any(h.secret in line for line in warned) and any(h.key in line for line in warned)
        assert not any(h.config in line for line in warned)
        assert SECRET not in h.text('log')
    finally:
        h.clean()


def reloads():
    """process.user: a reload that needs what only root may is refused and said, the old state serves; what the user may is taken"""
    need_root()
    h = Dropping()
    try:
        h.start()
        good, port = h.sources, h.port
        h.write(sources=good + '\n  more: { provider: none }')
        h.rejected('cannot be read: Permission denied')
        assert h.serves('one')
        for path in (h.secret, h.key):
            os.chown(path, USER.pw_uid, -1)
        until('taken', lambda: h.status()['config']['reload_ok'] and 'more' in h.status()['sources'])
        h.port = low_port()
        assert h.port != port
        h.write()
        h.port, other = port, h.port
        h.rejected('listen.address can only change with a restart')
        assert h.serves('two')
        h.port = other
        assert h.stop() == 0
        h.start()
        assert h.serves('three')
        assert h.stop() == 0
    finally:
        h.clean()


def refused(h, code, *texts, program=HOOKLINE, **how):
    for command in (['serve'], ['check']) if h.p is None and how.pop('check', False) else (['serve'],):
        r = subprocess.run([program, *command, '-c', h.config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, **how)
        said = r.stdout.decode()
        assert r.returncode == code and all(t in said for t in texts), (r.returncode, said)


def refusals():
    """process.user: no such user, root, not started as root, a log of somebody else's: refused with what to do"""
    need_root()
    h = Dropping(user='nobody-like-this')
    try:
        line = next(n for n, text in enumerate(open(h.config), 1) if text.startswith('process:'))
        refused(h, 78, f'{h.config}:{line}: process.user: this machine has no user nobody-like-this', check=True)
        h.write(more='process: { user: root }')
        refused(h, 78, 'process.user: root is root: name a user', check=True)
        h.write(more='process: { user: nobody }')
        os.mkdir(os.path.join(h.dir, 'data'), 0o700)
        refused(h, 74, f'chown -R {USER.pw_uid} {h.dir}/data')
        os.chmod(h.config, 0o644)
        for path in (h.secret, h.key):
            os.chown(path, USER.pw_uid, -1)
        copy = shutil.copy(HOOKLINE, h.dir)  # the tree may lie where nobody else may look
        refused(h, 78, f'only root can become nobody, and this process is user {USER.pw_uid}: start it as root', program=copy,
                user=USER.pw_uid, group=USER.pw_gid, extra_groups=[])
    finally:
        h.clean()


Tap().run(the_drop, reloads, refusals)
