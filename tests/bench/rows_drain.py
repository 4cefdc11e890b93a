"""Rows about delivery: how fast a backlog goes into real servers.

The log is filled while no sink is configured; a sink that is added at a restart starts at its oldest event. From the
first to the last event that the server counts, so that neither start nor connecting is in it."""
import json
import os
import re
import subprocess
import time

from lab import (LOAD, ROUNDS, SERVER, TOOLS, Kafka, Redis, Server, against, cpu_seconds, load, on_core, settle, tool)

EVENTS = int(os.environ.get('EVENTS', '500000'))
WAIT_S = 300
STREAM = 'hooks:demo'


class Backlog(Server):
    """A log full of events, drained once for each sink that is added."""

    def fill(self):
        self.start()
        load(self.port, 256, count=EVENTS)
        self.stop()
        return self

    def with_sink(self, name, sink):
        """The old sink has nothing left, so it may go."""
        self.write_config(f'  {name}: {{ {sink}, from: oldest }}')
        return self.start()


def watch_stream(redis):
    """(events, seconds) from the first that were seen to the last."""
    end = time.monotonic() + WAIT_S
    first = first_at = None
    while time.monotonic() < end:
        n, now = redis('XLEN', STREAM), time.monotonic()
        if n and first is None:
            first, first_at = n, now
        if n >= EVENTS:
            return n - first, now - first_at
        time.sleep(0.002)
    raise RuntimeError(f'{redis("XLEN", STREAM)} of {EVENTS} after {WAIT_S} s')


def xadd_baseline(redis, entry):
    """The same XADD from one connection of redis-benchmark, 128 in flight, counted by the server in the same way."""
    values = [x.decode() for pair in entry for x in pair]
    p = subprocess.Popen([*on_core(SERVER), 'redis-benchmark', '-s', redis.socket, '-c', '1', '-P', '128', '-n', str(EVENTS),
                          '-q', 'XADD', STREAM, '*', *values], stdout=subprocess.DEVNULL)
    try:
        return watch_stream(redis)
    finally:
        p.wait()


def drain_redis(row):
    redis = Redis().start()
    hookline = Backlog('drain').fill()
    ours, base, busy = [], [], []
    try:
        for n in range(ROUNDS):
            redis('FLUSHALL', 'SYNC')
            settle()
            hookline.with_sink(f'r{n}', f'redis: {{ url: "unix:{redis.socket}" }}')
            before, redis_before = cpu_seconds(hookline.p.pid), cpu_seconds(redis.p.pid)
            events, seconds = watch_stream(redis)
            busy.append(((cpu_seconds(hookline.p.pid) - before) / seconds, (cpu_seconds(redis.p.pid) - redis_before) / seconds))
            ours.append(events / seconds)
            hookline.stop()
            entry = redis('XRANGE', STREAM, '-', '+', 'COUNT', 1)[0][1]
            redis('FLUSHALL', 'SYNC')
            settle()
            events, seconds = xadd_baseline(redis, zip(entry[::2], entry[1::2]))
            base.append(events / seconds)
    finally:
        hookline.clean()
        redis.clean()
    return against(row, ours, base, busy_pair(busy))


def busy_pair(busy):
    """Here the server's core is hookline's and the load's core is that of Redis or Kafka."""
    return {'server_cpu': round(sorted(b[0] for b in busy)[len(busy) // 2], 3),
            'load_cpu': round(sorted(b[1] for b in busy)[len(busy) // 2], 3)}


def make_topic(kafka, name):
    subprocess.run([*kafka.java, 'org.apache.kafka.tools.TopicCommand', '--bootstrap-server', kafka.broker, '--create',
                    '--topic', name, '--partitions', '1'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Counting:
    """The broker's own count of a topic, from the first message to the last."""

    def __init__(self, kafka, topic, count):
        self.p = subprocess.Popen([*on_core(LOAD), os.path.join(TOOLS, 'stored'), kafka.broker, topic, str(count)],
                                  stdout=subprocess.PIPE)

    def rate(self):
        r = json.loads(self.p.communicate(timeout=WAIT_S)[0])
        return (r['last'] - r['first']) / r['seconds'], r['seconds']


def produce(kafka, topic, count=EVENTS):
    make_topic(kafka, topic)
    settle()
    counting = Counting(kafka, topic, count)
    subprocess.run([*on_core(SERVER), os.path.join(TOOLS, 'produce'), kafka.broker, topic, str(count)], check=True)
    return counting.rate()[0]


def drain_into(kafka, hookline, name, more=''):
    make_topic(kafka, name)
    settle()
    counting = Counting(kafka, name, EVENTS)
    hookline.with_sink(name, f'kafka: {{ brokers: "{kafka.broker}", topic: "{name}" }}{more}')
    before, kafka_before = cpu_seconds(hookline.p.pid), cpu_seconds(kafka.p.pid)
    rate, seconds = counting.rate()
    busy = (cpu_seconds(hookline.p.pid) - before) / seconds, (cpu_seconds(kafka.p.pid) - kafka_before) / seconds
    hookline.stop()
    return rate, busy


def header_names(kafka, topic):
    out = subprocess.run(['kcat', '-b', kafka.broker, '-C', '-t', topic, '-c', '1', '-e', '-q', '-f', '%h'], check=True,
                         stdout=subprocess.PIPE).stdout.decode()
    return sorted(re.findall('(?:^|,)([a-z_-]+)=', out))


def drain_kafka(row):
    kafka = Kafka()
    hookline = Backlog('drain').fill()
    ours, base, busy = [], [], []
    try:
        kafka.start()
        produce(kafka, 'warm-up')  # until the broker's code is compiled
        for n in range(ROUNDS):
            rate, cpu = drain_into(kafka, hookline, f'ours-{n}')
            ours.append(rate)
            busy.append(cpu)
            base.append(produce(kafka, f'bare-{n}'))
        if header_names(kafka, 'ours-0') != header_names(kafka, 'bare-0'):
            raise RuntimeError('produce.c sends other headers than the sink')
    finally:
        hookline.clean()
        kafka.clean()
    return against(row, ours, base, busy_pair(busy))


ROWS = [
    {'id': 'drain-redis', 'name': 'drain of a backlog into Redis', 'unit': 'events/s', 'better': 'higher', 'gate': 0.80,
     'target': 1.00, 'run': drain_redis},
    {'id': 'drain-kafka', 'name': 'drain of a backlog into Kafka', 'unit': 'events/s', 'better': 'higher', 'gate': 0.65,
     'target': 0.85, 'run': drain_kafka},
]
