"""A stand-in kubelet: runs the pods that the scheduler placed as podman containers, one network namespace each, all on one
bridge, and honours what hookline's manifests use. A pod reaches the Services that had ready pods when it started, by name;
policies and volume drivers it knows nothing of."""
import base64
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

API, TOKEN, DIR, GATE = os.environ['API'], os.environ['TOKEN'], os.environ['PODLET_DIR'], '10.99.0.1'
context = ssl._create_unverified_context()
seen, going, last = set(), set(), 1
lock = threading.Lock()


def api(method, path, body=None, kind='application/json'):
    r = urllib.request.Request(API + path, method=method, data=None if body is None else json.dumps(body).encode(),
                               headers={'Authorization': 'Bearer ' + TOKEN, 'Content-Type': kind})
    with urllib.request.urlopen(r, context=context, timeout=10) as f:
        return json.load(f)


def sh(*argv, quiet=False):
    p = subprocess.run(argv, capture_output=True, text=True)
    if p.returncode and not quiet:
        print('podlet:', ' '.join(argv), p.stderr.strip()[-300:], flush=True)
    return p


def now():
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())


def path(pod):
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def name_of(pod):
    return pod['metadata']['name'] + '-' + pod['metadata']['uid'][:8]


def report(pod, address, ready, restarts, started, code=None):
    done = {'reason': 'Completed' if code == 0 else 'Error', 'exitCode': code, 'finishedAt': now()}
    yes = 'True' if ready else 'False'
    status = {'phase': 'Running' if code is None else 'Succeeded' if code == 0 else 'Failed', 'startTime': started, 'hostIP': GATE,
              'podIP': address, 'podIPs': [{'ip': address}],
              'conditions': [{'type': t, 'status': v, 'lastTransitionTime': now()} for t, v in
                             (('Initialized', 'True'), ('Ready', yes), ('ContainersReady', yes), ('PodScheduled', 'True'))],
              'containerStatuses': [{'name': c['name'], 'image': c['image'], 'imageID': '', 'ready': ready, 'started': code is None,
                                     'restartCount': restarts,
                                     'state': {'running': {'startedAt': now()}} if code is None else {'terminated': done}}
                                    for c in pod['spec']['containers']]}
    try:
        api('PATCH', path(pod) + '/status', {'status': status}, 'application/merge-patch+json')
    except urllib.error.HTTPError as e:
        if e.code != 404:
            print('podlet: status', e, flush=True)


def network(name):
    global last
    with lock:
        last += 1
        n = last
    address = f'10.99.{n // 250}.{n % 250 + 1}'
    sh('ip', 'netns', 'add', name)
    sh('ip', 'link', 'add', f'pod{n}', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    sh('ip', 'link', 'set', f'pod{n}', 'master', 'pods', 'up')
    for command in (['link', 'set', 'lo', 'up'], ['addr', 'add', address + '/16', 'dev', 'eth0'], ['link', 'set', 'eth0', 'up']):
        sh('ip', '-n', name, *command)
    return address


def fill(where, files):
    """A ConfigMap or Secret as the kubelet writes it: all of it appears at once, when a link is moved."""
    new = f'{where}/..{time.monotonic_ns()}'
    os.mkdir(new)
    for key, content in files.items():
        with open(f'{new}/{key}', 'wb') as f:
            f.write(content)
        if not os.path.lexists(f'{where}/{key}'):
            os.symlink(f'..data/{key}', f'{where}/{key}')
    os.symlink(os.path.basename(new), where + '/..next')
    os.rename(where + '/..next', where + '/..data')


def contents(ns, v):
    kind = 'configMap' if 'configMap' in v else 'secret'
    found = api('GET', f"/api/v1/namespaces/{ns}/{kind.lower()}s/{v[kind].get('name') or v[kind]['secretName']}")
    return {k: base64.b64decode(text) if kind == 'secret' else text.encode() for k, text in found.get('data', {}).items()}


def filled(pod, name):
    """{folder: files} of its ConfigMaps and Secrets, as they are now."""
    return {f"{DIR}/{name}/{v['name']}": contents(pod['metadata']['namespace'], v)
            for v in pod['spec'].get('volumes', []) if 'configMap' in v or 'secret' in v}


def volumes(pod, name, group):
    argv, ns = [], pod['metadata']['namespace']
    known = {v['name']: v for v in pod['spec'].get('volumes', [])}
    for where, files in filled(pod, name).items():
        os.makedirs(where, exist_ok=True)
        fill(where, files)
    for m in pod['spec']['containers'][0].get('volumeMounts', []):
        v, where = known[m['name']], f"{DIR}/{name}/{m['name']}"
        if 'persistentVolumeClaim' in v:
            where = f"{DIR}/claims/{ns}/{v['persistentVolumeClaim']['claimName']}"
            os.makedirs(where, exist_ok=True)
            os.chown(where, 0, group)
            os.chmod(where, 0o2775)
        source = f"{where}/{m['subPath']}" if 'subPath' in m else where
        argv += ['-v', f"{os.path.realpath(source)}:{m['mountPath']}" + (':ro' if m.get('readOnly') else '')]
    return argv


def environment(pod):
    ns, found = pod['metadata']['namespace'], {}
    for e in pod['spec']['containers'][0].get('envFrom', []):
        data = api('GET', f"/api/v1/namespaces/{ns}/secrets/{e['secretRef']['name']}").get('data', {})
        found.update({k: base64.b64decode(v).decode() for k, v in data.items()})
    for e in pod['spec']['containers'][0].get('env', []):
        found[e['name']] = e.get('value', '')
    return found


def ready_addresses(ns, selector):
    for p in api('GET', f'/api/v1/namespaces/{ns}/pods')['items']:
        if selector.items() <= p['metadata'].get('labels', {}).items() and any(
                c['type'] == 'Ready' and c['status'] == 'True' for c in p['status'].get('conditions', [])):
            yield p['status']['podIP'], p['spec']['containers'][0]['ports']


def services(pod, name):
    """--add-host for each Service with a ready pod; the address of one that has an address leads to that pod."""
    argv, ns = [], pod['metadata']['namespace']
    sh('ip', '-n', name, 'route', 'add', '10.96.0.0/16', 'dev', 'eth0')
    for s in api('GET', f'/api/v1/namespaces/{ns}/services')['items']:
        where, ports = next(ready_addresses(ns, s['spec'].get('selector') or {'': ''}), (None, None))
        if not where:
            continue
        own = s['spec']['clusterIP']
        argv += ['--add-host', f"{s['metadata']['name']}:{where if own == 'None' else own}"]
        for p in s['spec']['ports'] if own != 'None' else []:
            target = next(q['containerPort'] for q in ports if q['name'] == p['targetPort'])
            sh('ip', 'netns', 'exec', name, 'iptables', '-t', 'nat', '-A', 'OUTPUT', '-d', own, '-p', 'tcp', '--dport', str(p['port']),
               '-j', 'DNAT', '--to-destination', f'{where}:{target}')
    return argv


def megabytes(quantity):
    return str(int(float(quantity[:-2]) * {'Gi': 2 ** 30, 'Mi': 2 ** 20}[quantity[-2:]]))


def start(pod, name):
    spec, c = pod['spec'], pod['spec']['containers'][0]
    context = {**spec.get('securityContext', {}), **c.get('securityContext', {})}
    assert context['runAsNonRoot'] and context['runAsUser'] and context['readOnlyRootFilesystem']
    group = context.get('fsGroup', context['runAsGroup'])
    assert context['allowPrivilegeEscalation'] is False and context['capabilities']['drop'] == ['ALL']
    argv = ['podman', 'run', '-d', '--name', name, '--network', 'ns:/run/netns/' + name, '--no-healthcheck', '--hostname',
            pod['metadata']['name'], '--pull', 'never', '--read-only', '--read-only-tmpfs=false', '--cap-drop', 'all', '--security-opt',
            'no-new-privileges', '--user', f"{context['runAsUser']}:{context['runAsGroup']}", '--group-add', str(group),
            '--memory', megabytes(c['resources']['limits']['memory'])]
    env = environment(pod)
    argv += [x for k, v in env.items() for x in ('-e', f'{k}={v}')] + volumes(pod, name, group) + services(pod, name)
    sh(*argv, c['image'], *[re.sub(r'\$\((\w+)\)', lambda m: env[m.group(1)], a) for a in c.get('args', [])])


def refresh(pod, name, was):
    """What has changed in its ConfigMaps and Secrets appears in its folders; what they hold now."""
    try:
        now = filled(pod, name)
    except OSError:
        return was
    for where in now:
        if now[where] != was.get(where):
            fill(where, now[where])
    return now


def ready(pod, address):
    q = pod['spec']['containers'][0].get('readinessProbe')
    if not q:
        return True
    ports = {p['name']: p['containerPort'] for p in pod['spec']['containers'][0]['ports']}
    try:
        with urllib.request.urlopen(f"http://{address}:{ports[q['httpGet']['port']]}{q['httpGet']['path']}", timeout=1):
            return True
    except OSError:
        return False


def live(pod):
    name, uid, started, restarts, was = name_of(pod), pod['metadata']['uid'], now(), 0, False
    address = network(name)
    while True:  # until its Secret and ConfigMap are there
        try:
            start(pod, name)
            break
        except urllib.error.HTTPError as e:
            print('podlet:', name, 'waits for', e.url, flush=True)
            time.sleep(1)
            if uid not in seen:
                return
    report(pod, address, False, 0, started)
    files, turn = filled(pod, name), 0
    while uid in seen:
        turn += 1
        if turn % 10 == 0:
            files = refresh(pod, name, files)
        state = sh('podman', 'inspect', '-f', '{{.State.Running}} {{.State.ExitCode}}', name, quiet=True).stdout.split()
        if state[:1] == ['false'] and uid in seen and uid not in going:
            code = int(state[1])
            print('podlet:', name, 'ended with', code, flush=True)
            policy = pod['spec'].get('restartPolicy')
            if policy == 'Never' or policy != 'Always' and code == 0:
                report(pod, address, False, restarts, started, code)
                return
            restarts, was = restarts + 1, False
            sh('podman', 'start', name)
            report(pod, address, False, restarts, started)
        r = ready(pod, address)
        if r != was:
            was = r
            report(pod, address, r, restarts, started)
        time.sleep(0.3)


def gone(pod):
    uid, name, patience = pod['metadata']['uid'], name_of(pod), pod['metadata'].get('deletionGracePeriodSeconds', 30)
    sh('podman', 'stop', '-t', str(patience), name, quiet=True)
    seen.discard(uid)
    code = sh('podman', 'inspect', '-f', '{{.State.ExitCode}}', name, quiet=True).stdout.strip()
    print('podlet:', name, 'stopped with', code, flush=True)
    with open(f'{DIR}/log-{name}', 'w') as f:
        f.write(sh('podman', 'logs', name, quiet=True).stderr)
    sh('podman', 'rm', '-f', '-v', name, quiet=True)
    sh('ip', 'netns', 'del', name, quiet=True)
    try:
        api('DELETE', path(pod), {'gracePeriodSeconds': 0, 'preconditions': {'uid': uid}})
    except urllib.error.HTTPError:
        pass


def main():
    os.makedirs(DIR, exist_ok=True)
    while True:
        try:
            pods = api('GET', '/api/v1/pods')['items']
        except OSError:
            pods = []
        for pod in pods:
            uid = pod['metadata']['uid']
            if pod['metadata'].get('deletionTimestamp'):
                if uid not in going and pod['spec'].get('nodeName'):
                    going.add(uid)
                    threading.Thread(target=gone, args=(pod,), daemon=True).start()
            elif pod['spec'].get('nodeName') and uid not in seen:
                seen.add(uid)
                threading.Thread(target=live, args=(pod,), daemon=True).start()
        time.sleep(0.2)


if __name__ == '__main__':
    sys.exit(main())
