"""The smuggling matrix: requests of which two readers could think differently, alone, pipelined behind a good one, split at
every byte, and through proxies. Never two answers where one is due, never a record of what was refused."""
import concurrent.futures
import contextlib
import itertools
import os
import shutil
import zlib

from cases import GOOD, REFUSED, TE, coded, post, sized
from client import connect, exchange, parse_replies
from servers import Hookline, Process, Skip, Tap, free_port, until

SCALE = int(os.environ.get('SCALE', '1'))
BODY = b'4\r\nevil\r\n0\r\n\r\n'
CODINGS = ('Transfer-Encoding : chunked', 'Transfer-Encoding\t: chunked', ' Transfer-Encoding: chunked', '\tTransfer-Encoding: chunked',
           'Transfer-Encoding:\n chunked', 'Transfer-Encoding:\r\n chunked', 'Transfer-Encoding: chunked\0', 'Transfer-Encoding: \vchunked',
           'Transfer-Encoding: chunked\v', 'Transfer-Encoding: \x0cchunked', 'Transfer-Encoding: chunked;a=b', 'Transfer-Encoding: "chunked"',
           "Transfer-Encoding: 'chunked'", 'Transfer-Encoding: chunked,', 'Transfer-Encoding: ,chunked', 'Transfer-Encoding: chunked, identity',
           'Transfer-Encoding: identity, chunked', 'Transfer-Encoding: chunked chunked', 'Transfer-Encoding: x-chunked',
           'Transfer-Encoding: chunke', 'Transfer-Encoding: chunkedd', 'Transfer-Encoding: cow', 'Transfer-Encoding:',
           'Transfer-Encoding: \xffchunked', 'Transfer-Encoding: chunked\r', 'Transfer-Encoding\0: chunked', 'Transfer-\0Encoding: chunked',
           'X: y\nTransfer-Encoding: chunked', 'X: y\rTransfer-Encoding: chunked', 'X: y\r\n\tTransfer-Encoding: chunked',
           'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity', 'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked',
           'Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked', 'Transfer-Encoding chunked', ': chunked\r\nTransfer-Encoding: x',
           'Transfer-Encoding: deflate', 'Transfer-Encoding: br, chunked', 'Transfer-Encoding: chunked\r\nTransfer-Encoding:')
LENGTHS = ('Content-Length : 4', 'Content-Length\t: 4', ' Content-Length: 4', 'Content-Length: 4, 4', 'Content-Length: 4,5',
           'Content-Length: 4\r\nContent-Length: 5', 'Content-Length: 4\r\nContent-Length: 4', 'Content-Length: +4', 'Content-Length: -4',
           'Content-Length: 0x4', 'Content-Length: 4;', 'Content-Length: 4 5', 'Content-Length: "4"', 'Content-Length: 4.0',
           'Content-Length: 4e0', 'Content-Length: \v4', 'Content-Length: 4\0', 'Content-Length: ', 'Content-Length: \xb9',
           'Content-Length: 18446744073709551620', 'Content-Length: 4294967300', 'Content-Length:\r\n 4', 'Content-Length: 4\n',
           'Content-Length\0: 4', 'Content-Length: 4_0', 'Content-Length: 4\r\ncontent-length: 99', 'Content-Length 4')
HEADS = ('\nPOST /hooks/open HTTP/1.1', 'POST /hooks/open HTTP/1.1\n', 'POST\t/hooks/open HTTP/1.1', 'POST /hooks/open\tHTTP/1.1',
         'POST  /hooks/open HTTP/1.1', 'POST /hooks/open  HTTP/1.1', 'POST /hooks/open HTTP/1.1 ', 'POST /hooks/open HTTP/1.10',
         'POST /hooks/open HTTP/01.1', 'POST /hooks/open HTTP/1.', 'POST /hooks/open HTTP/ 1.1', 'POST /hooks/open http/1.1',
         'POST /hooks/open HTTP/1.1\0', 'POST /hooks/open\0 HTTP/1.1', 'POST /hooks/open HTTP/1,1', 'POST /hooks/open HTTP/2.0',
         'POST /hooks/open', 'POST http://b/hooks/open HTTP/1.1', 'POST //b/hooks/open HTTP/1.1', 'POST hooks/open HTTP/1.1',
         'POST /hooks/open# HTTP/1.1', 'POST /hooks/open HTTP/1.1\r', 'PO ST /hooks/open HTTP/1.1', 'POST /hooks/op en HTTP/1.1',
         '\0POST /hooks/open HTTP/1.1', 'P\xd6ST /hooks/open HTTP/1.1', 'POST: /hooks/open HTTP/1.1')
CHUNKS = (b'4 \r\nevil\r\n0\r\n\r\n', b' 4\r\nevil\r\n0\r\n\r\n', b'0x4\r\nevil\r\n0\r\n\r\n', b'+4\r\nevil\r\n0\r\n\r\n', b'4\nevil\r\n0\r\n\r\n',
          b'4\revil\r\n0\r\n\r\n', b'4\r\nevil\n0\r\n\r\n', b'4\r\nevil0\r\n\r\n', b'4\r\nevilX\r\n0\r\n\r\n', b'5\r\nevil\r\n0\r\n\r\n',
          b'3\r\nevil\r\n0\r\n\r\n', b'4;\n\r\nevil\r\n0\r\n\r\n', b'4;a\rb\r\nevil\r\n0\r\n\r\n', b'g\r\nevil\r\n0\r\n\r\n', b'\r\nevil\r\n0\r\n\r\n',
          b'4\r\nevil\r\n\r\n0\r\n\r\n', b'fffffffffffffffff\r\nevil', b'10000000000000004\r\nevil\r\n0\r\n\r\n', b'-4\r\nevil\r\n0\r\n\r\n',
          b'4\r\nevil\r\n0\n\r\n', b'4\r\nevil\r\n0\r\n\n', b'4\r\nevil\r\n0\r\nX : y\r\n\r\n', b'4\r\nevil\r\n0\r\n X: y\r\n\r\n',
          b'4\r\nevil\r\n0\r\nX\0: y\r\n\r\n', b'4\0\r\nevil\r\n0\r\n\r\n', b'4"\r\nevil\r\n0\r\n\r\n', b'4;"\r\nevil\r\n0\r\n\r\n', b'_4\r\nevil\r\n0\r\n\r\n')


def matrix():
    """(name, bytes), each of which must be refused."""
    for n, (coding, length) in enumerate(itertools.product(CODINGS, ('', 'Content-Length: 4\r\n', 'Content-Length: 13\r\n'))):
        # the coding may hold bytes that only latin-1 keeps; "Content-Length: 4" first and last
        yield f'coding {n}', post((length if n % 2 else '') + coding + '\r\n' + ('' if n % 2 else length), BODY)
    for n, (length, coding) in enumerate(itertools.product(LENGTHS, ('', TE))):
        yield f'length {n}', post(length + '\r\n' + coding, BODY if coding else b'evil')
    for n, head in enumerate(HEADS):
        yield f'head {n}', (head + '\r\nHost: a\r\nContent-Length: 4\r\n\r\n').encode('latin-1') + b'evil'
    for n, body in enumerate(CHUNKS):
        yield f'chunk {n}', coded('chunked', body)
    for name, data, *_ in REFUSED:
        if len(data) < 4000:
            yield name, data


MATRIX = list(matrix())


def lsn():
    return h.status()['log']['last_lsn']


def is_refusal(reply):
    status, headers, _ = reply
    assert 400 <= status < 600 and headers.get('connection') == 'close', reply


def refused(name, data, pieces):
    """One answer to it, none to the good one behind; none of the two is in the log."""
    before = lsn()
    replies = parse_replies(exchange(h.port, data + GOOD, pieces), {0} if data.startswith(b'HEAD ') else ())
    assert len(replies) == 1, (name, replies)
    is_refusal(replies[0])
    assert lsn() == before, (name, 'it is in the log')


def alone():
    """smuggling: each request alone, with a good one behind it that must not be executed"""
    assert len(MATRIX) >= 200, len(MATRIX)
    for name, data in MATRIX:
        refused(name, data, 1)


def byte_by_byte():
    """smuggling: each request a byte at a time"""
    for name, data in MATRIX:
        refused(name, data, len(data + GOOD))


def pipelined():
    """smuggling: each request between two good ones: the first is executed, the last is not"""
    for name, data in MATRIX:
        before = lsn()
        first, *rest = parse_replies(exchange(h.port, GOOD + data + GOOD), {1} if data.startswith(b'HEAD ') else ())
        assert first[0] == 200 and len(rest) == 1, (name, rest)
        is_refusal(rest[0])
        assert lsn() == before + 1, name


def cut_in_two():
    """smuggling: each request in two parts, cut at every byte (SCALE=10) or at some of them"""
    step = max(1, 40 // SCALE // SCALE)
    for name, data in MATRIX:
        before = lsn()
        for cut in range(1 + zlib.crc32(name.encode()) % step, len(data), step):
            with connect(h.port) as s:
                s.sendall(data[:cut])
                with contextlib.suppress(ConnectionError):
                    s.sendall(data[cut:] + GOOD)
                got = b''
                with contextlib.suppress(ConnectionError):
                    while (piece := s.recv(65536)):
                        got += piece
            replies = parse_replies(got, {0} if data.startswith(b'HEAD ') else ())
            assert len(replies) == 1, (name, cut, replies)
            is_refusal(replies[0])
        assert lsn() == before, name


class Nginx(Process):
    def __init__(self, to):
        super().__init__()
        self.port = free_port()
        with open(os.path.join(self.dir, 'conf'), 'w') as f:
            f.write(f"""pid {self.dir}/pid; error_log {self.dir}/error; daemon off; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; keepalive_timeout 1s; client_header_timeout 1s; client_body_timeout 1s; lingering_close off;
  client_body_temp_path {self.dir}/b; proxy_temp_path {self.dir}/p;
  fastcgi_temp_path {self.dir}/f; uwsgi_temp_path {self.dir}/u; scgi_temp_path {self.dir}/s;
  upstream up {{ server 127.0.0.1:{to}; keepalive 4; }}
  server {{ listen 127.0.0.1:{self.port}; location / {{ proxy_pass http://up; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_request_buffering off; }} }}
}}
""")

    def start(self):
        self.spawn(['nginx', '-p', self.dir, '-c', self.dir + '/conf'], 'log')


class Haproxy(Process):
    def __init__(self, to):
        super().__init__()
        self.port = free_port()
        with open(os.path.join(self.dir, 'conf'), 'w') as f:
            f.write(f"""defaults
  mode http
  timeout connect 10s
  timeout client 4s
  timeout http-request 2s
  timeout http-keep-alive 1s
  timeout server 30s
  http-reuse always
frontend f
  bind 127.0.0.1:{self.port}
  default_backend b
backend b
  server s 127.0.0.1:{to}
""")

    def start(self):
        self.spawn(['haproxy', '-f', self.dir + '/conf'], 'log')


def told(port, name, data):
    """How many deliveries the proxy's client was told of: what the proxy mends counts as one, and so does the good one behind."""
    got = b''
    with contextlib.suppress(ConnectionError):
        got = exchange(port, data + sized(4, b'good', 'Connection: close\r\n'))
    accepted = got.count(b'"status":"accepted"')
    assert accepted <= 2, (name, got)
    return accepted


def through(kind, program):
    if not shutil.which(program):
        raise Skip(f'{program} is not installed')
    proxy = kind(h.port)
    try:
        proxy.start()
        until(program, lambda: exchange(proxy.port, sized(4, b'good', 'Connection: close\r\n')).startswith(b'HTTP/1.1 200'))
        before = lsn()
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            accepted = sum(pool.map(lambda row: told(proxy.port, *row), MATRIX))
        assert lsn() - before == accepted, (lsn() - before, accepted)
        assert exchange(h.port, sized(4, b'good', 'Connection: close\r\n')).startswith(b'HTTP/1.1 200')
    finally:
        proxy.clean()


def through_nginx():
    """smuggling: each request through nginx with kept connections: as many records as answers that say so"""
    through(Nginx, 'nginx')


def through_haproxy():
    """smuggling: each request through HAProxy with shared connections: as many records as answers that say so"""
    through(Haproxy, 'haproxy')


h = Hookline(extra='limits: { header_timeout: 5s, body_timeout: 5s }', sources="""
  open: { provider: none, dedup: off }
  small: { provider: none, dedup: off, body_bytes: 64KiB }""")
try:
    h.start()
    Tap().run(alone, byte_by_byte, pipelined, cut_in_two, through_nginx, through_haproxy)
finally:
    h.clean()
