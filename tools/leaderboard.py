"""Measure checkpoints by protocols, show what was measured beside published results, race methods.

Examples:
    python tools/leaderboard.py run --checkpoint moca.pth mae.pth random --seeds 0 1 2 \\
        --tasks cityscapes/linear ade20k/linear-bn --data-root cityscapes=DIR ade20k=DIR
    python tools/leaderboard.py show work_dirs --markdown leaderboard.md --csv leaderboard.csv
    python tools/leaderboard.py report work_dirs --out report.html --pictures 4
    python tools/leaderboard.py published
    python tools/leaderboard.py calibrate PUBLIC_CHECKPOINTS --data-root imagenet=DIR
    python tools/leaderboard.py race configs/pretrain/{moca,mae,can}_tiny-imagenet.py --amp \\
        --data-root TRAIN --knn TRAIN --knn-val VAL --epochs 20 --plot race.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from moca.command_line import add_change_arguments, add_verbose, seed_number, whole_number
from moca.errors import UserError
from moca.light import light_guard

if TYPE_CHECKING:
    from moca.results.plan import Plan
    from moca.results.queue import Run


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    add_run(commands)
    command = commands.add_parser('show', help='one row per checkpoint, one column per protocol')
    command.add_argument(
        'work_dirs',
        nargs='+',
        type=Path,
        metavar='WORK_DIRS',
        help='folders, searched recursively for run.json',
    )
    command.add_argument(
        '--markdown', type=Path, metavar='FILE', help='write the table as Markdown'
    )
    command.add_argument('--csv', type=Path, metavar='FILE', help='write one line per cell')
    command.add_argument('--plot', type=Path, metavar='FILE', help='draw bars (.png, .svg, ...)')
    command.add_argument(
        '--sort', metavar='METRIC', help='order rows by a metric, the best first [by name]'
    )
    command.set_defaults(act=show)
    add_report(commands)
    commands.add_parser(
        'published', help='print the published results that runs are laid beside, as Markdown'
    ).set_defaults(act=published)
    add_race(commands)
    add_calibrate(commands)
    for command in commands.choices.values():
        add_verbose(command)
    return parser.parse_args(argv)


def add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``run``."""
    command = commands.add_parser(
        'run',
        help='run the missing protocols of each checkpoint, then show the table',
        description='Runs that are finished are skipped, interrupted ones resume, and one that '
        'fails does not stop the rest. Results: work_dirs/PROTOCOL/CHECKPOINT_ARCH_seedN.',
    )
    command.add_argument(
        '--checkpoint',
        nargs='+',
        required=True,
        metavar='CKPT',
        help='checkpoint files to measure, or work dirs; random for random weights',
    )
    command.add_argument(
        '--tasks',
        nargs='+',
        required=True,
        metavar='TASK',
        help='protocols to run, such as cityscapes/linear',
    )
    command.add_argument(
        '--seeds',
        nargs='+',
        type=seed_number,
        default=[0],
        metavar='N',
        help='seeds to run each task with [0]',
    )
    command.add_argument(
        '--subset',
        nargs='+',
        type=int,
        default=[None],
        metavar='N',
        help='numbers of training images [all]',
    )
    command.add_argument(
        '--arch',
        nargs='+',
        default=[],
        metavar='NAME',
        help='timm name of the backbone, or auto for that of the file: one, or one for each CKPT '
        '[as in the configs]',
    )
    command.add_argument(
        '--branch',
        nargs='+',
        default=[],
        choices=('teacher', 'student', '-'),
        help='encoder to take: one, or one for each CKPT, - where it has a single one',
    )
    add_change_arguments(command)
    command.add_argument(
        '--sweep',
        metavar='KEY=V1,V2',
        help='choose this field for each CKPT on a tenth of the training images, held out; the '
        'table says what was chosen',
    )
    command.add_argument(
        '--data-root',
        nargs='+',
        default=[],
        metavar='NAME=DIR',
        help='folder of each data set by a part of the names of its tasks, such as '
        'cityscapes=DIR imagenet=DIR davis=DIR',
    )
    add_queue_arguments(command, 'tools/train.py', '; CKPT:KEY=VALUE for that checkpoint alone')
    command.set_defaults(act=run)


def add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``report``."""
    command = commands.add_parser(
        'report',
        help='one page with the table, bars, curves, classes, pictures, configs, environments',
        description='The page is one file that needs neither a server nor the network. It holds '
        'what the folders of the runs do; pictures are predicted anew.',
    )
    command.add_argument(
        'work_dirs', nargs='+', type=Path, metavar='WORK_DIRS', help='as for the command show'
    )
    command.add_argument('--out', type=Path, required=True, metavar='FILE', help='the page, .html')
    command.add_argument(
        '--pictures',
        type=whole_number(0),
        default=0,
        metavar='N',
        help='draw N predicted images of each run, and features of each checkpoint [0]',
    )
    command.add_argument(
        '--validate',
        action='store_true',
        help='predict whole validation sets again, for confusions and errors of detectors',
    )
    command.add_argument(
        '--limit-mb',
        type=whole_number(1),
        default=25,
        metavar='N',
        help='pictures take so many megabytes at most; what is left out is said [25]',
    )
    command.set_defaults(act=report)


def add_race(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``race``."""
    command = commands.add_parser(
        'race',
        help='pre-train one encoder by several methods on the same images, equally long',
        description='Runs that are finished are skipped, interrupted ones resume. A method that '
        "distils from another's work dir comes after it. Results: WORK_DIR/CONFIG, whose "
        'checkpoints `run` takes.',
    )
    command.add_argument('configs', nargs='+', type=Path, help='pre-training configs to compare')
    command.add_argument(
        '--data-root', metavar='DIR', help='folder of training images [as in the configs]'
    )
    command.add_argument('--knn', metavar='DIR', help='as in tools/pretrain.py')
    command.add_argument('--knn-val', metavar='DIR', help='as in tools/pretrain.py')
    command.add_argument('--arch', metavar='NAME', help='timm name [as in the configs]')
    command.add_argument(
        '--epochs', type=int, metavar='N', help='epochs of each run [as in the configs]'
    )
    command.add_argument('--seed', type=seed_number, metavar='N', help='seed of every run [0]')
    command.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/race'),
        metavar='DIR',
        help='folder of all runs [%(default)s]',
    )
    command.add_argument('--markdown', type=Path, metavar='FILE', help='write the table')
    command.add_argument('--plot', type=Path, metavar='FILE', help='draw curves (.png, .svg, ...)')
    add_queue_arguments(command, 'tools/pretrain.py', '; CONFIG:KEY=VALUE for that config alone')
    command.set_defaults(act=race)


def add_calibrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``calibrate``."""
    command = commands.add_parser(
        'calibrate',
        help='measure public checkpoints whose scores are known, to verify a set-up',
        description='Rows whose files or data are not there are told and left out. Every row is an '
        'ordinary run: what is finished is not run again. --amp and --accumulate are for the rows '
        'that train a probe (Cityscapes); all others are in fp32.',
    )
    command.add_argument(
        'folder', type=Path, metavar='DIR', help='folder of published files, under any names'
    )
    command.add_argument(
        '--data-root',
        nargs='+',
        required=True,
        metavar='NAME=DIR',
        help='imagenet=DIR, cityscapes=DIR, or both',
    )
    command.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows [all]')
    add_queue_arguments(command, 'tools/train.py', options=None)
    command.set_defaults(act=calibrate)


def add_queue_arguments(
    command: argparse.ArgumentParser, tool: str, options: str | None = ''
) -> None:
    """Add what all runs of a queue are given alike; without options, configs stay as they are."""
    command.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none')
    command.add_argument(
        '--gpus', type=whole_number(1), default=8, help='processes per run with a launcher [8]'
    )
    command.add_argument(
        '--parallel',
        type=whole_number(1),
        metavar='N',
        help='runs at a time: each has GPUs of its own, or a share of the threads where there are '
        'none [1; on a cluster as many as it lets]',
    )
    add_cluster_arguments(command)
    command.add_argument('--accumulate', metavar='N', help=f'as in {tool}')
    command.add_argument('--amp', action='store_true', help=f'as in {tool}')
    if options is not None:
        command.add_argument(
            *('--cfg-options',),
            nargs='+',
            default=[],
            metavar='KEY=VALUE',
            help=f'as in {tool}{options}',
        )
    command.add_argument('--dry-run', action='store_true', help='only print what would run')


def add_cluster_arguments(command: argparse.ArgumentParser) -> None:
    """Add where runs are worked off, and what a cluster wants to know."""
    group = command.add_argument_group('on a cluster')
    group.add_argument(
        '--on',
        choices=('here', 'slurm'),
        default='here',
        help='slurm: submit the runs as jobs, watch them, and take them up again when called again',
    )
    group.add_argument('--partition', metavar='P', help="as in sbatch [the cluster's own]")
    group.add_argument('--account', metavar='A', help='likewise')
    group.add_argument(
        '--time',
        metavar='T',
        help='limit of each job as in sbatch, after which it goes on in another [1-00:00:00]',
    )
    group.add_argument(
        '--cpus', type=whole_number(1), metavar='N', help='of each process [11: a loader of ten]'
    )
    group.add_argument(
        '--gpus-per-node', type=whole_number(1), metavar='N', help='of a machine [8]'
    )
    group.add_argument(
        '--sbatch', nargs='+', metavar='NAME=VALUE', help='other options, such as qos=high mem=64G'
    )


def roots_of(args: argparse.Namespace) -> dict[str, str]:
    """The folder of each data set that ``--data-root`` names."""
    from moca.results.plan import task_parts

    roots = dict(root.partition('=')[::2] for root in args.data_root)
    if not all(roots.values()):
        tasks = getattr(args, 'tasks', None) or []
        example = f', such as {task_parts(tasks[0])[0]}=DIR' if tasks else ''
        raise UserError(f'--data-root {" ".join(args.data_root)}: give NAME=DIR for each{example}.')
    return roots


def training_options(args: argparse.Namespace) -> list[str]:
    """What each run of a protocol is given beside its own arguments."""
    accumulate = ['--accumulate', args.accumulate] if args.accumulate else []
    return [*(['--amp'] if args.amp else []), *accumulate]


def plan_of(args: argparse.Namespace) -> Plan:
    """What the command line asks to measure."""
    from moca.checkpoints.changes import changes_of
    from moca.checkpoints.containers import file_of_run
    from moca.results.plan import Plan

    return Plan(
        *([file_of_run(path) for path in args.checkpoint], args.tasks, args.seeds, args.subset),
        archs=args.arch,
        data_roots=roots_of(args),
        options=training_options(args),
        branches=args.branch,
        cfg_options=args.cfg_options,
        changes=changes_of(args),
    )


def run(args: argparse.Namespace) -> None:
    """Run what is missing, then show the table of these runs."""
    from moca.records.run_reading import read_runs
    from moca.results import tables
    from moca.results.leaderboard import build_leaderboard
    from moca.results.plan import make_jobs
    from moca.results.sweep import decided, read_sweep, trials_of

    console = Console(width=None if sys.stdout.isatty() else 160)
    plan = plan_of(args)
    jobs = make_jobs(plan)
    if args.sweep:
        sweep = read_sweep(args.sweep)
        trials = trials_of(plan, sweep)
        work([job for trial in trials for job in trial.jobs], 'train.py', args, console)
        if args.dry_run:
            return
        jobs = [job for each in decided(trials, sweep) for job in make_jobs(each)]
    failed = work(jobs, 'train.py', args, console)
    if args.dry_run:
        return
    if any(job.finished for job in jobs):
        folders = [job.folder for job in jobs if job.folder.is_dir()]
        tables.show(build_leaderboard(*read_runs(folders)), console)
    complain(failed, len(jobs))


def race(args: argparse.Namespace) -> None:
    """Pre-train what is missing, then show the table and the curves."""
    from moca.pretrain.monitors.knn import read_pair
    from moca.records.whole_files import write_atomically
    from moca.results.race import RacePlan, make_race
    from moca.results.race_table import check_steps, race_markdown, read_standings, show_race

    console = Console(width=None if sys.stdout.isatty() else 160)
    plan = RacePlan(
        *(args.configs, args.data_root, args.knn, args.knn_val),
        *(args.arch, args.epochs, args.seed),
        folder=args.work_dir,
        cfg_options=args.cfg_options,
        amp=args.amp,
        accumulate=args.accumulate,
        launcher=args.launcher,
        processes=1 if args.launcher == 'none' else args.gpus,
    )
    check_outputs(args)
    racers = make_race(plan)
    failed = work(racers, 'pretrain.py', args, console)
    if args.dry_run:
        return
    queries = len(read_pair(args.knn, args.knn_val)[1]) if args.knn else None
    if standings := read_standings(racers):
        show_race(standings, queries, console)
        if args.markdown:
            write_atomically(args.markdown, race_markdown(standings, queries).encode())
        if args.plot:
            from moca.visualize.curves import curves_sheet  # matplotlib takes a second to import

            curves_sheet([racer.folder for racer in racers if racer.finished], args.plot)
        for written in filter(None, (args.markdown, args.plot)):
            console.print(f'Written: {written}', markup=False, soft_wrap=True)
    check_steps(standings)
    complain(failed, len(racers))


def calibrate(args: argparse.Namespace) -> None:
    """Run the rows whose files are there, then show found beside expected."""
    from moca.results.calibration import chosen_rows, find_matches, job_of, split_runnable
    from moca.results.findings import finding_of, show_findings
    from moca.results.fingerprints import FINGERPRINTS
    from moca.results.jobs import Job
    from moca.results.plan import Plan
    from moca.results.tested import Tested

    console = Console(width=None if sys.stdout.isatty() else 160)
    roots = roots_of(args)
    rows = chosen_rows(FINGERPRINTS, args.rows)
    known = {row.data for row in FINGERPRINTS}
    if stray := roots.keys() - known:
        raise UserError(f'--data-root {min(stray)}: give {" or ".join(sorted(known))}.')
    matches, notes = find_matches(args.folder, rows)
    ready, skipped = split_runnable(matches, roots)
    for note in [*notes, *skipped]:
        console.print(note, markup=False, soft_wrap=True)
    if not ready:
        raise UserError(f'{args.folder}: nothing to run; the lines above say why.')
    plan = Plan((), (), data_roots=roots, options=training_options(args))
    jobs = [job_of(match, plan) for match in ready]
    failed: list[Run] = []
    for tool, kind in (('train.py', Job), ('test.py', Tested)):
        failed += work([job for job in jobs if isinstance(job, kind)], tool, args, console)
    if args.dry_run:
        return
    findings = [finding_of(match, job) for match, job in zip(ready, jobs, strict=True)]
    show_findings(findings, console)
    complain(failed, len(jobs))
    if missed := [finding.match.about for finding in findings if finding.missed]:
        raise UserError(f'{len(missed)} of {len(findings)} rows missed: {"; ".join(missed)}.')


def work(runs: Sequence[Run], tool: str, args: argparse.Namespace, console: Console) -> list[Run]:
    """Run what is missing, or print it for ``--dry-run``; returns what failed."""
    from moca.results.queue import run_jobs
    from moca.results.where import poll_of, pool_of, printed

    if not args.dry_run:
        return run_jobs(runs, pool_of(args, tool, console), console, poll_of(args))['failed']
    for line in printed(runs, tool, args):
        print(line)
    return []


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse a file that could not be written once all is measured."""
    for path in (args.markdown, args.plot, getattr(args, 'csv', None)):
        if path is not None and not path.parent.is_dir():
            raise UserError(f'{path}: the folder {path.parent} does not exist; create it first.')
    if args.plot:
        from moca.figures import FORMATS

        if args.plot.suffix not in FORMATS:
            raise UserError(f'--plot {args.plot}: the name must end in {", ".join(FORMATS)}.')


def complain(failed: Sequence[Run], number: int) -> None:
    """End with an error if a run failed."""
    if failed:
        names = '; '.join(each.title for each in failed)
        raise UserError(f'{len(failed)} of {number} runs failed: {names}.')


def main(argv: Sequence[str] | None = None) -> int:
    """Run or show, as the command line says."""
    args = parse_args(argv)
    if only_reads(args):
        return light_guard(args.act)(args)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(act))(args)


def only_reads(args: argparse.Namespace) -> bool:
    """Whether a command needs no model, and so neither torch nor the seconds that it takes."""
    return args.act in (show, published) or (
        args.act is report and not args.pictures and not args.validate
    )


def act(args: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    args.act(args)


def published(_: argparse.Namespace) -> None:
    """Print the published results as Markdown."""
    from moca.results.published import published_markdown

    print(published_markdown(), end='')


def show(args: argparse.Namespace) -> None:
    """Read the runs, print the table, write the files asked for."""
    from moca.records.run_reading import read_runs
    from moca.records.whole_files import write_atomically
    from moca.results import tables
    from moca.results.leaderboard import build_leaderboard, sorted_by

    check_outputs(args)
    board = build_leaderboard(*read_runs(args.work_dirs))
    if args.sort:
        board = sorted_by(board, args.sort)
    # A file or a pipe has no width; rich would take it for 80 characters.
    tables.show(board, Console(width=None if sys.stdout.isatty() else 160))
    if args.markdown:
        write_atomically(args.markdown, tables.markdown(board).encode())
    if args.csv:
        write_atomically(args.csv, tables.frame(board).to_csv(index=False).encode())
    if args.plot:
        tables.plot(board, args.plot)


def report(args: argparse.Namespace) -> None:
    """Write the page of some runs."""
    from moca.results.report.page import Options, write_report  # only this command needs Jinja2

    if args.out.suffix != '.html':
        raise UserError(f'--out {args.out}: the name must end in .html.')
    if not args.out.absolute().parent.is_dir():
        raise UserError(f'--out {args.out}: the folder {args.out.parent} does not exist.')
    options = Options(args.pictures, args.validate, args.limit_mb * 1_000_000)
    for line in write_report(args.work_dirs, args.out, options):
        print(f'Left out: {line}')
    print(f'Written: {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)')


if __name__ == '__main__':
    sys.exit(main())
