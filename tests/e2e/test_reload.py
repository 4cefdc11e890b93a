"""Files that are watched by what they hold: configuration, secrets, certificates."""
import base64
import contextlib
import os
import threading
import time

from certs import Bridge, Secure, bridge
from client import post, signed
from servers import SECRET, Tap, until

WATCH = 'reload_interval: 200ms\n'
OTHER = 'whsec_' + base64.b64encode(b'another key of 32 bytes in base64').decode()


def opened(body):
    return f'POST /hooks/open HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n'.encode() + body


def lines(h, text):
    return h.text('log').count(text)


class Load:
    """Deliveries over TLS without a pause: one kept connection, and one for each. Any that is not 200 is kept."""

    def __init__(self, h, request=lambda: opened(b'x')):
        self.h, self.request, self.bad, self.sent, self.over = h, request, [], 0, False
        self.threads = [threading.Thread(target=f) for f in (self.kept, self.anew)]
        for t in self.threads:
            t.start()

    def ask(self, c):
        reply = c.ask(self.request())
        self.sent += 1
        if not reply or reply[0] != 200:
            self.bad.append(reply)

    def kept(self):
        self.guarded(lambda: Secure(self.h.secure, self.h.client()), False)

    def anew(self):
        self.guarded(lambda: Secure(self.h.secure, self.h.client()), True)

    def guarded(self, make, each):
        c = None
        try:
            while not self.over:
                c = c or make()
                self.ask(c)
                if each:
                    c.close()
                    c = None
                time.sleep(0.002)
        except Exception as e:
            self.bad.append(e)
        if c:
            c.close()

    def stop(self):
        self.over = True
        for t in self.threads:
            t.join()
        assert not self.bad and self.sent > 20, (self.sent, self.bad[:3])


def serial(h):
    c = Secure(h.secure, h.client())
    try:
        return c.s.getpeercert()['serialNumber']
    finally:
        c.close()


def turn(folder, name, files):
    """What the kubelet does: a new folder, and the link ..data to it, in one rename."""
    os.mkdir(os.path.join(folder, name))
    for file, content in files.items():
        with open(os.path.join(folder, name, file), 'wb') as f:
            f.write(content)
        with contextlib.suppress(FileExistsError):
            os.symlink(os.path.join('..data', file), os.path.join(folder, file))
    os.symlink(name, os.path.join(folder, '..new'))
    os.rename(os.path.join(folder, '..new'), os.path.join(folder, '..data'))


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def certificates_and_secrets_under_load():
    """watched: certificates and secrets of a Kubernetes volume are replaced under load, and not one request fails"""
    h = Bridge()
    try:
        volume = os.path.join(h.dir, 'volume')
        os.mkdir(volume)
        files = {'crt': read(h.cert), 'key': read(h.key), 'secret': SECRET.encode()}
        turn(volume, '..1', files)
        h.write(cert=f'{volume}/crt', key=f'{volume}/key', more=WATCH, sources=f"""
  demo: {{ provider: gemini, secrets: [{{ file: "{volume}/secret" }}] }}
  open: {{ provider: none, dedup: off }}""")
        h.start()
        load = Load(h)
        before = serial(h)
        for n in (2, 3):
            cert, key = h.authority.issue(f'server{n}')
            turn(volume, f'..{n}', {'crt': read(cert), 'key': read(key), 'secret': (OTHER if n == 2 else SECRET).encode()})
            until('the new certificate', lambda: serial(h) != before)
            before = serial(h)
            good, bad = (OTHER, SECRET) if n == 2 else (SECRET, OTHER)
            assert post(h.port, signed(f'good{n}', b'{}', key=base64.b64decode(good[6:])))[0] == 200
            assert post(h.port, signed(f'bad{n}', b'{}', key=base64.b64decode(bad[6:])))[0] == 401
        load.stop()
        assert h.status()['config']['reload_ok'] and lines(h, 'configuration reloaded') >= 2
        assert h.stop() == 0
    finally:
        h.clean()


def a_bad_file_changes_nothing():
    """watched: a certificate without its key, a secret that is gone, a broken file: the old state stays, and it is said"""
    with bridge(extra=WATCH) as h:
        tls, old = h.client(), serial(h)
        good_cert, good_key = read(h.cert), read(h.key)
        other = h.authority.issue('other')

        def rejected(what):
            until('it is rejected', lambda: not h.status()['config']['reload_ok'])
            config = h.status()['config']
            assert what in config['error'] and config['failed_at'], config
            assert h.metric('hookline_config_reload_success') == 0
            assert serial(h) == old and post(h.port, signed(what.replace('.', '-'), b'{}'))[0] == 200

        def mended():
            until('it is mended', lambda: h.status()['config']['reload_ok'])
            assert h.metric('hookline_config_reload_success') == 1 and 'error' not in h.status()['config']

        with open(h.cert, 'wb') as f:
            f.write(read(other[0]))
        rejected('mismatch')
        said = lines(h, 'the new configuration is rejected')
        time.sleep(1)
        assert lines(h, 'the new configuration is rejected') == said == 1, 'it is said again and again'
        with open(h.cert, 'wb') as f:
            f.write(good_cert)
        mended()
        with open(h.key, 'wb') as f:
            f.write(b'nothing')
        rejected('no private key')
        with open(h.key, 'wb') as f:
            f.write(good_key)
        mended()
        text = read(h.config)
        for broken in (text + b'nonsense: [', b''):  # the second is what there is while an editor writes
            with open(h.config, 'wb') as f:
                f.write(broken)
            rejected('hookline.yaml' if broken else 'keys and values are expected')
            with open(h.config, 'wb') as f:
                f.write(text)
            mended()
        h.write(cert=os.path.join(h.dir, 'late.crt'))  # named before it is there
        rejected('late.crt')
        with open(os.path.join(h.dir, 'late.crt'), 'wb') as f:
            f.write(good_cert)
        mended()


def settings_are_applied():
    """watched: a new source answers without a signal; a touch is no change; an address needs a restart"""
    with bridge(extra=WATCH) as h:
        h.write(sources=h.sources + '\n  late: { provider: none, dedup: off }')
        until('the new source', lambda: post(h.port, opened(b'x').replace(b'/open', b'/late'))[0] == 200)
        until('it is told', lambda: lines(h, 'configuration reloaded') == 1)
        os.utime(h.config)
        time.sleep(0.8)
        assert lines(h, 'configuration reloaded') == 1
        port, h.port = h.port, 1
        h.write()
        h.port = port
        until('it is rejected', lambda: not h.status()['config']['reload_ok'])
        assert 'listen.address can only change with a restart' in h.status()['config']['error']
        h.write()
        until('it is mended', lambda: h.status()['config']['reload_ok'])


def only_by_signal():
    """`reload: signal`: nothing is applied until SIGHUP comes"""
    with bridge(extra='reload: signal\nreload_interval: 100ms\n') as h:
        h.write(sources=h.sources + '\n  late: { provider: none, dedup: off }')
        time.sleep(1)
        assert post(h.port, opened(b'x').replace(b'/open', b'/late'))[0] == 404
        h.reload()
        until('the new source', lambda: post(h.port, opened(b'x').replace(b'/open', b'/late'))[0] == 200)


Tap().run(certificates_and_secrets_under_load, a_bad_file_changes_nothing, settings_are_applied, only_by_signal)
