#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Consumes hookline's events from Kafka; each takes effect once, whatever is killed when.

Install: apt-get install python3-confluent-kafka     (or: pip install confluent-kafka)
Run:     kafka_consumer.py --brokers 127.0.0.1:9092 --topic hooks.gemini --db events.db

The effect here is a row keyed by the event's source and id: a repeat changes nothing. Offsets are
committed only after the effects are, so a crash in between repeats events and loses none."""
import argparse
import sqlite3

from confluent_kafka import Consumer, KafkaException, TopicPartition

p = argparse.ArgumentParser()
p.add_argument('--brokers', default='127.0.0.1:9092')
p.add_argument('--topic', default='hooks.gemini')
p.add_argument('--group', default='example')
p.add_argument('--instance', help='the same after a restart, unlike all others: it gets its partitions back at once')
p.add_argument('--db', default='events.db')
p.add_argument('--print', action='store_true', help='show each event')
args = p.parse_args()

db = sqlite3.connect(args.db)
db.execute('create table if not exists effects'
           ' (source text, id text, type text, body blob, primary key (source, id))')

settings = {
    'bootstrap.servers': args.brokers,
    'group.id': args.group,
    'isolation.level': 'read_committed',  # nothing of an aborted transaction
    'auto.offset.reset': 'earliest',      # a new group starts with what is already there
    'enable.auto.commit': False,          # a timer would commit what has had no effect yet
}
if args.instance:
    settings['group.instance.id'] = args.instance
consumer = Consumer(settings)
consumer.subscribe([args.topic])

while True:
    done = {}
    for msg in consumer.consume(500, timeout=0.2):
        if msg.error():
            if msg.error().fatal():
                raise KafkaException(msg.error())
            print('kafka:', msg.error())  # the client library tries again by itself
            continue
        headers = dict(msg.headers() or [])
        event = [(headers.get(name) or b'').decode(errors='backslashreplace') for name in ('ce_source', 'ce_id', 'ce_type')]
        if not event[1]:  # not from hookline: the place in the topic names it
            event[:2] = msg.topic(), f'{msg.partition()}/{msg.offset()}'
        db.execute('insert or ignore into effects values (?, ?, ?, ?)', (*event, msg.value()))
        if args.print:
            print(*event, flush=True)
        done[msg.topic(), msg.partition()] = msg.offset() + 1
    db.commit()
    if done:
        try:
            consumer.commit(offsets=[TopicPartition(t, n, offset) for (t, n), offset in done.items()],
                            asynchronous=False)
        except KafkaException as e:  # e.g. the partition went to another member: it repeats them
            print('kafka: commit:', e)
