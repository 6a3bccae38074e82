"""A team of processes, which are threads here, with a store in memory."""

import json
from concurrent.futures import ThreadPoolExecutor

from torch.distributed import HashStore, PrefixStore

from spiking_resnet.processes.team import Team, working


def in_team(count, work):
    """What `work(rank)` returns or raises in every process of a team."""
    store = PrefixStore("team", HashStore())

    def run(rank):
        try:
            with working(Team(rank, count, store)):
                return work(rank)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def plain(record):
    """A record's JSON without times."""
    return json.loads(json.dumps(_timeless(record.to_json())))


def _timeless(found):
    if isinstance(found, dict):
        return {name: _timeless(each) for name, each in found.items() if name != "seconds"}
    return [_timeless(each) for each in found] if isinstance(found, list | tuple) else found
