"""jq on a real Redis: what a sink takes and what becomes of it; programs that fail, loop or explode; a new program by
reload; redrive, replay and exactly once through it."""
import json
import os
import subprocess

from client import post, signed
from servers import HOOKLINE, SECRET, Hookline, Redis, Tap, stop_all, until

SPACED = b'{ "type": "a.b",  "n": 1, "big": 12345678901234567890, "tags": ["x", "y"] }'
BOUNDS = 'jq: { timeout: 200ms, memory: 32MiB }'
PROGRAM = '''
      jq: |
        if .do == "loop" then def f: f; f
        elif .do == "grow" then reduce range(40) as $i ("x"; . + .)
        elif .do == "fail" then error("not \\(.secret)")
        else { n: .n, also: "that" } end'''


def send(h, ident, body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, _, answer = post(h.port, signed(ident, body))
    assert status == 200, (status, answer)
    return json.loads(answer)['lsn']


def run(h, *args):
    return subprocess.run([HOOKLINE, *args, '--admin', f'http://127.0.0.1:{h.admin}'], check=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE).stdout.decode()


def processes():
    """{pid: parent} of all that have not ended."""
    found = {}
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/stat') as f:
                state, parent = f.read().rsplit(')', 1)[1].split()[:2]
        except OSError:
            continue
        if state != 'Z':
            found[int(pid)] = int(parent)
    return found


def workers(h):
    """The processes that run jq for it, in the order of their numbers."""
    parents, ours = processes(), {h.p.pid}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sorted(ours - {h.p.pid})


def metric(h, name, sink):
    line = next(l for l in h.get('/metrics')[1].decode().splitlines() if l.startswith(f'{name}{{sink="{sink}"}}'))
    return float(line.split()[1])


def filter_and_transform():
    """each sink takes what its program says, as its program makes it; without one the bytes stay; nothing is given away"""
    redis = Redis().start()
    url = f'redis: {{ url: "unix:{redis.socket}", stream: %s }}'
    h = Hookline(f"""
  plain: {{ {url % 'plain'} }}
  some: {{ {url % 'some'}, match: {{ jq: '.tags | index("x")' }} }}
  made: {{ {url % 'made'}, transform: {{ jq: '{{n, first: .tags[0]}}' }} }}
  both: {{ {url % 'both'}, match: {{ type: 'a.*', jq: '.n > 1' }}, transform: {{ jq: '.n' }} }}
  spy: {{ {url % 'spy'}, transform: {{ jq: '[env, $ENV, $ENV.HOOKLINE_SECRET, ([inputs] | length)]' }} }}""")
    os.environ['HOOKLINE_SECRET'] = 'sesame'
    try:
        h.start()
        send(h, 'm1', SPACED)
        send(h, 'm2', {'type': 'a.b', 'n': 2, 'tags': []})
        last = send(h, 'm3', {'type': 'b.c', 'n': 3, 'tags': ['x']})
        for name in ('plain', 'some', 'made', 'both', 'spy'):
            until(name, lambda: h.passed(name, last))
        found = {name: [f for _, f in redis.entries(name)] for name in ('plain', 'some', 'made', 'both', 'spy')}
        assert [f['body'] for f in found['plain']][0] == SPACED and len(found['plain']) == 3
        assert [(f['id'], f['body'][:1]) for f in found['some']] == [(b'm1', b'{'), (b'm3', b'{')]
        assert found['some'][0]['body'] == SPACED and 'transformed' not in found['some'][0], 'only what is asked for changes'
        assert [f['body'] for f in found['made']] == [b'{"n":1,"first":"x"}', b'{"n":2,"first":null}', b'{"n":3,"first":"x"}']
        assert [(f['id'], f['body']) for f in found['both']] == [(b'm2', b'2')]
        made, plain = found['made'][0], found['plain'][0]
        assert made.pop('transformed') == b'true' and made.pop('content_type') == b'application/json'
        assert {k: v for k, v in made.items() if k != 'body'} == \
            {k: v for k, v in plain.items() if k not in ('body', 'content_type')}, 'all else is that of the event'
        assert {f['body'] for f in found['spy']} == {b'[{},{},null,0]'}, found['spy']
        assert metric(h, 'hookline_sink_filtered_total', 'some') == 1
        assert metric(h, 'hookline_sink_filtered_total', 'both') == 1
        ours = workers(h)
        assert len(ours) == 1 + 2 * 4, 'one that starts them; one that keeps and one that runs each program'
        for pid in ours:
            with open(f'/proc/{pid}/environ', 'rb') as f:
                assert f.read() == b''
        h.kill()
        until('none is left', lambda: not processes().keys() & ours)
    finally:
        del os.environ['HOOKLINE_SECRET']
        stop_all(h, redis)


def bounds():
    """a program that fails, loops or explodes: a letter each, the others go on; a better one by reload takes them"""
    redis = Redis().start()
    url = f'redis: {{ url: "unix:{redis.socket}", stream: %s }}'
    sinks = f"""
  plain: {{ {url % 'plain'} }}
  jq:
    {url % 'made'}
    {BOUNDS}
    transform:%s"""
    h = Hookline(sinks % PROGRAM).start()
    try:
        lsns = [send(h, f'm{i}', {'type': 'a.b', 'do': do, 'n': i, 'secret': 'sesame'})
                for i, do in enumerate(('good', 'loop', 'grow', 'fail', 'good', 'loop', 'good'))]
        lsns.append(send(h, 'text', b'a=b'))
        last = send(h, 'last', {'type': 'a.b', 'n': 9})
        until('the other sink has all', lambda: len(redis.entries('plain')) == 9)
        until('this one has passed all', lambda: h.passed('jq', last))
        good = [b'{"n":%d,"also":"that"}' % n for n in (0, 4, 6, 9)]
        assert [f['body'] for _, f in redis.entries('made')] == good
        letters = json.loads(h.get('/v1/dead/jq')[1])['letters']
        why = {l['lsn']: l['reason'] for l in letters}
        for i in (1, 5):
            assert why.pop(lsns[i]) == 'jq: took more than 200 ms of processor time (jq.timeout)', letters
        assert why.pop(lsns[2]) == 'jq: needed more than 33554432 bytes of memory (jq.memory)', letters
        assert why.pop(lsns[3]) == 'transform.jq: not sesame', letters
        assert why.pop(lsns[7]).startswith('the body is not JSON') and not why, letters
        assert 'sesame' not in h.text('log'), 'jq quotes bodies; the log does not'
        h.write_config(sinks % " { jq: '{ n: }' }")
        h.reload()
        until('rejected', lambda: 'hookline.yaml:' in h.text('log') and 'transform.jq: syntax error' in h.text('log'))
        send(h, 'old', {'type': 'a.b', 'n': 10})
        until('the old one stays', lambda: redis.entries('made')[-1][1]['body'] == b'{"n":10,"also":"that"}')
        h.write_config(sinks % " { jq: '{ better: .n }' }")
        h.reload()
        until('reloaded', lambda: 'configuration reloaded' in h.text('log'))
        send(h, 'new', {'type': 'a.b', 'n': 11})
        until('the new one', lambda: redis.entries('made')[-1][1]['body'] == b'{"better":11}')
        run(h, 'dead', 'redrive', 'jq', '--all')
        until('redriven', lambda: json.loads(h.get('/v1/replay')[1])['runs'][0]['state'] == 'done')
        again = [f for _, f in redis.entries('made')][6:]
        assert sorted(f['body'] for f in again) == [b'{"better":%d}' % n for n in (1, 2, 3, 5)]
        assert all(f['replay'] and f['transformed'] == b'true' for f in again)
        assert [l['lsn'] for l in json.loads(h.get('/v1/dead/jq')[1])['letters']] == [lsns[7]], 'no JSON, whatever the program'
        run(h, 'replay', '--sink', 'jq', '--from', str(lsns[0]), '--to', str(lsns[1]))
        until('replayed', lambda: json.loads(h.get('/v1/replay')[1])['runs'][0]['state'] == 'done')
        assert [f['body'] for _, f in redis.entries('made')][10:] == [b'{"better":0}', b'{"better":1}']
        # the program may end, or come, by reload as well
        h.write_config(sinks.replace('    transform:%s', ''))
        h.reload()
        until('reloaded', lambda: h.text('log').count('configuration reloaded') == 2)
        send(h, 'plain', SPACED)
        until('as it came', lambda: redis.entries('made')[-1][1]['body'] == SPACED)
        assert 'transformed' not in redis.entries('made')[-1][1]
    finally:
        stop_all(h, redis)


def gone():
    """whoever kills the processes that run jq stops only its sink, and is told what to do; nothing is lost"""
    redis = Redis().start()
    url = f'redis: {{ url: "unix:{redis.socket}", stream: %s }}'
    h = Hookline(f"  plain: {{ {url % 'plain'} }}\n  jq: {{ {url % 'made'}, transform: {{ jq: '.n' }} }}").start()
    try:
        for pid in workers(h):
            os.kill(pid, 9)
        last = send(h, 'm1', {'n': 1})
        until('the other goes on', lambda: h.passed('plain', last))
        until('told', lambda: h.status()['sinks']['jq']['state'] == 'blocked')
        assert 'restart hookline' in h.status()['sinks']['jq']['reason']
        assert h.stop() == 0
        h.start()
        until('delivered', lambda: h.passed('jq', last))
        assert [f['body'] for _, f in redis.entries('made')] == [b'1']
        assert h.status()['sinks']['jq']['state'] == 'running'
    finally:
        stop_all(h, redis)


def exactly_once():
    """exactly once through match.jq and transform.jq: kill -9, kill of the workers: each event once, in order, as made"""
    redis = Redis('--appendonly', 'yes', '--appendfsync', 'always').start()
    h = Hookline(f"""
  r: {{ redis: {{ url: "unix:{redis.socket}" }}, delivery: exactly-once, match: {{ jq: '.n % 3 != 0' }},
        transform: {{ jq: '{{ n: (.n * 2) }}' }} }}""").start()
    sent = 0
    try:
        for _ in range(3):
            for _ in range(40):
                sent += 1
                send(h, f'm{sent}', {'n': sent})
            for pid in workers(h)[-1:]:
                os.kill(pid, 9)
            h.kill()
            h.start()
        until('drained', lambda: h.drained('r'))
        entries = [f for _, f in redis.entries('hooks:demo')]
        assert [f['body'] for f in entries] == [b'{"n":%d}' % (2 * n) for n in range(1, sent + 1) if n % 3]
        assert all(f['transformed'] == b'true' and f['content_type'] == b'application/json' for f in entries)
        until('running', lambda: h.status()['sinks']['r']['state'] == 'running')
    finally:
        stop_all(h, redis)


def checked():
    """hookline check: a wrong program is told with its line, in jq's words; a good one costs a moment"""
    h = Hookline("""
  r:
    redis: { url: "redis://127.0.0.1:1" }
    match:
      source: "*"
      jq: .a ||| .b
    transform: { jq: "." }
  s:
    redis: { url: "redis://127.0.0.1:1" }
    transform: { jq: "import \\"/etc/hostname\\" as $x; $x" }""")
    try:
        r = subprocess.run([HOOKLINE, 'check', '-c', h.config], capture_output=True, timeout=60)
        lines = [l for l in r.stderr.decode().splitlines() if not l.startswith('warning: ')]
        with open(h.config) as f:
            numbers = [n for n, line in enumerate(f, 1) if ' jq: ' in line]
        assert r.returncode == 78 and len(lines) == 2, r
        assert lines[0].startswith(f'{h.config}:{numbers[0]}: sink r: match.jq: syntax error'), lines
        assert lines[1].startswith(f'{h.config}:{numbers[2]}: sink s: transform.jq: module not found'), lines
        h.write_config("  r: { redis: { url: 'redis://127.0.0.1:1' }, transform: { jq: '{a: .b, \"c\": \"$$d\"}' } }")
        r = subprocess.run([HOOKLINE, 'check', '--print', '-c', h.config], capture_output=True, timeout=60)
        assert r.returncode == 0, r
        printed = h.config + '.printed'
        with open(printed, 'wb') as f:
            f.write(r.stdout.replace(b'"********"', f'"{SECRET}"'.encode()))
        again = subprocess.run([HOOKLINE, 'check', '--print', '-c', printed], capture_output=True, timeout=60)
        assert again.returncode == 0 and [l for l in again.stdout.splitlines() if b'jq' in l] == \
            [l for l in r.stdout.splitlines() if b'jq' in l], (again, r)
    finally:
        h.clean()


if __name__ == '__main__':
    Tap().run(filter_and_transform, bounds, gone, exactly_once, checked)
