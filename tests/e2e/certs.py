"""Certificates for the end-to-end tests, by the openssl program, and TLS connections."""
import contextlib
import os
import shutil
import ssl
import subprocess

from client import Connection
from servers import SANITIZER_NEEDS, SECRET, Hookline, Skip, free_port


class Authority:
    """Signs certificates; each is NAME.crt and NAME.key in its folder."""

    def __init__(self, folder):
        if not shutil.which('openssl'):
            raise Skip('openssl is not installed')
        self.dir, self.ca = folder, os.path.join(folder, 'ca.crt')
        self.run('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out',
                 'ca.crt', '-days', '2', '-subj', '/CN=tests', '-addext', 'keyUsage=critical,keyCertSign,cRLSign')

    def run(self, *args):
        subprocess.run(['openssl', *args], cwd=self.dir, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def issue(self, name, names='DNS:localhost,IP:127.0.0.1', days=1, key=('ec', '-pkeyopt', 'ec_paramgen_curve:P-256')):
        with open(os.path.join(self.dir, 'ext'), 'w') as f:
            f.write(f'subjectAltName={names}\n')
        self.run('req', '-newkey', *key, '-nodes', '-keyout', f'{name}.key', '-out', 'csr', '-subj', f'/CN={name}')
        self.run('x509', '-req', '-in', 'csr', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-out', f'{name}.crt',
                 '-days', str(days), '-extfile', 'ext')
        return self.path(f'{name}.crt'), self.path(f'{name}.key')

    def path(self, name):
        return os.path.join(self.dir, name)


def context(ca, own=None, alpn=None):
    c = ssl.create_default_context(cafile=ca)
    if own:
        c.load_cert_chain(*own)
    if alpn:
        c.set_alpn_protocols(alpn)
    return c


class Secure(Connection):
    """A connection as client.Connection is, over TLS."""

    def __init__(self, port, tls, name='localhost', timeout=60):
        super().__init__(port, timeout)
        self.f.close()
        self.s = tls.wrap_socket(self.s, server_hostname=name)
        self.f = self.s.makefile('rb')


def secure_post(port, tls, data):
    c = Secure(port, tls)
    try:
        return c.ask(data)
    finally:
        c.close()


class Bridge(Hookline):
    """A hookline that listens twice: plain at `port`, with TLS at `secure`. Its settings can be written anew."""

    def __init__(self, tls='', limits='', extra='', admin='', sources=None, plain=''):
        self.secure, self.more, self.limits, self.tls, self.admin_more, self.plain = free_port(), extra, limits, tls, admin, plain
        self.sources = sources or f"""
  demo: {{ provider: gemini, secrets: ["{SECRET}"] }}
  open: {{ provider: none, dedup: off }}"""
        super().__init__()
        self.authority = Authority(self.dir)
        self.cert, self.key = self.authority.issue('server')
        self.write()

    def write_config(self, *_):
        pass

    def write(self, **changes):
        vars(self).update(changes)
        with open(self.config + '.new', 'w') as f:
            f.write(f"""listen:
  - {{ address: "127.0.0.1:{self.port}"{self.plain} }}
  - {{ address: "127.0.0.1:{self.secure}", tls: {{ cert: "{self.cert}", key: "{self.key}"{self.tls} }} }}
admin: {{ listen: "127.0.0.1:{self.admin}"{self.admin_more} }}
shutdown: {{ delay: 0s, timeout: 20s }}
limits: {{ {self.limits} }}
log: {{ dir: "{self.dir}/data", reserve_bytes: 1MiB, segment_bytes: 8MiB, allow_volatile: true }}
sources:{self.sources}
{self.more}
{SANITIZER_NEEDS}""")
        os.rename(self.config + '.new', self.config)

    def client(self, **more):
        return context(self.authority.ca, **more)

    def sockets(self):
        """Open now: a request to the admin listener that has just been answered may be among them."""
        folder, n = f'/proc/{self.p.pid}/fd/', 0
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                n += os.readlink(folder + fd).startswith('socket:')
        return n

    def metric(self, name):
        return float(next(l for l in self.get('/metrics')[1].decode().split('\n') if l.startswith(name + ' ')).split()[1])


@contextlib.contextmanager
def bridge(**settings):
    h = Bridge(**settings)
    try:
        h.start()
        yield h
        assert h.stop() == 0, h.text('log')[-2000:]
    finally:
        h.clean()
