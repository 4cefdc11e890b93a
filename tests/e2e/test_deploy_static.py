"""What is shipped, looked at without running it: versions, completion, installation, unit, image, manifests, chart, workflow.
`tests/deploy/tools .cache/deploy` fetches the tools; what is not there is skipped."""
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

from servers import CACHE, HOOKLINE, ROOT, SECRET, Skip, Tap

TOOLS = os.path.join(CACHE, 'deploy')
PATH = TOOLS + '/bin:' + os.environ['PATH']
KUBERNETES = ('1.29', '1.37')  # the oldest that is promised, and the newest


def run(*argv, check=True, text=None, cwd=ROOT, env=None):
    p = subprocess.run(argv, cwd=cwd, input=text and text.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env={**os.environ, 'PATH': PATH, **(env or {})})
    out, err = p.stdout.decode(errors='replace'), p.stderr.decode(errors='replace')
    assert p.returncode == 0 or not check, (argv, p.returncode, out + err)
    return p.returncode, out, err


def need(tool):
    if not shutil.which(tool, path=PATH):
        raise Skip(f'{tool} is not there (tests/deploy/tools fetches it)')
    return tool


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def seconds(text):
    return int(re.fullmatch(r'(\d+)s', text).group(1))


def one_version():
    """every file that says a version says that of VERSION"""
    version = read('VERSION').strip()
    for path, pattern in (('debian/changelog', r'\Ahookline \((.*?)\)'), ('hookline.1', r'"hookline (.*?)"'),
                          ('deploy/helm/hookline/Chart.yaml', r'^version: (.*)'), ('deploy/helm/hookline/Chart.yaml', r'^appVersion: (.*)'),
                          ('deploy/kubernetes/base/statefulset.yaml', r'image: hookline:(.*)'),
                          ('deploy/kubernetes/drain/job.yaml', r'image: hookline:(.*)'), ('CHANGELOG.md', r'^## \[(\d[^\]]*)\]')):
        found = re.search(pattern, read(path), re.M)
        assert found and found.group(1) == version, (path, found)


# what is typed, and what must and must not be offered
TYPED = (('hookline re', {'replay'}, {'serve'}), ('hookline serve --', {'--config', '--drain', '--help'}, {'--print'}),
         ('hookline send --provider gem', {'gemini', 'gemini-dynamic'}, {'--secret'}), ('hookline log v', {'verify'}, {'version'}),
         ('hookline dead ', {'ls', 'redrive'}, {'verify'}), ('hookline providers gem', {'gemini'}, set()),
         ('hookline completion ', {'bash', 'zsh', 'fish'}, set()))
SHELLS = {
    'bash': '. ./script; COMP_WORDS=($1); [ "${1% }" = "$1" ] || COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n'
            '_hookline hookline; printf "%s\\n" "${COMPREPLY[@]}"',
    'zsh': 'compadd() { shift; print -rl -- ${(M)@:#${words[-1]}*} }; _files() { : }\n'
           'words=(${=1}); [[ $1 == "${1% }" ]] || words+=(""); CURRENT=$#words\n'
           'cp script _hookline; fpath=($PWD $fpath); autoload -U _hookline; _hookline',
    'fish': 'source ./script; complete -C $argv[1]'}


def completion(shell):
    def test():
        need(shell)
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + '/script', 'w') as f:
                f.write(run(HOOKLINE, 'completion', shell)[1])
            os.symlink(HOOKLINE, folder + '/hookline')
            for typed, offered, not_offered in TYPED:
                argv = [shell, '-c', SHELLS[shell], *([] if shell == 'fish' else ['x']), typed]
                _, out, err = run(*argv, cwd=folder, env={'PATH': f'{folder}:{PATH}', 'HOME': folder})
                words = {line.split('\t')[0] for line in out.split('\n')}
                assert not err and offered <= words and not not_offered & words, (typed, words, err)
    test.__doc__ = f'completion in {shell} offers commands, their words, options and presets'
    return test


def installed():
    """make install with DESTDIR and PREFIX; what is installed runs; the unit starts what was installed"""
    build, variant = os.path.split(os.path.dirname(os.path.realpath(HOOKLINE)))
    if build != os.path.join(ROOT, 'build'):
        raise Skip(f'{HOOKLINE} is not of this tree')
    with tempfile.TemporaryDirectory() as folder:
        run('make', 'install', 'install-systemd', f'V={variant}', f'DESTDIR={folder}', 'PREFIX=/opt/x', env={'MAKEFLAGS': ''})
        got = {os.path.relpath(os.path.join(d, f), folder + '/opt/x') for d, _, files in os.walk(folder) for f in files}
        assert got == {'bin/hookline', 'share/man/man1/hookline.1', 'share/doc/hookline/examples/hookline.yaml',
                       'share/bash-completion/completions/hookline', 'share/zsh/site-functions/_hookline',
                       'share/fish/vendor_completions.d/hookline.fish', 'lib/systemd/system/hookline.service',
                       'lib/sysusers.d/hookline.conf', 'lib/tmpfiles.d/hookline.conf'}, got
        assert run(folder + '/opt/x/bin/hookline', 'version')[1] == f'hookline {read("VERSION").strip()}\n'
        assert 'ExecStart=/opt/x/bin/hookline ' in open(folder + '/opt/x/lib/systemd/system/hookline.service').read()


def unit():
    """systemd finds nothing to complain of, and an exposure of at most 1.2; the user is made"""
    need('systemd-analyze')
    text = read('deploy/systemd/hookline.service')
    with tempfile.TemporaryDirectory() as folder:
        path = folder + '/hookline.service'
        with open(path, 'w') as f:
            f.write(text.replace('/usr/bin/hookline', '/bin/true'))
        _, out, err = run('systemd-analyze', 'verify', '--man=no', path)
        assert not out + err, err  # it exits 0 also for keys that it does not know
        with open(path, 'w') as f:
            f.write(text.replace('PrivateUsers=yes', 'PrivateUzers=yes').replace('/usr/bin/hookline', '/bin/true'))
        assert 'PrivateUzers' in run('systemd-analyze', 'verify', '--man=no', path)[2]
        run('systemd-analyze', 'security', '--offline=true', '--threshold=12', '--no-pager', 'deploy/systemd/hookline.service')
        os.mkdir(folder + '/etc')
        run('systemd-sysusers', '--root', folder, os.path.join(ROOT, 'deploy/systemd/hookline.sysusers'))
        assert re.search(r'^hookline:.*:/var/lib/hookline:/usr/sbin/nologin$', open(folder + '/etc/passwd').read(), re.M)
    assert re.search(r'^RestartPreventExitStatus=64 65 78$', text, re.M)


def settings_and_patience():
    """the configurations that are shipped are accepted, and those who stop it wait longer than it takes"""
    pod = int(re.search(r'terminationGracePeriodSeconds: (\d+)', read('deploy/kubernetes/base/statefulset.yaml')).group(1))
    for path, patience in (('docker/hookline.yaml', seconds(re.search(r'stop_grace_period: (.*)', read('docker/compose.yaml')).group(1))),
                           ('deploy/kubernetes/base/hookline.yaml', pod), ('deploy/kubernetes/overlays/tls/hookline.yaml', pod)):
        with tempfile.TemporaryDirectory() as folder:
            run('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=x',
                '-keyout', folder + '/tls.key', '-out', folder + '/tls.crt')
            with open(folder + '/hookline.yaml', 'w') as f:
                f.write(read(path).replace('dir: /var/lib/hookline', f'dir: {folder}/data\n  allow_volatile: true')
                        .replace('/etc/hookline-tls/', folder + '/'))
            env = {n: SECRET for n in re.findall(r'env: (\w+)', read(path))}
            _, out, err = run(HOOKLINE, 'check', '-c', 'hookline.yaml', '--print', cwd=folder, env=env)
        assert not err, err
        delay, timeout = (seconds(re.search(rf'^ +{n}: (\d+s)', out[out.index('shutdown:'):], re.M).group(1)) for n in ('delay', 'timeout'))
        assert patience > delay + timeout, (path, patience, delay, timeout)
    plain, tls = (read(f'deploy/kubernetes/{n}/hookline.yaml').split('\n') for n in ('base', 'overlays/tls'))
    assert set(plain) - set(tls) == {'listen: 0.0.0.0:8080'} and len(set(tls) - set(plain)) == 3  # but for TLS it is that of the base
    assert int(re.search(r'TimeoutStopSec=(\d+)', read('deploy/systemd/hookline.service')).group(1)) > delay + timeout


def image():
    """hadolint has nothing against the Dockerfiles"""
    run(need('hadolint'), '--failure-threshold', 'warning', '--ignore', 'DL3008', 'docker/Dockerfile', 'docker/consumer.Dockerfile')


def compose():
    """Compose accepts compose.yaml, and would not accept a wrong one"""
    need('docker-compose')
    run('docker-compose', '-f', 'docker/compose.yaml', 'config', '-q')
    bad = read('docker/compose.yaml').replace('read_only:', 'readonly:')
    assert run('docker-compose', '--project-directory', 'docker', '-f', '-', 'config', '-q', text=bad, check=False)[0]


def kustomize():
    """base and overlays are valid in the oldest and the newest Kubernetes; a misspelt field is not"""
    need('kubectl'), need('kubernetes-validate')
    with tempfile.TemporaryDirectory() as folder:
        pages = [folder + '/base.yaml']
        for where in ['base', *sorted(glob.glob('overlays/*', root_dir=ROOT + '/deploy/kubernetes'))]:
            pages.append(f'{folder}/{os.path.basename(where)}.yaml')
            with open(pages[-1], 'w') as f:
                f.write(run('kubectl', 'kustomize', 'deploy/kubernetes/' + where)[1])
        pages = sorted(set(pages)) + [ROOT + '/deploy/kubernetes/drain/job.yaml']
        for version in KUBERNETES:
            run('kubernetes-validate', '--strict', '-k', version, *pages)
        with open(pages[0]) as f:
            bad = f.read().replace('readOnlyRootFilesystem', 'readonlyRootFilesystem')
        with open(folder + '/bad.yaml', 'w') as f:
            f.write(bad)
        assert run('kubernetes-validate', '--strict', '-k', KUBERNETES[0], folder + '/bad.yaml', check=False)[0]


GEMINI = 'config: { sources: { gemini: { provider: gemini, secrets: [{ env: GEMINI_SECRET }] } } }'
# wrong values, and the value that the complaint must name
WRONG = (('replicas: -1', 'replicas'), ('replica: 3', 'replica'), ('storage: { size: 10 gigabytes }', 'size'), ('existingSecret: ""', 'existingSecret'),
         ('ingress: { enabled: true }', 'host'), ('image: { pullPolicy: Sometimes }', 'pullPolicy'), ('config: { sources: { Bad_Name: {} } }', 'Bad_Name'),
         ('config: { shutdown: { delay: 5 } }', 'delay'), ('config: { listen: "0.0.0.0:80" }', 'listen'), ('resources: { limits: { memory: lots } }', 'memory'),
         ('tls: { secret: Not_A_Name }', 'secret'), ('prometheusRule: { enabled: true, runbook: here }', 'runbook'), ('test: { source: [] }', 'source'))
VALUES = ('', 'ingress: { enabled: true, host: h.example.com, tlsSecret: t, className: nginx }', 'replicas: 1\ndrain: [1, 2]',
          'gateway: { enabled: true, parent: public, host: h.example.com }', 'serviceMonitor: { enabled: true, labels: { release: p } }',
          'secretFiles: [keys]\ntopologySpread: { zone: true }\nimage: { digest: "sha256:' + 'a' * 64 + '" }',
          'tls: { secret: hookline-tls }\ntest: { source: gemini }\n' + GEMINI, 'prometheusRule: { enabled: true, runbook: "https://e.example/" }', GEMINI)


def schema():
    """the chart's schema takes its own values and refuses wrong ones, naming them"""
    python = TOOLS + '/venv/bin/python'
    if not os.path.exists(python):
        raise Skip('jsonschema and PyYAML are not there (tests/deploy/tools fetches them)')
    program = '''
import json, sys, yaml, jsonschema
chart = 'deploy/helm/hookline/'
def merge(a, b):
    return {**a, **{k: merge(a[k], v) if isinstance(v, dict) and isinstance(a.get(k), dict) else v for k, v in b.items()}}
schema = json.load(open(chart + 'values.schema.json')); jsonschema.Draft7Validator.check_schema(schema)
for text in json.load(sys.stdin):
    values = merge(yaml.safe_load(open(chart + 'values.yaml')), yaml.safe_load(text) or {})
    print(json.dumps([f"{list(e.absolute_path)} {e.message}" for e in jsonschema.Draft7Validator(schema).iter_errors(values)]))
'''
    answers = [json.loads(line) for line in run(python, '-c', program, text=json.dumps([*VALUES, *[w for w, _ in WRONG]]))[1].splitlines()]
    assert not any(answers[:len(VALUES)]), answers[:len(VALUES)]
    for (text, name), errors in zip(WRONG, answers[len(VALUES):]):
        assert errors and any(name in e for e in errors), (text, errors)


def chart():
    """helm lint; what the chart makes is valid with each of several values; wrong values fail helm lint by name"""
    need('helm'), need('kubernetes-validate')
    with tempfile.TemporaryDirectory() as folder:
        for n, values in enumerate(VALUES):
            with open(f'{folder}/values-{n}', 'w') as f:
                f.write(values)
            run('helm', 'lint', '--strict', '--quiet', 'deploy/helm/hookline', '-f', f'{folder}/values-{n}')
            with open(f'{folder}/{n}.yaml', 'w') as f:
                f.write(run('helm', 'template', 'r', 'deploy/helm/hookline', '-f', f'{folder}/values-{n}', '--kube-version', '1.37.0')[1])
        for version in KUBERNETES:
            run('kubernetes-validate', '--strict', '-k', version, *sorted(glob.glob(folder + '/*.yaml')))
        for text, name in WRONG:
            with open(folder + '/wrong', 'w') as f:
                f.write(text)
            code, out, err = run('helm', 'lint', '--strict', 'deploy/helm/hookline', '-f', folder + '/wrong', check=False)
            assert code and name in out + err, (text, out + err)
        # the configuration in it is one that the bridge accepts
        text = open(folder + f'/{len(VALUES) - 1}.yaml').read()
        block = re.search(r'^  hookline.yaml: \|\s*\n(( {4}.*\n|\n)+)', text, re.M).group(1)
        with open(folder + '/hookline.yaml', 'w') as f:
            f.write(re.sub(r'dir: /var/lib/hookline', f'dir: {folder}/data\n      allow_volatile: true', block))
        run(HOOKLINE, 'check', '-c', folder + '/hookline.yaml', env={'HOOKLINE_ADMIN_TOKEN': 't', 'GEMINI_SECRET': SECRET})


def ports():
    """every probe, service and policy names a port that the container has: no API server looks"""
    need('kubectl')
    text = run('kubectl', 'kustomize', 'deploy/kubernetes/overlays/production')[1] + read('deploy/helm/hookline/templates/statefulset.yaml')
    has = set(re.findall(r'containerPort: (\d+)\n +name: (\w+)', text)) | {(b, a) for a, b in re.findall(r'name: (\w+), containerPort: (\d+)', text)}
    assert has == {('8080', 'http'), ('9180', 'admin'), ('9181', 'probes')}, has
    assert set(re.findall(r'(?:targetPort|path: /\w+z, port|- port|^ +port): ([a-z]\w*)', text, re.M)) <= {n for _, n in has}


def workflow():
    """actionlint accepts the workflow, and would not accept a wrong one"""
    need('actionlint')
    pages = sorted(glob.glob(ROOT + '/.github/workflows/*.yml'))
    run('actionlint', *pages)
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + '/bad.yml', 'w') as f:
            f.write(open(pages[0]).read().replace('runs-on:', 'run-on:', 1))
        assert run('actionlint', folder + '/bad.yml', check=False)[0]


def scripts():
    """shellcheck has no error in the scripts of packaging and deployment"""
    need('shellcheck')
    run('shellcheck', '--severity=warning', 'docker/rootfs.sh', 'scripts/dist',
        *[f for f in glob.glob(ROOT + '/tests/deploy/*') if open(f, errors='replace').readline().endswith(('bash\n', 'sh\n'))])


if __name__ == '__main__':
    Tap().run(one_version, *map(completion, SHELLS), installed, unit, settings_and_patience, image, compose, kustomize, ports, schema, chart,
              workflow, scripts)
