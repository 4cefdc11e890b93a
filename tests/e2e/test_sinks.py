"""What a server can refuse (case 38), on a real Kafka and a real Redis: who is held up, what is said, and that it goes
on without a restart."""
import json
import os
import time

from client import Load, audit, from_redis, post, signed
from servers import Hookline, Kafka, Redis, Skip, Tap, stop_all, until

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
        assert ids('by.missing') == ['m3']
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


try:
    only = os.environ.get('TEST')
    tests = (missing_topics, small_topic)
    Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
finally:
    stop_all(kafka)
