"""compose.yaml with the real Compose: all parts come up, the webhooks that it sends are printed by each consumer and
counted by Prometheus; what is left out is left out."""
import json
import os
import subprocess
import sys

from container import CACHE, HERE, ROOT, Kafka, Skip, Tap, call, enter, podman, until

TOOLS = os.path.join(CACHE, 'deploy/trixie')
COMPOSE = os.environ.get('COMPOSE', TOOLS + '/usr/libexec/docker/cli-plugins/docker-compose')
FILE = os.path.join(ROOT, 'docker/compose.yaml')
IMAGES = {'HOOKLINE_IMAGE': 'hookline', 'CONSUMER_IMAGE': 'consumer', 'REDIS_IMAGE': 'redis', 'KAFKA_IMAGE': 'kafka',
          'PROMETHEUS_IMAGE': 'prometheus'}


def compose(*argv, profiles=None, check=True):
    env = dict(os.environ, **{k: f'localhost/{v}:test' for k, v in IMAGES.items()})
    if profiles is not None:
        env['COMPOSE_PROFILES'] = profiles
    p = subprocess.run([COMPOSE, '-f', FILE, *argv], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    text = p.stdout.decode(errors='replace')
    assert p.returncode == 0 or not check, text
    return text


def fetch():
    """Before the engine is entered: in there is no network but its own."""
    if not os.path.exists(COMPOSE):
        p = subprocess.run([HERE + '/trixie-tool', TOOLS, 'docker-compose'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if p.returncode:
            raise Skip('Compose could not be fetched: ' + p.stdout.decode()[-200:])


def printed(service):
    return [line for line in compose('logs', '--no-color', service).split('\n') if 'batch.succeeded' in line]


def everything():
    """every part, three webhooks: each consumer prints the three, Prometheus counts them; down takes all away"""
    compose('down', '-v', check=False)
    try:
        compose('up', '-d', '--no-build')
        for consumer in ('http-consumer', 'redis-consumer', 'kafka-consumer'):
            until(consumer + ' prints three', lambda: len(printed(consumer)) == 3, 180)
        assert 'accepted' in compose('logs', 'send')
        compose('run', '--rm', 'send')
        until('six', lambda: len(printed('kafka-consumer')) == 6 and len(printed('redis-consumer')) == 6, 180)

        def counted():
            found = json.loads(call('GET', '127.0.0.1:9090/api/v1/query?query=hookline_accepted_total')[1])['data']['result']
            return [r['value'][1] for r in found if r['metric']['source'] == 'gemini'] == ['6']
        until('Prometheus counts six', counted, 120)
        status = json.loads(call('GET', '127.0.0.1:9180/status', headers={'authorization': 'Bearer change-me'})[1])
        assert {n: s['state'] for n, s in status['sinks'].items()} == {'kafka': 'running', 'redis': 'running'}, status
        compose('kill', 'hookline')
        compose('up', '-d', '--no-build', '--no-deps', 'hookline')
        compose('run', '--rm', 'send')
        until('nine', lambda: len(printed('kafka-consumer')) == 9, 180)
    except BaseException:
        print(''.join(f'# {line}\n' for line in compose('logs', '--no-color', '--tail', '15', check=False).split('\n')))
        raise
    finally:
        compose('down', '-v')
    assert podman('ps', '-aq') == ''


def parts():
    """Redis alone: no Kafka, no Prometheus; the webhooks arrive all the same"""
    compose('down', '-v', check=False)
    try:
        compose('up', '-d', '--no-build', profiles='redis,send')
        until('three', lambda: len(printed('redis-consumer')) == 3, 180)
        running = set(podman('ps', '--format', '{{.Names}}').split())
        assert running == {'hookline-hookline-1', 'hookline-redis-1', 'hookline-redis-consumer-1'}, running
    finally:
        compose('down', '-v')


if __name__ == '__main__':
    if not os.environ.get('ENGINE_INSIDE'):
        try:
            fetch()
            Kafka().clean()  # fetches its jars, which become the image
        except Skip as e:
            print(f'1..1\nok 1 - compose.yaml # SKIP {e}')
            sys.exit(0)
    enter('hookline', 'redis', 'consumer', 'prometheus', 'kafka')
    Tap().run(everything, parts)
