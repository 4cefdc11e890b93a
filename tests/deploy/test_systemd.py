"""The packaged unit under a real systemd, with its system call filter, its credentials and its memory limit in force."""
from container import Tap, enter, podman, run, until

NAME = 'hookline-systemd'
SEND = 'hookline send --provider gemini --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw --id {} http://127.0.0.1:8080/hooks/gemini'


def inside(command, check=True):
    return run('podman', 'exec', NAME, 'sh', '-c', command, check=check).stdout.decode().strip()


def show(key):
    return inside(f'systemctl show -P {key} hookline')


def boot():
    podman('run', '-d', '--name', NAME, '--network', 'host', '--systemd=always', '-e', 'SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1',
           '--cap-add', 'SYS_ADMIN,SYS_PTRACE,NET_ADMIN,AUDIT_WRITE', '--security-opt', 'seccomp=unconfined',
           '--security-opt', 'unmask=/proc/*', '-v', 'hookline-systemd:/var/lib/hookline', 'localhost/systemd:test')
    until('the system runs', lambda: inside('systemctl is-system-running', check=False) in ('running', 'degraded'), 120)
    ready()


def ready():
    until('ready', lambda: run('podman', 'exec', NAME, 'hookline', 'health', check=False).returncode == 0
          or show('ActiveState') == 'failed')
    assert show('ActiveState') == 'active', inside('journalctl -u hookline --no-pager | tail -30')


def serves():
    """enabled at boot it serves as its own user, filtered, without capabilities; its secret is a credential"""
    boot()
    assert '"status":"accepted"' in inside(SEND.format('one'))
    pid = show('MainPID')
    status = dict(line.split(':\t', 1) for line in inside(f'cat /proc/{pid}/status').split('\n') if ':\t' in line)
    uid = inside('id -u hookline')
    assert set(status['Uid'].split()) == {uid} != {'0'}, status['Uid']
    assert status['CapEff'] == status['CapBnd'] == '0' * 16 and status['NoNewPrivs'] == '1' and status['Seccomp'] == '2', status
    assert inside('stat -c "%U %a" /var/lib/hookline') == 'hookline 750'
    assert show('MemoryMax') == str(512 << 20)


def survives():
    """kill -9: started again by itself, with what was acknowledged; a reload is one"""
    before = show('MainPID')
    inside('systemctl kill -s KILL hookline')
    until('another process', lambda: show('NRestarts') == '1' and show('MainPID') not in ('0', before))
    ready()
    assert inside('hookline tail --once --after 0 --json').count('"one"') == 1
    inside('systemctl reload hookline')
    until('the reload', lambda: 'reload' in inside('journalctl -u hookline --no-pager'))
    ready()
    assert '"status":"duplicate"' in inside(SEND.format('one'))


def ends():
    """systemctl stop is a success; a wrong configuration is tried once and not again"""
    inside('systemctl stop hookline')
    assert (show('Result'), show('ExecMainStatus')) == ('success', '0')
    inside('cp /etc/hookline/hookline.yaml /tmp/good; echo "nonsense: 1" >>/etc/hookline/hookline.yaml')
    inside('systemctl start hookline', check=False)
    until('it has failed', lambda: show('ActiveState') == 'failed')
    assert (show('Result'), show('ExecMainStatus'), show('NRestarts')) == ('exit-code', '78', '0')
    inside('cp /tmp/good /etc/hookline/hookline.yaml; systemctl reset-failed hookline; systemctl start hookline')
    ready()


if __name__ == '__main__':
    enter('package', 'systemd')
    podman('rm', '-f', '-v', NAME)
    podman('volume', 'rm', '-f', 'hookline-systemd')
    try:
        Tap().run(serves, survives, ends)
    finally:
        podman('rm', '-f', '-v', NAME)
        podman('volume', 'rm', '-f', 'hookline-systemd')
