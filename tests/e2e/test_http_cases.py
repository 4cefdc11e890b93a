"""Cases 1 to 15 against the running program: raw bytes in, and exactly the right answers out.

Each row of REFUSED goes out twice, followed by a good request: alone, and behind a good request on the same connection.
The error must be the last answer, with its code and `Connection: close`; then FIN; what follows the refusal is never
executed. The log shows it: only the good request in front left a record."""
import base64
import json
import os
import shutil
import subprocess

from cases import ACCEPTED, GOOD, MIB, PATH, REFUSED, post, sized
from client import connect, exchange, parse_replies, signed
from servers import Hookline, Skip, Tap

def lsn():
    return h.status()['log']['last_lsn']


def is_error(reply, status, code):
    got, headers, body = reply
    assert (got, json.loads(body)['error'] if body else code) == (status, code), reply
    assert headers['connection'] == 'close' and headers['content-type'] == 'application/json', reply
    assert 'date' in headers and (status != 405 or headers['allow'] == 'POST'), reply
    assert not body or set(json.loads(body)) == {'error', 'detail'}, reply


def refuse(where, data, status, code):
    head = data.startswith(b'HEAD ')
    before = lsn()
    alone = parse_replies(exchange(where, data + GOOD), {0} if head else ())
    assert len(alone) == 1, alone
    is_error(alone[0], status, code)
    assert lsn() == before, 'something was logged'
    good, *rest = parse_replies(exchange(where, GOOD + data + GOOD, pieces=3), {1} if head else ())
    assert good[0] == 200 and 'connection' not in good[1] and json.loads(good[2])['lsn'] == before + 1, good
    assert len(rest) == 1, rest
    is_error(rest[0], status, code)
    assert lsn() == before + 1, 'what stood behind the refusal was logged'


def logged(number):
    return h.get(f'/v1/events/{number}')[1]


def body_of(event):
    return base64.b64decode(event['data_base64']) if 'data_base64' in event else event.get('data')


def accept(data, body, stays):
    before = lsn()
    replies = parse_replies(exchange(h.port, data + (sized(4, b'next', 'Connection: close\r\n') if stays else b'')))
    assert [r[0] for r in replies] == [200] * (2 if stays else 1), replies
    status, headers, text = replies[0]
    number = before + 1
    event = json.loads(logged(number))
    assert text == f'{{"status":"accepted","id":"{event["id"]}","lsn":{number}}}'.encode(), text
    assert headers['content-type'] == 'application/json' and ('connection' in headers) == (
        not stays or b'HTTP/1.0' in data), headers
    assert body_of(event) == body
    assert lsn() == before + len(replies)


def trailers_sign_nothing():
    """case 9: the signature is taken from the headers alone: 200 with a bad one in the trailers, 401 with a good one there"""
    body = b'{"n":9}'
    head, _ = signed('nine', body).split(b'\r\n\r\n', 1)
    signature = next(l for l in head.split(b'\r\n') if l.startswith(b'webhook-signature'))
    head = head.replace(b'Content-Length: 7', b'Transfer-Encoding: chunked\r\nConnection: close')
    chunk = b'\r\n\r\n7\r\n' + body + b'\r\n0\r\n'
    before = lsn()
    [(status, _, _)] = parse_replies(exchange(h.port, head + chunk + b'webhook-signature: v1,AAAA\r\n\r\n'))
    assert status == 200 and lsn() == before + 1
    [(status, _, text)] = parse_replies(exchange(h.port, head.replace(signature + b'\r\n', b'') + chunk + signature + b'\r\n\r\n'))
    assert status == 401 and json.loads(text)['error'] == 'bad_signature' and lsn() == before + 1


def method_answers_have_no_body_to_head():
    """case 12: the answer to HEAD has the length of its body and no body"""
    got = exchange(h.port, f'HEAD {PATH} HTTP/1.1\r\nHost: a\r\n\r\n'.encode())
    [(status, headers, _)] = parse_replies(got, {0})
    assert status == 405 and int(headers['content-length']) > 0 and got.endswith(b'\r\n\r\n')


def memory_of_large_heads():
    """case 13: endless headers on 200 connections cost less than 64 KiB each"""
    def resident():
        return int(next(l for l in open(f'/proc/{h.p.pid}/status') if l.startswith('VmRSS')).split()[1]) << 10

    def round_of(n):
        connections = [connect(h.port) for _ in range(n)]
        for c in connections:
            c.sendall(post('X: ' + 'x' * 16000)[:-4])
        for c in connections:  # all of it has been read when the next connection is answered
            c.setblocking(False)
        exchange(h.port, sized(0, b'', 'Connection: close\r\n'))
        return connections
    for c in round_of(20):  # what the allocator keeps is there before
        c.close()
    before = resident()
    held = round_of(200)
    grown = resident() - before
    for c in held:
        c.close()
    assert grown < 200 * 65536 or '/asan/' in os.environ.get('HOOKLINE', ''), grown


def lingers():
    """case 14: a client that goes on sending its 32 KiB sees the 413 and then FIN, no reset"""
    before = lsn()
    with connect(h.port) as s:
        s.sendall(sized(MIB + 1, b'x' * 1000))
        got = b''
        for _ in range(32):
            s.sendall(b'x' * 1024)
        while (piece := s.recv(65536)):
            got += piece
    [reply] = parse_replies(got)
    is_error(reply, 413, 'body_too_large')
    assert lsn() == before


def continues():
    """case 15: 100 Continue comes, byte for byte, before the body and the 200 behind it"""
    before = lsn()
    with connect(h.port) as s:
        s.sendall(sized(3, b'', 'Expect: 100-continue\r\nConnection: close\r\n'))
        assert s.recv(25, 0x100) == b'HTTP/1.1 100 Continue\r\n\r\n'  # MSG_WAITALL
        s.sendall(b'abc')
        got = b''
        while (piece := s.recv(65536)):
            got += piece
    [(status, _, _)] = parse_replies(got)
    assert status == 200 and body_of(json.loads(logged(before + 1))) == b'abc'


def continues_in_turn():
    """case 15: 100 Continue to a pipelined request comes behind the answers before it"""
    with connect(h.port) as s:
        s.sendall(GOOD * 5 + sized(3, b'', 'Expect: 100-continue\r\nConnection: close\r\n'))
        got = b''
        while not got.endswith(b'HTTP/1.1 100 Continue\r\n\r\n'):
            piece = s.recv(65536)
            assert piece, got
            got += piece
        s.sendall(b'abc')
        while (piece := s.recv(65536)):
            got += piece
    assert [r[0] for r in parse_replies(got)] == [200] * 5 + [100, 200]


def curl():
    """cases 14, 15: curl with a large file: 200 at the limit, 413 above it, with and without Expect"""
    if not shutil.which('curl'):
        raise Skip('curl is not installed')
    path = os.path.join(h.dir, 'large')
    for size, expect, want in ((MIB, '100-continue', '200'), (MIB, '', '200'), (MIB + 1, '100-continue', '413')):
        with open(path, 'wb') as f:
            f.write(b'x' * size)
        r = subprocess.run(['curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', '-H', f'Expect: {expect}', '-H',
                            'Content-Type: text/plain', '--data-binary', '@' + path, f'http://127.0.0.1:{h.port}{PATH}'],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert r.stdout.decode() == want, (size, expect, r)


def named(name, test, *args):
    def run():
        test(*args)
    run.__doc__ = name
    return run


def one_of_each_case():
    seen = set()
    for row in REFUSED:
        case = row[0].split(':')[0]
        if case not in seen:
            seen.add(case)
            yield row


h = Hookline(sources="""
  demo: { provider: gemini, secrets: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] }
  open: { provider: none, dedup: off }
  small: { provider: none, dedup: off, body_bytes: 64KiB }""")
unix = os.path.join(h.dir, 'hookline.sock')
text = open(h.config).read()
open(h.config, 'w').write(text.replace(f'listen: 127.0.0.1:{h.port}', f'listen: ["127.0.0.1:{h.port}", "[::1]:{h.port}", "unix:{unix}"]'))
try:
    h.start()
    Tap().run(*[named(name, refuse, h.port, *row) for name, *row in REFUSED],
              *[named(name + ' (Unix socket)', refuse, unix, *row) for name, *row in one_of_each_case()],
              *[named(name + ' (IPv6)', refuse, ('::1', h.port), *row) for name, *row in one_of_each_case()],
              *[named(name, accept, *row) for name, *row in ACCEPTED],
              trailers_sign_nothing, method_answers_have_no_body_to_head, memory_of_large_heads, lingers, continues,
              continues_in_turn, curl)
finally:
    h.clean()
