"""Sends signed webhooks and keeps the history that the audit needs."""
import base64
import hashlib
import hmac
import json
import random
import socket
import threading
import time

from servers import SECRET
import dumps  # servers.py knows where it lies
import outputs
from verdict import judge

KEY = base64.b64decode(SECRET[6:])


def signed(ident, body, stamp=None, key=KEY, path='/hooks/demo', close=False):
    stamp = str(int(time.time()) if stamp is None else stamp)
    mac = hmac.new(key, f'{ident}.{stamp}.'.encode() + body, hashlib.sha256).digest()
    return (f'POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nwebhook-id: {ident}\r\n'
            f'webhook-timestamp: {stamp}\r\nwebhook-signature: v1,{base64.b64encode(mac).decode()}\r\n'
            f'Content-Length: {len(body)}\r\n{"Connection: close" + chr(13) + chr(10) if close else ""}\r\n').encode() + body


class Connection:
    def __init__(self, port, timeout=60):
        self.s = socket.create_connection(('127.0.0.1', port), timeout)
        self.f = self.s.makefile('rb')

    def send(self, data):
        self.s.sendall(data)

    def reply(self):
        """(status, headers, body); None when the connection was closed instead."""
        line = self.f.readline()
        if not line:
            return None
        status, headers = int(line.split()[1]), {}
        while (line := self.f.readline()) not in (b'\r\n', b''):
            k, v = line.decode('latin-1').split(':', 1)
            headers[k.lower()] = v.strip()
        body = self.f.read(int(headers.get('content-length', 0)))
        if status >= 300:
            outputs.keep_answer(repr((status, headers, body)).encode())
        return status, headers, body

    def ask(self, data):
        self.send(data)
        return self.reply()

    def closed(self):
        """Whether the other side has ended the connection."""
        try:
            return self.f.read(1) == b''
        except OSError:
            return True

    def close(self):
        self.f.close()  # it shares the descriptor
        self.s.close()


def post(port, data):
    c = Connection(port)
    try:
        return c.ask(data)
    finally:
        c.close()


def connect(where, timeout=60):
    """A raw socket to a port of 127.0.0.1, to (host, port) of either family, or to the path of a Unix socket."""
    if isinstance(where, str):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(timeout)
        s.connect(where)
        return s
    return socket.create_connection(('127.0.0.1', where) if isinstance(where, int) else where, timeout)


def exchange(where, data, pieces=1):
    """Sends raw bytes, reads until the other side says FIN, returns all that came. A reset is an error."""
    with connect(where) as s:
        step = max(1, -(-len(data) // pieces))
        for at in range(0, len(data), step):
            try:
                s.sendall(data[at:at + step])
            except (BrokenPipeError, ConnectionResetError):
                break  # it has heard enough; its answer is still there to be read
        got = b''
        while (piece := s.recv(65536)):
            got += piece
        if b'HTTP/1.1 200' not in got[:12]:
            outputs.keep_answer(got)
        return got


def parse_replies(data, heads=()):
    """Cuts the bytes of a connection into [(status, headers, body)], strictly: each answer must be whole and nothing may
    be left. `heads` numbers the answers that have no body, being to HEAD."""
    out = []
    while data:
        head, sep, data = data.partition(b'\r\n\r\n')
        assert sep, f'half an answer: {head!r}'
        line, *fields = head.decode('ascii').split('\r\n')
        assert line.startswith('HTTP/1.1 ') and line[9:12].isdigit() and line[12] == ' ', line
        headers = {}
        for f in fields:
            name, colon, value = f.partition(': ')
            assert colon and name.lower() not in headers, head
            headers[name.lower()] = value
        status = int(line[9:12])
        size = 0 if status < 200 or status == 204 or len(out) in heads else int(headers['content-length'])
        assert len(data) >= size, f'{size} bytes of body were promised, {len(data)} came'
        out.append((status, headers, data[:size]))
        data = data[size:]
    return out


class Load:
    """Some connections that send distinct signed webhooks until told to stop or `total` are sent, each with `gap` seconds
    between two on the average."""

    def __init__(self, port, connections=16, total=None, keys=50, gap=0):
        self.port, self.total, self.keys, self.gap = port, total, keys, gap
        self.sent, self.acked, self.lock = {}, {}, threading.Lock()
        self.refused, self.faults = {}, []
        self.name = random.randbytes(6).hex()
        self.next, self.stopping, self.going = 0, False, threading.Event()
        self.going.set()
        self.threads = [threading.Thread(target=self.run) for _ in range(connections)]
        for t in self.threads:
            t.start()

    def make(self):
        self.going.wait()
        with self.lock:
            if self.stopping or (self.total is not None and self.next >= self.total):
                return None
            n = self.next
            self.next += 1
        ident = f'msg_{self.name}_{n}'
        body = json.dumps({'type': 'batch.succeeded', 'n': n, 'pad': 'x' * random.randrange(400),
                           'data': {'id': f'job-{n % self.keys}'}}).encode()
        with self.lock:
            self.sent[ident] = dumps.sha256(body), f'job-{n % self.keys}'
        return ident, body

    def run(self):
        c = None
        while (one := self.make()):
            ident, body = one
            time.sleep(random.uniform(0, 2 * self.gap))
            try:
                c = c or Connection(self.port)
                r = c.ask(signed(ident, body))
                if r and r[0] == 200:
                    with self.lock:
                        self.acked[ident] = json.loads(r[2])['lsn']
                elif r:
                    with self.lock:
                        self.refused[ident] = r[0]
                if not r or r[1].get('connection') == 'close':
                    c.close()
                    c = None
            except (OSError, ValueError):
                if c:
                    c.close()
                c = None
                time.sleep(0.02)
        if c:
            c.close()

    def hold(self):
        """No new requests until go_on(); those under way are still answered."""
        self.going.clear()

    def go_on(self):
        self.going.set()

    def acked_so_far(self):
        with self.lock:
            return dict(self.acked)

    def join(self):
        for t in self.threads:
            t.join()

    def stop(self):
        self.stopping = True
        self.going.set()
        self.join()


    def fault(self, what):
        self.faults.append(what)

    def history(self, acked=None):
        """The lines that the audit reads. acked: what was acknowledged before the sinks were read, where the load goes on."""
        with self.lock:
            sent, refused = dict(self.sent), dict(self.refused)
            acked = dict(self.acked) if acked is None else acked
        for ident, (sha256, key) in sent.items():
            yield {'event': 'sent', 'id': ident, 'key': key, 'sha256': sha256}
            if ident in acked:
                yield {'event': 'acked', 'id': ident, 'lsn': acked[ident]}
            elif ident in refused:
                yield {'event': 'rejected' if refused[ident] < 500 else 'indeterminate', 'id': ident, 'status': refused[ident]}
        for what in self.faults:
            yield {'event': 'fault', 'what': what}


def audit(load, delivered, name, acked=None):
    """The verdict of tests/audit on one sink. Returns how many were delivered more than once, which the caller judges.

    delivered: (id, lsn, key, body) in the order of the sink, per key."""
    v = judge([*load.history(acked), {'event': 'fault', 'what': 'any'}],
              ({'sink': name, 'place': name, 'id': i, 'lsn': lsn, 'key': key, 'sha256': dumps.sha256(body)}
               for i, lsn, key, body in delivered), window=1 << 60, sinks=[name])
    assert v.good, '\n'.join(v.lines())
    return v.sinks[name].repeats


def from_redis(redis, stream='hooks:demo'):
    return [(f['id'].decode(), int(f['lsn']), f['subject'].decode(), f['body']) for _, f in redis.entries(stream)]


def from_kafka(kafka, topic='hooks.demo'):
    return [(h['ce_id'], int(h['ce_lsn']), k, v) for _, _, k, h, v in sorted(kafka.messages(topic), key=lambda m: m[:2])]
