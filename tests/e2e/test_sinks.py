"""What a server can refuse (case 38), on a real Kafka and a real Redis: who is held up, what is said, and that it goes
on without a restart."""
import json
import os

from client import post, signed
from servers import Hookline, Kafka, Redis, Tap, stop_all, until

kafka = None


def need_kafka():
    global kafka
    kafka = kafka or Kafka().start()


def send(h, ident, kind='a.b', body=None):
    r = post(h.port, signed(ident, body or json.dumps({'type': kind}).encode()))
    assert r[0] == 200, r


def sink(h, name):
    return h.status()['sinks'][name]


def warns(h, name, text):
    return any(text in w for w in sink(h, name).get('warnings', []))


def kafka_sink(name, more):
    return (f'  {name}: {{ kafka: {{ brokers: "{kafka.broker}", properties: {{ reconnect.backoff.max.ms: 500 }}, '
            f'{more} }} }}\n')


def ids(topic):
    return [headers['ce_id'] for _, _, _, headers, _ in kafka.messages(topic)]


def missing_topics():
    """case 38: a missing topic blocks where the settings name it; one named by an event holds up nobody"""
    need_kafka()
    kafka.create('by.there')
    kafka.create('fall.there')
    h = Hookline(kafka_sink('fixed', 'topic: not-made-yet') +
                 kafka_sink('content', 'topic: "by.{type}"') +
                 kafka_sink('fallback', 'topic: "fall.{type}", fallback_topic: not-made-yet')).start()
    try:
        send(h, 'm1', 'missing')
        for i in range(20):
            send(h, f't{i}', 'there')
        send(h, 'm2', 'missing')
        until('the one named by its event holds up nobody', lambda: len(ids('by.there')) == 20)
        assert sink(h, 'content')['lsn'] == 0, 'it is still waited for'
        until('a warning', lambda: warns(h, 'content', 'topic by.missing, which events name, cannot be used'))
        until('blocked', lambda: sink(h, 'fixed')['state'] == 'blocked')
        assert 'not-made-yet does not exist' in sink(h, 'fixed')['reason']
        until('blocked by the fallback', lambda: sink(h, 'fallback')['state'] == 'blocked')
        kafka.create('not-made-yet')
        until('the fixed topic is found without a restart', lambda: h.drained('fixed'))
        until('the fallback too', lambda: h.drained('fallback'))
        assert ids('fall.there') == [f't{i}' for i in range(20)]
        assert sorted(ids('not-made-yet')) == sorted(['m1', 'm2'] * 2 + [f't{i}' for i in range(20)])
        until('dead after a minute', lambda: h.drained('content'), 120)
        s = h.status()['sinks']
        assert s['content']['dead'] == 2 and s['fixed']['dead'] == s['fallback']['dead'] == 0, s
        kafka.create('by.missing')
        until('no warning any more', lambda: 'warnings' not in sink(h, 'content'))
        send(h, 'm3', 'missing')
        until('a topic made later is used', lambda: h.drained('content'))
        assert ids('by.missing') == ['m3'], (sink(h, 'content'), h.text('log')[-2000:])
    finally:
        stop_all(h)


def small_topic():
    """case 38: a topic that takes less than a source may send: the larger are dead letters, the others arrive, /status warns"""
    need_kafka()
    kafka.create('small', max_message_bytes=4000)
    h = Hookline(kafka_sink('k', 'topic: small') +
                 kafka_sink('c', 'topic: small, properties: { compression.type: gzip }')
                 .replace('properties: { reconnect.backoff.max.ms: 500 }, ', '')).start()
    try:
        for i in range(40):
            big = json.dumps({'noise': os.urandom(4000).hex()}).encode()
            send(h, f's{i}', body=big if i % 10 == 5 else None)
        until('both are through', lambda: h.drained('k') and h.drained('c'))
        for name in 'k', 'c':
            s = sink(h, name)
            assert s['dead'] == 4 and s['delivered'] == 36 and s['state'] == 'running', s
            until('a warning', lambda: warns(h, name, 'topic small takes 4000'))
        assert sorted(ids('small')) == sorted([f's{i}' for i in range(40) if i % 10 != 5] * 2)
    finally:
        stop_all(h)


# sink u has a user of its own, sink n none; (what, whose, to break it, to mend it, what /status says)
ACL = ('ACL', 'SETUSER', 'hookline')
CUT = ('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
REFUSALS = [
    ('OOM', 'u', [('CONFIG', 'SET', 'maxmemory', '1')], [('CONFIG', 'SET', 'maxmemory', '0')], 'raise maxmemory'),
    ('READONLY', 'u', [('REPLICAOF', '127.0.0.1', '1')], [('REPLICAOF', 'NO', 'ONE')], 'READONLY'),
    ('NOREPLICAS', 'u', [('CONFIG', 'SET', 'min-replicas-to-write', '1')], [('CONFIG', 'SET', 'min-replicas-to-write', '0')],
     'too few replicas'),
    ('MISCONF', 'u', [('CONFIG', 'SET', 'dir', '/proc'), ('BGSAVE',)], [('CONFIG', 'SET', 'dir', 'DIR'), ('BGSAVE',)],
     'the server cannot persist'),
    ('WRONGTYPE', 'u', [('RENAME', 'hooks:demo', 'aside'), ('SET', 'hooks:demo', 'x')],
     [('DEL', 'hooks:demo'), ('RENAME', 'aside', 'hooks:demo')], 'the key exists and is no stream'),
    ('NOPERM, the key', 'u', [(*ACL, 'resetkeys', '~other')], [(*ACL, '~hooks:*')], "grant this user the stream's key"),
    ('NOPERM, the command', 'u', [(*ACL, '-xadd')], [(*ACL, '+xadd')], 'grant XADD'),
    ('WRONGPASS', 'u', [(*ACL, 'resetpass', '>other'), CUT], [(*ACL, 'resetpass', '>pw')], 'check user and password'),
    ('NOAUTH', 'n', [('CONFIG', 'SET', 'requirepass', 'x'), CUT], [('CONFIG', 'SET', 'requirepass', '')],
     'set user and password'),
]


def refusal(redis, h, n, name, whose, breaks, mends, says):
    for command in breaks:
        redis(*command)
        if 'requirepass' in command:
            redis.password = 'x'
    # MISCONF comes once the snapshot has failed
    until(f'{name}: broken', lambda: name != 'MISCONF' or b'last_bgsave_status:err' in redis('INFO', 'persistence'))
    send(h, f'r{n}')
    until(f'{name}: blocked', lambda: sink(h, whose)['state'] == 'blocked' and says in sink(h, whose)['reason'])
    for command in mends:
        redis(*(redis.dir if x == 'DIR' else x for x in command))
    redis.password = None
    for s in 'u', 'n':
        until(f'{name}: it goes on without a restart', lambda: h.drained(s) and sink(h, s)['state'] == 'running')


def redis_sinks(redis):
    return (f'  u: {{ redis: {{ url: "unix:{redis.socket}", user: hookline, password: pw }} }}\n'
            f'  n: {{ redis: {{ url: "unix:{redis.socket}", stream: n }} }}')


def redis_refusals():
    """case 38: OOM, READONLY, NOREPLICAS, MISCONF, WRONGTYPE, NOPERM, WRONGPASS, NOAUTH: blocked with the reason, on without a restart"""
    redis = Redis('--enable-protected-configs', 'yes', '--save', '3600 1').start()
    redis(*ACL, 'on', '>pw', '~hooks:*', '+xadd')
    h = Hookline(redis_sinks(redis)).start()
    try:
        send(h, 'first')
        until('the first', lambda: h.drained('u') and h.drained('n'))
        for n, row in enumerate(REFUSALS):
            refusal(redis, h, n, *row)
        want = ['first'] + [f'r{n}' for n in range(len(REFUSALS))]
        assert [f['id'].decode() for _, f in redis.entries('hooks:demo')] == want
        assert h.status()['sinks']['u']['dead'] == 0
    finally:
        stop_all(h, redis)


def redis_loading():
    """case 38: LOADING after a restart passes by itself, and /status says what is waited for"""
    redis = Redis('--save', '3600 1').start()
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()
    try:
        redis('EVAL', "for i = 1, 4000 do redis.call('SET', 'k' .. i, 'v') end", '0')
        redis('SAVE')
        redis.kill()
        redis.options += ('--key-load-delay', '1000', '--loading-process-events-interval-bytes', '1024')
        redis.launch()
        send(h, 'one')
        until('told', lambda: sink(h, 'r')['state'] == 'retrying' and 'LOADING' in sink(h, 'r')['reason'])
        until('loaded', lambda: h.drained('r'))
        assert [f['id'] for _, f in redis.entries('hooks:demo')] == [b'one']
    finally:
        stop_all(h, redis)


def refused_creation():
    """case 38: a topic that the broker refuses to make: the reason is the broker's, and it goes on once the topic is there"""
    need_kafka()
    h = Hookline(kafka_sink('r', 'topic: refused, create: { replication: 3 }')).start()
    try:
        send(h, 'r1')
        until('blocked', lambda: sink(h, 'r')['state'] == 'blocked')
        assert 'could not be made: Broker: Invalid replication factor' in sink(h, 'r')['reason'], sink(h, 'r')
        kafka.create('refused')
        until('found without a restart', lambda: h.drained('r'))
    finally:
        stop_all(h)


def redis_dead_peer():
    """a server that stands still is noticed on an idle connection too"""
    redis = Redis().start()
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()
    try:
        until('connected', lambda: sink(h, 'r')['state'] == 'running')
        redis.pause()
        until('noticed', lambda: sink(h, 'r')['state'] == 'retrying' and 'does not answer' in sink(h, 'r')['reason'])
        redis.resume()
        until('back', lambda: sink(h, 'r')['state'] == 'running')
    finally:
        redis.resume()
        stop_all(h, redis)


try:
    only = os.environ.get('TEST')
    tests = (redis_refusals, redis_loading, redis_dead_peer, missing_topics, refused_creation, small_topic)
    Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
finally:
    stop_all(kafka)
