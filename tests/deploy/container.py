"""What the tests of images share: they run themselves again inside `engine`, where podman works, and speak to the
containers over the loopback of a network namespace of their own."""
import http.client
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'e2e'))
from servers import CACHE, ROOT, Kafka, Skip, Tap, until  # noqa: E402,F401

# a socket's name in it ends at 107 bytes
STATE = os.environ.get('ENGINE_STATE') or os.path.join(CACHE, 'engine')
TOOLS = ('buildah', 'podman', 'crun', 'mmdebstrap', 'unshare', 'ip')


def run(*argv, check=True, seconds=1800, **more):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=seconds, **more)
    if check and p.returncode:
        raise RuntimeError(f'{" ".join(argv)}: {p.returncode}\n{p.stdout.decode()}{p.stderr.decode()}')
    return p


def podman(*argv, **more):
    return run('podman', *argv, **more).stdout.decode().strip()


def usable(*tools):
    """Ends the test as skipped, with the reason, where the tools are not there."""
    missing = [t for t in tools if not shutil.which(t)]
    reason = f'missing: {" ".join(missing)}' if missing else 'it takes root' if os.getuid() else None
    if reason:
        print(f'1..1\nok 1 - {os.path.basename(sys.argv[0])} # SKIP {reason}')
        sys.exit(0)
    os.environ['ENGINE_STATE'] = STATE


def enter(*images):
    """Builds the images, then goes on inside the engine; does not return where that cannot be done."""
    if os.environ.get('ENGINE_INSIDE'):
        return
    usable(*TOOLS)
    p = subprocess.run([HERE + '/engine', HERE + '/images', *images])
    if p.returncode:
        print('1..1\nnot ok 1 - the images are built')
        sys.exit(1)
    os.execv(HERE + '/engine', [HERE + '/engine', '--net', sys.executable, *sys.argv])


def call(method, url, body=None, headers=None):
    host, _, path = url.partition('/')
    c = http.client.HTTPConnection(host, timeout=60)
    try:
        c.request(method, '/' + path, body=body, headers=headers or {})
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def post(n, url='127.0.0.1:8080/hooks/open', size=0):
    return call('POST', url, json.dumps({'type': 'test', 'n': n, 'pad': 'x' * size}), {'content-type': 'application/json'})


def ready(name, admin='127.0.0.1:9180'):
    def ended():
        return podman('inspect', '-f', '{{.State.Status}}', name) == 'exited'
    until('ready', lambda: call('GET', admin + '/readyz')[0] == 200 or ended())
    assert not ended(), run('podman', 'logs', name).stderr.decode()


def events(admin='127.0.0.1:9180', headers=None):
    """The n of every event that the log still gives out."""
    found, after = [], 0
    while True:
        status, text = call('GET', f'{admin}/v1/events?after={after}&limit=1000', headers=headers)
        assert status == 200, text
        page = json.loads(text)
        if not page:
            return found
        found += [e['data']['n'] for e in page]
        after = page[-1]['lsn']
