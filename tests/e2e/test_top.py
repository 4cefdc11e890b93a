"""hookline top: on a terminal, which it leaves as it found it, and without one."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading

from client import post, signed
from servers import HOOKLINE, Hookline, Tap, free_port, until

ENTER, LEAVE = b'\x1b[?1049h\x1b[?25l', b'\x1b[?25h\x1b[?1049l'


class Terminal:
    """`hookline top` on a terminal of its own."""

    def __init__(self, admin, rows=30, columns=100):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b''
        self.p = subprocess.Popen([HOOKLINE, 'top', '--admin', f'http://127.0.0.1:{admin}'], stdin=self.slave, stdout=self.slave,
                                  stderr=self.slave, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        return self.seen

    def screen(self):
        """The lines of the last whole screen, without colours."""
        whole = self.read().split(b'\x1b[H')[1:]
        last = next((s for s in reversed(whole) if s.split(LEAVE)[0].endswith(b'\x1b[J')), b'')
        return re.split('\r*\n', re.sub(r'\x1b\[[0-9;]*[mKJ]', '', last.split(LEAVE)[0].decode()))

    def ends(self):
        """It ended, and the terminal is as it was."""
        assert self.p.wait(30) == 0
        self.read()
        assert self.seen.startswith(ENTER) and self.seen.endswith(LEAVE), self.seen[-200:]
        assert termios.tcgetattr(self.slave) == self.before

    def clean(self):
        self.p.kill()
        self.p.wait()
        os.close(self.master)
        os.close(self.slave)


def deliver(h, n):
    for i in range(n):
        assert post(h.port, signed(f'm{i}-{os.urandom(4).hex()}', b'{"type":"batch.succeeded","data":{"id":"j"}}'))[0] == 200


def terminal():
    """on a terminal: what arrives is shown, another size is followed, a bridge that goes is waited for, q and Ctrl-C leave it as it was"""
    h = Hookline().start()
    t = None
    try:
        t = Terminal(h.admin)
        deliver(h, 3)
        until('three', lambda: any(re.match(r'demo .* 3$', l) for l in t.screen()))
        assert all(len(l) <= 100 for l in t.screen()) and any('durable LSN 3' in l for l in t.screen())
        t.resize(5, 20)
        until('another size', lambda: len(t.screen()) == 5 and all(len(l) <= 20 for l in t.screen()))
        t.resize(30, 100)
        until('the old size', lambda: len(t.screen()) > 5)
        h.kill()
        until('it is missed', lambda: t.screen()[0].startswith('the bridge does not answer'))
        h.start()
        until('it is back', lambda: t.screen()[0].startswith('hookline '))
        os.write(t.master, b'x')  # no key of ours
        os.write(t.master, b'q')
        t.ends()
        t.clean()
        t = Terminal(h.admin)
        until('drawn', lambda: len(t.screen()) > 5)
        os.write(t.master, b'\x03')
        t.ends()
        t.clean()
        t = Terminal(h.admin)
        until('drawn', lambda: len(t.screen()) > 5)
        t.p.send_signal(signal.SIGTERM)
        t.ends()
    finally:
        if t:
            t.clean()
        h.clean()


def pipe():
    """into a pipe: a line a second, nothing of a terminal; it ends with the reader"""
    h = Hookline().start()
    try:
        p = subprocess.Popen([HOOKLINE, 'top', '--admin', f'http://127.0.0.1:{h.admin}'], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        hanging = threading.Timer(60, p.kill)
        hanging.start()
        deliver(h, 2)
        lines = []
        while not lines or 'lsn 2 ' not in lines[-1]:
            lines.append(p.stdout.readline().decode())
        assert all(re.match(r'\d{4}-\d\d-\d\dT[\d:.]+Z accepted \S+/s refused 0/s duplicate 0/s ack p50 .* log ok lsn \d+ size .* jobs \d+ expected 0 '
                            r'overdue 0\n$', l) for l in lines), lines
        p.stdout.close()
        assert p.wait(30) == 0
        hanging.cancel()
    finally:
        h.clean()


def refused():
    """no bridge, or a token that is not right: said, and 69; with the token it is shown"""
    h = Hookline()
    with open(h.config) as f:
        text = f.read()
    with open(h.config, 'w') as f:
        f.write(text.replace(f'127.0.0.1:{h.admin} ', f'127.0.0.1:{h.admin}, token: right, read_token: reader '))
    h.spawn([HOOKLINE, 'serve', '-c', h.config], 'log')
    try:
        until('the admin listener', lambda: h.get('/readyz')[0] == 401)
        for admin, token, word in ((free_port(), '', b'connect'), (h.admin, 'wrong', b'401')):
            p = subprocess.run([HOOKLINE, 'top', '--admin', f'http://127.0.0.1:{admin}'], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=dict(os.environ, HOOKLINE_ADMIN_TOKEN=token))
            assert (p.returncode, p.stdout) == (69, b'') and word in p.stderr, p
        token = os.path.join(h.dir, 'token')
        with open(token, 'w') as f:
            f.write('reader\n')
        p = subprocess.Popen([HOOKLINE, 'top', '--admin', f'http://127.0.0.1:{h.admin}', '--token-file', token], stdout=subprocess.PIPE)
        assert b'log ok' in p.stdout.readline()
        p.terminate()
        assert p.wait(30) == 0
        p.stdout.close()
        assert subprocess.run([HOOKLINE, 'top', 'x'], stderr=subprocess.DEVNULL).returncode == 64
    finally:
        h.clean()


if __name__ == '__main__':
    Tap().run(terminal, pipe, refused)
