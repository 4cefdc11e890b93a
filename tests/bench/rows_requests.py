"""Rows about requests: rates, the latency of one connection, delivery meanwhile, processor time."""
import functools
import os
import time

from lab import FOLDER, ROUNDS, SECONDS, Nginx, Redis, Server, against, load, settle, tool, utilisation

REDIS_TIMEOUT_S = 30
OTHER_SECRET = 'whsec_b3RoZXItc2VjcmV0LW9mLW5vLXVzZS1oZXJl'


@functools.cache
def servers():
    return Nginx().start(), Server('requests').start()


@functools.cache
def rounds(connections):
    """Runs of nginx and of hookline in turn; two rows read the ones with 256 connections."""
    nginx, hookline = servers()
    base, ours = [], []
    for _ in range(ROUNDS):
        settle()
        base.append(load(nginx.port, connections, server=nginx.worker()))
        ours.append(load(hookline.port, connections, server=hookline.p.pid))
    return ours, base


def durable(row, connections):
    ours, base = rounds(connections)
    return against(row, [r['rate'] for r in ours], [r['rate'] for r in base], utilisation(ours, base))


def refused(row):
    """Signed with another secret: the whole check, an entry in the ring of refusals, a 401."""
    nginx, hookline = servers()
    base, ours = [], []
    for _ in range(ROUNDS):
        settle()
        base.append(load(nginx.port, 64, server=nginx.worker()))
        ours.append(load(hookline.port, 64, server=hookline.p.pid, secret=OTHER_SECRET, status=401))
    return against(row, [r['rate'] for r in ours], [r['rate'] for r in base], utilisation(ours, base))


def cpu(row):
    """Microseconds of the server's processor for one request."""
    def per_request(r):
        return r['server_cpu'] * 1e6 / r['answered']
    ours, base = rounds(256)
    return against(row, [per_request(r) for r in ours], [per_request(r) for r in base], utilisation(ours, base))


def latency(row):
    """One connection: an answer of nginx and a bare sync of the same bytes, against our answer after ours."""
    nginx, hookline = servers()
    os.makedirs(FOLDER, exist_ok=True)
    path = os.path.join(FOLDER, 'fsync')
    ours, base, answers, syncs = [], [], [], []
    for _ in range(ROUNDS):
        settle()
        answers.append(load(nginx.port, 1)['p50_us'])
        syncs.append(tool('fsync', path, 900, SECONDS))
        os.unlink(path)
        settle()
        base.append(answers[-1] + syncs[-1])
        ours.append(load(hookline.port, 1, server=hookline.p.pid))
    return against(row, [r['p50_us'] for r in ours], base,
                   {**utilisation(ours), 'nginx_p50_us': answers, 'fdatasync_p50_us': syncs})


def delivered_run(redis, hookline):
    """Counts a request when it is acknowledged and in the stream. The load sends for its seconds; the clock stops when
    the last of what it was acknowledged for is in Redis."""
    redis('FLUSHALL', 'SYNC')
    r = load(hookline.port, 256, server=hookline.p.pid)
    ended, behind = time.monotonic(), r['answered'] - redis('XLEN', 'hooks:demo')
    while redis('XLEN', 'hooks:demo') < r['answered']:
        if time.monotonic() - ended > REDIS_TIMEOUT_S:
            raise RuntimeError(f'{redis("XLEN", "hooks:demo")} of {r["answered"]} delivered: {hookline.status()["sinks"]}')
        time.sleep(0.002)
    tail = time.monotonic() - ended if behind > 0 else 0
    return {**r, 'rate': r['answered'] / (r['seconds'] + tail), 'behind': max(behind, 0)}


def delivered(row):
    nginx, _ = servers()
    redis = Redis().start()
    hookline = Server('delivered', f'  out: {{ redis: {{ url: "unix:{redis.socket}" }} }}')
    try:
        hookline.start()
        base, ours = [], []
        for _ in range(ROUNDS):
            settle()
            base.append(load(nginx.port, 256, server=nginx.worker()))
            ours.append(delivered_run(redis, hookline))
        return against(row, [r['rate'] for r in ours], [r['rate'] for r in base],
                       {**utilisation(ours, base), 'behind_at_the_end': [r['behind'] for r in ours]})
    finally:
        hookline.clean()
        redis.clean()


ROWS = [
    {'id': 'durable-256', 'name': 'durable-acknowledged requests, 256 connections', 'unit': '1/s', 'better': 'higher',
     'gate': 0.75, 'target': 0.95, 'run': lambda row: durable(row, 256)},
    {'id': 'durable-64', 'name': 'durable-acknowledged requests, 64 connections', 'unit': '1/s', 'better': 'higher',
     'gate': 0.55, 'target': 0.75, 'run': lambda row: durable(row, 64)},
    {'id': 'durable-16', 'name': 'durable-acknowledged requests, 16 connections', 'unit': '1/s', 'better': 'higher',
     'gate': 0.22, 'target': 0.32, 'run': lambda row: durable(row, 16)},
    {'id': 'latency', 'name': 'acknowledgement p50, 1 connection', 'unit': 'us', 'better': 'lower',
     'gate': 1.40, 'target': 1.10, 'run': latency},
    {'id': 'refused', 'name': 'refused requests, 64 connections', 'unit': '1/s', 'better': 'higher',
     'gate': 0.85, 'target': 1.05, 'run': refused},
    {'id': 'delivered', 'name': 'acknowledged and delivered to Redis, 256 connections', 'unit': '1/s', 'better': 'higher',
     'gate': 0.50, 'target': 0.70, 'run': delivered},
    {'id': 'cpu', 'name': 'server CPU a durable request, 256 connections', 'unit': 'us', 'better': 'lower',
     'gate': 1.5, 'target': 1.1, 'run': cpu},
]
