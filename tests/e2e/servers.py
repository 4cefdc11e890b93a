"""Starts and kills the real programs of the end-to-end tests: hookline, Redis, a Kafka broker.

Each listens on loopback at a port that was free, keeps its files in a folder of its own, and is stopped
by its pid. After kill -9 the pid is awaited before anything connects again."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(os.path.join(ROOT, 'tests/audit'))
import dumps  # noqa: E402
import outputs  # noqa: E402
HOOKLINE = os.path.abspath(os.environ.get('HOOKLINE', os.path.join(ROOT, 'build/hookline')))
CACHE = os.environ.get('HOOKLINE_CACHE', os.path.join(ROOT, '.cache'))
# the leak sanitizer looks at the process from outside, as a debugger does
SANITIZER_NEEDS = 'process: { core_dumps: true, sandbox: off }\n' if '/asan/' in HOOKLINE or '/tsan/' in HOOKLINE else ''
KAFKA_VERSION = '4.3.1'
SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def until(what, check, seconds=60):
    """A generous deadline against hanging, never a statement about speed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if check():
                return
        except (OSError, RuntimeError):
            pass
        time.sleep(0.05)
    raise TimeoutError(f'{what}: not within {seconds} s')


def memory(pid):
    """RssAnon + RssShmem in bytes: the mapped log is not in it."""
    with open(f'/proc/{pid}/status') as f:
        return sum(int(line.split()[1]) * 1024 for line in f if line.startswith(('RssAnon', 'RssShmem')))


class Process:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix='hookline-e2e-')
        self.p = None

    def spawn(self, argv, log, env=None):
        with open(os.path.join(self.dir, log), 'ab') as out:
            self.p = subprocess.Popen(argv, stdout=out, stderr=out, cwd=self.dir, env=env)

    def kill(self):
        if self.p:
            self.p.kill()
            self.p.wait()
            self.p = None

    def pause(self):
        self.p.send_signal(signal.SIGSTOP)

    def resume(self):
        self.p.send_signal(signal.SIGCONT)

    def stop(self, seconds=60):
        if not self.p:
            return None
        self.p.send_signal(signal.SIGTERM)
        code = self.p.wait(seconds)
        self.p = None
        return code

    def text(self, log):
        with open(os.path.join(self.dir, log), errors='replace') as f:
            return f.read()

    def clean(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class Hookline(Process):
    """The real binary with an inline configuration. `sinks` and `extra` are YAML text."""

    def __init__(self, sinks='', extra='', sources=None):
        super().__init__()
        self.port, self.admin = free_port(), free_port()
        self.config = os.path.join(self.dir, 'hookline.yaml')
        self.write_config(sinks, extra, sources)

    def write_config(self, sinks='', extra='', sources=None):
        sources = sources or f"""
  demo: {{ provider: gemini, secrets: ["{SECRET}"] }}
  open: {{ provider: none }}"""
        with open(self.config, 'w') as f:
            f.write(f"""listen: 127.0.0.1:{self.port}
admin: {{ listen: 127.0.0.1:{self.admin} }}
shutdown: {{ delay: 0s, timeout: 20s }}
log: {{ dir: "{self.dir}/data", reserve_bytes: 1MiB, segment_bytes: 8MiB, allow_volatile: true }}
sources:{sources}
{extra}
{SANITIZER_NEEDS}""" + (f'sinks:\n{sinks}\n' if sinks else ''))

    def start(self, wrap=(), args=()):
        self.spawn([*wrap, HOOKLINE, 'serve', '-c', self.config, *args], 'log')
        until('hookline ready', lambda: self.p.poll() is not None or self.get('/readyz')[0] == 200)
        if self.p.poll() is not None:
            raise RuntimeError(f'hookline ended with {self.p.returncode}:\n' + self.text('log'))
        return self

    def spawn(self, argv, log, env=None):
        outputs.keep_secrets(self.config, env)
        super().spawn(argv, log, env)

    def clean(self):
        outputs.keep_secrets(self.config)  # it may have been written anew
        self.kill()
        outputs.keep_files(self.dir)
        super().clean()

    def get(self, path, headers=None):
        c = http.client.HTTPConnection('127.0.0.1', self.admin, timeout=60)
        try:
            c.request('GET', path, headers=headers or {})
            r = c.getresponse()
            body = r.read()
            outputs.keep_event_free(path, b'%d %s\n%s' % (r.status, bytes(r.headers), body))
            return r.status, body, r
        finally:
            c.close()

    def status(self):
        return json.loads(self.get('/status')[1])

    def drained(self, sink):
        s = self.status()
        return s['sinks'][sink]['lsn'] >= s['log']['durable_lsn']

    def passed(self, sink, lsn):
        return self.status()['sinks'][sink]['lsn'] >= lsn

    def reload(self):
        outputs.keep_secrets(self.config)
        self.p.send_signal(signal.SIGHUP)


class Redis(Process):
    def __init__(self, *options):
        super().__init__()
        self.socket = os.path.join(self.dir, 's')
        self.options = options
        self.password = None  # of the tests' own connections

    def start(self):
        self.launch()
        until('redis', lambda: self('PING') == b'PONG')
        return self

    def launch(self):
        self.spawn(['redis-server', '--dir', self.dir, '--port', '0', '--unixsocket', self.socket, '--save', '',
                    *self.options], 'log')

    def __call__(self, *args):
        with dumps.Redis(f'unix:{self.socket}', self.password) as connection:
            return connection(*args)

    def entries(self, stream):
        """All entries as (redis id, {field: bytes})."""
        with dumps.Redis(f'unix:{self.socket}', self.password) as connection:
            return list(connection.entries(stream))


class Skip(Exception):
    pass


class Kafka(Process):
    """One real broker (KRaft). The jars come from Maven Central into .cache once."""

    POM = f"""<project><modelVersion>4.0.0</modelVersion><groupId>hookline.test</groupId><artifactId>kafka-broker</artifactId>
<version>1</version><packaging>pom</packaging><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{KAFKA_VERSION}</version><exclusions>
<exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-runtime</artifactId></exclusion>
<exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-api</artifactId></exclusion>
<exclusion><groupId>org.apache.kafka</groupId><artifactId>connect-json</artifactId></exclusion></exclusions></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency></dependencies></project>"""

    def __init__(self):
        super().__init__()
        self.jars = os.path.join(CACHE, f'kafka-{KAFKA_VERSION}')
        if not shutil.which('java') or not shutil.which('kcat'):
            raise Skip('java or kcat is not installed')
        if not os.path.exists(os.path.join(self.jars, 'complete')):
            self.fetch()
        self.port, controller = free_port(), free_port()
        self.broker = f'127.0.0.1:{self.port}'
        self.properties = os.path.join(self.dir, 'server.properties')
        with open(self.properties, 'w') as f:
            f.write(f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={self.dir}/data
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
log.cleaner.dedupe.buffer.size=2097152
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
""")
        self.java = ['java', '-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xss512k',
                     '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', '-cp', self.jars + '/*']
        subprocess.run([*self.java, 'kafka.tools.StorageTool', 'format', '-t', 'MkU3OEVBNTcwNTJENDM2Qg', '-c',
                        self.properties], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.archive()

    def archive(self):
        """Java's archive of loaded classes, made once: a broker starts in half the time."""
        path = self.jars + '.jsa'
        if not os.path.exists(path):
            plain, self.java = self.java, [self.java[0], f'-XX:ArchiveClassesAtExit={self.dir}/classes.jsa', *self.java[1:]]
            self.start()
            self.stop()
            self.java = plain
            shutil.move(f'{self.dir}/classes.jsa', path + f'.{os.getpid()}')
            os.replace(path + f'.{os.getpid()}', path)
        self.java.insert(1, f'-XX:SharedArchiveFile={path}')

    def fetch(self):
        if not shutil.which('mvn'):
            raise Skip('maven is not installed')
        os.makedirs(CACHE, exist_ok=True)
        pom = os.path.join(CACHE, 'pom.xml')
        with open(pom, 'w') as f:
            f.write(self.POM)
        r = subprocess.run(['mvn', '-q', '-B', '-ntp', '-f', pom,
                            'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies',
                            '-DincludeScope=runtime', f'-DoutputDirectory={self.jars}'], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        if r.returncode:
            raise Skip('the broker could not be fetched: ' + r.stdout.decode(errors='replace').strip()[-200:])
        open(os.path.join(self.jars, 'complete'), 'w').close()

    def start(self):
        self.spawn([*self.java, 'kafka.Kafka', self.properties], 'log')
        until('kafka', lambda: subprocess.run(['kcat', '-b', self.broker, '-L', '-m', '2'], stdout=subprocess.DEVNULL,
                                              stderr=subprocess.DEVNULL).returncode == 0, 120)
        return self

    def create(self, topic, **config):
        args = [x for k, v in config.items() for x in ('--config', f'{k.replace("_", ".")}={v}')]
        subprocess.run([*self.java, 'org.apache.kafka.tools.TopicCommand', '--bootstrap-server', self.broker, '--create',
                        '--topic', topic, '--partitions', '1', *args], check=True, stdout=subprocess.DEVNULL)

    def messages(self, topic):
        """All committed messages as (partition, offset, key, {header: text}, value)."""
        return list(dumps.kafka_messages(self.broker, topic))


def stalling():
    """(wrap, file): hookline whose fdatasync waits while the file exists."""
    if not shutil.which('cc'):
        raise Skip('no C compiler')
    folder = os.environ.get('TMPDIR', '/tmp')
    shim = os.path.join(folder, f'hookline-stall-{os.getpid()}.so')
    subprocess.run(['cc', '-shared', '-fPIC', '-o', shim, os.path.join(ROOT, 'tests/e2e/stall.c'), '-ldl'], check=True)
    stall = shim[:-3]
    return ['env', f'LD_PRELOAD={shim}', f'STALL={stall}', 'ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0'], stall


def stop_all(*processes):
    for p in processes:
        if p:
            p.clean()


class Tap:
    """Runs functions as tests and prints TAP."""

    def __init__(self):
        self.failed = 0

    def run(self, *tests):
        for n, test in enumerate(tests, 1):
            name = (test.__doc__ or test.__name__).strip().split('\n')[0]
            try:
                test()
                print(f'ok {n} - {name}', flush=True)
            except Skip as e:
                print(f'ok {n} - {name} # SKIP {e}', flush=True)
            except BaseException as e:  # a test that is interrupted has failed
                import traceback
                self.failed += 1
                print(f'not ok {n} - {name}', flush=True)
                print('\n'.join('# ' + l for l in traceback.format_exc().split('\n')), flush=True)
                if isinstance(e, KeyboardInterrupt):
                    raise
        print(f'1..{len(tests)}')
        sys.exit(self.failed > 0)
