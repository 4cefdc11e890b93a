"""The manifests and the chart on a real API server, with its controllers and scheduler, and pods that really run: rolled out,
updated under load, drained, scaled down. Services are not covered: the load goes to the pods that are ready, as one would."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from container import CACHE, HERE, ROOT, Tap, enter, events, post, run, until

BIN = os.path.join(CACHE, 'deploy/kube-1.37.2')
folder = tempfile.mkdtemp(prefix='hookline-kube-')
KUBECONFIG, API, TOKEN, GATE = folder + '/kubeconfig', 'https://127.0.0.1:36443', 'admin-token', '10.99.0.1'
children, acknowledged = [], []
SINK = f'sinks: {{ stream: {{ redis: {{ url: "redis://{GATE}:6379/0", stream: all }} }} }}\n'
SOURCE = '  open: { provider: none }\n'


def child(name, *argv, env=None):
    with open(f'{folder}/{name}.log', 'ab') as out:
        p = subprocess.Popen(argv, stdout=out, stderr=out, cwd=folder, env={**os.environ, **(env or {})})
    children.append(p)
    return p


def kubectl(*argv, check=True, text=None, ns='hookline'):
    p = subprocess.run([BIN + '/kubectl', '--kubeconfig', KUBECONFIG, '-n', ns, *argv], input=text and text.encode(), stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=300)
    out = p.stdout.decode(errors='replace')
    assert p.returncode == 0 or not check, (argv, out)
    return out.strip() if check else (p.returncode, out)


def helm(*argv, check=True):
    p = subprocess.run([BIN + '/helm', '--kubeconfig', KUBECONFIG, '-n', 'chart', *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=300)
    assert p.returncode == 0 or not check, (argv, p.stdout.decode())
    return p.stdout.decode()


def control_plane():
    etcd = 'http://127.0.0.1:32379'
    child('etcd', BIN + '/etcd', '--data-dir', folder + '/etcd', '--listen-client-urls', etcd, '--advertise-client-urls', etcd,
          '--listen-peer-urls', 'http://127.0.0.1:32380', '--initial-advertise-peer-urls', 'http://127.0.0.1:32380',
          '--initial-cluster', 'default=http://127.0.0.1:32380', '--unsafe-no-fsync')
    run('openssl', 'genrsa', '-out', folder + '/sa.key', '2048')
    with open(folder + '/tokens.csv', 'w') as f:
        f.write(f'{TOKEN},admin,admin,"system:masters"\n')
    with open(KUBECONFIG, 'w') as f:
        json.dump({'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'x', 'contexts': [{'name': 'x', 'context': {'cluster': 'c', 'user': 'u'}}],
                   'clusters': [{'name': 'c', 'cluster': {'server': API, 'insecure-skip-tls-verify': True}}],
                   'users': [{'name': 'u', 'user': {'token': TOKEN}}]}, f)
    child('apiserver', BIN + '/kube-apiserver', '--etcd-servers=' + etcd, '--bind-address=127.0.0.1', '--advertise-address=127.0.0.1',
          '--secure-port=36443', f'--cert-dir={folder}/certs', '--service-cluster-ip-range=10.96.0.0/16', '--endpoint-reconciler-type=none',
          '--service-account-issuer=https://kubernetes.default.svc', f'--service-account-key-file={folder}/sa.key',
          f'--service-account-signing-key-file={folder}/sa.key', f'--token-auth-file={folder}/tokens.csv', '--authorization-mode=RBAC')
    until('the API server', lambda: kubectl('get', '--raw', '/readyz', check=False)[0] == 0, 120)
    common = [f'--{k}={KUBECONFIG}' for k in ('kubeconfig', 'authentication-kubeconfig', 'authorization-kubeconfig')] + [
        '--authentication-skip-lookup=true', '--bind-address=127.0.0.1', '--leader-elect=false']
    child('manager', BIN + '/kube-controller-manager', *common, f'--service-account-private-key-file={folder}/sa.key', f'--cert-dir={folder}/manager',
          '--controllers=' + ','.join(f'{c}-controller' for c in (
              'statefulset', 'job', 'disruption', 'endpointslice', 'serviceaccount', 'namespace', 'persistentvolume-binder',
              'persistentvolumeclaim-protection')) + ',garbage-collector-controller')
    child('scheduler', BIN + '/kube-scheduler', *common, f'--cert-dir={folder}/scheduler')
    kubectl('apply', '-f', '-', text=json.dumps({'apiVersion': 'v1', 'kind': 'List', 'items': [
        {'apiVersion': 'storage.k8s.io/v1', 'kind': 'StorageClass', 'metadata': {'name': 'local', 'annotations': {
            'storageclass.kubernetes.io/is-default-class': 'true'}}, 'provisioner': 'kubernetes.io/no-provisioner',
         'volumeBindingMode': 'WaitForFirstConsumer'}]
        + [{'apiVersion': 'v1', 'kind': 'Namespace', 'metadata': {'name': n, 'labels': {
            'pod-security.kubernetes.io/enforce': 'restricted', 'pod-security.kubernetes.io/warn': 'restricted'}}} for n in ('hookline', 'chart')]
        + [{'apiVersion': 'v1', 'kind': 'Node', 'metadata': {'name': f'node-{n}', 'labels': {
            'kubernetes.io/hostname': f'node-{n}', 'kubernetes.io/os': 'linux', 'topology.kubernetes.io/zone': f'z{n}'}},
            'status': {k: {'cpu': '4', 'memory': '8Gi', 'pods': '110'} for k in ('capacity', 'allocatable')}} for n in range(3)]
        + [{'apiVersion': 'v1', 'kind': 'PersistentVolume', 'metadata': {'name': f'volume-{n}'}, 'spec': {
            'capacity': {'storage': '10Gi'}, 'accessModes': ['ReadWriteOncePod'], 'persistentVolumeReclaimPolicy': 'Retain',
            'storageClassName': 'local', 'local': {'path': '/data'}, 'nodeAffinity': {'required': {'nodeSelectorTerms': [{
                'matchExpressions': [{'key': 'kubernetes.io/hostname', 'operator': 'In', 'values': [f'node-{n % 3}']}]}]}}}} for n in range(6)]}))
    kubectl('taint', 'nodes', '--all', 'node.kubernetes.io/not-ready-', check=False)
    for argv in (['link', 'add', 'pods', 'type', 'bridge'], ['addr', 'add', GATE + '/16', 'dev', 'pods'], ['link', 'set', 'pods', 'up']):
        run('ip', *argv)
    child('podlet', sys.executable, HERE + '/podlet.py', env={'API': API, 'TOKEN': TOKEN, 'PODLET_DIR': folder + '/pods'})


def pods(ns='hookline', ready=True):
    items = json.loads(kubectl('get', 'pods', '-o', 'json', ns=ns))['items']
    return {p['metadata']['name']: p for p in items if not ready or (
        'deletionTimestamp' not in p['metadata'] and any(
            c['type'] == 'Ready' and c['status'] == 'True' for c in p['status'].get('conditions', [])))}


class Load:
    """Sends to the pods that are ready, each request over a connection of its own. What failed is remembered too."""

    def __init__(self):
        self.on, self.failed, self.sent, self.targets, self.n = True, [], [], {}, len(acknowledged) + 1000000 * random.randrange(1, 1000)
        self.look()
        self.threads = [threading.Thread(target=t) for t in (self.watch, self.send, self.send)]
        for t in self.threads:
            t.start()

    def look(self):
        self.targets = [p['status']['podIP'] for p in pods().values()]

    def watch(self):
        while self.on:
            self.look()
            time.sleep(0.2)

    def send(self):
        while self.on:
            self.n += 1
            n = self.n * 2 + (threading.current_thread() is self.threads[1])
            where = random.choice(self.targets)
            try:
                code, text = post(n, where + ':8080/hooks/open')
            except Exception as e:
                code, text = 0, repr(e)
            (self.sent if code == 200 else self.failed).append(n if code == 200 else (where, code, text))
            time.sleep(0.01)

    def stop(self):
        self.on = False
        for t in self.threads:
            t.join()
        acknowledged.extend(self.sent)
        return len(self.sent), self.failed


def tree():
    """The base as an operator would adapt it: another image, a source, a sink that nobody answers yet."""
    where = folder + '/base'
    shutil.copytree(ROOT + '/deploy/kubernetes/base', where, dirs_exist_ok=True)
    with open(where + '/hookline.yaml', 'a') as f:
        f.write(SOURCE + SINK)
    with open(where + '/kustomization.yaml', 'a') as f:
        f.write('images: [ { name: hookline, newName: localhost/hookline, newTag: test } ]\n')
    return where


def accepted():
    """the API server takes base, overlays and Job, strictly, without a warning; planted faults it does not take"""
    apply = ('apply', '--dry-run=server', '--validate=strict', '--warnings-as-errors', '-f', '-')
    for where in ('base', 'overlays/single', 'overlays/production', 'overlays/gateway'):
        text = kubectl('kustomize', ROOT + '/deploy/kubernetes/' + where)
        known = [d for d in text.split('\n---\n') if 'monitoring.coreos.com' not in d and 'gateway.networking' not in d]
        kubectl(*apply, text='\n---\n'.join(known))
    with open(ROOT + '/deploy/kubernetes/drain/job.yaml') as f:
        kubectl(*apply, text=f.read())
    text = kubectl('kustomize', ROOT + '/deploy/kubernetes/base')
    for right, wrong in (('allowPrivilegeEscalation: false', 'allowPrivilegeEscalation: true'), ('replicas: 3', 'replicas: three'),
                         ('serviceName:', 'serviceNane:'), ('maxUnavailable: 1', 'maxUnavailable: 1\n  minAvailable: 1')):
        assert right in text and kubectl(*apply, text=text.replace(right, wrong), check=False)[0], wrong


def rolled_out():
    """without its Secret the pods wait; with it three replicas become ready, each on a node and a claim of its own"""
    kubectl('apply', '-k', tree())
    until('pods that are placed', lambda: len([p for p in pods(ready=False).values() if p['spec'].get('nodeName')]) == 3, 120)
    assert not pods()
    kubectl('create', 'secret', 'generic', 'hookline', '--from-literal=HOOKLINE_ADMIN_TOKEN=t', '--from-literal=GEMINI_SECRET=whsec_dGVzdA==')
    began = time.monotonic()
    kubectl('rollout', 'status', 'statefulset/hookline', '--timeout=120s')
    print(f'# three replicas ready in {time.monotonic() - began:.1f} s')
    assert len({p['spec']['nodeName'] for p in pods().values()}) == 3


def updated():
    """a rolling update under load: no request fails, and what was acknowledged is in the logs"""
    before = {p['metadata']['uid'] for p in pods().values()}
    load = Load()
    until('some are acknowledged', lambda: len(load.sent) > 100)
    began = time.monotonic()
    try:
        kubectl('set', 'env', 'statefulset/hookline', 'ROLL=1')
        kubectl('rollout', 'status', 'statefulset/hookline', '--timeout=280s')
    finally:
        sent, failed = load.stop()
    assert not failed, failed[:5]
    now = pods()
    assert len(now) == 3 and not before & {p['metadata']['uid'] for p in now.values()}
    assert not lost()
    with open(folder + '/podlet.log') as f:
        stops = [line.split()[-1] for line in f if ' stopped with ' in line]
    assert stops == ['0', '0', '0'], stops
    print(f'# rolling update in {time.monotonic() - began:.0f} s: {sent} requests acknowledged, 0 failed, 0 lost')


def lost():
    got = set()
    for p in pods().values():
        got |= set(events(p['status']['podIP'] + ':9180', {'authorization': 'Bearer t'}))
    return set(acknowledged) - got


def killed():
    """a container that is killed comes back on its own log"""
    load = Load()
    until('some are acknowledged', lambda: len(load.sent) > 100)
    name = 'hookline-1-' + pods()['hookline-1']['metadata']['uid'][:8]
    run('podman', 'kill', '-s', 'KILL', name)
    until('it is restarted', lambda: json.loads(kubectl('get', 'pod', 'hookline-1', '-o', 'json'))['status']['containerStatuses'][0]['restartCount'] == 1)
    until('three are ready', lambda: len(pods()) == 3)
    load.stop()  # here requests may fail: nobody was told
    assert not lost()


def drained():
    """one node is drained; the second drain is held back by the budget until the first node is back"""
    where = {p['spec']['nodeName']: n for n, p in pods().items()}
    one, two = sorted(where)[:2]
    kubectl('drain', one, '--timeout=120s', '--delete-emptydir-data')
    code, text = kubectl('drain', two, '--timeout=8s', '--delete-emptydir-data', check=False)
    assert code and 'disruption budget' in text, text
    assert where[two] in pods()
    kubectl('uncordon', one)
    kubectl('uncordon', two)
    until('three are ready', lambda: len(pods()) == 3)
    assert not lost()


def scaled_down():
    """to one replica, with a backlog in all three: the Jobs deliver what the two volumes left behind still hold; nothing is lost"""
    load = Load()
    until('some are acknowledged', lambda: len(load.sent) > 300)
    load.stop()
    kubectl('scale', 'statefulset/hookline', '--replicas=1')
    until('one is left', lambda: len(pods(ready=False)) == 1, 120)
    claims = kubectl('get', 'pvc', '-o', 'name').split()
    assert len(claims) == 3, claims
    child('redis', 'redis-server', '--bind', GATE, '--port', '6379', '--protected-mode', 'no', '--save', '', '--dir', folder)
    config = kubectl('get', 'statefulset', 'hookline', '-o', 'jsonpath={.spec.template.spec.volumes[0].configMap.name}')
    with open(ROOT + '/deploy/kubernetes/drain/job.yaml') as f:
        job = f.read().replace('configMap: { name: hookline }', f'configMap: {{ name: {config} }}').replace('image: hookline:', 'image: localhost/hookline:')
    job = job.replace('localhost/hookline:' + open(ROOT + '/VERSION').read().strip(), 'localhost/hookline:test')
    for n in ('1', '2'):
        kubectl('apply', '-f', '-', text=job.replace('hookline-drain-2', 'hookline-drain-' + n).replace('log-hookline-2', 'log-hookline-' + n))
    for n in ('1', '2'):
        kubectl('wait', '--for=condition=complete', f'job/hookline-drain-{n}', '--timeout=200s')

    def delivered():
        text = run('redis-cli', '-h', GATE, '--json', 'xrange', 'all', '-', '+').stdout
        fields = [dict(zip(e[1][::2], e[1][1::2])) for e in json.loads(text)]
        return {json.loads(f['body'])['n'] for f in fields}
    until('everything is in Redis', lambda: set(acknowledged) <= delivered(), 120)
    print(f'# {len(acknowledged)} acknowledged through update, kill, drain and scaling down; all of them in Redis')
    kubectl('delete', 'statefulset', 'hookline')


def chart():
    """helm installs, upgrades, refuses to drain a replica that runs, and leaves the claims when it is taken away"""
    kubectl('create', 'secret', 'generic', 'hookline', '--from-literal=HOOKLINE_ADMIN_TOKEN=t', ns='chart')
    values = ['--set', 'image.repository=localhost/hookline', '--set', 'image.tag=test', '--set', 'config.sources.open.provider=none']
    where = ROOT + '/deploy/helm/hookline'
    until('the old pod is gone', lambda: 'hookline-0' not in pods(ready=False), 120)
    helm('install', 'r', where, *values, '--wait', '--timeout', '120s')
    assert len(pods('chart')) == 3
    ip = next(iter(pods('chart').values()))['status']['podIP']
    assert post(1, ip + ':8080/hooks/open')[0] == 200
    helm('upgrade', 'r', where, *values, '--set', 'config.log.retain=24h', '--wait', '--timeout', '200s')
    assert 'retain: 24h' in kubectl('get', 'configmap', 'r-hookline', '-o', 'yaml', ns='chart')
    assert 'still runs' in helm('upgrade', 'r', where, *values, '--set', 'drain={2}', check=False)
    helm('upgrade', 'r', where, *values, '--set', 'replicas=2', '--set', 'drain={2}', '--timeout', '200s')
    kubectl('wait', '--for=condition=complete', 'job/r-hookline-drain-2', '--timeout=200s', ns='chart')
    helm('uninstall', 'r', '--wait', '--timeout', '200s')
    assert len(kubectl('get', 'pvc', '-o', 'name', ns='chart').split()) == 3


if __name__ == '__main__':
    if not os.environ.get('ENGINE_INSIDE'):
        built = shutil.which('go') and subprocess.run([HERE + '/kube-tools', os.path.join(CACHE, 'deploy')]).returncode == 0
        if not built:
            print('1..1\nok 1 - on a real API server # SKIP Kubernetes cannot be built here (no Go, or its modules cannot be had)')
            sys.exit(0)
    enter('hookline')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing of it is left running
    try:
        control_plane()
        Tap().run(accepted, rolled_out, updated, killed, drained, scaled_down, chart)
    finally:
        for name in ('podlet', 'manager'):
            with open(f'{folder}/{name}.log', errors='replace') as f:
                print(''.join(f'# {name}: {line}' for line in f.readlines()[-40:] if os.environ.get('VERBOSE')), end='')
        for p in reversed(children):
            p.send_signal(signal.SIGKILL)
            p.wait()
