"""Jobs: who awaits one is told at once, deadlines survive kill -9, the overdue event comes once and reaches the sinks."""
import http.client
import json
import os
import resource
import selectors
import socket
import subprocess
import threading
import time
import urllib.parse

from client import Connection, Load, exchange, parse_replies, post, signed
from receiver import Receiver
from servers import HOOKLINE, SECRET, Hookline, Kafka, Redis, Tap, stop_all, until

WAITERS = 10000
PER_ADDRESS = 5000
IP_BIND_ADDRESS_NO_PORT = 24  # Python 3.11 has no name for it
MOST_BYTES = 3072  # of memory for one that waits, its connection included


def ask(h, method, path, headers=None):
    """(status, parsed body or None, headers)"""
    c = http.client.HTTPConnection('127.0.0.1', h.admin, timeout=120)
    try:
        c.request(method, path, headers=headers or {})
        r = c.getresponse()
        body = r.read()
        return r.status, json.loads(body) if body else None, r.headers
    finally:
        c.close()


def job(ident, query=''):
    return '/v1/jobs/' + urllib.parse.quote(ident, safe='') + query


def webhook(h, kind, subject, ident):
    body = json.dumps({'type': kind, 'data': {'id': subject}}).encode()
    status, _, answer = post(h.port, signed(ident, body))
    assert status == 200, (status, answer)
    return json.loads(answer)['lsn']


class Waiting(threading.Thread):
    """One request in a thread of its own."""

    def __init__(self, h, path):
        super().__init__()
        self.h, self.path, self.answer, self.at = h, path, None, None
        self.start()

    def run(self):
        self.answer = ask(self.h, 'GET', self.path)
        self.at = time.monotonic()

    def result(self):
        self.join(120)
        return self.answer


def waiting(h, n):
    until(f'{n} wait', lambda: h.status()['jobs']['waiting'] == n)


def states(h, query=''):
    return {j['id']: j['state'] for j in ask(h, 'GET', '/v1/jobs' + query)[1]['jobs']}


def answers():
    """GET /v1/jobs/{id}: final and any, with and without collection, by source; 404 says what is known"""
    h = Hookline().start()
    try:
        status, body, _ = ask(h, 'GET', job('j1'))
        assert (status, body['error'], body['state'], body['last']) == (404, 'not_found', None, None), body
        webhook(h, 'interaction.requires_action', 'interactions/j1', 'm1')
        status, body, _ = ask(h, 'GET', job('j1', '?wait=1'))
        assert (status, body['state'], body['last']['type']) == (404, 'waiting', 'interaction.requires_action'), body
        status, body, head = ask(h, 'GET', job('j1', '?until=any'))
        assert (status, head['Hookline-Outcome'], body['subject']) == (200, 'waiting', 'interactions/j1'), body
        w = Waiting(h, job('interactions/j1', '?wait=100'))
        later = Waiting(h, job('j1', f'?wait=100&until=any&after={body["lsn"]}&source=demo'))
        waiting(h, 2)
        assert ask(h, 'GET', job('j1', '?wait=1&source=open'))[0] == 404
        lsn = webhook(h, 'interaction.failed', 'interactions/j1', 'm2')
        for got in (w.result(), later.result()):
            status, body, head = got
            assert (status, head['Hookline-Outcome'], body['lsn']) == (200, 'failed', str(lsn)), got
            assert head['Hookline-Log'] == h.status()['log']['id'] and body['data']['data']['id'] == 'interactions/j1'
        assert ask(h, 'GET', job('interactions/j1'))[0] == 200 and ask(h, 'GET', job('other/j1'))[0] == 404
        c = Connection(h.admin)  # what is there already is answered on a connection that goes on
        for _ in range(2):
            status, head, _ = c.ask(f'GET {job("j1", "?wait=9")} HTTP/1.1\r\nHost: a\r\n\r\n'.encode())
            assert status == 200 and 'connection' not in head
        c.close()
    finally:
        h.clean()


def bad_input():
    """Ids of any bytes, waits too long, parameters that are none, other methods, another page: refused or cut, nothing breaks"""
    h = Hookline(extra='jobs: { waiters: 3, entries: 1000 }').start()
    try:
        for path, status in ((job(''), 400), ('/v1/jobs/a%zz', 400), ('/v1/jobs/a%00b', 400), (job('x' * 1025), 400),
                             (job('x' * 1024), 404), ('/v1/jobs/%ff%fe%22%5c%0a', 404), ('/v1/jobs/a/b?c', 404), (job('a', '?wait=soon'), 400),
                             (job('a', '?until=never'), 400), (job('a', '?after=x'), 400), (job('a', '?source=' + 'x' * 64), 400),
                             ('/v1/jobs?state=lost', 400), ('/v1/jobs?limit=0', 400), ('/v1/jobsx', 404)):
            assert ask(h, 'GET', path)[0] == status, path
        for query in ('', '?deadline=', '?deadline=0s', '?deadline=5', '?deadline=-1s', '?deadline=367d', '?deadline=1h&source=' + 'x' * 64):
            assert ask(h, 'PUT', job('a', query))[0] == 400, query
        assert ask(h, 'POST', job('a'))[0] == 405 and ask(h, 'PUT', '/v1/jobs')[0] == 405
        assert ask(h, 'PUT', job('a', '?deadline=1h'), {'Origin': 'http://elsewhere.example'})[0] == 403
        assert ask(h, 'DELETE', job('a'))[0] == 404
        odd = '/v1/jobs/c%2f%ff%fe%22%5c%0a%3Cscript%3E'
        assert ask(h, 'PUT', odd + '?deadline=1h')[0] == 204
        assert ask(h, 'GET', odd)[1]['state'] == 'expected' and ask(h, 'GET', odd.replace('c%2f', ''))[1]['state'] == 'expected'
        assert ask(h, 'DELETE', odd)[0] == 204 and states(h) == {}
        bare = exchange(h.admin, b'PUT /v1/jobs/bare?deadline=1h HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')  # as curl -X PUT
        assert parse_replies(bare)[0][0] == 204 and states(h) == {'bare': 'expected'}
        held = [Waiting(h, job('a', q)) for q in ('?wait=99999999', '?wait=10m&until=any', '?wait=18446744073709551615')]
        waiting(h, 3)
        status, body, head = ask(h, 'GET', job('a', '?wait=1'))
        assert (status, body['error']) == (503, 'overloaded') and head['Retry-After'], body
        webhook(h, 'batch.succeeded', 'a', 'm1')
        assert all(w.result()[0] == 200 for w in held)
    finally:
        h.clean()


def gone_clients():
    """Who goes away while it waits costs nothing any more; a stop answers who is left; HEAD and HTTP/1.0"""
    h = Hookline().start()
    try:
        some = [Connection(h.admin) for _ in range(20)]
        for c in some:
            c.send(f'GET {job("a", "?wait=600")} HTTP/1.1\r\nHost: a\r\n\r\n'.encode())
        waiting(h, 20)
        for c in some[:18]:
            c.close()
        waiting(h, 2)
        c = Connection(h.admin)  # behind others on one connection: answers in order
        c.send(f'GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET {job("b", "?wait=600")} HTTP/1.1\r\nHost: a\r\n\r\n'.encode())
        assert c.reply()[0] == 200
        head = Connection(h.admin)
        head.send(f'HEAD {job("b", "?wait=600")} HTTP/1.0\r\n\r\n'.encode())
        waiting(h, 4)
        webhook(h, 'batch.cancelled', 'b', 'm1')
        status, headers, _ = c.reply()
        assert (status, headers['hookline-outcome'], headers['connection']) == (200, 'cancelled', 'close') and c.closed()
        got = head.f.read()
        assert got.startswith(b'HTTP/1.1 200') and b'ookline-' in got and got.endswith(b'\r\n\r\n'), got
        assert h.stop() == 0
        for c in some[18:]:
            assert c.reply()[0] == 503 and c.closed()
    finally:
        h.clean()


def run_await(h, *args, url=None):
    env = dict(os.environ, HOOKLINE_ADMIN=url or f'http://127.0.0.1:{h.admin}')
    return subprocess.Popen([HOOKLINE, 'await', *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def await_command():
    """hookline await: 0, 1, 75, 69, 64; goes on over a restart of the bridge"""
    h = Hookline().start()
    try:
        good, bad, over = run_await(h, 'videos/v1', '--timeout', '2m'), run_await(h, 'b 1/ü'), run_await(h, 'never', '--timeout=1s')
        other = run_await(h, 'v1', '--source', 'open', '--timeout', '1s')
        assert over.wait(60) == 75 and over.communicate()[0] == b''
        assert other.wait(60) == 75
        waiting(h, 2)
        webhook(h, 'batch.failed', 'b 1/ü', 'm1')
        assert bad.wait(60) == 1 and json.loads(bad.communicate()[0])['type'] == 'batch.failed'
        h.kill()
        h.start()
        waiting(h, 1)
        webhook(h, 'video.generated', 'v1', 'm2')
        assert good.wait(60) == 0 and json.loads(good.communicate()[0])['subject'] == 'v1'
        assert run_await(h, 'v1', url='http://127.0.0.1:1').wait(60) == 69
        assert run_await(h, 'expected', '--deadline', '1s', '--timeout', '100ms').wait(60) == 75
        until('overdue', lambda: states(h).get('expected') == 'overdue')
        assert run_await(h, 'v1', '--deadline', 'soon').wait(60) == 64
        for args in ((), ('a', 'b'), ('a', '--timeout', 'soon'), ('a', '--nope')):
            assert run_await(h, *args).wait(60) == 64, args
        assert run_await(h, '--help').wait(60) == 0
    finally:
        h.clean()


def at_once():
    """Each of many jobs under load is told to who awaits it, with its own event, once it is durable"""
    h = Hookline().start()
    try:
        ws = [Waiting(h, job(f'job-{n}', '?wait=600')) for n in range(50)]
        waiting(h, 50)
        load = Load(h.port, connections=8, total=2000)
        for n, w in enumerate(ws):
            status, body, head = w.result()
            assert status == 200 and head['Hookline-Outcome'] == 'succeeded' and body['subject'] == f'job-{n}', body
            assert load.sent[body['id']][1] == f'job-{n}' == body['data']['data']['id'], body
        load.join()
        assert len(load.acked) == 2000
        got = ask(h, 'GET', '/v1/jobs?limit=5')[1]['jobs']
        assert [j['lsn'] for j in got] == sorted((j['lsn'] for j in got), reverse=True) and len(got) == 5
        assert set(states(h).values()) == {'succeeded'} and len(states(h)) == 50
    finally:
        h.clean()


def over_kills():
    """A deadline that was answered 204 survives kill -9; passed meanwhile, the overdue event comes once, and reaches the sink"""
    redis = Redis().start()
    h = Hookline(sinks=f'  out: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()

    def told():
        return [f for _, f in redis.entries('hooks:hookline')]
    try:
        for n in range(3):
            assert ask(h, 'PUT', job(f'batches/late-{n}', '?deadline=2s'))[0] == 204
        assert ask(h, 'PUT', job('done', '?deadline=2s'))[0] == 204
        assert ask(h, 'PUT', job('long', '?deadline=7d'))[0] == 204
        webhook(h, 'batch.succeeded', 'batches/done', 'm1')
        h.kill()
        time.sleep(2.5)  # the deadlines pass while nobody is there
        h.start()
        until('overdue', lambda: sum(s == 'overdue' for s in states(h).values()) == 3)
        until('in the sink', lambda: len(told()) == 3)
        for _ in range(3):
            h.kill()
            h.start()
            until('read', lambda: ask(h, 'GET', '/v1/jobs')[1]['ready'])
            assert states(h) == {'batches/late-0': 'overdue', 'batches/late-1': 'overdue', 'batches/late-2': 'overdue',
                                 'done': 'succeeded', 'long': 'expected'}, states(h)
        webhook(h, 'batch.progress', 'x', 'm2')
        until('drained', lambda: h.drained('out'))
        found = {}
        for f in told():
            assert f['type'] == b'hookline.job.overdue' and f['source'] == b'hookline', f
            found.setdefault(f['subject'].decode(), set()).add(f['id'])
            assert json.loads(f['body'])['job'] == f['subject'].decode()
        assert sorted(found) == [f'batches/late-{n}' for n in range(3)] and all(len(v) == 1 for v in found.values()), found
        events = json.loads(h.get('/v1/events?limit=1000')[1])
        assert sum(e['type'] == 'hookline.job.overdue' for e in events) == 3
        assert not [e for e in events if e['type'] == 'hookline.job.expected']  # a record of ours is no event
        assert h.get('/v1/events/1')[0] == 404
        status, body, head = ask(h, 'GET', job('late-1', '?until=any'))
        assert (status, head['Hookline-Outcome'], body['source']) == (200, 'overdue', 'hookline')
        metrics = h.get('/metrics')[1].decode()
        assert 'hookline_jobs_expected 1\n' in metrics and 'hookline_jobs 6\n' in metrics, metrics
    finally:
        stop_all(h, redis)


def overdue_in_kafka_and_redis():
    """A webhook that never comes: one overdue event in a real Kafka topic and a real Redis stream, also through jq"""
    kafka = redis = h = None
    try:
        kafka, redis = Kafka().start(), Redis().start()
        made = "transform: { jq: '{ late: .job }' }"
        topic = f'kafka: {{ brokers: "{kafka.broker}", topic: %s, create: {{ partitions: 1, replication: 1 }} }}'
        stream = f'redis: {{ url: "unix:{redis.socket}", stream: %s }}'
        h = Hookline(sinks=f"""
  topic: {{ {topic % '"hooks.{source}"'} }}
  stream: {{ {stream % '"hooks:{source}"'} }}
  topic-jq: {{ {topic % 'late'}, match: {{ source: hookline, jq: .job }}, {made} }}
  stream-jq: {{ {stream % 'late'}, match: {{ source: hookline, jq: .job }}, {made} }}""").start()
        assert ask(h, 'PUT', job('batches/lost', '?deadline=100ms'))[0] == 204
        assert ask(h, 'PUT', job('batches/done', '?deadline=1h'))[0] == 204
        webhook(h, 'batch.succeeded', 'batches/done', 'm1')
        until('overdue', lambda: states(h).get('batches/lost') == 'overdue')
        for sink in ('topic', 'stream', 'topic-jq', 'stream-jq'):
            until(sink, lambda: h.drained(sink), 120)
        [(_, _, _, headers, value)] = kafka.messages('hooks.hookline')
        [(_, entry)] = redis.entries('hooks:hookline')
        assert headers['ce_type'] == 'hookline.job.overdue' and headers['ce_subject'] == 'batches/lost', headers
        assert (entry['type'], entry['subject']) == (b'hookline.job.overdue', b'batches/lost'), entry
        assert json.loads(value) == json.loads(entry['body']) and json.loads(value)['job'] == 'batches/lost'
        assert headers['ce_id'] == entry['id'].decode() and 'ce_transformed' not in headers
        [(_, _, _, headers, value)] = kafka.messages('late')
        [(_, entry)] = redis.entries('late')
        late = '{"late":"batches/lost"}'
        assert (value.decode() if isinstance(value, bytes) else value) == late == entry['body'].decode()
        assert headers['ce_transformed'] == entry['transformed'].decode() == 'true', headers
        assert headers['content-type'] == 'application/json' and headers['ce_type'] == 'hookline.job.overdue', headers
    finally:
        stop_all(h, kafka, redis)


def killed_around_the_deadline():
    """Killed again and again while deadlines pass: each job is overdue once"""
    h = Hookline().start()
    try:
        for n in range(40):
            assert ask(h, 'PUT', job(f'j{n}', f'?deadline={500 + 60 * n}ms'))[0] == 204
        for pause in (0.1, 0.35, 0.55, 0.3, 0.45, 0.6):
            time.sleep(pause)
            h.kill()
            h.start()
        until('all overdue', lambda: list(states(h, '?state=overdue').values()) == ['overdue'] * 40)
        events = json.loads(h.get('/v1/events?limit=1000&type=hookline.job.overdue')[1])
        assert sorted(e['subject'] for e in events) == sorted(f'j{n}' for n in range(40)), [e['subject'] for e in events]
    finally:
        h.clean()


def search():
    """/v1/events by subject, id and time, alone and together"""
    h = Hookline().start()
    try:
        marks = []
        for n in range(30):
            if n % 10 == 0:
                time.sleep(1.1)
                marks.append(time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime()) + f'.{int(time.time() % 1 * 1000):03}Z')
                time.sleep(0.01)
            webhook(h, 'batch.succeeded', f'job-{n % 3}', f'm{n}')

        def found(**query):
            status, body, r = h.get('/v1/events?' + urllib.parse.urlencode(query))
            assert status == 200, (query, body)
            return [e['id'] for e in json.loads(body)]
        assert found(subject='job-1') == [f'm{n}' for n in range(1, 30, 3)]
        assert found(id='m7') == ['m7'] and found(id='m77') == [] and found(subject='job') == []
        assert found(**{'from': marks[1]}) == [f'm{n}' for n in range(10, 30)]
        assert found(to=marks[1]) == [f'm{n}' for n in range(10)]
        assert found(**{'from': marks[1], 'to': marks[2], 'subject': 'job-0', 'source': 'demo'}) == ['m12', 'm15', 'm18']
        assert found(**{'from': marks[1], 'to': marks[1]}) == [] and found(**{'from': '2100-01-01T00:00:00Z'}) == []
        assert found(**{'from': '2001-01-01T00:00:00Z', 'after': 20, 'limit': 2}) == ['m20', 'm21']
        start = time.monotonic()
        assert found(to=marks[1], subject='nobody', wait=60) == [] and time.monotonic() - start < 50  # nothing can come any more
        for bad in ('from=yesterday', 'to=1', 'from='):
            assert h.get('/v1/events?' + bad)[0] == 400, bad
        w = []
        t = threading.Thread(target=lambda: w.extend(found(id='m-late', wait=100)))
        t.start()
        webhook(h, 'batch.succeeded', 'job-0', 'm-early')
        webhook(h, 'batch.succeeded', 'job-0', 'm-late')
        t.join(120)
        assert w == ['m-late'], w
        made = h.status()['log']['id'] + '-33'  # the id of one that brings none
        assert found(id=made) == []
        assert post(h.port, b'POST /hooks/open HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}')[0] == 200
        assert found(id=made) == [made] and found(id=made[:-1]) == [] and found(id=made[:-2] + '7') == []
    finally:
        h.clean()


def off():
    """jobs.entries: 0 keeps none; a reload brings other outcomes"""
    h = Hookline(extra='jobs: { entries: 0 }').start()
    try:
        assert ask(h, 'GET', '/v1/jobs')[0] == 404 and ask(h, 'PUT', job('a', '?deadline=1h'))[0] == 404 and 'jobs' not in h.status()
        assert run_await(h, 'a').wait(60) == 69
        h.stop()
        sources = '\n  open: {{ provider: none, id: {{ path: id }}, type: {{ path: type }}, subject: {{ path: job }}, {} }}'
        h.write_config(sources=sources.format('outcome: { succeeded: [done] }'))
        h.start()

        def plain(kind, subject):
            body = json.dumps({'type': kind, 'job': subject}).encode()
            head = f'POST /hooks/open HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n'
            assert post(h.port, head.encode() + body)[0] == 200
        plain('done', 'a')
        plain('ready', 'b')
        assert states(h) == {'a': 'succeeded', 'b': 'running'}
        h.write_config(sources=sources.format('outcome: { failed: [done], succeeded: [ready] }'))
        h.reload()
        until('reload', lambda: 'configuration reloaded' in h.text('log'))
        plain('done', 'c')
        plain('ready', 'd')
        assert states(h) == {'a': 'succeeded', 'b': 'running', 'c': 'failed', 'd': 'succeeded'}
    finally:
        h.clean()


def fallback():
    """jobs.fallback: called once for each overdue job, without a shell; what hangs is killed, what prints much is cut, nothing waits"""
    h = Hookline()
    script = os.path.join(h.dir, 'ask')
    with open(script, 'w') as f:
        f.write(f"""#!/bin/sh
echo "$HOOKLINE_JOB|$HOOKLINE_SOURCE|$1|$(cat)" >>{h.dir}/called
case $HOOKLINE_JOB in
hangs*) sleep 1000 & echo $! >>{h.dir}/pids; wait ;;
much) yes 'much is said' | head -c 1000000 ;;
fails) echo no such job; exit 3 ;;
esac
""")
    os.chmod(script, 0o755)
    h.write_config(extra=f"jobs: {{ fallback: {{ command: [{script}, '$(id) *'], timeout: 1s }} }}")
    h.start()

    def called():
        return sorted(line.split('|')[0] for line in h.text('called').split('\n') if line)
    try:
        names = [*(f'hangs-{n}' for n in range(6)), 'much', 'fails', "; touch 'x' $(touch y) --help"]
        for n in names:
            assert ask(h, 'PUT', job(n, '?deadline=100ms&source=demo'))[0] == 204
        until('all called', lambda: called() == sorted(names))
        for line in h.text('called').split('\n')[:-1]:
            name, source, argument, body = line.split('|')
            assert (source, argument, json.loads(body)['job']) == ('demo', '$(id) *', name), line
        until('all over', lambda: h.text('log').count('the fallback') == len(names))
        assert h.text('log').count('time is up') == 6 and 'exit=3' in h.text('log') and 'no such job' in h.text('log')
        until('killed with what they started', lambda: not any(alive(p) for p in h.text('pids').split()))
        assert max(len(line) for line in h.text('log').split('\n')) < 4096 and not {'x', 'y'} & set(os.listdir(h.dir))
        h.kill()
        h.start()
        until('read', lambda: ask(h, 'GET', '/v1/jobs')[1]['ready'])
        assert ask(h, 'PUT', job('last', '?deadline=1ms'))[0] == 204
        until('called again', lambda: 'last' in called())
        assert called() == sorted([*names, 'last'])
        assert ask(h, 'PUT', job('hangs-at-the-end', '?deadline=1ms'))[0] == 204
        until('hangs', lambda: len(h.text('pids').split()) == 7)
        assert h.stop() == 0
        until('a stop ends it', lambda: not any(alive(p) for p in h.text('pids').split()))
    finally:
        h.clean()


def fallback_by_url():
    """jobs.fallback.url: the overdue event is sent there once, signed; what fails or hangs is counted and not tried again, nothing waits"""
    gate = threading.Event()

    def answer(r):
        name = json.loads(r.body)['job']
        if name.startswith('hangs'):
            gate.wait(60)
        return {'fails': (500, {}, b'no such job'), 'moved': (302, {'Location': '/'}, b'')}.get(name, 204)
    r = Receiver(answer).start()
    h = Hookline(extra=f'jobs: {{ fallback: {{ url: "{r.url}", secrets: ["{SECRET}"], timeout: 1s }} }}').start()

    def metric(name):
        return f'\nhookline_jobs_{name} ' in (text := h.get('/metrics')[1].decode()) and float(text.split(f'\nhookline_jobs_{name} ')[1].split()[0])
    try:
        names = [*(f'hangs-{n}' for n in range(6)), 'fails', 'moved', 'a\r\nb: "%"', 'good']
        for n in names:
            assert ask(h, 'PUT', job(n, '?deadline=100ms&source=demo'))[0] == 204
        webhook(h, 'batch.succeeded', 'another', 'm1')  # taken meanwhile
        until('all over', lambda: metric('fallback_total') == 2 and metric('fallback_failed_total') == 8)
        assert sorted(json.loads(x.body)['job'] for x in r.seen) == sorted(names), r.seen
        events = {e['subject']: e for e in json.loads(h.get('/v1/events?type=hookline.job.overdue')[1])}
        for x in r.seen:
            e = events[json.loads(x.body)['job']]
            assert x.genuine() and json.loads(x.body) == e['data'] and x.headers['content-type'] == 'application/json'
            assert (x.headers['ce-id'], x.headers['ce-lsn'], x.headers['ce-source']) == (e['id'], e['lsn'], 'hookline')
            assert urllib.parse.unquote(x.headers['ce-subject']) == e['subject'] and x.headers['ce-type'] == e['type']
        log = h.text('log')
        assert 'status=500' in log and 'no such job' in log and 'status=302' in log and log.count('the fallback failed') == 8
        assert ask(h, 'PUT', job('hangs-at-the-end', '?deadline=1ms'))[0] == 204
        until('hangs', lambda: len(r.seen) == len(names) + 1)
        assert h.stop() == 0
    finally:
        gate.set()
        stop_all(h, r)


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as f:
            return f.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def memory(pid):
    with open(f'/proc/{pid}/status') as f:
        lines = dict(l.split(':', 1) for l in f)
    return sum(int(lines[k].split()[0]) for k in ('RssAnon', 'RssShmem')) * 1024


def connect_all(h, n, first):
    out = []
    for i in range(n):
        s = socket.socket()
        s.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        s.bind((f'127.0.0.{first + i // PER_ADDRESS}', 0))
        s.connect(('127.0.0.1', h.admin))
        out.append(s)
        if i % 250 == 0:
            time.sleep(0.01)
    return out


def ten_thousand():
    """10,000 wait: memory each, connection included; all are told of one event"""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    n = min(WAITERS, most - 3000) if most > 4000 else 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, n + 500), most))
    h, sockets = Hookline(extra='limits: { connections: 1000 }').start(), []
    try:
        webhook(h, 'batch.progress', 'other', 'm0')
        before = memory(h.p.pid)
        sockets = connect_all(h, n, 2)
        for i, s in enumerate(sockets):
            s.sendall(f'GET {job("batches/it" if i % 2 else f"other-{i}", "?wait=600")} HTTP/1.1\r\nHost: a\r\n\r\n'.encode())
        waiting(h, n)
        each = (memory(h.p.pid) - before) / n
        print(f'# {n} waiters, {each:.0f} bytes each')
        if 'asan' not in HOOKLINE and 'tsan' not in HOOKLINE:
            assert each < MOST_BYTES, each
        assert len(os.listdir(f'/proc/{h.p.pid}/task')) < 20
        webhook(h, 'batch.succeeded', 'it', 'm1')
        sel = selectors.DefaultSelector()
        for s in sockets[1::2]:
            sel.register(s, selectors.EVENT_READ)
        left = len(sockets[1::2])
        end = time.monotonic() + 120
        while left and time.monotonic() < end:
            for key, _ in sel.select(5):
                data = b''
                while (piece := key.fileobj.recv(65536)):
                    data += piece
                status, head, body = parse_replies(data)[0]
                assert status == 200 and json.loads(body)['id'] == 'm1' and head['hookline-outcome'] == 'succeeded'
                sel.unregister(key.fileobj)
                left -= 1
        assert not left, f'{left} were not told'
        waiting(h, n - n // 2)
    finally:
        for s in sockets:
            s.close()
        h.clean()


if __name__ == '__main__':
    Tap().run(answers, bad_input, gone_clients, await_command, at_once, over_kills, overdue_in_kafka_and_redis, killed_around_the_deadline, search, off, fallback, fallback_by_url, ten_thousand)
