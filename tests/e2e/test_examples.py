"""Each example of a consumer against the real hookline: killed in the middle, every event takes effect once."""
import contextlib
import glob
import os
import sqlite3
import subprocess
import sys

from client import Load, post, signed
from servers import ROOT, Hookline, Kafka, Process, Redis, Skip, Tap, stop_all, until

KILLS = 3
redis, kafka = Redis(), None
C = sorted(glob.glob(os.path.join(ROOT, os.environ.get('EXAMPLES', 'build/release/examples/c'), '*_consumer')))


def need_kafka():
    global kafka
    kafka = kafka or Kafka().start()


def python_with(module):
    """The interpreter that has it: Debian's packages serve Debian's own."""
    for python in (sys.executable, '/usr/bin/python3'):
        if subprocess.run([python, '-c', f'import {module}'], stderr=subprocess.DEVNULL).returncode == 0:
            return python
    raise Skip(f'the Python module {module} is not installed')


class Consumer(Process):
    """One example. Its effects: {id: type}; the same id twice is an error."""

    def __init__(self, kind, language, *args):
        super().__init__()
        self.out = os.path.join(self.dir, 'effects')
        self.language = language
        if language == 'c':
            program = [c for c in C if os.path.basename(c) == f'{kind}_consumer']
            if not program:
                raise Skip('the examples in C are not built (make examples)')
            self.argv = [*program, *args]
        else:
            module = {'http': 'json', 'kafka': 'confluent_kafka', 'redis': 'redis'}[kind]
            self.argv = [python_with(module), os.path.join(ROOT, f'examples/python/{kind}_consumer.py'), *args]
        self.argv = [self.out if a == 'OUT' else a for a in self.argv]

    def start(self):
        self.spawn(self.argv, 'log')
        return self

    def effects(self):
        if not os.path.exists(self.out):
            return {}
        if self.language == 'c':
            rows = [line.split(' ')[1:] for line in self.whole_lines()]
        else:
            rows = self.rows()
        assert len({r[0] for r in rows}) == len(rows), 'an effect twice'
        return dict(rows)

    def rows(self):
        with contextlib.closing(sqlite3.connect(self.out, timeout=60)) as db:
            if not db.execute("select 1 from sqlite_master where name = 'effects'").fetchone():
                return []
            return db.execute('select id, type from effects').fetchall()

    def whole_lines(self):
        with open(self.out) as f:
            return f.read().split('\n')[:-1]

    def running(self):
        assert self.p.poll() is None, f'it ended with {self.p.returncode}: ' + self.text('log')
        return True


def run(consumer, hookline, others=()):
    """Load, kill -9 in the middle KILLS times, and every acknowledged event has had its effect, once."""
    load = Load(hookline.port, connections=4)
    try:
        for _ in range(KILLS):
            before = len(consumer.start().effects())
            until('some effects', lambda: consumer.running() and len(consumer.effects()) > before + 100)
            consumer.kill()
        consumer.start()
        load.stop()
        until('all effects', lambda: consumer.running() and load.acked.keys() <= consumer.effects().keys(), 120)
        assert consumer.effects().keys() <= load.sent.keys() | set(others), 'an effect of nothing that was sent'
        print(f'# {len(load.acked)} events, {KILLS} kills')
    finally:
        load.stop()
        stop_all(consumer)


def http(language):
    h = Hookline().start()
    try:
        # a number that neither Python nor jansson reads: noted by its place in the log, and passed
        assert post(h.port, signed('odd', f'{{"n":{"9" * 5000}}}'.encode()))[0] == 200
        where = f'http://127.0.0.1:{h.admin}'
        args = [where, 'OUT'] if language == 'c' else ['--url', where, '--db', 'OUT']
        run(Consumer('http', language, *args), h, others=['1'])
    finally:
        stop_all(h)


def through_redis(language):
    h = Hookline(f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}').start()
    group = 'g-' + language
    try:
        for i in range(3):
            assert post(h.port, signed(f'held-{i}', b'{}'))[0] == 200
        until('redis', lambda: h.drained('r'))
        # another member dies with all three; it was not the first to die of the last one
        redis('XGROUP', 'CREATE', 'hooks:demo', group, '0')
        held = redis('XREADGROUP', 'GROUP', group, 'ghost', 'STREAMS', 'hooks:demo', '>')[0][1]
        redis('XCLAIM', 'hooks:demo', group, 'ghost', '0', held[2][0], 'RETRYCOUNT', '99')
        args = [redis.socket, 'hooks:demo', group, 'me', 'OUT', '200'] if language == 'c' else [
            '--url', 'unix://' + redis.socket, '--stream', 'hooks:demo', '--group', group, '--consumer', 'me',
            '--idle', '200', '--db', 'OUT']
        run(Consumer('redis', language, *args), h, others=['held-0', 'held-1'])
        # a fast machine is done with the others before the ghost has been idle for long enough
        until('the burial', lambda: redis('XLEN', 'hooks:demo:dead'))
        dead = [fields for _, fields in redis.entries('hooks:demo:dead')]
        assert {f['id'] for f in dead} == {b'held-2'} and dead[0]['entry'] == held[2][0], dead
        until('nothing is pending', lambda: redis('XPENDING', 'hooks:demo', group)[0] == 0)
    finally:
        stop_all(h)
        redis('FLUSHALL')


def through_kafka(language):
    need_kafka()
    topic = 'examples.' + language
    h = Hookline(f'  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: {topic}, '
                 'create: { partitions: 3, replication: 1 } } }').start()
    try:
        assert post(h.port, signed('first', b'{}'))[0] == 200
        until('the topic', lambda: h.drained('k'))
        args = [kafka.broker, topic, 'g-c', 'OUT', 'me'] if language == 'c' else [
            '--brokers', kafka.broker, '--topic', topic, '--group', 'g-python', '--instance', 'me', '--db', 'OUT']
        run(Consumer('kafka', language, *args), h, others=['first'])
    finally:
        stop_all(h)


def http_python():
    """examples/python/http_consumer.py"""
    http('python')


def http_c():
    """examples/c/http_consumer.c"""
    http('c')


def redis_python():
    """examples/python/redis_consumer.py: own pending first, takes over, buries what kills its consumers"""
    through_redis('python')


def redis_c():
    """examples/c/redis_consumer.c: own pending first, takes over, buries what kills its consumers"""
    through_redis('c')


def kafka_python():
    """examples/python/kafka_consumer.py"""
    through_kafka('python')


def kafka_c():
    """examples/c/kafka_consumer.c"""
    through_kafka('c')


try:
    redis.start()
    only = os.environ.get('TEST')
    tests = (http_python, http_c, redis_python, redis_c, kafka_python, kafka_c)
    Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
finally:
    stop_all(redis, kafka)
