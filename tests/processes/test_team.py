"""A team's processes are threads here, which share a store in memory."""

import json
import sys
import time
from fractions import Fraction

import pytest
import torch
from torch.distributed import HashStore, PrefixStore

from spiking_resnet import convert, evaluate
from spiking_resnet.conversion.presets import chosen
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.evaluation.compare import compare
from spiking_resnet.evaluation.counts import Tally
from spiking_resnet.evaluation.progress_file import ResumeError
from spiking_resnet.evaluation.spans import joined, uncounted
from spiking_resnet.evaluation.tune import tune
from spiking_resnet.files import write_whole
from spiking_resnet.processes import team as teams
from spiking_resnet.processes.messages import elsewhere
from spiking_resnet.processes.team import ALONE, Team, TeamError, current, working
from spiking_resnet.records import InputError, Run
from spiking_resnet.store import digest, packed, unpacked
from teams import in_team, plain
from zoo import images, network, spiking

COUNT, RECORD = 23, (2, 9)
BATCH = images("identity", COUNT, seed=7)
LABELS = torch.randint(5, (COUNT,), generator=torch.Generator().manual_seed(0))


def loader(size=3):
    return list(zip(BATCH.split(size), LABELS.split(size), strict=True))


@pytest.fixture(scope="module")
def graph():
    return spiking("identity")


@pytest.mark.parametrize("count", [2, 5, 11])
def test_a_team_evaluates_as_one_process_does(graph, count):
    alone = evaluate(graph, loader(), RECORD)
    for found in in_team(count, lambda rank: evaluate(graph, loader(), RECORD)):
        assert plain(found) == plain(alone)


def test_sums_of_floats_do_not_depend_on_their_order(graph):
    targets = torch.randn(COUNT, 5, generator=torch.Generator().manual_seed(1)) / 3
    batches = list(zip(BATCH.split(2), targets.split(2), strict=True))
    alone = evaluate(graph, batches, RECORD, metric="mse")
    for found in in_team(3, lambda rank: evaluate(graph, batches, RECORD, metric="mse")):
        assert plain(found) == plain(alone)
    backwards = evaluate(graph, batches[::-1], RECORD, metric="mse")
    assert backwards.points == alone.points


def test_every_batch_is_counted_once_by_one(graph, monkeypatch):
    seen = []
    monkeypatch.setattr(
        sys.modules["spiking_resnet.evaluation.evaluate"], "simulate",
        lambda own, x, *rest: seen.append((current().rank, len(x))) or simulate(own, x, *rest),
    )  # fmt: skip
    in_team(3, lambda rank: evaluate(graph, loader(), RECORD))
    assert sorted(seen) == [(0, 3)] * 3 + [(1, 2)] + [(1, 3)] * 2 + [(2, 3)] * 2


def test_the_first_alone_tells_how_far_all_are(graph):
    told = []
    in_team(2, lambda rank: evaluate(
        graph, loader(), RECORD, progress=lambda done, right: told.append((rank, done))
    ))  # fmt: skip
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert told[-1] == (0, COUNT)
    assert {rank for rank, _ in told} == {0}


@pytest.mark.parametrize("counts", [(1, 3), (3, 1), (2, 4)])
def test_another_number_of_processes_goes_on(graph, tmp_path, counts):
    path, whole = tmp_path / "progress.json", evaluate(graph, loader(), RECORD)

    def stopped(rank):
        def slow():
            for number, batch in enumerate(loader()):
                if number == 5:
                    time.sleep(0.3)  # the others have given theirs
                    raise RuntimeError("stopped")
                yield batch

        return evaluate(graph, slow(), RECORD, resume=path)

    before, after = counts
    if before == 1:
        with pytest.raises(RuntimeError, match="stopped"):
            stopped(0)
    else:
        assert {str(found) for found in in_team(before, stopped)} == {"stopped"}
    kept = json.loads(path.read_text())["tally"]
    assert 0 < kept["images"] < COUNT
    work = lambda rank: evaluate(graph, loader(), RECORD, resume=path)  # noqa: E731
    for found in in_team(after, work) if after > 1 else [work(0)]:
        assert plain(found) == plain(whole)
    kept = json.loads(path.read_text())["tally"]
    assert (kept["images"], kept["spans"]) == (COUNT, [])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_file_with_a_gap_goes_on(graph, tmp_path):
    path, whole = tmp_path / "progress.json", evaluate(graph, loader(), RECORD)
    evaluate(graph, loader(), RECORD, resume=path)
    found = json.loads(path.read_text())
    parts = [loader()[k] for k in (0, 1, 4)]
    some = evaluate(graph, parts, RECORD, resume=tmp_path / "some.json")
    found["tally"] = json.loads((tmp_path / "some.json").read_text())["tally"]
    found["tally"]["spans"] = [[0, 6], [12, 15]]
    assert some.images == found["tally"]["images"] == 9
    path.write_text(json.dumps(found))
    assert plain(evaluate(graph, loader(), RECORD, resume=path)) == plain(whole)
    path.write_text(json.dumps(found))
    others = zip(BATCH[3:].split(4), LABELS[3:].split(4), strict=True)
    with pytest.raises(ResumeError, match="ends after 6 images, where no batch does"):
        evaluate(graph, [loader()[0], *others], RECORD, resume=path)
    found["tally"]["spans"] = [[0, 6], [5, 8]]
    path.write_text(json.dumps(found))
    with pytest.raises(ResumeError, match="counted twice"):
        evaluate(graph, loader(), RECORD, resume=path)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_what_one_raises_all_raise_and_one_tells(graph, failing):
    told = []

    def work(rank):
        labels = LABELS.clone()
        if rank == failing:
            labels[3 * (rank + 3)] = 5  # there is no such class
        batches = list(zip(BATCH.split(3), labels.split(3), strict=True))
        try:
            return evaluate(graph, batches, RECORD)
        except InputError as error:
            if current().speaks(error):
                told.append(rank)
                current().has_spoken()
            raise

    found = in_team(3, work)
    assert {type(each) for each in found} == {InputError}
    (message,) = {str(each) for each in found}
    assert "to 5, the network knows 5 classes" in message
    assert told == [failing]


def test_what_the_first_cannot_write_ends_all(graph, tmp_path):
    (tmp_path / "progress.json").write_text("{")
    for found in in_team(
        2, lambda rank: evaluate(graph, loader(), RECORD, resume=tmp_path / "progress.json")
    ):
        assert isinstance(found, ResumeError)


def test_other_images_are_refused(graph):
    found = in_team(2, lambda rank: evaluate(graph, loader(3 + rank), RECORD))
    assert {str(each)[:40] for each in found} == {"process 1 of 2 has other batches than th"}


def test_a_process_that_is_silent_ends_the_others(monkeypatch):
    monkeypatch.setattr(teams, "BEAT", 0.02)
    monkeypatch.setattr(teams, "SILENT", 0.3)
    store = PrefixStore("team", HashStore())
    store.set("beat 1", "the last")
    with (
        pytest.raises(TeamError, match="process 1 of 2 does not answer"),
        working(Team(0, 2, store)) as team,
    ):
        team.total(1)


def test_a_process_that_left_ends_the_others():
    def work(rank):
        if rank == 1:
            raise OSError("of its own")
        return current().handed(lambda: b"", bytes, bytes) if rank == 0 else current().total(1)

    first, one, other = in_team(3, work)
    assert (type(one), str(one)) == (OSError, "of its own")
    assert isinstance(first, TeamError)
    assert isinstance(other, TeamError)
    assert elsewhere(other)


def test_a_network_is_handed_on_whole(graph):
    found = unpacked(packed(graph))
    assert digest(found) == digest(graph)
    assert found.notes == graph.notes
    made = in_team(2, lambda rank: convert(network("identity"), BATCH))
    assert digest(made[0]) == digest(made[1])
    assert made[0].notes == made[1].notes


def test_only_the_first_writes(tmp_path):
    in_team(2, lambda rank: write_whole(tmp_path / "file", str(rank).encode()))
    assert (tmp_path / "file").read_bytes() == b"0"


@pytest.mark.parametrize("resumed", [False, True])
def test_a_team_compares_as_one_process_does(tmp_path, resumed):
    names = chosen("hu2021,signed,qcfs")  # the last one cannot be done

    def work(rank=0, file=None):
        return compare(
            network("identity"), images("identity", 16), loader(4), names, (4, 16), resume=file
        )

    alone, file = work(), tmp_path / "rows.json"
    assert alone.rows[2].problem
    if resumed:
        work(file=file)
        kept = json.loads(file.read_text())
        del kept["parts"][list(kept["parts"])[1]]
        file.write_text(json.dumps(kept))
    for found in in_team(3, lambda rank: work(rank, file)):
        assert plain(found) == plain(alone)
    assert json.loads(file.read_text())["begun"] == {}


def test_a_team_tunes_as_one_process_does(tmp_path):
    def work(rank=0, file=None):
        return tune(
            network("identity"), images("identity", 16), loader(4), 50.0, 8,
            methods="hu2021,signed", resume=file,
        )  # fmt: skip

    alone = work()
    for found in in_team(2, lambda rank: work(rank, tmp_path / "trials.json")):
        assert plain(found) == plain(alone)


def test_a_process_that_comes_a_second_time_is_refused():
    store = PrefixStore("team", HashStore())
    with working(Team(0, 1, store)):
        pass
    with pytest.raises(TeamError, match="there already"), working(Team(0, 1, store)):
        pass


def test_shares_are_disjoint_and_complete():
    known = [(place, place + 1) for place in range(11)]
    shares = [
        [span for span, _ in uncounted([BATCH[:1]] * 11, ((2, 5),), Team(rank, 3))]
        for rank in range(3)
    ]
    assert [len(share) for share in shares] == [3, 3, 2]
    assert sorted(span for share in shares for span in share) == known[:2] + known[5:]


def test_spans_of_neighbours_are_one():
    assert joined([(5, 7), (0, 3), (3, 5), (9, 10)]) == ((0, 7), (9, 10))
    with pytest.raises(ValueError, match="counted twice"):
        joined([(0, 3), (2, 4)])


def test_tallies_add_up_in_any_order():
    def tally(first, remark):
        run = Run((4,), values(1, 2, 7), {}, "cpu", 0.5, remark=remark)
        return Tally((4,), "mse").of_batch(first, run, values(2, 7) / (first + 3), values(2, 7))

    parts = [tally(0, ""), tally(2, "one"), tally(4, "two"), tally(6, "")]
    sums = [sum_of(parts[k] for k in order) for order in ((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1))]
    assert all(each == sums[0] for each in sums)
    assert (sums[0].images, sums[0].spans, sums[0].remark) == (8, (), "one")
    assert isinstance(sums[0].ann_squared, Fraction)
    assert Tally.from_json(json.loads(json.dumps(sums[0].to_json()))) == sums[0]
    old = {**sums[0].to_json(), "squared": [0.1], "ann_squared": 0.25}
    del old["spans"], old["remark_at"]
    assert Tally.from_json(old).squared == (Fraction(0.1),)


def values(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def sum_of(parts):
    found = Tally((4,), "mse")
    for part in parts:
        found = found.plus(part)
    return found


def test_alone_nothing_is_shared():
    assert current() is ALONE
    with teams.together() as team:
        assert team is ALONE
    assert ALONE.handed(lambda: 1, None, None) == 1
    assert ALONE.total(3) == 3
