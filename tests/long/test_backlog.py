"""A backlog of a million events (EVENTS) behind two dead sinks, drained in order while the memory stays flat."""
import os
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, 'tests/e2e'), os.path.join(ROOT, 'tests/audit')]
import dumps  # noqa: E402
from client import Load  # noqa: E402
from servers import Hookline, Kafka, Redis, Tap, memory, stop_all, until  # noqa: E402
from verdict import judge  # noqa: E402

EVENTS = int(os.environ.get('EVENTS', '1000000'))
GROWTH = 48 << 20  # the windows of both sinks, of librdkafka's queue mostly


def drained_flat():
    """case 37: a million events of backlog are drained into both sinks in order, and the memory stays flat"""
    redis, kafka = Redis(), Kafka()
    h, load = None, None
    try:
        redis.start()
        kafka.start()
        kafka.create('backlog')
        kafka.stop()
        redis.kill()
        os.unlink(redis.socket)
        h = Hookline(f"""  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: backlog, properties: {{ reconnect.backoff.max.ms: 500 }} }} }}
  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}""").start()
        load = Load(h.port, connections=16, total=EVENTS)
        load.join()
        before = highest = memory(h.p.pid)
        assert len(load.acked) == EVENTS and h.status()['sinks']['r']['lag_events'] == EVENTS
        redis.start()
        kafka.start()
        began = time.monotonic()
        while not (h.drained('k') and h.drained('r')):
            highest = max(highest, memory(h.p.pid))
            assert time.monotonic() - began < 1800, h.status()['sinks']
            time.sleep(0.2)
        seconds = time.monotonic() - began
        held = [*dumps.from_kafka(kafka.broker, 'backlog'), *dumps.from_redis(f'unix:{redis.socket}', 'hooks:demo')]
        v = judge(load.history(), held, exactly_once=True, sinks=['kafka', 'redis'])
        assert v.good, '\n'.join(v.lines())
        print(f'# {EVENTS} events drained in {seconds:.0f} s, memory {before >> 20} MiB before, {highest >> 20} MiB at most')
        assert highest < before + GROWTH
    finally:
        if load:
            load.stop()
        stop_all(h, redis, kafka)


Tap().run(drained_flat)
