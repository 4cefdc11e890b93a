"""What the process gives up, what its logs and answers never show, and what the program was built with."""
import contextlib
import os
import re
import shutil
import subprocess
import tempfile

from certs import Bridge, bridge
from client import Connection, exchange, post, signed
from servers import HOOKLINE, ROOT, SANITIZER_NEEDS, SECRET, Hookline, Skip, Tap, until


def status_of(h):
    return dict(l.split(':\t', 1) for l in open(f'/proc/{h.p.pid}/status').read().split('\n') if ':\t' in l)


def not_sanitized():
    if SANITIZER_NEEDS:
        raise Skip('the sanitizers need what is given up')


def the_program():
    """hardening: what was built in (`make hardening-check`)"""
    not_sanitized()
    if not shutil.which('readelf'):
        raise Skip('binutils is not installed')
    r = subprocess.run([os.path.join(ROOT, 'scripts/hardening-check'), HOOKLINE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert r.returncode == 0, r.stdout.decode()


def the_process():
    """hardening: no new privileges, no core file, memory closed to others of the same user; all threads of it"""
    not_sanitized()
    h = Hookline()
    try:
        h.start()
        for task in os.listdir(f'/proc/{h.p.pid}/task'):
            assert 'NoNewPrivs:\t1\n' in open(f'/proc/{h.p.pid}/task/{task}/status').read(), task
        assert re.search(r'Max core file size +0 +0 ', open(f'/proc/{h.p.pid}/limits').read())
        assert status_of(h)['CoreDumping'] == '0'
        if os.getuid() == 0:
            assert os.stat(f'/proc/{h.p.pid}/mem').st_uid == 0
        assert h.stop() == 0
    finally:
        h.clean()


def has_landlock():
    """Whether this kernel has it: one that must have it says so."""
    h = Hookline(extra='process: { sandbox: strict }')
    try:
        h.spawn([HOOKLINE, 'serve', '-c', h.config], 'log')
        until('it has ended or is ready', lambda: h.p.poll() is not None or h.get('/readyz')[0] == 200)
        return h.p.poll() is None
    finally:
        h.clean()


def the_sandbox():
    """hardening: in the strict sandbox a file outside the folders that the configuration names is out of reach; a restart takes it"""
    not_sanitized()
    if not has_landlock():
        raise Skip('this kernel has no Landlock')
    outside = tempfile.mkdtemp(prefix='hookline-outside-')
    try:
        with open(os.path.join(outside, 'secret'), 'w') as f:
            f.write(SECRET)
        with bridge(extra='reload_interval: 200ms\nprocess: { sandbox: strict }') as h:
            good = h.sources
            h.write(sources=f"""
  demo: {{ provider: gemini, secrets: [{{ file: "{outside}/secret" }}] }}""")
            until('it is rejected', lambda: not h.status()['config']['reload_ok'])
            assert 'cannot be read' in h.status()['config']['error']
            h.write(sources=good)
            until('it is mended', lambda: h.status()['config']['reload_ok'])
            assert post(h.port, signed('one', b'{}'))[0] == 200
            for n in range(20):  # segments come and go
                c = Connection(h.port)
                assert c.ask(b'POST /hooks/open HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n' + bytes(1 << 20))[0] == 200
                c.close()
            h.write(sources=good.replace(f'"{SECRET}"', f'{{ file: "{outside}/secret" }}'))
            assert h.stop() == 0
            h.start()  # a restart takes it
            assert post(h.port, signed('two', b'{}'))[0] == 200
    finally:
        shutil.rmtree(outside)


POISON = b'\x1b[31m\x00\r\n2026-01-01T00:00:00.000Z error forged line\x7f\x9b%s%n' + b'A' * 5000


def logs_cannot_be_poisoned():
    """hardening: whatever strangers send becomes no line, no control byte and no label of ours; lines stay short"""
    hostile = POISON.replace(b'\r\n', b'%0D%0A').replace(b'\0', b'%00').replace(b'\x1b', b'%1b').replace(b' ', b'%20')[:4000]
    with bridge() as h:
        for data in (POISON, b'POST /' + hostile.replace(b'\x7f', b'').replace(b'\x9b', b'') + b' HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
                     b'POST /hooks/demo HTTP/1.1\r\nHost: a\r\nwebhook-id: \x80\xff%n%s\r\nwebhook-signature: v1,%s%n\r\n'
                     b'webhook-timestamp: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
                     signed('a', b'{"type":"' + b'\\u001b[31m\\n forged' * 50 + b'"}', key=b'wrong', close=True)):
            with contextlib.suppress(ConnectionError):
                exchange(h.port, data)
        for n in range(3):  # the same id with another body is logged with its id
            post(h.port, signed('id-\x7f\xff"\\', b'{"n":%d}' % n))
        log = open(os.path.join(h.dir, 'log'), 'rb').read()
        for line in log.split(b'\n')[:-1]:
            if line.startswith(b'warning: ' + h.config.encode()):
                continue  # of the configuration, before the log begins
            assert re.match(rb'\d{4}-\d\d-\d\dT[0-9:.]+Z (debug|info|warn|error) ', line), line
            assert len(line) < 4096 and not re.search(rb'[\0-\x1f\x7f]', line), line
        assert b' error forged' not in log.replace(b'\\', b'')
        labels = set(re.findall(r'source="([^"]*)"', h.get('/metrics')[1].decode()))
        assert labels <= {'demo', 'open', '-'}, labels


def no_secret_is_shown():
    """hardening: no secret of the configuration stands in log, /status, /metrics, /v1/rejected, answers or --print"""
    tokens = {'full': 'full-token-9f3c', 'read': 'read-token-77aa', 'shared': 'shared-token-51d0'}
    h = Bridge()
    try:
        h.write(admin_more=f', token: {tokens["full"]}, read_token: {tokens["read"]}', sources=f"""
  demo: {{ provider: gemini, secrets: ["{SECRET}"] }}
  tok: {{ provider: token, header: X-Token, secrets: ["{tokens['shared']}"] }}""")
        h.spawn([HOOKLINE, 'serve', '-c', h.config], 'log')
        bearer = {'Authorization': 'Bearer ' + tokens['full']}
        until('ready', lambda: h.get('/readyz', bearer)[0] == 200)
        seen = []
        for data in (signed('a', b'{}'), signed('b', b'{}', key=b'wrong'),
                     b'POST /hooks/tok HTTP/1.1\r\nHost: a\r\nX-Token: %s\r\nContent-Length: 2\r\n\r\n{}' % tokens['shared'].encode(),
                     b'POST /hooks/tok HTTP/1.1\r\nHost: a\r\nX-Token: %sx\r\nContent-Length: 2\r\n\r\n{}' % tokens['shared'].encode()):
            seen.append(repr(post(h.port, data)))
        for path in ('/status', '/metrics', '/v1/rejected', '/v1/events', '/nothing'):
            seen += [repr(h.get(path, bearer)[:2]), repr(h.get(path)[:2])]
        with open(h.config) as f:
            broken = f.read().replace('reserve_bytes: 1MiB', 'reserve_bytes: nonsense')
        with open(h.config, 'w') as f:
            f.write(broken)
        h.reload()
        until('it is rejected', lambda: b'"reload_ok":false' in h.get('/status', bearer)[1])
        seen.append(repr(h.get('/status', bearer)[1]))
        with open(h.config, 'w') as f:
            f.write(broken.replace('reserve_bytes: nonsense', 'reserve_bytes: 1MiB'))
        r = subprocess.run([HOOKLINE, 'check', '-c', h.config, '--print'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        seen += [r.stdout.decode(), h.text('log')]
        assert h.stop() == 0
        key = open(h.key).read().split('\n')[1]
        for text in seen:
            for secret in (SECRET, SECRET[6:], *tokens.values(), key):
                assert secret not in text, (secret, text)
    finally:
        h.clean()


Tap().run(the_program, the_process, the_sandbox, logs_cannot_be_poisoned, no_secret_is_shown)
