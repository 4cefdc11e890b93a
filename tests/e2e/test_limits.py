"""Who may send, and how much: rates, allow-lists, client certificates of a source, addresses behind proxies."""
import contextlib
import json
import os
import socket
import ssl
import time

from certs import Bridge, Secure, bridge, secure_post
from client import Connection, connect, exchange, parse_replies, post, signed
from servers import SECRET, Tap, until

DEMO = f'provider: gemini, secrets: ["{SECRET}"]'


def opened(body, more='', path='/hooks/open'):
    return f'POST {path} HTTP/1.1\r\nHost: a\r\n{more}Content-Length: {len(body)}\r\n\r\n'.encode() + body


def told(reply, status, code):
    assert reply[0] == status and json.loads(reply[2])['error'] == code, reply


def proxied(h, source, data, dest='192.0.2.250'):
    family = 'TCP6' if ':' in source else 'TCP4'
    return exchange(h.port, f'PROXY {family} {source} {dest} 1 2\r\n'.encode() + data)


def one(data):
    [reply] = parse_replies(data)
    return reply


def closing(body=b'x', more='', path='/hooks/open'):
    return opened(body, 'Connection: close\r\n' + more, path)


def rate_of_a_source():
    """rates: beyond a source's rate 429 rate_limited with Retry-After, other sources go on; strangers use nothing up"""
    with bridge(sources=f"""
  demo: {{ {DEMO}, rate: 1, burst: 20 }}
  open: {{ provider: none, dedup: off }}""") as h:
        for n in range(50):
            told(post(h.port, signed(f'f{n}', b'{}', key=b'wrong')), 401, 'bad_signature')
        start = time.monotonic()
        answers = [post(h.port, signed(f'm{n}', b'{}')) for n in range(60)]
        passed = sum(a[0] == 200 for a in answers)
        assert 20 <= passed <= 21 + time.monotonic() - start, passed
        for a in answers:
            if a[0] != 200:
                told(a, 429, 'rate_limited')
                assert int(a[1]['retry-after']) >= 1
        assert post(h.port, opened(b'x'))[0] == 200
        assert h.metric('hookline_requests_total{source="demo",code="429"}') == 60 - passed
        until('it is served again', lambda: post(h.port, signed('later', b'{}'))[0] == 200)


def rate_of_a_network():
    """rates: beyond a network's rate 429 before the body, whatever is sent; other networks go on"""
    with bridge(plain=', proxy_protocol: true', limits='per_network: { rate: 1, burst: 10, ipv4_prefix: 24 }') as h:
        start = time.monotonic()
        answers = [one(proxied(h, f'198.51.100.{n}', closing())) for n in range(30)]
        passed = sum(a[0] == 200 for a in answers)
        assert 10 <= passed <= 11 + time.monotonic() - start, passed
        for a in answers:
            if a[0] != 200:
                told(a, 429, 'rate_limited')
                assert a[1]['connection'] == 'close' and int(a[1]['retry-after']) >= 1
        assert one(proxied(h, '198.51.101.1', closing()))[0] == 200
        assert one(proxied(h, '2001:db8::1', closing(), '2001:db8::2'))[0] == 200
        until('it is served again', lambda: one(proxied(h, '198.51.100.1', closing()))[0] == 200)


def connections_of_a_network():
    """limits: one network has its connections and no more; others connect; a place is free again at once"""
    with bridge(plain=', proxy_protocol: true', limits='per_network: { connections: 5 }') as h:
        def come(source):
            c = Connection(h.port)
            c.send(f'PROXY TCP4 {source} 192.0.2.250 1 2\r\n'.encode() + opened(b'x'))
            return c
        held = [come('198.51.100.1') for _ in range(5)]
        for c in held:
            assert c.reply()[0] == 200
        for _ in range(20):
            assert come('198.51.100.1').closed()
        other = come('198.51.100.2')
        assert other.reply()[0] == 200
        for c in held:
            assert c.ask(opened(b'y'))[0] == 200
        held.pop().close()
        until('a place is free', lambda: come('198.51.100.1').reply()[0] == 200)
    with bridge(limits='per_network: { connections: 3 }') as h:
        held = [Connection(h.port) for _ in range(3)]
        for c in held:
            assert c.ask(opened(b'x'))[0] == 200
        told(one(exchange(h.port, b'')), 503, 'too_many_connections')
        with contextlib.suppress(OSError, ssl.SSLError):
            Secure(h.secure, h.client())
            raise AssertionError('the other listener counts alone')


def allow_lists():
    """allow: only addresses of the list may send; others get 401 before the body, with the true reason inside"""
    with bridge(plain=', proxy_protocol: true', sources=f"""
  demo: {{ {DEMO}, allow: [198.51.100.0/24, "2001:db8:1::/48"] }}
  open: {{ provider: none, dedup: off }}""") as h:
        for n, (source, good) in enumerate((('198.51.100.255', True), ('198.51.101.0', False), ('203.0.113.1', False))):
            reply = one(proxied(h, source, signed(f'm{n}', b'{}', close=True)))
            assert reply[0] == (200 if good else 401), (source, reply)
            if not good:
                told(reply, 401, 'bad_signature')
        for n, (source, good) in enumerate((('2001:db8:1:ffff::1', True), ('2001:db8:2::1', False))):
            assert one(proxied(h, source, signed(f'v{n}', b'{}', close=True), '2001:db8::2'))[0] == (200 if good else 401)
        head = b'POST /hooks/demo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n'
        told(one(proxied(h, '203.0.113.1', head)), 401, 'bad_signature')  # it waits for no body
        assert one(proxied(h, '203.0.113.1', closing()))[0] == 200
        assert h.status()['sources']['demo']['rejected'] == {'address': 4}
        newest = json.loads(h.get('/v1/rejected?source=demo')[1])['rejected'][0]
        assert (newest['reason'], newest['remote'], newest['status']) == ('address', '203.0.113.1', 401)


def names_of_clients():
    """client_names: only the named certificates may send to a source; a listener without TLS has none"""
    h = Bridge()
    try:
        meta = h.authority.issue('meta', 'DNS:client.webhooks.example,URI:spiffe://a/b')
        other = h.authority.issue('other', 'DNS:client.webhooks.example.org')
        h.write(tls=f', client_ca: "{h.authority.ca}", client: optional', sources="""
  named: { provider: none, dedup: off, client_names: ["dns:*.webhooks.example", "cn:nobody"] }
  uri: { provider: none, dedup: off, client_names: ["uri:spiffe://a/*"] }
  open: { provider: none, dedup: off }""")
        h.start()
        for path, own, status in (('named', meta, 200), ('named', other, 401), ('named', None, 401), ('uri', meta, 200),
                                  ('uri', other, 401), ('open', None, 200), ('open', other, 200)):
            reply = secure_post(h.secure, h.client(own=own) if own else h.client(), opened(b'x', path=f'/hooks/{path}'))
            assert reply[0] == status, (path, own, reply)
        told(post(h.port, opened(b'x', path='/hooks/named')), 401, 'bad_signature')
        assert h.status()['sources']['named']['rejected'] == {'client_certificate': 3}
        assert h.stop() == 0
    finally:
        h.clean()


def behind_trusted_proxies():
    """proxies: X-Forwarded-For counts when a trusted proxy says it, and only its part of it"""
    sources = f"""
  demo: {{ {DEMO}, allow: [198.51.100.0/24] }}
  open: {{ provider: none, dedup: off }}"""
    with bridge(sources=sources, extra='proxies: { trusted: [127.0.0.0/8, 10.0.0.0/8] }') as h:
        def sent(value, name='X-Forwarded-For'):
            sent.n += 1
            return post(h.port, signed(f'm{sent.n}', b'{}').replace(b'Host: a\r\n', f'Host: a\r\n{name}: {value}\r\n'.encode()))[0]
        sent.n = 0
        assert sent('198.51.100.7') == 200
        assert sent('198.51.100.7, 10.1.2.3') == 200
        assert sent('198.51.100.7, 203.0.113.5') == 401
        assert sent('203.0.113.5') == 401
        assert sent('198.51.100.7', 'Forwarded') == 401
        assert sent('nonsense') == 401
        newest = json.loads(h.get('/v1/rejected?source=demo')[1])['rejected']
        assert [r['remote'] for r in newest] == ['127.0.0.1', '127.0.0.1', '203.0.113.5', '203.0.113.5']
    with bridge(sources=sources) as h:  # nobody is trusted
        assert post(h.port, signed('a', b'{}').replace(b'Host: a\r\n', b'Host: a\r\nX-Forwarded-For: 198.51.100.7\r\n'))[0] == 401


def proxy_protocol():
    """proxy_protocol: version 1 and 2, with TLS behind it; none, another or one of a stranger: closed without a word"""
    with bridge(plain=', proxy_protocol: true', extra='proxies: { trusted: [127.0.0.1] }', sources=f"""
  demo: {{ {DEMO} }}
  open: {{ provider: none, dedup: off }}""") as h:
        two = (b'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c' + socket.inet_aton('198.51.100.2') + socket.inet_aton('192.0.2.9') + b'\0\1\0\2')
        for n, head in enumerate((b'PROXY TCP4 198.51.100.1 192.0.2.9 1 2\r\n', two)):
            told(one(exchange(h.port, head + signed(f'm{n}', b'{}', key=b'wrong', close=True))), 401, 'bad_signature')
            assert json.loads(h.get('/v1/rejected')[1])['rejected'][0]['remote'] == f'198.51.100.{n + 1}'
        assert one(exchange(h.port, b'PROXY UNKNOWN\r\n' + closing()))[0] == 200
        assert one(exchange(h.port, b'PROXY UNKNOWN\r\n' + closing(), pieces=200))[0] == 200
        for bad in (closing(), b'PROXY TCP4 1.2.3.4\r\n' + closing(), two[:12] + b'\x31' + two[13:] + closing(), b'\0' * 3000):
            with contextlib.suppress(ConnectionError):
                assert exchange(h.port, bad) == b''
        assert h.metric('hookline_handshakes_total{result="proxy"}') == 4
        h.write(more='proxies: { trusted: [192.0.2.1] }')
        h.reload()
        until('it trusts another', lambda: 'configuration reloaded' in h.text('log'))
        with contextlib.suppress(ConnectionError):
            assert exchange(h.port, b'PROXY UNKNOWN\r\n' + closing()) == b''


Tap().run(rate_of_a_source, rate_of_a_network, connections_of_a_network, allow_lists, names_of_clients, behind_trusted_proxies,
          proxy_protocol)
