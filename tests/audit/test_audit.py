"""The audit itself: each of the six properties violated on purpose is found, and nothing else is."""
import contextlib
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), 'e2e')]
from client import post, signed  # noqa: E402
from dumps import sha256, whole  # noqa: E402
from servers import SECRET, Hookline, Redis, Skip, Tap, stop_all, until  # noqa: E402


def sent(n, key='a', **more):
    return {'event': 'sent', 'source': 's', 'id': f'm{n}', 'key': key, 'sha256': f'h{n}', 'time': n, **more}


def acked(n, **more):
    return {'event': 'acked', 'source': 's', 'id': f'm{n}', 'lsn': n, 'time': n, **more}


def refused(n, status=401):
    return {'event': 'rejected', 'source': 's', 'id': f'm{n}', 'status': status, 'time': n}


def unsure(n, status=503):
    return {'event': 'indeterminate', 'source': 's', 'id': f'm{n}', 'status': status, 'time': n}


FAULT = {'event': 'fault', 'what': 'kill -9', 'time': 9}


def there(n, key='a', place='t/0', **more):
    return {'sink': 'k', 'place': place, 'at': '0', 'source': 's', 'id': f'm{n}', 'key': key, 'log': 'l', 'lsn': n,
            'sha256': f'h{n}', **more}


def dead(n, **more):
    return there(n, dead=True, **more)


THREE = [sent(1), acked(1), sent(2), acked(2), sent(3), acked(3)]
ALL = [there(1), there(2), there(3)]
MANY = [x for n in range(1, 101) for x in (sent(n), acked(n))]
MANY_THERE = [there(n) for n in range(1, 101)]

# name, history, dump, options, the properties that are violated
ROWS = [
    ('all is well', THREE, ALL, '', []),
    ('all is well, exactly once', THREE + [FAULT], ALL, '--exactly-once', []),
    ('a history without sources', [{k: v for k, v in x.items() if k != 'source'} for x in THREE], ALL, '', []),
    ('acknowledged without an LSN', [{k: v for k, v in x.items() if k != 'lsn'} for x in THREE], ALL, '', []),

    ('1: the last one is missing', THREE, ALL[:2], '', [1]),
    ('1: one in the middle is missing', THREE, [there(1), there(3)], '', [1]),
    ('1: an empty sink', THREE, [], '--sinks k', [1]),
    ('1: one of two sinks misses one', THREE, ALL + [there(1, sink='r'), there(3, sink='r')], '', [1]),
    ('1: the dead letters of another sink are none of this one', THREE, ALL[:2] + [dead(3, sink='r')], '', [1]),
    ('1: a replayed copy does not stand for the event', THREE, ALL[:2] + [there(3, replay='x')], '', [1]),
    ('1: another source has an event of that id', THREE, ALL[:2] + [there(3, source='other')], '', [1, 2]),
    ('1: acknowledged once, then 503', THREE + [unsure(3)], ALL[:2], '', [1]),
    ('a dead letter is not lost', THREE, ALL[:2] + [dead(3)], '', []),

    ('2: never sent', THREE, ALL + [there(4)], '', [2]),
    ('2: a dead letter that was never sent', THREE, ALL + [dead(4)], '', [2]),
    ('2: other bytes', THREE, ALL[:2] + [there(3, sha256='h4')], '', [2]),
    ('2: a repeat with other bytes', THREE + [FAULT], ALL + [there(3, sha256='h4')], '', [2]),
    ('2: a replayed copy with other bytes', THREE, ALL + [there(3, sha256='h4', replay='x')], '', [2]),
    ('2: another key', THREE, ALL[:2] + [there(3, key='b')], '', [2]),
    ('2: another LSN than was answered', THREE, ALL[:2] + [there(3, lsn=4)], '', [2]),
    ('2: two events under one LSN', [sent(1), sent(2)], [there(1, lsn=7), there(2, lsn=7, place='t/1')], '', [2]),
    ('2: one event under two LSNs', [sent(1), FAULT], [there(1, lsn=7), there(1, lsn=8)], '', [2]),
    ('2: something without an id', THREE, ALL + [there(0, id=None)], '', [2]),

    ('3: two of a key in the wrong order', THREE, [there(1), there(3), there(2)], '', [3]),
    ('3: two of a stream that keeps one order', [sent(1), sent(2, key='b')], [there(2, key=None), there(1, key=None)], '', [3]),
    ('two keys may pass each other', [sent(1), sent(2, key='b')], [there(2, key='b'), there(1)], '', []),
    ('two logs may pass each other', [sent(1), sent(2)], [there(2), there(1, log='other')], '', []),
    ('a repeat is no matter of order', THREE + [FAULT], ALL + [there(2), there(3)], '', []),

    ('4: a repeat where no fault was', THREE, ALL + [there(3)], '', [4]),
    ('4: a repeat, exactly once', THREE + [FAULT], ALL + [there(3)], '--exactly-once', [4]),
    ('4: a repeat in another partition, exactly once', THREE + [FAULT], ALL + [there(3, place='t/1')], '--exactly-once', [4]),
    ('4: more than the window after one fault', MANY + [FAULT], MANY_THERE + MANY_THERE[-6:], '--window 5', [4]),
    ('4: few, but from further back', MANY + [FAULT], MANY_THERE + MANY_THERE[-6:-5], '--window 5', [4]),
    ('as many as the window after one fault', MANY + [FAULT], MANY_THERE + MANY_THERE[-5:], '--window 5', []),
    ('the window twice after two faults', MANY + [FAULT] * 2, MANY_THERE + MANY_THERE[-5:] * 2, '--window 5', []),
    ('a replayed copy is no repeat', THREE, ALL + [there(3, replay='x')], '--exactly-once', []),

    ('5: refused and delivered', THREE + [sent(4), refused(4)], ALL + [there(4)], '', [5]),
    ('5: refused and among the dead letters', THREE + [sent(4), refused(4)], ALL + [dead(4)], '', [5]),
    ('refused and then accepted', THREE + [sent(4), refused(4, 429), acked(4)], ALL + [there(4)], '', []),
    ('refused after no answer', THREE + [sent(4), unsure(4, None), refused(4)], ALL + [there(4)], '', []),

    ('6: 503 and delivered', THREE + [sent(4), unsure(4)], ALL + [there(4)], '', []),
    ('6: 503 and not delivered', THREE + [sent(4), unsure(4)], ALL, '', []),
    ('6: no answer in the history', THREE + [sent(4)], ALL + [there(4)], '', []),
    ('6: 503 and delivered twice', THREE + [sent(4), unsure(4)], ALL + [there(4)] * 2, '--exactly-once', [4]),
    ('6: 503 and out of order', THREE + [sent(4), unsure(4)], [there(1), there(2), there(4), there(3)], '', [3]),
    ('6: 503 and other bytes', THREE + [sent(4), unsure(4)], ALL + [there(4, sha256='x')], '', [2]),
]


@contextlib.contextmanager
def files(*contents):
    with tempfile.TemporaryDirectory(prefix='hookline-audit-') as d:
        paths = []
        for n, lines in enumerate(contents):
            paths.append(os.path.join(d, str(n)))
            with open(paths[-1], 'w') as f:
                f.write(''.join((x if isinstance(x, str) else json.dumps(x)) + '\n' for x in lines))
        yield paths


def audit(options, *paths):
    r = subprocess.run([sys.executable, os.path.join(HERE, 'audit'), *options.split(), *paths], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, universal_newlines=True)
    return r.returncode, r.stdout, r.stderr


def row_test(name, history, dump, options, want):
    def test():
        with files(history, dump) as paths:
            code, out, err = audit(options, *paths)
        found = [int(line[0]) for line in out.split('\n') if 'VIOLATED' in line]
        assert found == want and code == (1 if want else 0), out + err
        assert out.rstrip().endswith('verdict: ' + ('BAD' if want else 'good')), out
    test.__doc__ = name
    return test


def inputs_that_cannot_be_read():
    """an input that is missing, no JSON, of another form, or empty ends with 65 and says where"""
    with files(THREE, ALL, ['{'], [{'event': 'nonsense', 'id': 'x'}], [{'sink': 'k', 'id': 'x'}], []) as p:
        for history, dump, says in ((p[0], p[2], f'{p[2]}:1:'), (p[2], p[1], f'{p[2]}:1:'), (p[3], p[1], 'nonsense'),
                                    (p[0], p[4], "'lsn'"), (p[0], p[5], 'dumps are empty'), (p[0], '/nonexistent', 'nonexistent')):
            code, out, err = audit('', history, dump)
            assert code == 65 and says in err and not out, (says, code, out, err)


def several_dumps():
    """several dumps are judged together, a sink with its dead letters; the counts are printed"""
    with files(THREE + [sent(4), refused(4), sent(5), unsure(5)], ALL[:2], [dead(3)], [there(n, sink='r') for n in (1, 2, 3, 5)]) as p:
        code, out, _ = audit('', *p)
    assert code == 0, out
    assert 'history: 5 sent, 3 acknowledged, 1 refused, 1 indeterminate, 0 faults' in out, out
    assert 'k: 2 delivered in 1 places, 3 of 3 acknowledged, 0 of 1 indeterminate, 0 came again, 1 dead, 0 replayed' in out, out
    assert 'r: 4 delivered in 1 places, 3 of 3 acknowledged, 1 of 1 indeterminate, 0 came again' in out, out


def taken_apart():
    """what kcat writes is taken apart: values with the separators in them, commas in headers, halves of messages"""
    value = b'\x1f\x1e\x1da,b=c'
    one = b'0\x1f7\x1fkey\x1fce_id=a,b,ce_lsn=4\x1f%d\x1f%s\x1e\x1d' % (len(value), value)
    message, at = whole(one + one, 0)
    assert message == (0, 7, 'key', {'ce_id': 'a,b', 'ce_lsn': '4'}, value) and at == len(one)
    assert whole(one + one, at)[1] == 2 * len(one)
    assert all(whole(one[:n], 0) is None for n in range(len(one)))


def stream_to_verdict():
    """a real stream, dumped by `dump`, and the verdict on it"""
    redis = Redis('--requirepass', 'p:w')
    redis.password = 'p:w'
    try:
        redis.start()
        for n in 1, 2:
            redis('XADD', 'st', '*', 'id', f'm{n}', 'source', 's', 'subject', 'a', 'lsn', n, 'logid', 'l', 'body', f'b{n}')
        r = subprocess.run([sys.executable, os.path.join(HERE, 'dump'), 'redis', f'unix://:p%3Aw@{redis.socket}', 'st'],
                           stdout=subprocess.PIPE, check=True, universal_newlines=True)
        dumped = [json.loads(line) for line in r.stdout.split('\n') if line]
        assert [(d['id'], d['lsn'], d['log'], d['key']) for d in dumped] == [('m1', 1, 'l', None), ('m2', 2, 'l', None)]
        history = [sent(n, sha256=d['sha256']) for n, d in enumerate(dumped, 1)] + [acked(1), acked(2)]
        with files(history, dumped) as paths:
            assert audit('--exactly-once', *paths)[0] == 0
    finally:
        stop_all(redis)


def dead_letters_to_verdict():
    """what a sink can never take is among the dead letters that `dump` reads from the bridge, and so is not lost"""
    redis, h = Redis(), None
    try:
        redis.start()
        redis('CONFIG', 'SET', 'client-query-buffer-limit', '1mb')
        h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()
        if h.get('/v1/dead/r')[0] == 404:
            raise Skip('this build does not show its dead letters')
        body = b'x' * (1 << 20)
        assert post(h.port, signed('large', body))[0] == 200
        until('it is dead', lambda: h.drained('r'))
        r = subprocess.run([sys.executable, os.path.join(HERE, 'dump'), 'dead', f'http://127.0.0.1:{h.admin}', 'r'],
                           stdout=subprocess.PIPE, check=True, universal_newlines=True)
        history = [{'event': 'sent', 'id': 'large', 'sha256': sha256(body)}, {'event': 'acked', 'id': 'large', 'lsn': 1}]
        with files(history, [r.stdout.strip()]) as paths:
            code, out, err = audit('', *paths)
        assert code == 0 and 'r: 0 delivered in 0 places, 1 of 1 acknowledged' in out, out + err
    finally:
        stop_all(h, redis)


def sent_to_verdict():
    """`send` against a real bridge that is killed meanwhile, `dump` of its stream, and the verdict"""
    redis, h = Redis(), None
    try:
        redis.start()
        h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()
        path, held = os.path.join(h.dir, 'history'), os.path.join(h.dir, 'held')
        with open(path, 'a') as f:
            sender = subprocess.Popen([sys.executable, os.path.join(HERE, 'send'), f'http://127.0.0.1:{h.port}/hooks/demo',
                                       '--secret', SECRET, '--count', '3000', '--keys', '7'], stdout=f)
        until('some are acknowledged', lambda: h.status()['log']['last_lsn'] > 200)
        h.kill()
        with open(path, 'a') as f:
            f.write(json.dumps(FAULT) + '\n')
        h.start()
        assert sender.wait(120) == 0
        until('redis has all', lambda: h.drained('r'))
        with open(held, 'w') as f:
            subprocess.run([sys.executable, os.path.join(HERE, 'dump'), 'redis', f'unix:{redis.socket}', 'hooks:demo'], stdout=f,
                           check=True)
        code, out, err = audit('', path, held)
        assert code == 0 and 'history: 3000 sent' in out and '1 faults' in out, out + err
        redis('XDEL', 'hooks:demo', redis.entries('hooks:demo')[-1][0])
        with open(held, 'w') as f:
            subprocess.run([sys.executable, os.path.join(HERE, 'dump'), 'redis', f'unix:{redis.socket}', 'hooks:demo'], stdout=f,
                           check=True)
        assert audit('', path, held)[0] == 1
    finally:
        stop_all(h, redis)


Tap().run(*[row_test(*row) for row in ROWS], inputs_that_cannot_be_read, several_dumps, taken_apart, stream_to_verdict,
          dead_letters_to_verdict, sent_to_verdict)
