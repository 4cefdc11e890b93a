"""Rows about the open internet: TLS, new connections, attacks, crowds that are idle."""
import contextlib
import functools
import os
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import time

from certs import Authority
from client import signed
from lab import LOAD, ROOT, ROUNDS, TOOLS, Nginx, Server, against, folder, load, load_command, on_core, settle, settled_memory, until, utilisation
from rows_memory import IDLE, connect_idle
from rows_requests import OTHER_SECRET

CONNECTIONS = 64
TLS_IDLE = 2000
SLOW, FORGED = 2000, 10000
GOOD = 2000  # a second, over 16 connections


@functools.cache
def certificate():
    path = folder('certificates')
    os.makedirs(path)
    return Authority(path).issue('server')


@functools.cache
def servers(tls):
    pair = certificate() if tls else None
    return Nginx(pair).start(), Server('tls' if tls else 'plain', tls=pair)


def rounds(tls, *how):
    """Runs of nginx and of hookline in turn. hookline is started for the row, and tells when it answers at all."""
    nginx, hookline = servers(tls)
    if not hookline.p:
        hookline.start()
    ours, base = [], []
    for _ in range(ROUNDS):
        settle()
        base.append(load(nginx.port, CONNECTIONS, *how, server=nginx.worker()))
        ours.append(load(hookline.port, CONNECTIONS, *how, server=hookline.p.pid))
    return ours, base


def kept(row):
    ours, base = rounds(True, '-T')
    return against(row, [r['rate'] for r in ours], [r['rate'] for r in base], utilisation(ours, base))


def fresh(row, *how):
    """The client's half of a handshake costs more than the server's, so core 1 may be what limits both. What is compared is how many a
    second of the server's processor gives; how many came in a second of the clock is in the JSON."""
    def a_second(r):
        return r['answered'] / r['server_cpu']
    ours, base = rounds('-T' in how, *how)
    return against(row, list(map(a_second, ours)), list(map(a_second, base)),
                   {**utilisation(ours, base), 'rate': [r['rate'] for r in ours], 'baseline_rate': [r['rate'] for r in base]})


@contextlib.contextmanager
def open_files(n):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (n, max(hard, n)))
    yield


def each_idle(port, pid):
    """KiB that one of TLS_IDLE connections adds, each after one request."""
    context, out = ssl.create_default_context(), []
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    body = b'{"type":"batch.succeeded","pad":"' + b'x' * 565 + b'"}'
    load(port, CONNECTIONS, '-T', seconds=0.5)  # what the process needs for its work is there
    before = settled_memory(pid)
    try:
        for n in range(TLS_IDLE):
            s = context.wrap_socket(socket.create_connection(('127.0.0.1', port)), server_hostname='localhost')
            s.sendall(signed(f'idle-{port}-{n}', body))
            if not s.recv(4096).startswith(b'HTTP/1.1 200'):
                raise RuntimeError('an answer was no 200')
            out.append(s)
        return (settled_memory(pid) - before) / TLS_IDLE / 1024
    finally:
        for s in out:
            s.close()


def idle(row):
    """New processes each time: what an allocator once had it does not take again."""
    ours, base = [], []
    with open_files(TLS_IDLE + 1000):
        for _ in range(ROUNDS):
            nginx, hookline = Nginx(certificate()).start(), Server('tls-idle', source=', dedup: off', tls=certificate())
            try:
                base.append(each_idle(nginx.port, nginx.worker()))
                ours.append(each_idle(hookline.start().port, hookline.p.pid))
            finally:
                nginx.clean()
                hookline.clean()
    return against(row, ours, base)


@contextlib.contextmanager
def attack(port):
    """Slow clients and forged webhooks from core 1, as long as the block takes."""
    slow = subprocess.Popen([*on_core(LOAD), sys.executable, os.path.join(ROOT, 'tests/bench/slow.py'), str(port), str(SLOW)],
                            stdout=subprocess.PIPE)
    forged = None
    try:
        slow.stdout.readline()
        forged = subprocess.Popen(list(map(str, [*on_core(LOAD), os.path.join(TOOLS, 'load'), *load_command(
            port, CONNECTIONS, '-r', FORGED, seconds=60, secret=OTHER_SECRET, status=401)])), stdout=subprocess.DEVNULL)
        yield
    finally:
        for p in (slow, forged):
            if p:
                p.kill()
                p.wait()


def refused(hookline):
    for line in hookline.get('/metrics')[1].decode().split('\n'):
        if line.startswith('hookline_requests_total{source="demo",code="401"}'):
            return float(line.split()[1])
    return 0.0


def attacked(row):
    """p99 of good clients that send so many a second, with and without the attack, in turn."""
    hookline = Server('attacked')
    ours, base, forged = [], [], []
    try:
        hookline.start()
        for _ in range(ROUNDS):
            settle()
            base.append(load(hookline.port, 16, '-r', GOOD, server=hookline.p.pid))
            with attack(hookline.port):
                before, since = refused(hookline), time.monotonic()
                until('the forged come', lambda: refused(hookline) > before)
                before, since = refused(hookline), time.monotonic()
                ours.append(load(hookline.port, 16, '-r', GOOD, server=hookline.p.pid))
                forged.append((refused(hookline) - before) / (time.monotonic() - since))
            until('they are gone', lambda: b'hookline_connections 0\n' in hookline.get('/metrics')[1])
        if statistics.median(forged) < FORGED * 0.9:
            raise RuntimeError(f'only {statistics.median(forged):.0f} forged requests a second came')
        return against(row, [r['p99_us'] for r in ours], [r['p99_us'] for r in base], {**utilisation(ours, base), 'forged': forged})
    finally:
        hookline.clean()


def crowded(row):
    """Answers a second over 64 connections while 10,000 others are idle, and without them, in turn."""
    hookline = Server('crowded', limits=f'limits: {{ connections: {IDLE + 1000}, header_timeout: 1h, idle_timeout: 1h }}')
    ours, base = [], []
    try:
        hookline.start()
        with open_files(IDLE + 1000):
            for _ in range(ROUNDS):
                settle()
                base.append(load(hookline.port, CONNECTIONS, server=hookline.p.pid))
                crowd = connect_idle(hookline.port)
                try:
                    until('all are there', lambda: f'hookline_connections {IDLE}\n'.encode() in hookline.get('/metrics')[1])
                    ours.append(load(hookline.port, CONNECTIONS, server=hookline.p.pid))
                finally:
                    for s in crowd:
                        s.close()
                until('they are gone', lambda: b'hookline_connections 0\n' in hookline.get('/metrics')[1])
        return against(row, [r['rate'] for r in ours], [r['rate'] for r in base], utilisation(ours, base))
    finally:
        hookline.clean()


ROWS = [
    {'id': 'tls-64', 'name': 'durable-acknowledged requests over TLS 1.3, 64 connections', 'unit': '1/s', 'better': 'higher',
     'gate': 0.45, 'target': 0.65, 'run': kept},
    {'id': 'tls-new', 'name': 'a new TLS 1.3 connection for each request, ECDSA P-256', 'unit': '1/cpu s', 'better': 'higher',
     'gate': 0.75, 'target': 0.95, 'run': lambda row: fresh(row, '-T', '-f')},
    {'id': 'plain-new', 'name': 'a new plain connection for each request', 'unit': '1/cpu s', 'better': 'higher',
     'gate': 0.70, 'target': 0.90, 'run': lambda row: fresh(row, '-f')},
    {'id': 'tls-idle', 'name': f'memory of an idle TLS connection, {TLS_IDLE:,} of them', 'unit': 'KiB', 'better': 'lower',
     'gate': 1.3, 'target': 1.0, 'run': idle},
    {'id': 'attacked', 'name': 'p99 of good clients during 2,000 slow connections and 10,000 forged requests a second', 'unit': 'us',
     'better': 'lower', 'gate': 2.0, 'target': 1.3, 'run': attacked},
    {'id': 'idle-10000', 'name': 'durable-acknowledged requests, 64 connections, while 10,000 are idle', 'unit': '1/s', 'better': 'higher',
     'gate': 0.80, 'target': 0.95, 'run': crowded},
]
