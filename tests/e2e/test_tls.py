"""Cases 22 and 23, and TLS on listeners and on the admin listener, against the running program."""
import base64
import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import threading
import time

from certs import Bridge, Secure, bridge, secure_post
from client import Connection, connect, exchange, parse_replies
from servers import HOOKLINE, Tap, until

SCALE = int(os.environ.get('SCALE', '1'))
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'


def frame(kind, flags, stream, payload=b''):
    return len(payload).to_bytes(3, 'big') + bytes([kind, flags]) + stream.to_bytes(4, 'big') + payload


FLOODS = {
    'SETTINGS': PREFACE + frame(4, 0, 0) * 500,
    'CONTINUATION': PREFACE + frame(4, 0, 0) + frame(1, 0, 1, b'\x82') + frame(9, 0, 1, b'\x00' * 100) * 300,
    'RST_STREAM': PREFACE + frame(4, 0, 0) + b''.join(frame(1, 5, n, b'\x82\x84\x86') + frame(3, 0, n, b'\0\0\0\x08')
                                                      for n in range(1, 401, 2)),
}


def opened(body, more=''):
    return f'POST /hooks/open HTTP/1.1\r\nHost: a\r\n{more}Content-Length: {len(body)}\r\n\r\n'.encode() + body


def lsn(h):
    return h.status()['log']['last_lsn']


def handshakes(h, result):
    return h.metric(f'hookline_handshakes_total{{result="{result}"}}')


def s_client(h, *args, talk=''):
    r = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{h.secure}', '-CAfile', h.authority.ca, *args],
                       input=talk.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return r.stdout.decode(errors='replace')


def served(h, tls):
    status, _, body = secure_post(h.secure, tls, opened(b'x'))
    assert status == 200 and json.loads(body)['status'] == 'accepted'


# --- case 22 ---

def silent_clients():
    """case 22: no hello, a part of one, one byte now and then: closed at the handshake's deadline, others are served"""
    with bridge(limits='handshake_timeout: 1s') as h:
        tls = h.client()
        good = Secure(h.secure, tls)
        hello = b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + bytes(100)
        silent = [connect(h.secure) for _ in range(50 * SCALE)]
        part = [connect(h.secure) for _ in range(50 * SCALE)]
        for s in part:
            s.sendall(hello)
        assert good.ask(opened(b'x'))[0] == 200
        for s in silent + part:
            assert s.recv(100) == b''
            s.close()
        drip = connect(h.secure)
        with contextlib.suppress(OSError):
            for byte in hello * 10:
                drip.sendall(bytes([byte]))
                time.sleep(0.05)
            raise AssertionError('a byte now and then holds a connection')
        assert handshakes(h, 'timeout') == len(silent) + len(part) + 1
        assert good.ask(opened(b'x'))[0] == 200 and lsn(h) == 2


def garbage():
    """case 22: garbage, plain HTTP, a broken record, a reset in the middle: closed, no record, counted, one line a second"""
    with bridge() as h:
        tls = h.client()
        good = Secure(h.secure, tls)
        start = time.monotonic()
        for n in range(100 * SCALE):
            for data in (bytes((i * 37 + n) % 256 for i in range(300)), opened(b'x'), b'\x16\x03\x03\xff\xff' + bytes(200), b'\x15' * 50):
                with contextlib.suppress(ConnectionError):
                    with connect(h.secure) as s:
                        s.sendall(data)
                        assert b'HTTP' not in s.recv(1000)
        assert good.ask(opened(b'x'))[0] == 200 and lsn(h) == 1
        lines = h.text('log').count('a connection was not let in')
        assert 1 <= lines <= 2 + time.monotonic() - start, lines
        assert handshakes(h, 'failed') > 0


def versions():
    """case 22: TLS 1.2 and 1.3 are spoken, older ones refused, weak ciphers too"""
    with bridge() as h:
        for version, good in (('-tls1_2', True), ('-tls1_3', True), ('-tls1_1', False), ('-tls1', False)):
            out = s_client(h, version, '-cipher', 'ALL:@SECLEVEL=0')
            assert ('Cipher is (NONE)' not in out) == good, (version, out)
        for cipher in ('AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-SHA', 'aNULL', 'DHE-RSA-AES128-GCM-SHA256', '3DES'):
            assert 'Cipher is ECDHE-ECDSA' not in s_client(h, '-tls1_2', '-cipher', cipher + ':@SECLEVEL=0')
        assert lsn(h) == 0


def renegotiation():
    """case 22: a client that wants to renegotiate is told no"""
    with bridge() as h:
        p = subprocess.Popen(['openssl', 's_client', '-connect', f'127.0.0.1:{h.secure}', '-tls1_2'], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        until('the handshake', lambda: handshakes(h, 'done') == 1)
        p.stdin.write(b'R\n')
        p.stdin.flush()
        out = p.communicate(timeout=60)[0].decode(errors='replace')
        assert 'RENEGOTIATING' in out and 'no renegotiation' in out, out
        served(h, h.client())


def many_handshakes():
    """case 22: handshakes one behind the other from four threads; a good client among them, no descriptor is left"""
    with bridge(extra='threads: 2') as h:
        tls = h.client()
        served(h, tls)
        until('none is open', lambda: h.metric('hookline_connections') == 0)
        listening = 5  # two threads with two listeners, and the admin one
        until('nothing but listeners', lambda: h.sockets() == listening)

        def attack():
            for _ in range(100 * SCALE):
                with contextlib.suppress(OSError):
                    Secure(h.secure, tls).close()
        threads = [threading.Thread(target=attack) for _ in range(4)]
        good = Secure(h.secure, tls)
        for t in threads:
            t.start()
        for _ in range(20):
            assert good.ask(opened(b'x'))[0] == 200
        for t in threads:
            t.join()
        good.close()
        # who goes at once may be gone before the last of his handshake is read
        until('each is counted', lambda: sum(handshakes(h, r) for r in ('done', 'resumed', 'failed')) == 400 * SCALE + 2)
        assert handshakes(h, 'done') > 2
        until('none is open', lambda: h.metric('hookline_connections') == 0)
        until('nothing but listeners', lambda: h.sockets() == listening)


# --- case 23 ---

def http2_floods():
    """case 23: HTTP/2 floods with prior knowledge, on the plain and the TLS port: 505 bad_version once, closed"""
    with bridge() as h:
        tls = h.client()
        for name, data in FLOODS.items():
            for secure in (False, True):
                got = b''
                c = Secure(h.secure, tls) if secure else Connection(h.port)
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    c.send(data)
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    got = c.f.read()
                c.close()
                [(status, headers, body)] = parse_replies(got)
                assert (status, json.loads(body)['error'], headers['connection']) == (505, 'bad_version', 'close'), (name, got)
        served(h, tls)
        assert lsn(h) == 1


def alpn():
    """case 23: of h2 and http/1.1 the latter is taken; h2 alone is no handshake; curl that prefers h2 is served"""
    with bridge() as h:
        assert Secure(h.secure, h.client(alpn=['h2', 'http/1.1'])).s.selected_alpn_protocol() == 'http/1.1'
        assert Secure(h.secure, h.client()).s.selected_alpn_protocol() is None
        try:
            Secure(h.secure, h.client(alpn=['h2']))
            raise AssertionError('h2 was taken')
        except ssl.SSLError as e:
            assert 'NO_APPLICATION_PROTOCOL' in str(e).upper().replace(' ', '_'), e
        if shutil.which('curl'):
            r = subprocess.run(['curl', '-s', '--http2', '--cacert', h.authority.ca, '-d', 'x', '-w', ' %{http_version}',
                                f'https://localhost:{h.secure}/hooks/open'], stdout=subprocess.PIPE, check=True)
            assert r.stdout.endswith(b' 1.1') and b'accepted' in r.stdout


# --- what TLS gives ---

def large_and_pipelined():
    """over TLS: a body of 1 MiB, 500 pipelined deliveries, the exact bytes of each in the log"""
    with bridge() as h:
        c = Secure(h.secure, h.client())
        big = os.urandom(1 << 20)
        assert c.ask(opened(big))[0] == 200
        # from one thread: an SSL object is not to be read and written at a time
        c.send(b''.join(opened(b'%d' % n) for n in range(500)))
        for n in range(500):
            assert json.loads(c.reply()[2])['lsn'] == n + 2
        assert base64.b64decode(json.loads(h.get('/v1/events/1')[1])['data_base64']) == big


def several_certificates():
    """over TLS: each name gets its certificate, whatever else the first; their ends are in the metrics"""
    h = Bridge()
    try:
        one, two = h.authority.issue('one', 'DNS:one.example,DNS:localhost'), h.authority.issue('two', 'DNS:*.two.example')
        with open(h.config) as f:
            text = f.read().replace(f'"{h.cert}"', json.dumps([one[0], two[0]])).replace(f'"{h.key}"', json.dumps([one[1], two[1]]))
        with open(h.config, 'w') as f:
            f.write(text)
        h.start()
        for name in ('one.example', 'a.two.example', 'localhost'):
            Secure(h.secure, h.client(), name=name).close()
        try:
            Secure(h.secure, h.client(), name='three.example')
            raise AssertionError('a certificate for a name that none has')
        except ssl.SSLCertVerificationError:
            pass
        for cert in (one[0], two[0]):
            end = h.metric(f'hookline_tls_certificate_expiry_timestamp_seconds{{listen="127.0.0.1:{h.secure}",file="{cert}"}}')
            assert 80000 < end - time.time() < 90000
        assert h.stop() == 0
    finally:
        h.clean()


def client_certificates():
    """over TLS: a certificate of client_ca is required; with `client: optional` it is not"""
    h = Bridge()
    try:
        own = h.authority.issue('sender', 'DNS:sender.example')
        h.write(tls=f', client_ca: "{h.authority.ca}"')
        h.start()
        served(h, h.client(own=own))
        try:
            served(h, h.client())
            raise AssertionError('without a certificate')
        except (OSError, TypeError):
            pass
        h.write(tls=f', client_ca: "{h.authority.ca}", client: optional')
        h.reload()
        until('it is optional', lambda: served(h, h.client()) is None)
        served(h, h.client(own=own))
        assert h.stop() == 0
    finally:
        h.clean()


def resumption():
    """over TLS: a client comes back with its ticket, to another thread and after a reload"""
    with bridge(extra='threads: 4') as h:
        tls = h.client()
        first = Secure(h.secure, tls)
        assert first.ask(opened(b'x'))[0] == 200
        session = first.s.session
        first.s.unwrap()
        for n in range(20):
            if n == 10:
                h.reload()
                until('the reload', lambda: 'configuration reloaded' in h.text('log'))
            s = tls.wrap_socket(connect(h.secure), server_hostname='localhost', session=session)
            assert s.session_reused
            s.close()


# --- the admin listener ---

def ask_admin(h, tls, path='/status', headers=None, method='GET'):
    c = http.client.HTTPSConnection('127.0.0.1', h.admin, context=tls, timeout=60)
    try:
        c.request(method, path, headers=headers or {})
        r = c.getresponse()
        return r.status, r.read(), dict((k.lower(), v) for k, v in r.getheaders())
    finally:
        c.close()


def admin_over_tls():
    """admin: HTTPS; a token, one that may only read, a client certificate; waiting for a job; `hookline health` with HOOKLINE_CA"""
    h = Bridge()
    try:
        own = h.authority.issue('operator', 'DNS:operator.example')
        h.write(admin_more=f', token: full, read_token: half, tls: {{ cert: "{h.cert}", key: "{h.key}", client_ca: '
                           f'"{h.authority.ca}", client: optional }}')
        h.spawn([HOOKLINE, 'serve', '-c', h.config], 'log')
        tls = h.client()
        bearer = lambda t: {'Authorization': 'Bearer ' + t}
        until('ready', lambda: ask_admin(h, tls, '/readyz', bearer('full'))[0] == 200)
        status, body, headers = ask_admin(h, tls)
        assert status == 401 and headers['www-authenticate'] == 'Bearer' and json.loads(body)['error'] == 'unauthorized'
        for token, method, want in (('full', 'GET', 200), ('full', 'POST', 405), ('half', 'GET', 200), ('half', 'POST', 403),
                                    ('other', 'GET', 401), ('', 'GET', 401), ('ful', 'GET', 401), ('fulll', 'GET', 401)):
            assert ask_admin(h, tls, headers=bearer(token), method=method)[0] == want, (token, method)
        status, _, headers = ask_admin(h, h.client(own=own))
        assert status == 200 and headers['x-frame-options'] == 'DENY' and headers['x-content-type-options'] == 'nosniff'
        assert "default-src 'none'" in headers['content-security-policy'] and 'access-control-allow-origin' not in headers
        env = dict(os.environ, HOOKLINE_ADMIN=f'https://127.0.0.1:{h.admin}', HOOKLINE_ADMIN_TOKEN='half')
        assert subprocess.run([HOOKLINE, 'health'], env=env, stderr=subprocess.DEVNULL).returncode == 69
        env['HOOKLINE_CA'] = h.authority.ca
        assert subprocess.run([HOOKLINE, 'health'], env=env, stdout=subprocess.DEVNULL).returncode == 0
        status, body, _ = ask_admin(h, tls, '/v1/jobs/none?wait=1', bearer('half'))
        assert status == 404 and json.loads(body)['state'] is None, (status, body)  # it waited, and was not turned away
        h.write(admin_more=h.admin_more.replace('full', 'new'))
        h.reload()
        until('the new token', lambda: ask_admin(h, tls, headers=bearer('new'))[0] == 200)
        assert ask_admin(h, tls, headers=bearer('full'))[0] == 401
        assert h.stop() == 0
    finally:
        h.clean()


def rebinding():
    """admin: without a token only a Host that is an address, without a dot or configured is answered"""
    with bridge(admin=', hosts: [bridge.internal]') as h:
        for host, want in (('127.0.0.1', 200), (f'localhost:{h.admin}', 200), ('[::1]:1', 200), ('Bridge.Internal:80', 200), ('hookline:9180', 200),
                           ('attacker.example', 403), ('localhost.attacker.example', 403), ('127.0.0.1.attacker.example', 403)):
            got = exchange(h.admin, f'GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n'.encode())
            assert got.startswith(b'HTTP/1.1 %d' % want), (host, got[:200])


Tap().run(silent_clients, garbage, versions, renegotiation, many_handshakes, http2_floods, alpn, large_and_pipelined,
          several_certificates, client_certificates, resumption, admin_over_tls, rebinding)
