"""The slow ones of cases 37 and 40: a broker that is away for ten minutes (DOWN_S), an hour under load (SOAK_S)."""
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests/e2e'))
from client import Load, audit, from_kafka, from_redis  # noqa: E402
from servers import Hookline, Kafka, Redis, Tap, memory, stop_all, until  # noqa: E402

DOWN_S = int(os.environ.get('DOWN_S', '600'))
SOAK_S = int(os.environ.get('SOAK_S', '3600'))
GROWTH = 16 << 20


def files(pid):
    return len(os.listdir(f'/proc/{pid}/fd'))


def sinks(kafka, redis, topic):
    return f"""  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: {topic}, create: {{ partitions: 1, replication: 1 }},
    properties: {{ reconnect.backoff.max.ms: 500 }} }} }}
  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}"""


def judged(h, load, kafka, redis, topic):
    for sink in 'k', 'r':
        until(f'{sink} has all', lambda: h.drained(sink), 600)
    assert audit(load, from_kafka(kafka, topic), 'Kafka') == 0
    return audit(load, from_redis(redis), 'Redis')


def long_outage():
    """case 37: the broker is away for ten minutes: acknowledgements go on, then everything arrives once, order kept"""
    kafka, redis, h, load = Kafka(), Redis(), None, None
    try:
        kafka.start()
        redis.start()
        h = Hookline(sinks(kafka, redis, 'outage')).start()
        load = Load(h.port, connections=4, gap=0.01)
        until('some', lambda: h.status()['sinks']['k']['delivered'] > 100)
        kafka.kill()
        time.sleep(DOWN_S)
        before = len(load.acked)
        until('acknowledgements go on', lambda: len(load.acked) > before + 100)
        kafka.start()
        load.stop()
        assert not load.refused, load.refused
        assert judged(h, load, kafka, redis, 'outage') == 0
        print(f'# {len(load.acked)} acknowledged, the broker away for {DOWN_S} s, all delivered once')
    finally:
        if load:
            load.stop()
        stop_all(h, kafka, redis)


def soak():
    """case 40: under load for long: memory and open files stay flat, nothing is lost, nothing comes twice"""
    kafka, redis, h, load = Kafka(), Redis(), None, None
    try:
        kafka.start()
        redis.start()
        h = Hookline(sinks(kafka, redis, 'soak')).start()
        load = Load(h.port, connections=8, gap=0.02)
        time.sleep(min(60, SOAK_S / 4))  # until every buffer was used once
        early, most, end = (memory(h.p.pid), files(h.p.pid)), (0, 0), time.monotonic() + SOAK_S
        while time.monotonic() < end:
            time.sleep(1)
            most = max(most[0], memory(h.p.pid)), max(most[1], files(h.p.pid))
        load.stop()
        assert judged(h, load, kafka, redis, 'soak') == 0
        print(f'# {len(load.acked)} acknowledged in {SOAK_S} s; memory {early[0] >> 10} KiB early, {most[0] >> 10} at most; '
              f'files {early[1]}, {most[1]} at most')
        assert most[0] < early[0] + GROWTH and most[1] <= early[1] + 8
    finally:
        if load:
            load.stop()
        stop_all(h, kafka, redis)


only = os.environ.get('TEST')
Tap().run(*[t for t in (long_outage, soak) if not only or t.__name__ in only.split(',')])
