"""What a scanner finds in our TLS: sslyze looks at protocols, ciphers, curves, certificates and known holes, and judges by
Mozilla's "intermediate" configuration. It comes from PyPI into a folder under build/, in the version below."""
import json
import os
import subprocess
import sys

from certs import Bridge
from servers import ROOT, Skip, Tap, free_port

SSLYZE = 'sslyze==6.3.1'
VENV = os.path.join(ROOT, 'build', SSLYZE)


def scanner():
    program = os.path.join(VENV, 'bin/sslyze')
    if not os.path.exists(os.path.join(VENV, 'complete')):
        for command in ([sys.executable, '-m', 'venv', '--clear', VENV],
                        [os.path.join(VENV, 'bin/pip'), 'install', '--quiet', '--retries', '1', SSLYZE]):
            r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if r.returncode:
                raise Skip(f'{SSLYZE} could not be installed: {r.stdout.decode(errors="replace").strip()[-200:]}')
        open(os.path.join(VENV, 'complete'), 'w').close()
    return program


def scan(h, name, *ports):
    """Its findings of each port, under a name that has a certificate of its own."""
    out = os.path.join(h.dir, 'scan.json')
    r = subprocess.run([scanner(), '--resum', '--early_data', '--mozilla_config=intermediate', f'--certinfo_ca_file={h.authority.ca}',
                        f'--sni={name}', f'--json_out={out}', *(f'127.0.0.1:{p}' for p in ports)], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=300)
    said = r.stdout.decode()
    # the certificate is of the tests' own authority, which no browser's list has: whether it is good is looked at below
    complaints = [line for line in said[said.find('COMPLIANCE'):].split('\n') if line.strip().startswith('* ')]
    assert not [c for c in complaints if 'certificate_path_validation' not in c] and 'COMPLIANCE' in said, said
    with open(out) as f:
        return [s['scan_result'] for s in json.load(f)['server_scan_results']]


def judge(found, tls12):
    for what, f in found.items():
        assert f['status'] == 'COMPLETED' or what == 'http_headers', (what, f)
    found = {what: f['result'] for what, f in found.items()}
    for old in ('ssl_2_0', 'ssl_3_0', 'tls_1_0', 'tls_1_1'):
        assert not found[old + '_cipher_suites']['accepted_cipher_suites'], old
    names = {s['cipher_suite']['name'] for s in found['tls_1_2_cipher_suites']['accepted_cipher_suites']}
    assert names == {f'TLS_ECDHE_{tls12}_WITH_{c}' for c in ('CHACHA20_POLY1305_SHA256', 'AES_256_GCM_SHA384', 'AES_128_GCM_SHA256')}, names
    assert len(found['tls_1_3_cipher_suites']['accepted_cipher_suites']) == 3
    assert {c['name'] for c in found['elliptic_curves']['supported_curves']} == {'X25519', 'secp256r1', 'secp384r1'}
    assert not found['tls_compression']['supports_compression'] and not found['tls_1_3_early_data']['supports_early_data']
    assert not found['heartbleed']['is_vulnerable_to_heartbleed']
    assert not found['openssl_ccs_injection']['is_vulnerable_to_ccs_injection']
    assert found['robot']['robot_result'] == 'NOT_VULNERABLE_RSA_NOT_SUPPORTED'
    assert found['tls_fallback_scsv']['supports_fallback_scsv'] and found['tls_extended_master_secret']['supports_ems_extension']
    renegotiation = found['session_renegotiation']
    assert renegotiation['supports_secure_renegotiation'] and not renegotiation['is_vulnerable_to_client_renegotiation_dos']
    assert renegotiation['client_renegotiations_success_count'] == 0
    resumption = found['session_resumption']  # by tickets only: nothing is kept for a client
    assert resumption['tls_ticket_resumption_result'] == 'FULLY_SUPPORTED', resumption
    assert resumption['session_id_resumption_result'] == 'NOT_SUPPORTED', resumption
    chains = found['certificate_info']['certificate_deployments']
    ours = [p for c in chains for p in c['path_validation_results'] if p['trust_store']['name'].startswith('Supplied CA')]
    assert len(ours) == len(chains) and all(p['was_validation_successful'] for p in ours), ours
    assert all(c['received_chain_has_valid_order'] and not c['verified_chain_has_sha1_signature'] for c in chains)


def a_scan():
    """case 22: sslyze has no finding: listener and admin listener, ECDSA and RSA; what it asks for is Mozilla's "intermediate" """
    scanner()
    h = Bridge(extra='threads: 2')
    try:
        rsa = h.authority.issue('rsa', 'DNS:rsa.localhost', key=('rsa:2048',))
        tls = f', tls: {{ cert: ["{h.cert}", "{rsa[0]}"], key: ["{h.key}", "{rsa[1]}"] }}'
        probes = free_port()
        h.write(plain=tls, admin_more=f'{tls}, probes: "127.0.0.1:{probes}"')
        h.admin, admin = probes, h.admin
        h.start()
        for name, tls12 in (('localhost', 'ECDSA'), ('rsa.localhost', 'RSA')):
            for found in scan(h, name, h.port, admin):
                judge(found, tls12)
        assert h.stop() == 0
    finally:
        h.clean()


Tap().run(a_scan)
