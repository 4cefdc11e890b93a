"""Rows about promises: what exactly once costs, what dead sinks and a backlog cost those who send, a start with a large log."""
import os
import shutil
import statistics
import subprocess
import time

from lab import (FOLDER, LOAD, ROUNDS, Kafka, Redis, Server, against, alone, load, on_core, settle, settled_memory,
                 tool, until)
from client import post, signed
from rows_drain import STREAM, Backlog, drain_into, produce, watch_stream
from rows_log import first_answer
from rows_memory import AT_ONCE
from servers import Skip

ONCE = 'delivery: exactly-once'
DEAD = '  r: { redis: { url: "unix:/nonexistent/s" } }\n  k: { kafka: { brokers: "127.0.0.1:1" } }'
IDS = 1000000
BACKLOG = int(os.environ.get('BACKLOG', '1000000'))
RETAINED = int(os.environ.get('RETAINED_GIB', '10')) << 30
UNDELIVERED = RETAINED // 10
TAPS = 40  # events whose way is timed


def once_redis(row):
    redis = Redis().start()
    hookline = Backlog('once').fill()
    ours, base = [], []
    try:
        for n in range(ROUNDS):
            for rates, name, more in (base, f'a{n}', ''), (ours, f'e{n}', ', ' + ONCE):
                redis('FLUSHALL', 'SYNC')
                settle()
                hookline.with_sink(name, f'redis: {{ url: "unix:{redis.socket}" }}{more}')
                events, seconds = watch_stream(redis)
                rates.append(events / seconds)
                until('the cursor has passed it all', lambda: hookline.drained(name))
                hookline.stop()
    finally:
        hookline.clean()
        redis.clean()
    return against(row, ours, base)


def once_kafka(row):
    kafka = Kafka()
    hookline = Backlog('once').fill()
    ours, base = [], []
    try:
        kafka.start()
        produce(kafka, 'warm-up')
        for n in range(ROUNDS):
            base.append(drain_into(kafka, hookline, f'least-{n}')[0])
            ours.append(drain_into(kafka, hookline, f'once-{n}', ', ' + ONCE)[0])
    finally:
        hookline.clean()
        kafka.clean()
    return against(row, ours, base)


def ways(hookline, kafka, topic):
    """Milliseconds from before the request to when a read_committed consumer prints the event, one after the other."""
    reader = subprocess.Popen([*on_core(LOAD), 'kcat', '-b', kafka.broker, '-C', '-t', topic, '-u', '-q', '-o', 'beginning',
                               '-X', 'isolation.level=read_committed', '-f', '%h\n'], stdout=subprocess.PIPE)
    out = []
    try:
        for n in range(TAPS + 5):
            began = time.perf_counter()
            post(hookline.port, signed(f'tap-{topic}-{n}', b'{}'))
            reader.stdout.readline()
            if n >= 5:  # the first ones find connections and topics
                out.append((time.perf_counter() - began) * 1000)
            time.sleep(0.15)  # idle again
    finally:
        reader.kill()
        reader.wait()
    return statistics.median(out)


def way(row):
    kafka, ours, both = Kafka(), [], []
    try:
        kafka.start()
        for n in range(ROUNDS):
            pair = []
            for name, more in (f'least-{n}', ''), (f'once-{n}', ', ' + ONCE):
                kafka.create(name)
                hookline = Server('way', f'  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: "{name}" }}{more} }}')
                try:
                    hookline.start()
                    pair.append(ways(hookline, kafka, name))
                finally:
                    hookline.clean()
            both.append(pair)
            ours.append(pair[1] - pair[0])
    finally:
        kafka.clean()
    return alone(row, ours, {'least_once_ms': [p[0] for p in both], 'once_ms': [p[1] for p in both]})


def sinks_down(row):
    """The same sinks, up and taking all, and away."""
    redis, kafka = Redis().start(), Kafka()
    ours, base = [], []
    try:
        kafka.start()
        kafka.create('up')
        up = (f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}\n'
              f'  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: "up" }} }}')
        for _ in range(ROUNDS):
            for rates, sinks in (base, up), (ours, DEAD):
                hookline = Server('down', sinks)
                try:
                    hookline.start()
                    load(hookline.port, AT_ONCE, seconds=0.5)
                    settle()
                    rates.append(load(hookline.port, AT_ONCE)['rate'])
                finally:
                    hookline.clean()
            redis('FLUSHALL', 'SYNC')
    finally:
        redis.clean()
        kafka.clean()
    return against(row, ours, base)


def draining(row):
    """Requests while a backlog goes into Redis; it must not be over before they are."""
    redis, ours, base, left = Redis().start(), [], [], []
    try:
        for _ in range(ROUNDS):
            hookline = Server('draining', f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}')
            try:
                hookline.start()
                settle()
                base.append(load(hookline.port, AT_ONCE)['rate'])
                redis.kill()
                load(hookline.port, AT_ONCE, count=BACKLOG)
                end = hookline.status()['log']['durable_lsn']
                settle()
                redis.start()
                until('the drain begins', lambda: redis('XLEN', STREAM) > 0)
                ours.append(load(hookline.port, AT_ONCE, seconds=min(2, BACKLOG / 500000))['rate'])
                left.append(end - hookline.status()['sinks']['r']['lsn'])
            finally:
                hookline.clean()
                redis('FLUSHALL', 'SYNC')
    finally:
        redis.clean()
    if min(left) <= 0:
        raise RuntimeError('the backlog was gone before the load ended; set BACKLOG higher')
    return against(row, ours, base, {'left_of_the_backlog': left})


def start_large(row):
    """Nine tenths are retained only, the rest is the backlog of a sink that is away."""
    os.makedirs(FOLDER, exist_ok=True)
    free = shutil.disk_usage(FOLDER).free
    if free < RETAINED + (4 << 30):
        raise Skip(f'{free >> 30} GiB are free, {(RETAINED >> 30) + 4} are needed')
    hookline, ours = Server('start', '  r: { redis: { url: "unix:/nonexistent/s" }, from: now }'), []
    with open(hookline.config) as f:
        text = f.read().replace('log: {', f'log: {{ retain_bytes: {2 * RETAINED},')
    with open(hookline.config, 'w') as f:
        f.write(text)
    try:
        tool('append', hookline.log, '-b', RETAINED - UNDELIVERED)
        hookline.start().stop()  # the sink's cursor is made here
        tool('append', hookline.log, '-b', UNDELIVERED)
        for _ in range(ROUNDS):
            os.sync()
            with open('/proc/sys/vm/drop_caches', 'w') as f:
                f.write('1')
            ours.append(first_answer(hookline))
            lag = hookline.status()['sinks']['r']['lag_events']
            hookline.stop()
    finally:
        hookline.clean()
    return alone(row, ours, {'lag_events': lag})


def dedup_entry(row):
    """What a million ids add with deduplication on, less what they add with it off."""
    ours = []
    for _ in range(ROUNDS):
        grown = []
        for source in '', ', dedup: off':
            hookline = Server('dedup', source=source, limits=f'dedup: {{ entries: {IDS} }}')
            try:
                hookline.start()
                before = settled_memory(hookline.p.pid)
                load(hookline.port, AT_ONCE, count=IDS)
                grown.append(settled_memory(hookline.p.pid) - before)
            finally:
                hookline.clean()
        ours.append((grown[0] - grown[1]) / IDS)
    return alone(row, ours)


ROWS = [
    {'id': 'once-kafka', 'name': 'drain into Kafka, exactly once over at least once', 'unit': 'events/s', 'better': 'higher',
     'gate': 0.70, 'target': 0.90, 'run': once_kafka},
    {'id': 'once-redis', 'name': 'drain into Redis, exactly once over at least once', 'unit': 'events/s', 'better': 'higher',
     'gate': 0.60, 'target': 0.80, 'run': once_redis},
    {'id': 'once-latency', 'name': 'one event to a `read_committed` consumer, exactly once less at least once', 'unit': 'ms',
     'better': 'lower', 'gate': 60, 'target': 30, 'run': way},
    {'id': 'sinks-down', 'name': 'durable requests with both sinks down over both up, 256 connections', 'unit': '1/s',
     'better': 'higher', 'gate': 0.90, 'target': 1.00, 'run': sinks_down},
    {'id': 'draining', 'name': 'durable requests while a million drain over none, 256 connections', 'unit': '1/s',
     'better': 'higher', 'gate': 0.50, 'target': 0.70, 'run': draining},
    {'id': 'start-large', 'name': 'start with 10 GiB retained, 1 GiB of it a backlog, to the first 200, cold', 'unit': 's',
     'better': 'lower', 'gate': 3.0, 'target': 0.5, 'run': start_large},
    {'id': 'dedup-entry', 'name': 'memory of an id in the deduplication index', 'unit': 'B', 'better': 'lower', 'gate': 48,
     'target': 32, 'run': dedup_entry},
]
