"""What the rows share: pinned servers, the load, processor time and memory of a process, cold files.

The runner itself sits on core 1 beside the load and sleeps while something is measured. hookline and nginx are
on core 0. The log lies in build/bench on a real disk."""
import json
import os
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault('HOOKLINE', os.path.join(ROOT, 'build/release/hookline'))
sys.path.insert(0, os.path.join(ROOT, 'tests/e2e'))
import servers  # noqa: E402
from servers import HOOKLINE, SECRET, Hookline, Process, free_port, memory, until  # noqa: E402, F401

ROUNDS = int(os.environ.get('ROUNDS', '5'))
SECONDS = float(os.environ.get('SECONDS', '3'))
SERVER, LOAD = '0', '1'
FOLDER = os.path.join(ROOT, 'build/bench')
TOOLS = os.path.join(ROOT, 'build/release/tests/bench')
# for a look at a busy machine, e.g. PRIORITY='nice -n -20'
PRIORITY = shlex.split(os.environ.get('PRIORITY', ''))
MIB = 1 << 20


def on_core(core):
    return [*PRIORITY, 'taskset', '-c', core]


def tool(name, *args, core=SERVER):
    """Runs one of the small C programs and returns what it printed, parsed."""
    out = subprocess.run([*on_core(core), os.path.join(TOOLS, name), *map(str, args)], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)


def folder(name):
    """An empty folder for a log, on the disk."""
    path = os.path.join(FOLDER, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def settle():
    """No dirty pages of the last measurement are written during the next."""
    os.sync()
    time.sleep(0.3)


def chill(path):
    """Drops the pages of all files in a folder."""
    os.sync()
    for name in os.listdir(path):
        fd = os.open(os.path.join(path, name), os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def cpu_seconds(pid):
    """Processor time of all threads that live, to the nanosecond."""
    total = 0
    for task in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{task}/schedstat') as f:
            total += int(f.read().split()[0])
    return total / 1e9


def settled_memory(pid):
    """The lowest of a second: what is there when nothing goes on."""
    seen = []
    for _ in range(10):
        time.sleep(0.1)
        seen.append(memory(pid))
    return min(seen)


class Pinned:
    """A server on a core of its own; `run` stops what is left of them at the end."""
    core, started = SERVER, []

    def spawn(self, argv, log, env=None):
        Pinned.started.append(self)
        super().spawn([*on_core(self.core), *argv], log, env)


class Server(Pinned, Hookline):
    """hookline with one intake thread on core 0 and the default settings of its log."""

    def __init__(self, name, sinks='', source='', limits='', tls=None):
        self.log, self.source, self.limits = folder(name), source, limits
        self.tls = tls and f', tls: {{ cert: "{tls[0]}", key: "{tls[1]}" }}'
        super().__init__(sinks)

    def write_config(self, sinks='', extra='', sources=None):
        with open(self.config, 'w') as f:
            f.write(f"""listen: {{ address: "127.0.0.1:{self.port}"{self.tls or ""} }}
admin: {{ listen: 127.0.0.1:{self.admin} }}
threads: 1
shutdown: {{ delay: 0s, timeout: 20s }}
log: {{ dir: "{self.log}", allow_volatile: true }}
sources:
  demo: {{ provider: gemini, secrets: ["{SECRET}"]{self.source} }}
{self.limits}
""" + (f'sinks:\n{sinks}\n' if sinks else ''))

    def clean(self):
        super().clean()
        shutil.rmtree(self.log, ignore_errors=True)


class Nginx(Pinned, Process):
    """`return 200` with one worker: the cheapest answer that a server gives. It reads the body and drops it. With
    a certificate and its key it speaks TLS."""

    def __init__(self, tls=None):
        super().__init__()
        self.ssl, self.tls = ('ssl', f'ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]}; ssl_protocols TLSv1.2 TLSv1.3;') if tls else ('', '')

    def start(self):
        self.port = free_port()
        conf = os.path.join(self.dir, 'nginx.conf')
        with open(conf, 'w') as f:
            f.write(f"""worker_processes 1; daemon off; pid {self.dir}/nginx.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {self.dir}/b; proxy_temp_path {self.dir}/p;
fastcgi_temp_path {self.dir}/f; uwsgi_temp_path {self.dir}/u; scgi_temp_path {self.dir}/s;
server {{ listen 127.0.0.1:{self.port} {self.ssl}; {self.tls} location / {{ return 200 "ok"; }} }} }}
""")
        self.spawn(['nginx', '-c', conf], 'log')
        until('nginx', lambda: socket.create_connection(('127.0.0.1', self.port), 1).close() or True)
        return self

    def kill(self):
        """A killed master leaves its worker behind."""
        self.stop()

    def worker(self):
        with open(f'/proc/{self.p.pid}/task/{self.p.pid}/children') as f:
            return int(f.read().split()[0])


class Redis(Pinned, servers.Redis):
    core = LOAD


class Kafka(Pinned, servers.Kafka):
    core = LOAD


def load_command(port, connections, *more, seconds=None, count=None, secret=SECRET, status=200):
    return ['-p', port, '-c', connections, '-s', secret, '-a', status, *(['-n', count] if count else ['-t', seconds or SECONDS]), *more]


def load(port, connections, *more, server=None, status=200, **settings):
    """One run of the load: what it printed, and the processor time of the server's pid meanwhile."""
    args = load_command(port, connections, *more, status=status, **settings)
    before = cpu_seconds(server) if server else 0
    out = tool('load', *args, core=LOAD)
    if out['bad']:
        raise RuntimeError(f'{out["bad"]} answers were no {status}')
    out['server_cpu'] = cpu_seconds(server) - before if server else 0
    return out


def spread(values):
    values = sorted(values)
    return values[0], statistics.median(values), values[-1]


def against(row, ours, base, utilisation=None):
    """The result of a row that has a baseline: the median of the rounds' own ratios."""
    low, ratio, high = spread([o / b for o, b in zip(ours, base)])
    return result(row, statistics.median(ours), statistics.median(base), ratio, low, high, ratio, utilisation)


def alone(row, ours, utilisation=None):
    """The result of a row without one: its own figure is held against gate and target."""
    low, value, high = spread(ours)
    return result(row, value, None, None, low, high, value, utilisation)


def result(row, ours, baseline, ratio, low, high, judged, more):
    met = (lambda limit: judged >= limit) if row['better'] == 'higher' else (lambda limit: judged <= limit)
    return {'id': row['id'], 'name': row['name'], 'unit': row['unit'], 'better': row['better'], 'ours': ours,
            'baseline': baseline, 'ratio': ratio, 'low': low, 'high': high, 'gate': row['gate'], 'target': row['target'],
            'met': met(row['gate']), 'target_met': met(row['target']), **(more or {})}


def utilisation(ours, base=()):
    """How busy the cores of server and load were: who was waited for."""
    out = {}
    for prefix, runs in (('', ours), ('baseline_', base)):
        if runs:
            out[prefix + 'server_cpu'] = round(statistics.median([r['server_cpu'] / r['seconds'] for r in runs]), 3)
            out[prefix + 'load_cpu'] = round(statistics.median([r['cpu'] / r['seconds'] for r in runs]), 3)
    return out
