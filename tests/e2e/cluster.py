"""Three real brokers. The first is the controller and is never killed; each is a Process of its own."""
import os
import subprocess

from servers import Kafka, Process, free_port, until

NODES = 3


class Node(Process):
    def __init__(self, cluster, n):
        super().__init__()
        self.cluster, self.n, self.port = cluster, n, free_port()
        self.properties = os.path.join(self.dir, 'server.properties')

    def configure(self, controller):
        roles, listener = ('broker,controller', f',CONTROLLER://127.0.0.1:{controller}') if self.n == 1 else ('broker', '')
        with open(self.properties, 'w') as f:
            f.write(f"""process.roles={roles}
node.id={self.n}
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={self.dir}/data
listeners=PLAINTEXT://127.0.0.1:{self.port}{listener}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=3
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=1
log.cleaner.dedupe.buffer.size=2097152
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=3000
""")
        subprocess.run([*self.cluster.kafka.java, 'kafka.tools.StorageTool', 'format', '-t', 'MkU3OEVBNTcwNTJENDM2Qg', '-c',
                        self.properties], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self):
        self.spawn([*self.cluster.kafka.java, 'kafka.Kafka', self.properties], 'log')
        return self


class Cluster:
    def __init__(self):
        self.kafka = Kafka()  # its jars and its commands; it is not started itself
        self.nodes = [Node(self, n) for n in range(1, NODES + 1)]
        controller = free_port()
        for node in self.nodes:
            node.configure(controller)
        self.broker = self.kafka.broker = ','.join(f'127.0.0.1:{n.port}' for n in self.nodes)

    def start(self):
        for node in self.nodes:
            node.start()
        until('three brokers', lambda: self.listing().count(' at 127.0.0.1') == NODES, 120)
        return self

    def listing(self, topic=None):
        r = subprocess.run(['kcat', '-b', self.broker, '-L', '-m', '5', *(['-t', topic] if topic else [])], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
        return r.stdout.decode() if r.returncode == 0 else ''

    def create(self, topic, replicas, **config):
        """One partition; `replicas` names its brokers, the leader first."""
        args = [x for k, v in config.items() for x in ('--config', f'{k.replace("_", ".")}={v}')]
        subprocess.run([*self.kafka.java, 'org.apache.kafka.tools.TopicCommand', '--bootstrap-server', self.broker, '--create',
                        '--topic', topic, '--replica-assignment', ':'.join(map(str, replicas)), *args], check=True,
                       stdout=subprocess.DEVNULL)

    def node(self, n):
        return self.nodes[n - 1]

    def leader(self, topic):
        """The number of the broker that leads the topic's partition; 0 while there is none."""
        text = self.listing(topic)
        return int(text.split('leader ')[1].split(',')[0]) if 'leader ' in text and 'leader -1' not in text else 0

    def clean(self):
        for node in self.nodes:
            node.clean()
        self.kafka.clean()
