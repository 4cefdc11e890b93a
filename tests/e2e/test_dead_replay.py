"""Dead letters and replays on a real Kafka and a real Redis: what a sink refused is listed, shown, sent again and
dropped; a range is sent again beside the live flow, marked, over a kill, and never with a silent gap."""
import http.client
import json
import os
import pty
import subprocess

from client import Load, audit, dumps, post, signed
from servers import HOOKLINE, Hookline, Kafka, Redis, Tap, stop_all, until

kafka = None
LARGE = 1_200_000  # above Redis' smallest proto-max-bulk-len


def need_kafka():
    global kafka
    kafka = kafka or Kafka().start()


def send(h, ident, body=b'{"type":"a.b"}', path='/hooks/demo'):
    r = post(h.port, signed(ident, body, path=path))
    assert r[0] == 200, r
    return json.loads(r[2])['lsn']


def run(h, *args, code=0):
    """A client command; its standard output."""
    r = subprocess.run([HOOKLINE, *args, '--admin', f'http://127.0.0.1:{h.admin}'], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=120)
    assert r.returncode == code, (args, r)
    return (r.stdout if code == 0 else r.stderr).decode()


def ask(h, method, path, body=None, headers=None):
    c = http.client.HTTPConnection('127.0.0.1', h.admin, timeout=60)
    try:
        c.request(method, path, body if body is None or isinstance(body, (str, bytes)) else json.dumps(body),
                  headers or {})
        r = c.getresponse()
        text = r.read()
        return r.status, json.loads(text) if text else None
    finally:
        c.close()


def letters(h, sink):
    return [int(line.split()[0]) for line in run(h, 'dead', 'ls', sink).splitlines()]


def metric(h, name, sink):
    line = next(l for l in h.get('/metrics')[1].decode().splitlines() if l.startswith(f'{name}{{sink="{sink}"}}'))
    return float(line.split()[1])


def replayed(h, lsns=None):
    """Follows the last run to its end."""
    state = {}

    def over():
        state.update(ask(h, 'GET', '/v1/replay')[1]['runs'][0])
        return state['state'] in ('done', 'failed', 'cancelled')
    until('the run ends', over)
    return state


def marked(redis, stream, run_id):
    return [int(f['lsn']) for _, f in redis.entries(stream) if f.get('replay') == run_id.encode()]


def letters_of_redis():
    """case 38: letters of a real Redis are listed, shown, dropped, and redriven once the server takes them; over a kill -9"""
    redis = Redis('--proto-max-bulk-len', str(1 << 20)).start()
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}',
                 extra='limits: { body_bytes: 4MiB }').start()
    try:
        big = json.dumps({'type': 'too.large', 'data': {'id': 'job-1'}, 'pad': 'x' * LARGE}).encode()
        lsns = []
        for i in range(6):
            lsn = send(h, f'm{i}', big if i % 2 else b'{"type":"a.b"}')
            lsns += [lsn] if i % 2 else []
        until('all are passed', lambda: h.drained('r'))
        assert letters(h, 'r') == lsns
        assert metric(h, 'hookline_dead_events', 'r') == metric(h, 'hookline_sink_dead_total', 'r') == 3
        assert metric(h, 'hookline_dead_bytes', 'r') > 3 * LARGE
        one = json.loads(run(h, 'dead', 'show', 'r', str(lsns[0])))
        assert (one['lsn'], one['id'], one['type'], one['bytes']) == (lsns[0], 'm1', 'too.large', len(big)), one
        assert one['reason'] and one['attempts'] >= 1 and one['first_at'] and one['last_at'], one
        assert json.dumps(one['event']['data']) == json.dumps(json.loads(big)) and one['event']['lsn'] == str(lsns[0])
        first = json.loads(run(h, 'dead', 'ls', '--sink', 'r', '--limit', '1', '--json'))
        assert first['lsn'] == lsns[0] and 'event' not in first
        status, page = ask(h, 'GET', '/v1/dead/r?limit=2')
        assert status == 200 and page['count'] == 3 and len(page['letters']) == 2 and page['next'] == lsns[1], page
        status, page = ask(h, 'GET', f'/v1/dead/r?limit=2&after={lsns[1]}')
        assert [l['lsn'] for l in page['letters']] == lsns[2:] and 'next' not in page

        out = run(h, 'dead', 'redrive', 'r', str(lsns[0]))  # the server refuses it still
        assert '0 of 1 letters delivered, 1 refused' in out, out
        assert json.loads(run(h, 'dead', 'show', 'r', str(lsns[0])))['attempts'] > one['attempts']
        assert '"dropped":1' in run(h, 'dead', 'drop', 'r', str(lsns[1]))
        h.kill()
        h.start()
        assert letters(h, 'r') == [lsns[0], lsns[2]]
        redis('CONFIG', 'SET', 'proto-max-bulk-len', str(64 << 20))
        out = run(h, 'dead', 'redrive', 'r', '--all')
        assert '2 of 2 letters delivered, 0 refused' in out, out
        assert letters(h, 'r') == [] and metric(h, 'hookline_dead_events', 'r') == 0
        entries = [(int(f['lsn']), f['id'].decode(), f.get('replay'), f['body']) for _, f in redis.entries('hooks:demo')]
        again = [e for e in entries if e[2]]
        assert sorted((e[0], e[1], e[3]) for e in again) == [(lsns[0], 'm1', big), (lsns[2], 'm5', big)], again[0][:3]
        assert {e[2].decode() for e in again} == {replayed(h)['id']}
        assert [e[1] for e in entries if not e[2]] == ['m0', 'm2', 'm4']
    finally:
        stop_all(h, redis)


def letters_of_kafka():
    """case 38: letters of a real Kafka go to their topic, marked, once it takes them"""
    need_kafka()
    kafka.create('narrow', max_message_bytes=4000)
    h = Hookline(f'  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: narrow }} }}').start()
    try:
        big = json.dumps({'type': 'big', 'noise': os.urandom(4000).hex()}).encode()
        for i in range(6):
            send(h, f'k{i}', big if i in (2, 4) else b'{"type":"a.b"}')
        until('all are passed', lambda: h.drained('k'))
        assert letters(h, 'k') == [3, 5]
        subprocess.run([*kafka.java, 'kafka.admin.ConfigCommand', '--bootstrap-server', kafka.broker, '--alter', '--topic',
                        'narrow', '--add-config', 'max.message.bytes=100000'], check=True, stdout=subprocess.DEVNULL)
        assert '2 of 2 letters delivered' in run(h, 'dead', 'redrive', 'k', '--all')
        assert letters(h, 'k') == []
        got = [(m[3]['ce_id'], m[3].get('ce_replay'), m[3]['ce_lsn']) for m in kafka.messages('narrow')]
        assert [g[0] for g in got if not g[1]] == ['k0', 'k1', 'k3', 'k5'], got
        assert [(g[0], g[2]) for g in got if g[1]] == [('k2', '3'), ('k4', '5')], got
        assert {g[1] for g in got if g[1]} == {replayed(h)['id']}
    finally:
        stop_all(h)


def full_letters():
    """case 38: full dead letters block their sink only, say what mends it, and it goes on after a drop and after a redrive"""
    redis = Redis('--proto-max-bulk-len', str(1 << 20)).start()
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }}, dead_bytes: 5MiB }}\n'
                 f'  other: {{ redis: {{ url: "unix:{redis.socket}", stream: other }}, match: {{ type: "a.*" }} }}',
                 extra='limits: { body_bytes: 4MiB }').start()
    try:
        big = json.dumps({'type': 'big', 'pad': 'x' * LARGE}).encode()
        for i in range(6):
            send(h, f'f{i}', big)
        send(h, 'last')
        until('blocked', lambda: h.status()['sinks']['r']['state'] == 'blocked')
        s = h.status()['sinks']['r']
        assert 'the dead-letter log is full' in s['reason'] and 'hookline dead' in s['reason'], s
        assert s['dead'] == 4 and s['lsn'] == 4, s
        until('the other one is not held up', lambda: h.drained('other'))
        run(h, 'dead', 'drop', 'r', '1')
        until('one more', lambda: h.status()['sinks']['r']['lsn'] == 5)
        until('blocked again', lambda: h.status()['sinks']['r']['state'] == 'blocked')
        redis('CONFIG', 'SET', 'proto-max-bulk-len', str(64 << 20))
        until('the server takes what waits', lambda: h.drained('r'))
        run(h, 'dead', 'redrive', 'r', '--all')
        assert letters(h, 'r') == [] and os.path.getsize(f'{h.dir}/data/sink-r.dead') == 0
        assert sorted(int(f['lsn']) for _, f in redis.entries('hooks:demo')) == [2, 3, 4, 5, 6, 7]
    finally:
        stop_all(h, redis)


def over_a_kill():
    """a replay that is cut by kill -9 goes on with its id; the live flow beside it, blocked or not, is as ever"""
    redis, client = Redis().start(), None
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()
    try:
        for i in range(40):
            send(h, f'd{i}')
        assert post(h.port, b'POST /hooks/open HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}')[0] == 200
        for i in range(40, 80):
            send(h, f'd{i}')
        until('all are there', lambda: h.drained('r'))
        redis('RENAME', 'hooks:open', 'aside')
        redis('SET', 'hooks:open', 'no stream')
        client = subprocess.Popen([HOOKLINE, 'replay', '--sink', 'r', '--from', '1', '--to', '81', '--admin',
                                   f'http://127.0.0.1:{h.admin}'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until('a run', lambda: ask(h, 'GET', '/v1/replay')[1]['runs'])
        run_ = ask(h, 'GET', '/v1/replay')[1]['runs'][0]
        assert run_['kind'] == 'replay' and (run_['from'], run_['to']) == (1, 81), run_

        def state():
            return ask(h, 'GET', f'/v1/replay/{run_["id"]}')[1]
        until('it stands at the stream that is none', lambda: state()['state'] == 'blocked' and state()['lsn'] == 40)
        assert 'no stream' in state()['reason'], state()
        assert h.status()['sinks']['r']['state'] == 'running', 'the live flow has a connection of its own'
        for i in range(80, 100):
            send(h, f'd{i}')
        until('the live flow goes on', lambda: h.drained('r'))
        status, busy = ask(h, 'POST', '/v1/replay', {'sink': 'r', 'from': 1})
        assert status == 409 and busy['error'] == 'busy' and run_['id'] in busy['detail'], busy
        saved = f'{h.dir}/data/sink-r.run'
        until('its position is on disk', lambda: int.from_bytes(open(saved, 'rb').read()[48:56], 'little') == 40)
        h.kill()
        h.start()
        assert state()['state'] != 'done' and state()['lsn'] == 40, state()
        redis('DEL', 'hooks:open')
        redis('RENAME', 'aside', 'hooks:open')
        until('it is done', lambda: state()['state'] == 'done')
        out, said = client.communicate(timeout=60)
        assert client.returncode == 0 and b'done, 100%, LSN 81 of 1 to 81, 81 delivered' in out and said, (client.returncode, out, said)
        got = marked(redis, 'hooks:demo', run_['id'])
        assert set(got) == set(range(1, 82)) - {41} and marked(redis, 'hooks:open', run_['id']) == [41]
        assert all(got.count(n) == 1 for n in range(1, 41)), 'what was saved is not sent again'
        live = [int(f['lsn']) for _, f in redis.entries('hooks:demo') if 'replay' not in f]
        assert live == [*range(1, 41), *range(42, 102)], live
        assert h.status()['sinks']['r']['lsn'] == 101
    finally:
        if client:
            client.kill()
            client.wait()
        stop_all(h, redis)


def beside_a_load():
    """a replay into Kafka beside a running load: whole and marked; the live flow keeps order and loses nothing"""
    need_kafka()
    h = Hookline(f'  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: replays, create: {{ partitions: 3, replication: 1 }} }} }}').start()
    load = None
    try:
        load = Load(h.port, connections=4)
        until('some', lambda: len(load.acked_so_far()) >= 1000)
        status, run_ = ask(h, 'POST', '/v1/replay', {'sink': 'k', 'from': 'oldest', 'to': '1000'})
        assert status == 202, run_
        end = replayed(h)
        assert end['state'] == 'done' and end['delivered'] >= 1000 and end['id'] == run_['id'], end
        load.stop()
        until('drained', lambda: h.drained('k'))
        messages = sorted(kafka.messages('replays'), key=lambda m: m[:2])
        again = [(int(m[3]['ce_lsn']), m[3]['ce_id'], m[4]) for m in messages if 'ce_replay' in m[3]]
        assert {a[0] for a in again} == set(range(1, 1001))
        assert all(load.sent[ident][0] == dumps.sha256(body) for _, ident, body in again)
        live = [(m[3]['ce_id'], int(m[3]['ce_lsn']), m[2], m[4]) for m in messages if 'ce_replay' not in m[3]]
        assert audit(load, live, 'kafka') == 0, 'nothing of the live flow came twice'
        assert metric(h, 'hookline_sink_replayed_total', 'k') >= 1000
    finally:
        if load:
            load.stop()
        stop_all(h)


def trimmed():
    """a range that is no longer retained: 410 with the first LSN, exit 69; from the oldest it goes"""
    redis = Redis().start()
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}", trim: {{ maxlen: 1 }} }} }}')
    with open(h.config) as f:
        text = f.read()
    with open(h.config, 'w') as f:
        f.write(text.replace('segment_bytes: 8MiB', 'segment_bytes: 8MiB, retain_bytes: 8MiB'))
    h.start()
    try:
        body = json.dumps({'type': 'a', 'pad': 'x' * 1_000_000}).encode()
        n = 0

        def first():
            return h.status()['log']['first_lsn']

        def more():
            nonlocal n
            send(h, f't{n}', body)
            n += 1
            return first() > 1
        until('something is trimmed', more)
        until('delivered', lambda: h.drained('r'))
        status, gone = ask(h, 'POST', '/v1/replay', {'sink': 'r', 'from': 1})
        assert status == 410 and gone['error'] == 'gone' and 1 < gone['first_lsn'] <= first(), gone
        status, gone = ask(h, 'POST', '/v1/replay', {'sink': 'r', 'from': '2020-01-01T00:00:00Z'})
        assert status == 410 and gone['first_lsn'] > 1, 'who knows what came before the oldest'
        said = run(h, 'replay', '--sink', 'r', '--from', '1', '--to', '3', code=69)
        assert '410' in said and '"first_lsn":' in said, said
        out = run(h, 'replay', '--sink', 'r', '--from', 'oldest')
        assert 'done, 100%' in out, out
    finally:
        stop_all(h, redis)


def on_a_terminal():
    """progress: one line that is written over on a terminal, lines where there is none; 0 at the end; a time as a bound"""
    redis = Redis().start()
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()
    try:
        for i in range(50):
            send(h, f'p{i}')
        until('drained', lambda: h.drained('r'))
        args = [HOOKLINE, 'replay', '--sink', 'r', '--from', '2020-01-01T00:00:00Z', '--to', '2199-01-01T00:00:00Z',
                '--admin', f'http://127.0.0.1:{h.admin}']
        r = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        assert r.returncode == 0 and b'\r' not in r.stderr and r.stderr.endswith(b'\n'), r
        assert b'done, 100%, LSN 50 of 1 to 50, 50 delivered, 0 refused\n' in r.stdout, r
        ours, theirs = pty.openpty()
        r = subprocess.run(args, stdout=subprocess.PIPE, stderr=theirs, timeout=120)
        os.close(theirs)
        shown = os.read(ours, 65536)
        os.close(ours)
        assert r.returncode == 0 and shown.startswith(b'\r') and b'\n' not in shown, (r, shown)
        assert len(redis.entries('hooks:demo')) == 150
    finally:
        stop_all(h, redis)


# method, path, body, status, error
ANSWERS = [
    ('GET', '/v1/dead/none', None, 404, 'not_found'),
    ('GET', '/v1/dead/r/7', None, 404, 'not_found'),
    ('GET', '/v1/dead/r/x', None, 404, 'not_found'),
    ('GET', '/v1/dead/r/0', None, 404, 'not_found'),
    ('GET', '/v1/dead/r?limit=0', None, 400, 'bad_parameter'),
    ('PUT', '/v1/dead/r', None, 405, 'method_not_allowed'),
    ('GET', '/v1/dead/r/redrive', None, 405, 'method_not_allowed'),
    ('DELETE', '/v1/dead/r/redrive', None, 405, 'method_not_allowed'),
    ('POST', '/v1/dead/r/redrive', None, 404, 'not_found'),
    ('POST', '/v1/dead/r/redrive', {'lsns': [7]}, 404, 'not_found'),
    ('POST', '/v1/dead/r/redrive', {'lsn': [7]}, 400, 'bad_parameter'),
    ('POST', '/v1/dead/r/redrive', {'lsns': []}, 400, 'bad_parameter'),
    ('POST', '/v1/dead/r/redrive', {'lsns': [0]}, 400, 'bad_parameter'),
    ('POST', '/v1/dead/r/redrive', {'lsns': ['x']}, 400, 'bad_parameter'),
    ('POST', '/v1/dead/r/redrive', {'lsns': [7], 'all': True}, 400, 'bad_parameter'),
    ('POST', '/v1/dead/r/redrive', {'lsns': list(range(1, 10002))}, 400, 'bad_parameter'),
    ('POST', '/v1/dead/r/redrive', 'x' * 300000, 413, 'body_too_large'),
    ('DELETE', '/v1/dead/r', None, 400, 'bad_parameter'),
    ('DELETE', '/v1/dead/r', {'all': False}, 400, 'bad_parameter'),
    ('DELETE', '/v1/dead/r/7', None, 404, 'not_found'),
    ('DELETE', '/v1/dead/r', {'lsns': [7]}, 200, None),
    ('DELETE', '/v1/dead/r', {'all': True}, 200, None),
    ('POST', '/v1/replay', None, 400, 'bad_parameter'),
    ('POST', '/v1/replay', {'sink': 'r'}, 400, 'bad_parameter'),
    ('POST', '/v1/replay', {'sink': 'r', 'from': 0}, 400, 'bad_parameter'),
    ('POST', '/v1/replay', {'sink': 'r', 'from': 'soon'}, 400, 'bad_parameter'),
    ('POST', '/v1/replay', {'sink': 'r', 'from': 1, 'to': 'oldest'}, 400, 'bad_parameter'),
    ('POST', '/v1/replay', '{"sink":"r","from":1', 400, 'bad_parameter'),
    ('POST', '/v1/replay', {'sink': 'none', 'from': 1}, 404, 'not_found'),
    ('POST', '/v1/replay', {'sink': 'r', 'from': 1, 'to': 9}, 409, 'conflict'),
    ('POST', '/v1/replay', {'sink': 'r', 'from': 9}, 409, 'conflict'),
    ('POST', '/v1/replay', {'sink': 'r', 'from': 2, 'to': 1}, 400, 'bad_parameter'),
    ('PUT', '/v1/replay', None, 405, 'method_not_allowed'),
    ('GET', '/v1/replay/0123456789abcdef', None, 404, 'not_found'),
    ('DELETE', '/v1/replay/0123456789abcdef', None, 404, 'not_found'),
    ('POST', '/v1/replay/0123456789abcdef', None, 405, 'method_not_allowed'),
    ('GET', '/v1/replay', None, 200, None),
]


def answers():
    """what the admin API refuses, and with what; without the token nothing"""
    redis = Redis().start()
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()
    try:
        for i in range(2):
            send(h, f'a{i}')
        until('drained', lambda: h.drained('r'))
        for method, path, body, status, error in ANSWERS:
            got = ask(h, method, path, body)
            assert got[0] == status and (got[1].get('error') if got[1] else None) == error, (method, path, body, got)
        evil = ask(h, 'POST', '/v1/replay', {'sink': 'r', 'from': 1}, {'Origin': 'http://evil.example'})
        assert evil[0] == 403, evil
        ours = ask(h, 'POST', '/v1/replay', {'sink': 'r', 'from': 1}, {'Origin': f'http://127.0.0.1:{h.admin}'})
        assert ours[0] == 202, ours
        run_ = replayed(h)
        assert run_['state'] == 'done' and run_['delivered'] == 2
        assert ask(h, 'DELETE', f'/v1/replay/{run_["id"]}')[1]['state'] == 'done', 'what is over stays as it ended'
        run(h, 'dead', 'drop', 'r', code=64)
        run(h, 'dead', 'drop', 'r', '1', '--all', code=64)
        run(h, 'dead', 'show', 'r', 'x', code=64)
        run(h, 'dead', 'show', 'r', '7', code=69)
        run(h, 'dead', 'burn', 'r', code=64)
        run(h, 'replay', '--sink', 'r', code=64)
        run(h, 'replay', '--sink', 'r', '--from', 'soon', code=64)
        assert h.stop() == 0
        with open(h.config) as f:
            text = f.read()
        with open(h.config, 'w') as f:
            f.write(text.replace('admin: { ', 'admin: { token: secret, '))
        h.spawn([HOOKLINE, 'serve', '-c', h.config], 'log')
        until('it asks for the token', lambda: ask(h, 'GET', '/v1/replay')[0] == 401)
        assert ask(h, 'DELETE', '/v1/dead/r', {'all': True})[0] == 401
        token = {'Authorization': 'Bearer secret'}
        until('it is ready', lambda: ask(h, 'GET', '/v1/replay', headers=token)[0] == 200)
        assert ask(h, 'GET', '/v1/replay', headers=token)[1]['runs'][0]['state'] == 'done'
    finally:
        stop_all(h, redis)


try:
    only = os.environ.get('TEST')
    tests = (letters_of_redis, full_letters, over_a_kill, trimmed, on_a_terminal, answers, letters_of_kafka, beside_a_load)
    Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
finally:
    stop_all(kafka)
