#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Awaits several jobs at once and shows each as it ends.

Install: nothing, Python alone
Run:     await_several.py --deadline 2h batches/1 batches/2 ...    (HOOKLINE_ADMIN, HOOKLINE_ADMIN_TOKEN)

Exits 0 when all succeeded. Each wait is a task, not a thread: a graph of agents does the same with one
task a node (asyncio.gather where all are needed, asyncio.wait with FIRST_COMPLETED where any will do)."""
import argparse
import asyncio
import sys

from hookline_jobs import Overdue, expect, final

p = argparse.ArgumentParser()
p.add_argument('--deadline', default='2h')
p.add_argument('jobs', nargs='+')
args = p.parse_args()


async def one(job):
    await expect(job, args.deadline)
    try:
        outcome, event = await final(job)
    except Overdue:
        outcome, event = 'overdue', None
    return job, outcome, event


async def main():
    good = 0
    for done in asyncio.as_completed([one(job) for job in args.jobs]):
        job, outcome, event = await done
        print(job, outcome, event['id'] if event else '-', flush=True)
        good += outcome == 'succeeded'
    return good != len(args.jobs)


sys.exit(asyncio.run(main()))
