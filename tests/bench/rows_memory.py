"""Rows about memory: RssAnon + RssShmem of the server."""
import resource
import socket
import struct
import time

from lab import MIB, ROUNDS, Kafka, Redis, Server, alone, load, settled_memory, until
from client import signed

EVENTS = 1000000
IDLE = 10000
AT_ONCE = 256
FEW_JOBS = 'jobs: { entries: 1000 }'  # the table of jobs, bounded by a setting of its own, is not what the row is about
PER_ADDRESS = 5000  # far below the number of local ports that Linux gives out
IP_BIND_ADDRESS_NO_PORT = 24  # Python 3.11 has no name for it


def backlog(row):
    """Events pile up behind a sink whose server is not there."""
    ours, empty = [], []
    for _ in range(ROUNDS):
        hookline = Server('backlog', '  out: { redis: { url: "unix:/nonexistent/s" } }', limits=FEW_JOBS)
        try:
            hookline.start()
            empty.append(settled_memory(hookline.p.pid) / MIB)
            load(hookline.port, AT_ONCE, count=EVENTS)
            ours.append(settled_memory(hookline.p.pid) / MIB - empty[-1])
            if hookline.status()['sinks']['out']['lag_events'] != EVENTS:
                raise RuntimeError('the backlog is not what was sent')
        finally:
            hookline.clean()
    return alone(row, ours, {'at_zero': empty})


def connect_idle(port):
    """All connections, from as many source addresses as it takes, no faster than they are accepted."""
    out = []
    for n in range(IDLE):
        if n % AT_ONCE == 0:
            time.sleep(0.02)
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))  # leaves no port behind in TIME_WAIT
        s.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        s.bind((f'127.0.0.{2 + n // PER_ADDRESS}', 0))
        s.connect(('127.0.0.1', port))
        out.append(s)
    return out


def ask_all(connections, first):
    """One request on each, as many in flight as the other rows have."""
    body = b'{"type":"batch.succeeded","pad":"' + b'x' * 565 + b'"}'
    for at in range(0, len(connections), AT_ONCE):
        some = connections[at:at + AT_ONCE]
        for n, c in enumerate(some):
            c.sendall(signed(f'msg_{first + at + n}', body))
        for c in some:
            if not c.recv(4096).startswith(b'HTTP/1.1 200'):
                raise RuntimeError('an answer was no 200')


def per_connection(used):
    """Deduplication is off: its index would be counted as the connections' own."""
    hookline = Server('idle', source=', dedup: off', limits=f'limits: {{ connections: {IDLE + 100}, header_timeout: 60s }}')
    connections = []
    try:
        hookline.start()
        load(hookline.port, AT_ONCE, seconds=0.5)  # what the process needs for its work is there
        before = settled_memory(hookline.p.pid)
        connections = connect_idle(hookline.port)
        if used:
            ask_all(connections, 0)
        until('all connections', lambda: f'hookline_connections {IDLE}\n'.encode() in hookline.get('/metrics')[1], 30)
        after = settled_memory(hookline.p.pid)
        return (after - before) / IDLE / 1024
    finally:
        for c in connections:
            c.close()
        hookline.clean()


def idle(row):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = IDLE + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    ours, silent = [], []
    for _ in range(ROUNDS):
        ours.append(per_connection(True))
        silent.append(per_connection(False))
    return alone(row, ours, {'never_sent_a_byte': silent})


def both_sinks(row):
    """A thousand events through each, so that connections and buffers are there, then quiet."""
    kafka, redis = Kafka(), Redis().start()
    ours = []
    try:
        kafka.start()
        for n in range(ROUNDS):
            hookline = Server('sinks', f'  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: "idle-{n}", create: {{}} }} }}\n'
                                       f'  r: {{ redis: {{ url: "unix:{redis.socket}" }} }}')
            try:
                hookline.start()
                load(hookline.port, 16, count=1000)
                until('delivery', lambda: hookline.drained('k') and hookline.drained('r'))
                ours.append(settled_memory(hookline.p.pid) / MIB)
            finally:
                hookline.clean()
    finally:
        kafka.clean()
        redis.clean()
    return alone(row, ours)


ROWS = [
    {'id': 'memory-backlog', 'name': 'memory added by 1 million undelivered events', 'unit': 'MiB', 'better': 'lower',
     'gate': 16, 'target': 2, 'run': backlog},
    {'id': 'memory-idle', 'name': 'memory of an idle connection, 10,000 of them', 'unit': 'KiB', 'better': 'lower',
     'gate': 2, 'target': 1, 'run': idle},
    {'id': 'memory-sinks', 'name': 'idle memory with both sinks connected', 'unit': 'MiB', 'better': 'lower', 'gate': 32,
     'target': 12, 'run': both_sinks},
]
