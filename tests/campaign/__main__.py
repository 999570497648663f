"""``python -m tests.campaign [AREA ...]``: run the campaign, print its table, fail on a fault."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from tests.campaign.campaign import (
    KEPT,
    Area,
    Worker,
    faults,
    reset_peak,
    run_area,
    table,
    unproven,
)
from tests.campaign.checkpoints import Checkpoints
from tests.campaign.disks import Disks
from tests.campaign.inputs import Inputs
from tests.campaign.kills import Kills
from tests.campaign.numbers import Numbers
from tests.campaign.others import Others
from tests.campaign.page import write_table
from tests.campaign.processes import Processes
from tests.campaign.security import Security

AREAS: dict[str, type[Area]] = {
    area.name: area
    for area in (Checkpoints, Inputs, Numbers, Others, Security, Kills, Disks, Processes)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run areas; 0 if every case ended as promised."""
    parser = argparse.ArgumentParser(prog='python -m tests.campaign', description=__doc__)
    parser.add_argument('areas', nargs='*', choices=[[], *AREAS], metavar='AREA', default=[])
    parser.add_argument('--quick', action='store_true', help='run fewer cases')
    parser.add_argument('--seed', type=int, default=0, help='draws the cases')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/campaign'))
    parser.add_argument(
        '--at-once', type=int, default=2, help='how many areas go on at a time (default: 2)'
    )
    parser.add_argument('--case', type=int, help='run one case of one area again and print it')
    parser.add_argument(
        '--inject', action='store_true', help='break on purpose what is watched: has to fail'
    )
    parser.add_argument(
        '--page',
        type=Path,
        help='write the outcomes that are known into this page, and run nothing',
    )
    args = parser.parse_args(argv)
    if args.page is not None:
        counts = {name: area(args.seed).count(False) for name, area in AREAS.items()}
        left_out = write_table(args.page, args.work_dir / f'seed{args.seed}', counts, args.seed)
        for name in left_out:
            print(f'{name}: left out, its outcomes are of other code. Run it again first.')
        return int(bool(left_out))
    if args.case is not None:
        if len(args.areas) != 1:
            parser.error('--case: name the one AREA that it is of')
        return run_case(AREAS[args.areas[0]](args.seed), args.case, args.work_dir, args.inject)
    if not reset_peak():
        print('This system does not let the most memory of a process be counted anew: a case that')
        print('takes less than one before it goes unseen.', flush=True)
    areas = [AREAS[name](args.seed) for name in args.areas or AREAS]
    return int(not run_areas(areas, args))


def run_areas(areas: Sequence[Area], args: argparse.Namespace) -> bool:
    """Run areas, some at once, and print their tables; whether every case ended as promised."""
    idle: SimpleQueue[Worker | None] = SimpleQueue()
    printing = Lock()

    def run(area: Area) -> bool:
        worker, started = idle.get(), time.monotonic()
        outcomes = run_area(area, folder, args.quick, args.inject, worker)
        idle.put(worker)
        with printing:
            print(table(area, outcomes, started), flush=True)
            for number, outcome in faults(outcomes):
                detail = outcome.detail[-1500:]
                print(f'\ncase {number}: {outcome.kind}: {outcome.result}: {detail}', flush=True)
            for each in unproven(area, outcomes) if args.inject else ():
                print(f'\nThe fault that was injected has not shown itself by {each}', flush=True)
        return not faults(outcomes)

    folder = args.work_dir / (f'{"injected" if args.inject else "seed"}{args.seed}')
    with ExitStack() as stack, ThreadPoolExecutor(args.at_once) as pool:
        for number in range(args.at_once):
            # a process for all areas, unless each breaks something in its own
            worker = None if args.inject else Worker(args.work_dir / f'scratch{number}')
            if worker is not None:
                stack.callback(worker.end)
            idle.put(worker)
        try:
            return all(list(pool.map(run, areas)))
        except (
            KeyboardInterrupt
        ):  # the threads would go on, and take its processes' ends for faults
            os._exit(128 + signal.SIGINT)


def run_case(area: Area, number: int, work_dir: Path, inject: bool) -> int:
    """Run one case in this process and print what became of it; 0 if that is promised."""
    folder = work_dir / f'{area.name}_case' / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if inject:
        area.inject()
    outcome = area.run(number, folder)
    print(outcome, f'(files are kept in {folder})')
    return int(outcome.result not in KEPT)


if __name__ == '__main__':
    sys.exit(main())
