"""Forwarding to HTTP: exact bytes, signed; order of each key; what each answer leads to; nothing lost over kill -9; a target that
hangs costs no acknowledgement."""
import contextlib
import json
import os
import random
import socket
import subprocess
import threading
import time

from certs import Authority
from client import Load, audit, post, signed
from receiver import Receiver
from servers import HOOKLINE, ROOT, SECRET, Hookline, Tap, free_port, memory, stop_all, until
from test_guides import blocks

OTHER = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD'


def sink(url, more='', common=''):
    return f'  svc: {{ http: {{ url: "{url}", secrets: ["{SECRET}"]{more} }}{common} }}'


def send(h, ident, key, body=None, kind='batch.succeeded'):
    body = json.dumps({'type': kind, 'data': {'id': key}}).encode() if body is None else body
    status, _, answer = post(h.port, signed(ident, body))
    assert status == 200, (status, answer)
    return json.loads(answer)['lsn']


def plain(h, body, *headers):
    head = ''.join(line + '\r\n' for line in headers)
    status, _, answer = post(h.port, f'POST /hooks/open HTTP/1.1\r\nHost: a\r\n{head}Content-Length: {len(body)}\r\n\r\n'.encode() + body)
    assert status == 200, answer
    return json.loads(answer)['lsn']


def state(h):
    return h.status()['sinks']['svc']


def metric(h, name, more=''):
    return sum(float(line.split()[-1]) for line in h.get('/metrics')[1].decode().splitlines()
               if line.startswith(f'{name}{{sink="svc"{more}'))


def ids(requests):
    return [r.headers['ce-id'] for r in requests]


def exact_bytes():
    """Bodies come to the byte, signed with each secret, with CloudEvents headers, on connections that are kept"""
    r = Receiver().start()
    h = Hookline(sink(r.url).replace(f'["{SECRET}"]', f'["{OTHER}", "{SECRET}"]'), sources=f"""
  demo: {{ provider: gemini, secrets: ["{SECRET}"] }}
  open: {{ provider: none, keep_headers: [x-kept, x-empty, ce-id, expect] }}""").start()
    try:
        bodies = [b'', b'\0', b'{"a":1,"a":2}\r\n', bytes(range(256)), b'a: b\r\n\r\nPOST / HTTP/1.1\r\n\r\n', os.urandom(1 << 20)]
        for body in bodies:
            plain(h, body)
        plain(h, b'x', 'Content-Type: text/x; a="b"', 'X-Kept: 1, 2', 'X-Empty:', 'Ce-Id: forged')
        until('all taken', lambda: len(r.taken) == 7 and h.drained('svc'))
        by_lsn = sorted(r.taken, key=lambda x: int(x.headers['ce-lsn']))
        assert [x.body for x in by_lsn] == [*bodies, b'x']
        for x in r.taken:
            assert x.genuine() and x.genuine(OTHER) and abs(int(x.headers['webhook-timestamp']) - time.time()) < 300
            assert x.headers['webhook-id'] == f'{x.headers["ce-logid"]}-{x.headers["ce-lsn"]}' and len(set(x.names)) == len(x.names)
            assert (x.path, x.headers['ce-source'], x.headers['ce-specversion']) == ('/in?x=1', 'open', '1.0')
            assert 'expect' not in x.headers and 'transfer-encoding' not in x.headers
        last = by_lsn[-1].headers
        assert (last['content-type'], last['x-kept'], last['x-empty']) == ('text/x; a="b"', '1, 2', ''), last
        assert 'content-type' not in by_lsn[0].headers and last['ce-id'] != 'forged'
        page = {}
        exec(blocks(os.path.join(ROOT, 'docs/forwarding.md'), 'python')[0][1], page)
        assert page['genuine'](last, b'x', SECRET) and not page['genuine'](last, b'y', SECRET)
        lsn = send(h, 'evt-1', 'a\nb c')
        until('taken', lambda: h.passed('svc', lsn))
        last = r.taken[-1].headers
        assert (last['ce-id'], last['ce-subject'], last['ce-type']) == ('evt-1', 'a%0Ab%20c', 'batch.succeeded'), last
        assert len(r.connections) <= 16 and state(h)['state'] == 'running' and state(h)['type'] == 'http', state(h)
        assert metric(h, 'hookline_sink_delivered_total') == 8
    finally:
        stop_all(h, r)


def order():
    """Of one key one is under way, in order; of all together as many as concurrency says"""
    r = Receiver(lambda x: time.sleep(random.uniform(0, 0.01)) or 200).start()
    h = Hookline(sink(r.url, ', concurrency: 5')).start()
    try:
        load = Load(h.port, connections=8, total=400, keys=20)
        load.join()
        until('all', lambda: h.drained('svc'))
        assert audit(load, r.events(), 'svc') == 0
        assert 1 < r.most <= 5 and not r.overlaps, (r.most, r.overlaps)
    finally:
        stop_all(h, r)


def failing():
    """500 and 408 are tried again in their key, which holds up no other; what fails while others are taken is given up"""
    bad = {'j-2': 500, 'j-0': [408, 500]}

    def answer(x):
        what = bad.get(x.headers['ce-subject'], 200)
        return (what.pop(0) if what else 200) if isinstance(what, list) else what
    r = Receiver(answer).start()
    h = Hookline(sink(r.url, ', give_up: 1s')).start()
    try:
        for n in range(40):
            send(h, f'm{n}', f'j-{n % 4}')
        until('the others', lambda: len([x for x in r.taken if x.headers['ce-subject'] != 'j-2']) == 30)
        assert [i for i in ids(r.taken) if int(i[1:]) % 4 == 0] == [f'm{n}' for n in range(0, 40, 4)]
        assert set(ids(x for x in r.seen if x.headers['ce-subject'] == 'j-2')) == {'m2'}
        assert metric(h, 'hookline_sink_retries_total', ',reason="status 408"') == 1
        until('a warning', lambda: '1 keys wait for another try' in str(state(h).get('warnings')))

        def given_up():  # only while others are taken
            send(h, f'n-{random.randbytes(6).hex()}', 'j-1')
            return state(h)['dead'] == 1
        until('given up', given_up)
        letter = json.loads(dead(h, 'ls', 'svc', '--json').splitlines()[0])
        assert letter['id'] == 'm2' and 'given up' in letter['reason'] and letter['attempts'] > 2, letter
        bad['j-2'] = 200
        until('the rest of the key', lambda: h.drained('svc'))
        assert [i for i in ids(r.taken) if i[0] == 'm' and int(i[1:]) % 4 == 2] == [f'm{n}' for n in range(6, 40, 4)]
    finally:
        stop_all(h, r)


def dead(h, *args, code=0):
    p = subprocess.run([HOOKLINE, 'dead', *args, '--admin', f'http://127.0.0.1:{h.admin}'], stdout=subprocess.PIPE, timeout=120)
    assert p.returncode == code, p
    return p.stdout.decode()


def refused():
    """Another 4xx is a dead letter with what was answered; redriven it is delivered, marked"""
    r = Receiver(lambda x: (422, {}, b'no such\r\nfield') if b'bad' in x.body else 204).start()
    h = Hookline(sink(r.url)).start()
    try:
        lsns = [send(h, f'm{n}', 'bad' if n % 2 else 'good') for n in range(6)]
        until('passed', lambda: h.drained('svc'))
        letters = [json.loads(line) for line in dead(h, 'ls', 'svc', '--json').splitlines()]
        assert [x['lsn'] for x in letters] == lsns[1::2] and state(h)['state'] == 'running'
        assert 'answered 422: no such  field' in letters[0]['reason'] and 'x=1' not in letters[0]['reason'], letters[0]
        r.answer = lambda x: 200
        assert '3 of 3 letters delivered' in dead(h, 'redrive', 'svc', '--all')
        again = [x for x in r.taken if 'ce-replay' in x.headers]
        assert sorted(ids(again)) == ['m1', 'm3', 'm5'] and all(x.genuine() for x in again)
    finally:
        stop_all(h, r)


def busy():
    """429 and 503: Retry-After is honoured, all keys wait, then one probes"""
    answers = [(429, {'Retry-After': '1'}, b''), 503, 502, 504]
    r = Receiver(lambda x: answers.pop(0) if answers else 200).start()
    h = Hookline(sink(r.url, ', give_up: 1ms')).start()
    try:
        send(h, 'm0', 'a')
        until('asked', lambda: r.seen)
        for n in range(20):
            send(h, f'n{n}', f'k{n}')
        until('taken', lambda: h.drained('svc'))
        assert r.seen[1].at - r.seen[0].at > 0.9 and len(r.taken) == 21 and len(r.seen) == 25
        assert state(h)['dead'] == 0 and state(h)['state'] == 'running'
    finally:
        stop_all(h, r)


def blocked():
    """401, 404 and a redirect block the sink with what would mend it, and it goes on; nobody there is waited for"""
    r = Receiver(lambda x: 401).start()
    trap = Receiver().start()
    h = Hookline(sink(r.url)).start()
    try:
        send(h, 'm0', 'a')
        for answer, text in ((401, 'check secrets'), (404, 'check the path'), ((302, {'Location': trap.url}, b''), 'redirects')):
            r.answer = lambda x: answer
            until(text, lambda: state(h)['state'] == 'blocked' and text in state(h)['reason'])
        assert h.get('/readyz')[0] == 200 and metric(h, 'hookline_sink_blocked') == 1
        r.stop()
        until('nobody is there', lambda: state(h)['state'] == 'retrying' and str(r.port) in state(h)['reason'])
        r.answer = lambda x: 200
        r.start()
        until('taken', lambda: h.drained('svc') and state(h)['state'] == 'running')
        assert ids(r.taken) == ['m0'] and not trap.seen and state(h)['dead'] == 0
    finally:
        stop_all(h, r, trap)


def hanging():
    """A target that takes connections and never answers costs no acknowledgement and no clean stop"""
    gate = threading.Event()
    s = socket.create_server(('127.0.0.1', 0), backlog=200)
    h = Hookline(sink(f'http://127.0.0.1:{s.getsockname()[1]}/', ', timeout: 300ms')).start()
    r = Receiver(lambda x: gate.wait(60) and 200)
    try:
        load = Load(h.port, connections=4, total=500)
        load.join()
        assert len(load.acked) == 500 and state(h)['delivered'] == 0
        until('told', lambda: state(h)['state'] == 'retrying' and 'no full answer in time' in state(h)['reason'])
        assert metric(h, 'hookline_sink_retries_total', ',reason="timeout"') > 0
        assert h.stop() == 0
        h.write_config(sink(r.start().url, ', concurrency: 3'))
        h.start()
        until('three are under way', lambda: len(r.seen) == 3)
        threading.Timer(0.3, gate.set).start()
        assert h.stop() == 0  # what is under way is waited for, what is not goes later
        assert len(r.taken) == 3, len(r.taken)
        h.start()
        until('all', lambda: h.drained('svc'))
        assert audit(load, r.events(), 'svc') == 0
    finally:
        gate.set()
        s.close()
        stop_all(h, r)


class Raw(threading.Thread):
    """Answers each connection's first request with a head, and then with the same piece again and again."""

    def __init__(self, head, piece, pause=0.0):
        super().__init__(daemon=True)
        self.head, self.piece, self.pause = head, piece, pause
        self.s = socket.create_server(('127.0.0.1', 0), backlog=50)
        self.url = f'http://127.0.0.1:{self.s.getsockname()[1]}/'
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.answer, args=(self.s.accept()[0],), daemon=True).start()

    def answer(self, c):
        with c, contextlib.suppress(OSError):
            c.recv(65536)
            c.sendall(self.head)
            while True:
                c.sendall(self.piece)
                time.sleep(self.pause)

    def clean(self):
        self.s.close()


def odd_answers():
    """An answer without end is cut; one that drips, or is none, is not believed and tried again"""
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n'
    endless = Raw(head, b'x' * 65536)
    others = Raw(head, b'x', 0.05), Raw(b'HTTP/1.1 200 OK\r\n', b'a: b\r\n', 0.05), Raw(b'', b'hello\r\n\r\n'), Raw(b'', b'\0', 0.05)
    h = Hookline('\n'.join(sink(r.url, ', timeout: 500ms').replace('svc', f's{n}') for n, r in enumerate((endless, *others)))).start()
    try:
        for n in range(5):
            send(h, f'm{n}', f'k{n}')
        until('the endless one', lambda: h.drained('s0'))
        until('the others are tried again', lambda: all(h.status()['sinks'][f's{n}']['state'] == 'retrying' for n in range(1, 5)))
        assert [h.status()['sinks'][f's{n}']['delivered'] for n in range(5)] == [5, 0, 0, 0, 0]
        assert memory(h.p.pid) < 200 << 20 and h.stop() == 0
    finally:
        stop_all(h, endless, *others)


def killed():
    """kill -9 of hookline under load, with a target that goes and comes: nothing is lost, each key in order"""
    def answer(x):
        time.sleep(random.uniform(0, 0.004))
        return random.choices((200, 500, 503), (40, 1, 1))[0]
    r = Receiver(answer).start()
    h = Hookline(sink(r.url, ', concurrency: 8')).start()
    try:
        load = Load(h.port, connections=4, keys=30, gap=0.005)
        for n in range(4):
            time.sleep(0.5)
            if n == 1:
                r.stop()
            h.kill()
            h.start()
            if n == 1:
                r.start()
        load.stop()
        until('all', lambda: h.drained('svc'))
        again = audit(load, r.events(), 'svc')
        print(f'# {len(load.acked)} acknowledged, {again} came again')
        assert len(load.acked) > 100 and state(h)['dead'] == 0
        assert all(x.genuine() for x in r.taken)
    finally:
        stop_all(h, r)


def other_url():
    """A reload that changes the URL is rejected and says so; after a restart the rest goes to the new one"""
    old, new = Receiver().start(), Receiver().start()
    h = Hookline(sink(old.url)).start()
    try:
        send(h, 'm0', 'a')
        until('taken', lambda: h.drained('svc'))
        h.write_config(sink(new.url))
        h.reload()
        until('rejected', lambda: 'sinks can only change with a restart' in h.text('log'))
        send(h, 'm1', 'a')
        until('taken', lambda: h.drained('svc'))
        assert h.stop() == 0
        h.start()
        send(h, 'm2', 'a')
        until('taken', lambda: h.drained('svc'))
        assert (ids(old.taken), ids(new.taken)) == (['m0', 'm1'], ['m2'])
    finally:
        stop_all(h, old, new)


def to_another():
    """To another hookline over TLS, as a source of Standard Webhooks: what ours signs it takes, once, to the byte"""
    far = Hookline()
    authority = Authority(far.dir)
    authority.issue('far')
    secure = free_port()
    far.write_config(sources=f"""
  near: {{ provider: standard-webhooks, secrets: ["{SECRET}"] }}""")
    with open(far.config) as f:
        text = f.read()
    with open(far.config, 'w') as f:
        f.write(text.replace(f'listen: 127.0.0.1:{far.port}', f'listen: {{ address: "127.0.0.1:{secure}", '
                             f'tls: {{ cert: {authority.path("far.crt")}, key: {authority.path("far.key")} }} }}'))
    far.start()
    url = f'https://localhost:{secure}/hooks/near'
    h = Hookline(sink(url)).start()
    try:
        bodies = [json.dumps({'type': 'batch.succeeded', 'data': {'id': f'j{n}'}}).encode() + b' ' * n for n in range(20)]
        for n, body in enumerate(bodies):
            send(h, f'evt-{n}', None, body)
        until('a stranger is sent nothing', lambda: state(h)['state'] == 'blocked' and 'certificate' in state(h)['reason'])
        assert far.status()['log']['last_lsn'] == 0 and state(h)['delivered'] == 0
        assert h.stop() == 0
        h.write_config(sink(url, f', ca: "{authority.ca}"'))
        h.start()
        until('delivered', lambda: h.drained('svc'))
        events = json.loads(far.get('/v1/events?limit=100')[1])
        assert sorted(json.dumps(e['data']) for e in events) == sorted(json.dumps(json.loads(b)) for b in bodies)
        assert {e['type'] for e in events} == {'batch.succeeded'} and far.status()['sources']['near']['accepted'] == 20
        subprocess.run([HOOKLINE, 'replay', '--sink', 'svc', '--from', 'oldest', '--admin', f'http://127.0.0.1:{h.admin}'],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        assert far.status()['sources']['near']['duplicate'] == 20 and far.status()['sources']['near']['accepted'] == 20
    finally:
        stop_all(h, far)


if __name__ == '__main__':
    Tap().run(exact_bytes, order, failing, refused, busy, blocked, hanging, odd_answers, killed, other_url, to_another)
