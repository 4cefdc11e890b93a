"""Answers that wait for the broker (`ack: broker`), and several replicas behind one `dedup.redis`: frozen brokers, the same
deliveries to both at once, kill -9 between the steps."""
import contextlib
import json
import os
import random
import threading
import time

from client import Connection, from_kafka, post, signed
from servers import SECRET, Hookline, Kafka, Redis, Tap, free_port, stalling, stop_all, until

ROUNDS = int(os.environ.get('ROUNDS', '6'))
BROKER = f"""
  demo: {{ provider: gemini, secrets: ["{SECRET}"], ack: broker }}"""
LOG = BROKER.replace('broker', 'log')
BODY = b'{"type":"batch.succeeded","data":{"id":"job-1"}}'


def sinks_of(redis, kafka=None):
    text = f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}\n'
    if kafka:
        text += (f'  k: {{ kafka: {{ brokers: "{kafka.broker}", create: {{ partitions: 1, replication: 1 }}, '
                 f'properties: {{ reconnect.backoff.max.ms: 500 }} }} }}\n')
    return text


def answer(reply):
    return reply[0], json.loads(reply[2]).get('status') or json.loads(reply[2])['error']


def ask(h, ident, body=BODY):
    return answer(post(h.port, signed(ident, body)))


def until_asked(h, ident, want, seconds=60):
    """Sends it again and again, as a provider does."""
    got = None

    def is_it():
        nonlocal got
        got = ask(h, ident)
        return got == want
    try:
        until(f'{ident}: {want}', is_it, seconds)
    except TimeoutError as e:
        raise AssertionError(f'{e}; last: {got}') from None


def ids_in(redis):
    return [f['id'].decode() for _, f in redis.entries('hooks:demo')]


def frozen_brokers():
    """ack: broker: a frozen Kafka, then a frozen Redis: 503 broker_timeout, later there once, the repeat is a duplicate"""
    kafka, redis = Kafka().start(), Redis().start()
    h = Hookline(sinks_of(redis, kafka), 'limits: { commit_timeout: 1s }', BROKER).start()
    try:
        until_asked(h, 'first', (200, 'duplicate'))  # the topic is made, both have it
        for n, frozen in enumerate((kafka, redis)):
            frozen.pause()
            try:
                until_asked(h, f'frozen-{n}', (503, 'broker_timeout'))  # a busy disk may have its word first
                got = post(h.port, signed(f'frozen-{n}', BODY))
                assert got[0] == 503 and int(got[1]['retry-after']) > 0, 'the repeat waits as well'
            finally:
                frozen.resume()
            until_asked(h, f'frozen-{n}', (200, 'duplicate'))
            until('both have it', lambda: h.drained('r') and h.drained('k'))
        want = ['first', 'frozen-0', 'frozen-1']
        assert list(dict.fromkeys(ids_in(redis))) == want, ids_in(redis)
        got = [(m[0], m[1]) for m in from_kafka(kafka)]
        assert got == list(zip(want, (1, 2, 3))), got
        assert h.status()['log']['last_lsn'] == 3
        assert h.stop() == 0
    finally:
        stop_all(h, kafka, redis)


def answered_means_delivered():
    """ack: broker: what is answered 200 is in the sinks at that moment, through kill -9 of the sink"""
    redis = Redis('--appendonly', 'yes', '--appendfsync', 'always').start()
    h = Hookline(sinks_of(redis), 'limits: { commit_timeout: 2s }', BROKER).start()
    told, missing = 0, []
    try:
        for n in range(60):
            if n == 30:
                redis.kill()
                redis.launch()
            if ask(h, f'n{n}')[0] == 200:
                told += 1
                until('redis answers', lambda: redis('PING') == b'PONG')
                if f'n{n}' not in ids_in(redis):
                    missing.append(n)
        assert told >= 30 and not missing, (told, missing)
        for n in range(60):
            until_asked(h, f'n{n}', (200, 'duplicate'))
        assert h.status()['log']['last_lsn'] == 60
    finally:
        stop_all(h, redis)


@contextlib.contextmanager
def replicas(sources=LOG, commit='60s', wrap=((), ()), port=0):
    """Two bridges behind one index, into one stream."""
    index = Redis('--port', str(port), '--bind', '127.0.0.1', '-::1').start()
    redis = Redis('--appendonly', 'yes', '--appendfsync', 'always').start()
    where = f'redis://localhost:{port}/3' if port else f'unix:{index.socket}'
    extra = f'dedup: {{ redis: "{where}" }}\nlimits: {{ commit_timeout: {commit} }}\nthreads: 2'
    both = [Hookline(sinks_of(redis), extra, sources) for _ in range(2)]
    try:
        for h, w in zip(both, wrap):
            h.start(wrap=w)
            until('the index is asked', lambda: h.status()['dedup']['redis'] == 'up')
        yield index, redis, both
    finally:
        stop_all(*both, index, redis)


def dead_letters_and_filters():
    """ack: broker: a dead letter is an answer; a frozen sink that does not take the event is not waited for"""
    redis, other = Redis().start(), Redis().start()
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}", stream: "s:{{id}}" }} }}\n'
                 f'  o: {{ redis: {{ url: "unix:{other.socket}" }}, match: {{ type: "video.*" }} }}\n',
                 'limits: { commit_timeout: 3s }', BROKER).start()
    try:
        redis('SET', 's:bad', 'no stream')
        until_asked(h, 'good', (200, 'duplicate'))
        other.pause()
        try:
            until_asked(h, 'bad', (200, 'duplicate'))
            assert h.status()['sinks']['r']['dead'] == 1
            got = answer(post(h.port, signed('video', b'{"type":"video.generated"}')))
            assert got[0] == 503, got
        finally:
            other.resume()
        until('both have it', lambda: h.drained('r') and h.drained('o'))
        assert answer(post(h.port, signed('video', b'{"type":"video.generated"}'))) == (200, 'duplicate')
        assert [f['id'] for _, f in other.entries('hooks:demo')] == [b'video']
    finally:
        stop_all(h, redis, other)


def a_slow_disk():
    """a commit_timeout, then the repeat: answered duplicate, and the event is in the stream once"""
    wrap, stall = stalling()
    redis = Redis().start()
    h = Hookline(sinks_of(redis), 'limits: { commit_timeout: 1s }', LOG).start(wrap=wrap)
    try:
        open(stall, 'w').close()
        for _ in range(2):  # the record, and its repeat while it is being written
            assert ask(h, 'slow') == (503, 'commit_timeout')
        os.unlink(stall)
        until_asked(h, 'slow', (200, 'duplicate'))
        assert ask(h, 'next')[0] in (200, 503)
        until('delivered', lambda: h.drained('r') and 'next' in ids_in(redis))
        assert ids_in(redis) == ['slow', 'next']
    finally:
        stop_all(h, redis)
        for path in (stall, stall + '.so'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


class Provider:
    """Sends each delivery to all replicas at once, again and again until each has said 200."""

    def __init__(self, ports, ids):
        self.said = {i: [] for i in ids}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(port, random.sample(part, len(part))))
                        for port in ports for part in (ids[::2], ids[1::2], ids)]
        for t in self.threads:
            t.start()

    def run(self, port, ids):
        c = None
        for ident in ids:
            while True:
                try:
                    c = c or Connection(port)
                    got = c.ask(signed(ident, json.dumps({'type': 'a.b', 'id': ident}).encode()))
                    if got and got[0] == 200:
                        with self.lock:
                            self.said[ident].append(json.loads(got[2])['status'])
                        break
                    if not got or got[1].get('connection') == 'close':
                        c.close()
                        c = None
                    assert not got or got[0] == 503, got
                except OSError:
                    if c:
                        c.close()
                    c = None
                time.sleep(0.05)
        if c:
            c.close()

    def join(self):
        for t in self.threads:
            t.join()


def check_once(redis, both, ids):
    """Every delivery is one record of one log. A sink that is at least once may hold that record twice after a kill."""
    for h in both:
        until('delivered', lambda: h.drained('r'))
    where = {}
    for _, f in redis.entries('hooks:demo'):
        where.setdefault(f['id'].decode(), set()).add((f['logid'], f['lsn']))
    assert sorted(where) == sorted(ids), f'{len(where)} of {len(ids)}'
    twice = {i: w for i, w in where.items() if len(w) > 1}
    assert not twice, f'{len(twice)} of {len(ids)} were taken by both: {list(twice.items())[:3]}'


def the_same_to_both():
    """dedup.redis: the same deliveries to two replicas at once: each is in the stream once"""
    with replicas(port=free_port()) as (_, redis, both):
        ids = [f'both-{n}' for n in range(400)]
        provider = Provider([h.port for h in both], ids)
        provider.join()
        check_once(redis, both, ids)
        assert len(redis.entries('hooks:demo')) == len(ids)
        for i in ids:
            assert sorted(provider.said[i]) == ['accepted'] + ['duplicate'] * 3, (i, provider.said[i])
        s = [h.status() for h in both]
        assert sum(x['sources']['demo']['accepted'] for x in s) == len(ids)
        assert all(x['dedup'] == {'redis': 'up', 'reason': '', 'missed_claims': 0, 'missed_marks': 0} for x in s), s
        assert all(h.stop() == 0 for h in both)


def killed_under_load():
    """dedup.redis: replicas are killed while both are sent the same: nothing lost, each taken by one of them"""
    with replicas() as (_, redis, both):
        ids = []
        for n in range(ROUNDS):
            ids += (new := [f'kill-{n}-{k}' for k in range(150)])
            provider = Provider([h.port for h in both], new)
            victim = random.choice(both)
            until('under way', lambda: sum(map(len, provider.said.values())) > random.randrange(300))
            victim.kill()
            victim.start()
            provider.join()
        check_once(redis, both, ids)


def key_of(index):
    [key] = index('KEYS', '*')
    return key


def killed_between_the_steps():
    """dedup.redis: kill -9 behind the claim, behind the write, behind the sync; frozen disk and all"""
    wrap, stall = stalling()
    try:
        with replicas(commit='4s', wrap=((), wrap)) as (index, redis, (a, b)):
            # claimed and written, not synced: nobody is told that it is there until it is
            open(stall, 'w').close()
            assert ask(b, 'one') == (503, 'commit_timeout')
            assert ask(a, 'one') == (503, 'in_progress')
            b.kill()
            assert ask(a, 'one') == (503, 'in_progress')
            os.unlink(stall)
            b.start(wrap=wrap)
            until_asked(a, 'one', (200, 'duplicate'))  # the start has found it, and said so
            assert ask(b, 'one') == (200, 'duplicate')
            # claimed, and gone for good: the claim ends by itself, and the next may have it
            index('FLUSHALL')
            open(stall, 'w').close()
            t = threading.Thread(target=lost, args=(b, 'two'))
            t.start()
            until('claimed', lambda: index('DBSIZE') == 1)
            assert 0 < index('PTTL', key_of(index)) <= 30000
            b.kill()
            t.join()
            os.unlink(stall)
            assert ask(a, 'two') == (503, 'in_progress')
            index('PEXPIRE', key_of(index), 1)
            until_asked(a, 'two', (200, 'duplicate'))
            # synced and answered, and the mark lost on the way
            index('FLUSHALL')
            assert ask(a, 'three') == (200, 'accepted')
            until('marked', lambda: index('DBSIZE') == 1)
            index('FLUSHALL')
            a.kill()
            a.start()
            b.start(wrap=wrap)
            until('both are back', lambda: all(h.status()['dedup']['redis'] == 'up' for h in (a, b)))
            assert ask(b, 'three') == (200, 'duplicate')
            for h in a, b:
                until('delivered', lambda: h.drained('r'))
            got = [f['id'] for f in {(f['logid'], f['lsn']): f for _, f in redis.entries('hooks:demo')}.values()]
            assert got.count(b'one') == got.count(b'three') == 1 and got.count(b'two') <= 2, got
    finally:
        for path in (stall, stall + '.so'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def lost(h, ident):
    with contextlib.suppress(OSError):
        post(h.port, signed(ident, BODY))


def the_index_is_away():
    """dedup.redis: frozen, then dead: deliveries are taken by each replica, which /status and the metrics say; then back"""
    with replicas(commit='3s') as (index, _, (a, b)):
        index.pause()
        for h in a, b:
            assert ask(h, 'x') == (200, 'accepted')
            assert ask(h, 'x') == (200, 'duplicate')
            assert h.status()['dedup']['redis'] == 'away'
            text = h.get('/metrics')[1].decode()
            assert '\nhookline_dedup_redis_up 0\n' in text
            assert '\nhookline_dedup_redis_missed_total{step="claim"} 0\n' not in text
            assert 'dedup.redis cannot be asked' in h.text('log')
        index.resume()
        index.kill()
        assert ask(a, 'y') == (200, 'accepted')
        index.start()
        until('asked again', lambda: all(h.status()['dedup']['redis'] == 'up' for h in (a, b)))
        assert ask(a, 'z') == (200, 'accepted')
        until_asked(b, 'z', (200, 'duplicate'))


def broker_and_replicas():
    """ack: broker behind dedup.redis: what one has stored and not delivered no other calls a duplicate"""
    with replicas(BROKER, commit='3s') as (_, redis, (a, b)):
        redis.pause()
        try:
            until_asked(a, 'x', (503, 'broker_timeout'))
            assert ask(b, 'x') == (503, 'in_progress')
        finally:
            redis.resume()
        until('delivered', lambda: a.drained('r'))
        until_asked(a, 'x', (200, 'duplicate'))
        until_asked(b, 'x', (200, 'duplicate'))
        assert b.status()['log']['last_lsn'] == 0


Tap().run(frozen_brokers, answered_means_delivered, dead_letters_and_filters, a_slow_disk, the_same_to_both,
          killed_under_load, killed_between_the_steps, the_index_is_away, broker_and_replicas)
