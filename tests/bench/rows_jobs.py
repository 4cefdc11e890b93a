"""Rows about jobs: how soon who awaits one is told, and what ten thousand of them weigh."""
import json
import resource
import statistics
import time

from lab import ROUNDS, Server, against, alone, settled_memory, until
from client import Connection, signed
from rows_memory import IDLE, connect_idle

TIMES = 100


def ask(ident):
    return f'GET /v1/jobs/{ident}?wait=600 HTTP/1.1\r\nHost: a\r\n\r\n'.encode()


def one_round():
    """p50 of a webhook's acknowledgement, and of the answer to who awaits its job, from the same start."""
    hookline = Server('told')
    try:
        hookline.start()
        sender, acked, told = Connection(hookline.port), [], []
        for n in range(TIMES):
            waits = Connection(hookline.admin)
            waits.send(ask(f'job-{n}'))
            until('it waits', lambda: b'hookline_job_waiters 1\n' in hookline.get('/metrics')[1], 30)
            body = json.dumps({'type': 'batch.succeeded', 'data': {'id': f'job-{n}'}, 'pad': 'x' * 500}).encode()
            start = time.perf_counter()
            sender.send(signed(f'msg_{n}', body))
            sender.reply()
            acked.append(time.perf_counter() - start)
            if waits.reply()[0] != 200:
                raise RuntimeError('an answer was no 200')
            told.append(time.perf_counter() - start)
            waits.close()
        return statistics.median(told) * 1e6, statistics.median(acked) * 1e6
    finally:
        hookline.clean()


def told(row):
    rounds = [one_round() for _ in range(ROUNDS)]
    return against(row, [r[0] for r in rounds], [r[1] for r in rounds])


def memory_each():
    hookline, connections = Server('waiting', limits=f'jobs: {{ waiters: {IDLE} }}\nlimits: {{ connections: 100 }}'), []
    try:
        hookline.start()
        before = settled_memory(hookline.p.pid)
        connections = connect_idle(hookline.admin)
        for n, c in enumerate(connections):
            c.sendall(ask(f'batches/job-{n}'))
        until('all wait', lambda: f'hookline_job_waiters {IDLE}\n'.encode() in hookline.get('/metrics')[1], 30)
        return (settled_memory(hookline.p.pid) - before) / IDLE / 1024
    finally:
        for c in connections:
            c.close()
        hookline.clean()


def waiting(row):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + 1000, max(hard, IDLE + 1000)))
    return alone(row, [memory_each() for _ in range(ROUNDS)])


ROWS = [
    {'id': 'job-told', 'name': 'webhook to the answer of who awaits its job, p50; baseline: its 200', 'unit': 'us', 'better': 'lower',
     'gate': 1.5, 'target': 1.1, 'run': told},
    {'id': 'job-memory', 'name': 'memory of one who awaits a job, 10,000 of them', 'unit': 'KiB', 'better': 'lower', 'gate': 3,
     'target': 1.5, 'run': waiting},
]
