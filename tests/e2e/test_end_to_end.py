"""A signed webhook into the log, and out of a real Redis stream and a real Kafka topic; kill -9 everywhere."""
import json
import os
import random
import time

from client import KEY, Load, Connection, audit, from_kafka, from_redis, post, signed
from servers import Hookline, Kafka, Redis, Skip, Tap, stop_all, until

redis = Redis('--appendonly', 'yes', '--appendfsync', 'always')
kafka = None
hookline = None


def redis_sink(more=''):
    return f'  r: {{ redis: {{ url: "unix:{redis.socket}" }}{more} }}'


def kafka_sink(inside='', more=''):
    return (f'  k: {{ kafka: {{ brokers: "{kafka.broker}", create: {{ partitions: 3, replication: 1 }}, '
            f'properties: {{ reconnect.backoff.max.ms: 500 }}{inside} }}{more} }}')


ODD = {
    'duplicate keys': b'{"a":1,"a":2,"type":"x.y"}',
    'not UTF-8': b'{"a":"\xff\xfe"}',
    'empty': b'',
    'one MiB of anything': random.Random(7).randbytes(1048576),
    'CR LF': b'{\r\n  "type": "crlf"\r\n}\r\n',
    'NUL': b'a\0b\0',
    'case 25: deep JSON': b'[' * 100000,
}


def odd_bodies_redis():
    """odd bodies are byte-exact in Redis, and their attributes right"""
    h = Hookline(redis_sink()).start()
    try:
        for name, body in ODD.items():
            assert post(h.port, signed('odd-' + name.replace(' ', '-'), body))[0] == 200, name
        until('redis has them', lambda: h.drained('r'))
        got = {f['id'].decode(): f for _, f in redis.entries('hooks:demo')}
        for name, body in ODD.items():
            f = got['odd-' + name.replace(' ', '-')]
            assert f['body'] == body, name
            assert f['source'] == b'demo' and f['content_type'] == b'application/json'
            assert json.loads(f['headers'])['webhook-id'] == 'odd-' + name.replace(' ', '-')
        assert got['odd-duplicate-keys']['type'] == b'x.y'
        assert got['odd-empty']['type'] == b'webhook'
    finally:
        stop_all(h)
        redis('FLUSHALL')


def odd_bodies_kafka():
    """odd bodies are byte-exact in Kafka, with CloudEvents headers"""
    need_kafka()
    h = Hookline(kafka_sink()).start()
    try:
        for name, body in ODD.items():
            assert post(h.port, signed('odd-' + name.replace(' ', '-'), body))[0] == 200, name
        until('kafka has them', lambda: h.drained('k'), 120)
        got = {m[3]['ce_id']: m for m in kafka.messages('hooks.demo')}
        assert h.status()['sinks']['k']['dead'] == 1  # with its headers one is larger than the topic takes
        for name, body in ODD.items():
            if name == 'one MiB of anything':
                continue
            ident = 'odd-' + name.replace(' ', '-')
            _, _, key, headers, value = got[ident]
            assert value == body, name
            assert headers['ce_specversion'] == '1.0' and headers['ce_source'] == 'demo' and key == ident
            assert headers['webhook-id'] == ident and headers['content-type'] == 'application/json'
    finally:
        stop_all(h)


def refusals():
    """a forged, a stale, an unsigned one: 401 and no record; a repeat: duplicate, once in the stream (case 24)"""
    h = Hookline(redis_sink()).start()
    try:
        assert post(h.port, signed('a', b'{}', key=b'x' * 32))[0] == 401
        assert post(h.port, signed('b', b'{}', stamp=int(time.time()) - 400))[0] == 401
        assert post(h.port, b'POST /hooks/demo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}')[0] == 401
        assert h.status()['log']['last_lsn'] == 0
        assert json.loads(post(h.port, signed('c', b'{}'))[2])['status'] == 'accepted'
        assert json.loads(post(h.port, signed('c', b'{}'))[2]) == {'status': 'duplicate', 'id': 'c', 'lsn': 1}
        until('redis', lambda: h.drained('r'))
        assert len(redis.entries('hooks:demo')) == 1
        rejected = h.status()['sources']['demo']['rejected']
        assert rejected == {'bad_signature': 1, 'stale': 1, 'unsigned': 1}, rejected
    finally:
        stop_all(h)
        redis('FLUSHALL')


def pipelining():
    """case 16: 10,000 pipelined requests are answered in order, all durable"""
    h = Hookline().start()
    try:
        c = Connection(h.port)
        import threading
        data = b''.join(signed(f'p{i}', b'{}') for i in range(10000))
        threading.Thread(target=c.send, args=(data,)).start()
        lsns = [json.loads(c.reply()[2]) for _ in range(10000)]
        assert [x['id'] for x in lsns] == [f'p{i}' for i in range(10000)]
        assert [x['lsn'] for x in lsns] == list(range(1, 10001))
    finally:
        stop_all(h)


def kill_under_load():
    """kill -9 in the middle of 20,000 signed requests on 64 connections: nothing acknowledged is lost"""
    sinks = redis_sink()
    try:
        need_kafka()
        sinks += '\n' + kafka_sink()
    except Skip:
        pass
    h = Hookline(sinks).start()
    load = Load(h.port, connections=64, total=20000)
    try:
        until('half of it', lambda: len(load.acked) > 8000 or not load.threads[0].is_alive())
        h.kill()
        h.start()
        load.join()
        until('redis has all', lambda: h.drained('r'), 120)
        repeats = audit(load, from_redis(redis), 'Redis')
        print(f'# Redis: {len(load.acked)} acknowledged, 0 lost, {repeats} delivered twice')
        if 'k:' in sinks:
            try:
                until('kafka has all', lambda: h.drained('k'), 40)
            except TimeoutError:
                print('# ' + json.dumps(h.status()['sinks']) + h.text('log')[-3000:].replace('\n', '\n# '))
                raise
            seen = [m for m in from_kafka(kafka) if m[0] in load.sent]
            repeats = audit(load, seen, 'Kafka')
            print(f'# Kafka: {len(load.acked)} acknowledged, 0 lost, {repeats} delivered twice')
    finally:
        load.stop()
        stop_all(h)
        redis('FLUSHALL')


def kill_redis():
    """kill -9 of Redis (appendonly): acknowledgements go on, everything arrives"""
    h = Hookline(redis_sink()).start()
    load = Load(h.port, connections=8)
    try:
        until('some', lambda: len(load.acked) > 500)
        redis.kill()
        before = len(load.acked)
        until('acknowledgements go on', lambda: len(load.acked) > before + 500)
        assert h.get('/readyz')[0] == 200  # a dead sink is not our death
        redis.start()
        load.stop()
        until('redis has all', lambda: h.drained('r'), 120)
        audit(load, from_redis(redis), 'Redis')
    finally:
        load.stop()
        stop_all(h)
        redis('FLUSHALL')


def kill_kafka():
    """case 37: kill -9 of the broker under load: acknowledgements go on, everything arrives, order kept"""
    need_kafka()
    h = Hookline(kafka_sink()).start()
    load = Load(h.port, connections=8)
    try:
        until('some', lambda: len(load.acked) > 500)
        kafka.kill()
        before = len(load.acked)
        until('acknowledgements go on', lambda: len(load.acked) > before + 500)
        kafka.start()
        load.stop()
        until('kafka has all', lambda: h.drained('k'), 60)
        audit(load, [m for m in from_kafka(kafka) if m[0] in load.sent], 'Kafka')
    finally:
        load.stop()
        stop_all(h)


def killed_while_it_makes_the_topic():
    """case 37: the broker dies while it is asked to make the topic: it is asked again, everything arrives"""
    need_kafka()
    h = Hookline(kafka_sink(', topic: in-the-making')).start()
    try:
        until('connected', lambda: h.status()['sinks']['k']['state'] == 'running')
        kafka.pause()
        assert post(h.port, signed('made', b'{}'))[0] == 200
        time.sleep(1)  # the broker is asked by now, else this shows less
        kafka.kill()
        kafka.start()
        until('kafka has it', lambda: h.drained('k'), 120)
        assert [m[0] for m in from_kafka(kafka, 'in-the-making')] == ['made']
    finally:
        stop_all(h)


def both_stand_still():
    """case 37: the broker and Redis stopped for 20 s (SIGSTOP): acknowledgements go on, everything arrives, order kept"""
    need_kafka()
    h = Hookline(redis_sink() + '\n' + kafka_sink(', topic: still')).start()
    load = Load(h.port, connections=4)
    try:
        until('some', lambda: len(load.acked) > 500)
        kafka.pause()
        redis.pause()
        before = len(load.acked)
        time.sleep(20)
        assert len(load.acked) > before + 500 and h.get('/readyz')[0] == 200
        s = h.status()['sinks']
        assert s['r']['state'] == 'retrying' and s['r']['reason'], s
        kafka.resume()
        redis.resume()
        load.stop()
        until('redis has all', lambda: h.drained('r'), 120)
        until('kafka has all', lambda: h.drained('k'), 120)
        repeats = audit(load, from_redis(redis), 'Redis')
        assert audit(load, from_kafka(kafka, 'still'), 'Kafka') == 0
        print(f'# {len(load.acked)} acknowledged, 0 lost, Redis: {repeats} delivered twice, Kafka: 0')
    finally:
        kafka.resume()
        redis.resume()
        load.stop()
        stop_all(h)
        redis('FLUSHALL')


def one_dead_sink():
    """P9: one dead sink stops neither the acknowledgements nor the other sink"""
    dead = '  dead: { redis: { url: "unix:/nonexistent/s" } }'
    h = Hookline(redis_sink() + '\n' + dead).start()
    try:
        for i in range(50):
            assert post(h.port, signed(f'd{i}', b'{}'))[0] == 200
        until('the living one has all', lambda: h.drained('r'))
        s = h.status()['sinks']
        assert s['dead']['state'] == 'retrying' and s['dead']['lag_events'] == 50 and s['dead']['reason']
        assert s['r']['state'] == 'running'
    finally:
        stop_all(h)
        redis('FLUSHALL')


def need_kafka():
    global kafka
    if kafka is None:
        kafka = Kafka().start()


try:
    redis.start()
    only = os.environ.get('TEST')
    tests = (odd_bodies_redis, refusals, pipelining, one_dead_sink, kill_redis, odd_bodies_kafka,
             kill_under_load, kill_kafka, killed_while_it_makes_the_topic,
             both_stand_still)
    Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
finally:
    stop_all(redis, kafka)
