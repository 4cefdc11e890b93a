"""Cases 16 to 21, 24 and 25: slow, heavy and hostile clients against the running program."""
import base64
import contextlib
import gzip
import json
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
import time

from client import Connection, connect, exchange, parse_replies, post, signed
from servers import SECRET, Hookline, Skip, Tap, stalling, until

SCALE = int(os.environ.get('SCALE', '1'))
SANITIZED = '/asan/' in os.environ.get('HOOKLINE', '') or '/tsan/' in os.environ.get('HOOKLINE', '')
SOURCES = f"""
  demo: {{ provider: gemini, secrets: ["{SECRET}"] }}
  open: {{ provider: none, dedup: off }}"""


@contextlib.contextmanager
def hookline(limits='', extra='', wrap=()):
    h = Hookline(sources=SOURCES, extra=f'threads: 1\nlimits: {{ {limits} }}\n{extra}')
    try:
        h.start(wrap=wrap)
        yield h
        assert h.stop() == 0, h.text('log')[-2000:]
    finally:
        h.clean()


def opened(body, more=''):
    return f'POST /hooks/open HTTP/1.1\r\nHost: a\r\n{more}Content-Length: {len(body)}\r\n\r\n'.encode() + body


def lsn(h):
    return h.status()['log']['last_lsn']


def bodies(h):
    """All records in LSN order as [(lsn, body)]."""
    out, after = [], 0
    while (page := json.loads(h.get(f'/v1/events?after={after}&limit=1000')[1])):
        for e in page:
            assert int(e['lsn']) == after + 1, e
            after += 1
            out.append((after, base64.b64decode(e['data_base64']) if 'data_base64' in e else
                        json.dumps(e['data'], separators=(',', ':')).encode()))
    return out


def written(h, text):
    """How often a text stands in the files of the log, synced or not."""
    folder = os.path.join(h.dir, 'data')
    return sum(open(os.path.join(folder, f), 'rb').read().count(text) for f in os.listdir(folder) if f.endswith('.wal'))


def resident(h):
    return int(next(l for l in open(f'/proc/{h.p.pid}/status') if l.startswith('VmRSS')).split()[1]) << 10


def cpu_seconds(h):
    fields = open(f'/proc/{h.p.pid}/stat').read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def descriptors(h):
    return len(os.listdir(f'/proc/{h.p.pid}/fd'))


def sockets(h):
    folder, n = f'/proc/{h.p.pid}/fd/', 0
    for f in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            n += os.readlink(folder + f).startswith('socket:')
    return n


def metric(h, name):
    return float(next(l for l in h.get('/metrics')[1].decode().split('\n') if l.startswith(name + ' ')).split()[1])


def read_all(s):
    """What comes until the other side ends the connection, one way or the other."""
    got = b''
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while (piece := s.recv(1 << 20)):
            got += piece
    return got


def timed_out(data, code):
    [(status, headers, body)] = parse_replies(data)
    assert (status, json.loads(body)['error'], headers['connection']) == (408, code, 'close'), data


def pipeline_while_the_disk_hangs():
    """case 16: 10,000 pipelined requests while fdatasync hangs: 32 taken, the rest unread, all 200 in order after it"""
    wrap, stall = stalling()
    total = 10000
    expected = [b'number %05d' % i for i in range(total)]
    requests = b''.join(opened(b) for b in expected)
    try:
        with hookline('commit_timeout: 60s', wrap=wrap) as h, connect(h.port) as s:
            s.sendall(opened(b'first'))
            assert b'"lsn":1' in s.recv(4096)
            before = resident(h)
            open(stall, 'w').close()
            sender = threading.Thread(target=s.sendall, args=(requests,))
            sender.start()
            until('the first of them are written', lambda: written(h, b'number '))
            time.sleep(1)  # whatever would be taken ahead is taken by now
            assert 1 <= written(h, b'number ') <= 32, written(h, b'number ')
            unread = [int(l.split()[4].split(':')[1], 16) for l in open('/proc/net/tcp') if f':{h.port:04X} ' in l.split()[1] + ' '
                      and l.split()[3] == '01']
            assert unread and max(unread) > 0, 'everything was read'
            assert SANITIZED or resident(h) - before < 2 << 20, resident(h) - before
            os.unlink(stall)
            got = b''
            while got.count(b'HTTP/1.1 ') < total or not got.endswith(b'}'):
                piece = s.recv(1 << 20)
                assert piece, f'closed behind {got.count(b"HTTP/1.1 ")} answers'
                got += piece
            sender.join()
            replies = parse_replies(got)
            assert [(r[0], json.loads(r[2])['lsn']) for r in replies] == [(200, i + 2) for i in range(total)]
            assert [b for _, b in bodies(h)][1:] == expected
    finally:
        for path in (stall, stall + '.so'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def drip(connections, data, pause=0.2, step=1):
    """Sends data, `step` bytes at a time, on all connections until each was ended; returns what came on each."""
    got, at = {s: b'' for s in connections}, 0
    going, deadline = set(connections), time.monotonic() + 60
    while going:
        assert time.monotonic() < deadline, f'{len(going)} connections are held for ever'
        for s in list(going):
            with contextlib.suppress(OSError):
                s.send(data[at:at + step])
        at = min(at + step, len(data))
        end = time.monotonic() + pause
        while going and (left := end - time.monotonic()) > 0:
            poll = select.poll()
            numbers = {s.fileno(): s for s in going}
            for n in numbers:
                poll.register(n, select.POLLIN)
            for n, _ in poll.poll(left * 1000):
                s = numbers[n]
                piece = s.recv(4096)
                got[s] += piece
                if not piece:
                    going.remove(s)
    return [got[s] for s in connections]


def slowloris():
    """case 17: headers byte by byte: 408 header_timeout and close; without a byte: closed silently; others are served"""
    with hookline('header_timeout: 1s, idle_timeout: 1s') as h:
        slow = [connect(h.port) for _ in range(500 if SCALE == 1 else 2000)]
        silent = [connect(h.port) for _ in range(50)]
        answers = []

        def good():
            for i in range(100):
                answers.append(post(h.port, opened(b'%d' % i))[0])
        other = threading.Thread(target=good)
        other.start()
        for data in drip(slow, b'POST /hooks/open HTTP/1.1\r\nHost: a\r\nX: ' + b'x' * 1000):
            timed_out(data, 'header_timeout')
        assert [read_all(s) for s in silent] == [b''] * len(silent)
        other.join()
        assert answers == [200] * 100 and lsn(h) == 100
        for s in slow + silent:
            s.close()
        until('no connection left', lambda: metric(h, 'hookline_connections') == 0)


def slow_second_request():
    """case 17: the deadline holds for a later request of a connection as well, and an idle one is closed silently"""
    with hookline('header_timeout: 1s, idle_timeout: 1s') as h:
        later, behind, idle = (connect(h.port) for _ in range(3))
        for s in (later, idle):
            s.sendall(opened(b'a'))
            assert b'"lsn"' in s.recv(4096)
        behind.sendall(opened(b'b') + b'POST')  # the start of the next one lies behind the first
        [data] = drip([later], b'POST /hooks/open HTTP/1.1\r\nX: ' + b'x' * 1000)
        timed_out(data, 'header_timeout')
        first, second = parse_replies(read_all(behind))
        assert first[0] == 200 and json.loads(second[2])['error'] == 'header_timeout'
        assert read_all(idle) == b''


def slow_bodies():
    """case 18: bodies byte by byte, sized or in chunks, or none behind 100 Continue: 408 body_timeout, no record"""
    with hookline('body_timeout: 1s') as h:
        sized, chunked, waiting = ([connect(h.port) for _ in range(20)] for _ in range(3))
        for s in sized:
            s.sendall(opened(b'x' * 1000)[:-1000])
        for s in chunked:
            s.sendall(b'POST /hooks/open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
        for s in waiting:
            s.sendall(opened(b'x' * 10, 'Expect: 100-continue\r\n')[:-10])
            assert s.recv(25, socket.MSG_WAITALL) == b'HTTP/1.1 100 Continue\r\n\r\n'
        for data in drip(sized + chunked, b'1\r\nx\r\n' * 100):
            timed_out(data, 'body_timeout')
        for s in waiting:
            timed_out(read_all(s), 'body_timeout')
        assert lsn(h) == 0


def slower_than_the_least_rate():
    """case 18: a body that comes steadily but below 1 KiB/s is ended before its deadline, no record"""
    with hookline('body_timeout: 1h') as h:
        s = connect(h.port)
        s.sendall(opened(b'x' * 100000)[:-100000])
        [data] = drip([s], b'x' * 100000, step=50)
        timed_out(data, 'body_timeout')
        assert lsn(h) == 0


def slow_readers():
    """case 19: clients that never read: no more is taken from them, closed at the write deadline, what was acked is there"""
    with hookline() as h:
        post(h.port, opened(b'warm'))
        before, readers = resident(h), []
        for _ in range(4):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(('127.0.0.1', h.port))
            s.setblocking(False)
            readers.append(s)
        sent, number, grown, seen = [0] * 4, 0, 0, False
        rest = [b''] * 4
        deadline = time.monotonic() + 60
        while not seen or metric(h, 'hookline_connections') > 0:
            assert time.monotonic() < deadline, 'a client that does not read is held for ever'
            seen = seen or metric(h, 'hookline_connections') == 4
            for i, s in enumerate(readers):
                with contextlib.suppress(OSError):
                    while True:
                        if not rest[i]:
                            rest[i] = b''.join(opened(b'%d:%d' % (i, sent[i] + n)) for n in range(500))
                            sent[i] += 500
                        rest[i] = rest[i][s.send(rest[i]):]
            grown = max(grown, resident(h) - before)
            time.sleep(0.1)
        assert SANITIZED or grown < 8 << 20, grown
        there = dict(bodies(h))
        for i, s in enumerate(readers):
            s.setblocking(True)
            data = read_all(s)
            end = data.rfind(b'HTTP/1.1 ')  # the last one may be cut
            replies = parse_replies(data[:max(end, 0)])
            assert replies and all(r[0] == 200 for r in replies)
            for n, r in enumerate(replies):
                assert there[json.loads(r[2])['lsn']] == b'%d:%d' % (i, n)
            assert sum(b.startswith(b'%d:' % i) for b in there.values()) < sent[i], 'it went on taking requests'
            s.close()


def log_lines(h, text):
    return h.text('log').count(text)


def flood(h, n):
    """n connections that say nothing, and what each was told so far."""
    connections = []
    for _ in range(n):
        connections.append(connect(h.port))
    return connections


def idle_cpu(h, seconds=1.5):
    """CPU seconds used while nothing happens for that long."""
    before = cpu_seconds(h)
    time.sleep(seconds)
    return cpu_seconds(h) - before


def refused_politely(s):
    [(status, headers, body)] = parse_replies(read_all(s))
    assert status == 503 and json.loads(body)['error'] == 'too_many_connections', body
    assert headers['connection'] == 'close' and int(headers['retry-after']) > 0


def flood_over_the_limit():
    """case 20: more connections than the limit: 503 too_many_connections, little CPU and log, the others and admin work"""
    with hookline('connections: 20') as h:
        start = time.monotonic()
        held = [Connection(h.port) for _ in range(20)]
        for c in held:
            assert c.ask(opened(b'x'))[0] == 200
        excess = flood(h, 200)
        for s in excess:
            s.settimeout(30)
            refused_politely(s)
        assert idle_cpu(h) < 0.15
        for c in held:
            assert c.ask(opened(b'y'))[0] == 200
        assert h.get('/readyz')[0] == 200
        lines = log_lines(h, 'the connection limit is reached')
        assert 1 <= lines <= 2 + (time.monotonic() - start), lines
        for c in held:
            c.close()
        until('a new client is served', lambda: post(h.port, opened(b'z'))[0] == 200)
        assert lsn(h) == 41


def few_descriptors():
    """case 20: `ulimit -n 64`: the flood waits or gets 503, the log rotates, admin answers, it recovers"""
    if not shutil.which('prlimit'):
        raise Skip('prlimit is not installed')
    with hookline(wrap=['prlimit', '--nofile=64:64']) as h:
        one = Connection(h.port)
        assert one.ask(opened(b'x'))[0] == 200
        crowd = flood(h, 300)
        time.sleep(0.5)  # those that are turned away are told so by now
        assert idle_cpu(h) < 0.15
        for i in range(20):  # over two segments
            assert one.ask(opened(bytes([65 + i]) * (1 << 20)))[0] == 200
        assert h.get('/readyz')[0] == 200 and h.status()['log']['segments'] >= 3
        told = [s for s in crowd if select.select([s], [], [], 0)[0]]
        for s in told:
            refused_politely(s)
        for s in crowd:
            s.close()
        one.close()
        until('a new client is served', lambda: post(h.port, opened(b'z'))[0] == 200)
        assert lsn(h) == 22 and descriptors(h) < 64


def no_descriptors():
    """case 20: none left while running: accepting pauses without spinning, what is connected is served, it recovers"""
    if not shutil.which('prlimit'):
        raise Skip('prlimit is not installed')
    with hookline() as h:
        start = time.monotonic()
        one = Connection(h.port)
        assert one.ask(opened(b'x'))[0] == 200
        subprocess.run(['prlimit', '--pid', str(h.p.pid), f'--nofile={descriptors(h) + 3}:20000'], check=True)
        crowd = flood(h, 200)
        until('the report', lambda: log_lines(h, 'accepting pauses'))
        assert idle_cpu(h) < 0.15
        assert one.ask(opened(b'y'))[0] == 200
        lines = log_lines(h, 'accepting pauses')
        assert lines <= 2 + (time.monotonic() - start), lines
        subprocess.run(['prlimit', '--pid', str(h.p.pid), '--nofile=20000:20000'], check=True)
        for s in crowd:  # they waited; now each is served
            s.sendall(opened(b'w', 'Connection: close\r\n'))
        for s in crowd:
            [(status, _, _)] = parse_replies(read_all(s))
            assert status == 200
        assert lsn(h) == 202


def resets():
    """case 21: thousands of resets at random points: nothing incomplete is logged, nothing twice, no descriptor is left behind"""
    random.seed(21)
    with hookline() as h:
        post(h.port, opened(b'warm'))
        until('only the two listeners', lambda: sockets(h) == 2)
        before = descriptors(h)
        complete, acked = set(), set()
        for i in range(3000 if SCALE == 1 else 1000 * SCALE):
            body = b'%d:' % i + b'x' * random.randrange(3000)
            data = opened(body)
            point = random.choice(('head', 'body', 'before the reply', 'during the reply', 'after a pipeline'))
            head = len(data) - len(body)
            s = connect(h.port)
            if point == 'head':
                s.sendall(data[:random.randrange(head)])
            elif point == 'body':
                s.sendall(data[:random.randrange(head, len(data))])
            else:
                complete.add(body)
                s.sendall(data)
            if point == 'during the reply':
                got = s.recv(random.randrange(1, 400))
                if b'"lsn"' in got:
                    acked.add(body)
            if point == 'after a pipeline':
                more = [b'%d.%d' % (i, n) for n in range(5)]
                complete.update(more)
                s.sendall(b''.join(opened(b) for b in more) + data[:head // 2])
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            s.close()
        until('all connections gone', lambda: metric(h, 'hookline_connections') == 0)
        until('all descriptors back', lambda: sockets(h) == 2 and descriptors(h) == before)
        there = [b for _, b in bodies(h)][1:]
        assert len(there) == len(set(there)), 'something is there twice'
        assert set(there) <= complete, 'something incomplete was logged'
        assert acked <= set(there) and len(acked) > 100


def forged():
    """case 24: 39,200 forged deliveries at full speed: 401 bad_signature each, no record, true reasons counted inside"""
    rounds, now = 200, time.time()
    body = b'{"type":"batch.succeeded","data":{"id":"j"}}'
    good = signed('m', body)
    value = good.split(b'webhook-signature: v1,')[1].split(b'\r\n')[0]
    kinds = {
        'bad_signature': [signed('m', body, key=b'another key'), good.replace(body, body.replace(b'j', b'k')),
                          good.replace(value, b'A' * 43 + b'='), good.replace(value, value[:-4] + b'AAA=')],
        'stale': [signed('m', body, stamp=int(now) - 3600)],
        'future': [signed('m', body, stamp=int(now) + 3600)],
        'unsigned': [good.replace(b'webhook-signature', b'x')],
    }
    block = b''.join(r for k in kinds.values() for r in k for _ in range(7))
    per_round = 7 * sum(len(k) for k in kinds.values())
    with hookline() as h:
        def attack():
            with connect(h.port) as s:
                for _ in range(rounds):
                    s.sendall(block)
                    left = per_round
                    got = b''
                    while left > 0:
                        got += s.recv(1 << 20)
                        left = per_round - got.count(b'"}')
                    replies = parse_replies(got)
                    assert all(r[0] == 401 and json.loads(r[2])['error'] == 'bad_signature' for r in replies)
                    told.append(len({r[2] for r in replies}))
        told = []
        start = time.monotonic()
        threads = [threading.Thread(target=attack) for _ in range(4)]
        for t in threads:
            t.start()
        assert post(h.port, signed('true', body))[0] == 200  # among them
        for t in threads:
            t.join()
        assert told == [1] * (4 * rounds), 'the answers differ: the outside learns the reason'
        assert lsn(h) == 1
        assert h.status()['sources']['demo']['rejected'] == {k: 4 * rounds * 7 * len(v) for k, v in kinds.items()}
        lines = log_lines(h, 'a delivery was refused')
        assert 1 <= lines <= 2 + (time.monotonic() - start), lines


def replayed():
    """case 24: a valid delivery sent again and again: 200 duplicate with the first LSN, one record"""
    with hookline() as h:
        data = signed('once', b'{"type":"a"}')
        assert json.loads(post(h.port, data)[2]) == {'status': 'accepted', 'id': 'once', 'lsn': 1}
        for reply in parse_replies(exchange(h.port, data * 500 + signed('twice', b'{}', close=True)))[:-1]:
            assert reply[0] == 200 and json.loads(reply[2]) == {'status': 'duplicate', 'id': 'once', 'lsn': 1}
        assert lsn(h) == 2 and len(bodies(h)) == 2


def opaque_bodies():
    """case 25: deep JSON, a MiB of escapes, invalid UTF-8, gzip, NUL bytes: 200 and the very bytes come out"""
    escapes = b'"' + b'\\u0000' * ((1 << 20) // 6 - 1) + b'"'
    hostile = {
        'deep': b'[' * 100000,
        'deep and closed': b'[' * 100000 + b']' * 100000,
        'deep objects': b'{"a":' * 100000 + b'1' + b'}' * 100000,
        'deep behind the type': b'{"type":"batch.succeeded","data":' + b'[' * 100000 + b']' * 100000 + b'}',
        'deep before the type': b'{"data":' + b'{"id":' * 50000 + b'1' + b'}' * 50000 + b',"type":"t"}',
        'escapes': escapes,
        'escapes as the type': b'{"type":' + escapes[:-64] + b'","data":{"id":"\\u0000"}}',
        'invalid UTF-8': b'{"type":"\xff\xfe\xc0\x80\xed\xa0\x80","data":{"id":"\xf8\x88"}}',
        'gzip': gzip.compress(b'\0' * (1 << 24)),
        'NUL bytes': b'\0' * 4096,
        'all bytes': bytes(range(256)) * 16,
        'empty': b'',
        'quotes': b'"' * 10001,
        'backslashes': b'"' + b'\\' * 100001,
    }
    with hookline() as h:
        for n, (name, body) in enumerate(hostile.items(), 1):
            data = signed(name.replace(' ', '-'), body)
            if name == 'gzip':
                data = data.replace(b'Host: a\r\n', b'Host: a\r\nContent-Encoding: gzip\r\n')
            reply = post(h.port, data)
            assert reply[0] == 200 and json.loads(reply[2])['lsn'] == n, (name, reply)
            status, event, _ = h.get(f'/v1/events/{n}')
            assert status == 200 and (b'"data":' + body + b'}' in event or base64.b64encode(body) in event), (name, event[:300])
        assert h.get('/livez')[0] == 200


Tap().run(pipeline_while_the_disk_hangs, slowloris, slow_second_request, slow_bodies, slower_than_the_least_rate, slow_readers,
          flood_over_the_limit, few_descriptors, no_descriptors, resets, forged, replayed, opaque_bodies)
